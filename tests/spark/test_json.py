"""`wire: json`: what JsonConverter wrote arrives exactly, and nothing else is guessed at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from debezium import ITEMS, SAMPLES, TS_MS, Event, SourceTable, Topic, decimal, optional, semantic
from lake import Lake, Writer
from test_dead_letters import letters
from test_replayed_letters import replay

from cdc_sink.debezium.types.mapping import UNAVAILABLE
from cdc_sink.errors import RecordError, SchemaError
from cdc_sink.spark.read import connect_json as json_input
from cdc_sink.spark.read.connect_json import MOST_SCHEMAS, Json
from tests.connect_json import connect_of, payload_of, written

LINES = (SAMPLES / "json_converter_records.tsv").read_text(encoding="utf-8").split("\n")[:-1]
RECORDED = [tuple(line.split("\t")) for line in LINES]


@dataclass
class JsonTopic(Topic):
    """The same topic behind another converter."""

    def key(self, row: Mapping[str, Any]) -> bytes:
        schema = connect_of(self.table.key_schema())
        return written(schema, payload_of(schema, row))

    def value(self, event: Event) -> bytes:
        return written(self.schema(), self.payload(event))

    def schema(self) -> dict[str, Any]:
        return connect_of(self.table.value_schema())

    def payload(self, event: Event) -> Any:
        row = None if event.op == "d" else event.row
        body = {"before": None, "after": row, "source": self.table.source(event), "op": event.op}
        return payload_of(self.schema(), {**body, "ts_ms": TS_MS})


def writer_of(lake: Lake, name: str, topic: Topic, **settings: Any) -> Writer:
    return lake.writer(name, topic, wire="json", **settings)


def test_what_the_real_converter_wrote_is_exactly_the_row(lake: Lake, name: str) -> None:
    """Recorded of Kafka 4.3.1's converter: each type at its extremes, names and texts of all kinds."""
    topic = Topic(ITEMS)
    texts = [text.encode() for kind, text in RECORDED if kind in ("key", "value")]
    for key, value in ((texts[0], texts[1]), (texts[2], texts[3])):
        topic.raw(key, value)
    writer = writer_of(lake, name, topic)
    writer.write()
    low, high = writer.rows()
    assert math.isnan(high.pop("f"))
    assert high == {
        "id": 2**63 - 1, "i8": -128, "i16": -32768, "flag": False, "d": -math.inf,
        "my-text": '€😀 \t\n"\\/\\u0041\x01\x00\x7f\u2028 x\\\\uD800', "raw": b"\x00\xff",
        "n": Decimal("-9999999999.99"), "m": Decimal("-92233720368547758.08"),
        "born": date(1, 1, 1), "seen": datetime(9999, 12, 31, 23, 59, 59, 999999),
        "cd": date(1970, 1, 2), "ct": 86_399_999_000,
        "cts": datetime(1969, 12, 31, 23, 59, 59, 999000),
        "tags": ['a"b', None, "NULL", ""], "days": [date(1970, 1, 1), None],
        "ns": [Decimal("1.50"), None, Decimal("-0.01")], "h": [("", "x"), ("k 2", "€")],
        "p": {"x": 1.0, "y": -1e300, "wkb": b"\x01", "srid": None},
        "o": "-123456789012345678901234567890123456789.012", "o2": "7", "mood": "ok",
    }  # fmt: skip
    # The converter puts defaults in the place of null: `i16` and `flag`.
    given = {"i16": 3, "flag": True, "d": 5e-324, "my-text": "", "raw": b"", "tags": [], "h": []}
    assert low.pop("f") == 3.4028234663852886e38
    assert low == {**dict.fromkeys(high), "id": -(2**63), **given}


WIDE = SourceTable(
    {
        "id": "long",
        "name": optional("string"),
        "must": "string",
        "n": optional("int"),
        "x": optional("double"),
        "price": optional(decimal(10, 2)),
        "born": optional(semantic("int", "io.debezium.time.Date")),
        "tags": optional({"type": "array", "items": optional("string")}),
    }
)


def row(key: int, **more: Any) -> dict[str, Any]:
    return {"id": key, "name": "a", "must": "m", "price": Decimal("1.50"), "tags": ["t"], **more}


@pytest.fixture
def writer(lake: Lake, name: str) -> Writer:
    """A table of two rows, 1 and 2."""
    return stocked(lake, name, 1, 2)


def stocked(lake: Lake, name: str, *keys: int) -> Writer:
    topic = JsonTopic(WIDE)
    topic.send_all(Event("c", row(key), (1, key)) for key in keys)
    writer = writer_of(lake, name, topic)
    writer.write()
    return writer


# What half of a pair is looked for in must not cost a stack frame per character.
SLASHES = "\\" * 30_001 + "uD800"


@pytest.fixture(scope="module")
def played(lake: Lake) -> Writer:
    """A table, and one batch in which each test has changes of its own keys."""
    writer = stocked(lake, "json", *STORED)
    topic = writer.topic
    assert isinstance(topic, JsonTopic)
    for number, (_, change) in enumerate(POISON.values(), 100):
        event = Event("c", row(number), (2, number))
        topic.raw(topic.key(event.row), change(topic, event))
    topic.send(Event("u", row(1, name="goes on"), (3, 1)))
    topic.send(Event("u", row(11, name=UNAVAILABLE, n=7), (4, 1)))
    topic.send(Event("d", row(12), (4, 2)))
    topic.tombstone(row(12))
    topic.send(Event("c", row(13, name=SLASHES), (4, 3)))
    new = row(29, name=UNAVAILABLE)
    topic.send(Event("d", row(21), (5, 1)))
    topic.tombstone(row(21))
    event = Event("c", new, (5, 1))
    topic.raw(topic.key(new), topic.value(event), 0, {"__debezium.oldkey": b'{"id":21}'})
    topic.send(Event("u", row(31, name="old"), (6, 1)))
    topic.write_as(SourceTable({**WIDE.columns, "added-later": optional("string")}))
    topic.send(Event("u", row(32, name="new", **{"added-later": "x"}), (6, 2)))
    writer.write(len(STORED))
    return writer


STORED = (1, 2, 11, 12, 21, 22, 31, 32)


def rows_of(writer: Writer, *keys: int) -> list[dict[str, Any]]:
    return [one for one in writer.rows() if one["id"] in keys]


def names(writer: Writer) -> dict[int, str | None]:
    return {one["id"]: one["name"] for one in writer.rows()}


def test_updates_deletes_and_tombstones_are_applied_and_a_value_left_out_stays(
    played: Writer,
) -> None:
    found = [(one["id"], one["name"], one["n"]) for one in rows_of(played, 11, 12, 13)]
    assert found == [(11, "a", 7), (13, SLASHES, None)]
    assert played.ledger.totals.tombstones == 2  # here, and of the key update


def test_a_key_update_that_leaves_a_value_out_finds_it_at_the_old_key(played: Writer) -> None:
    found = {one["id"]: one["name"] for one in rows_of(played, 21, 22, 29)}
    assert found == {22: "a", 29: "a"}


def test_records_of_an_old_and_a_new_schema_are_read_side_by_side(played: Writer) -> None:
    found = [(one["id"], one["name"], one["added-later"]) for one in rows_of(played, 31, 32)]
    assert found == [(31, "old", None), (32, "new", "x")]


def changed(**given: Any) -> Any:
    """The good record with fields of its row replaced by any JSON, or taken out by `...`."""

    def change(topic: JsonTopic, event: Event) -> bytes:
        payload = topic.payload(event)
        payload["after"] |= given
        payload["after"] = {k: v for k, v in payload["after"].items() if v is not ...}
        return written(topic.schema(), payload)

    return change


def rewritten(change: Any) -> Any:
    return lambda topic, event: change(topic.value(event))


def replaced(old: bytes, new: bytes) -> Any:
    return rewritten(lambda good: good.replace(old, new))


POISON = {
    "no JSON": ("no_json", rewritten(lambda _: b"hello")),
    "nothing": ("no_json", rewritten(lambda _: b"")),
    "cut": ("no_json", rewritten(lambda good: good[:-9])),
    "bytes that are no text": ("no_json", rewritten(lambda _: b"\xff\xfe{}")),
    "Avro": ("no_json", rewritten(lambda _: b"\x00\x00\x00\x00\x07\x02")),
    "an array": ("no_json", rewritten(lambda good: b"[" + good + b"]")),
    "without schema": ("no_schema", rewritten(lambda good: good.partition(b',"payload":')[2][:-1])),
    "schema null": ("no_schema", lambda t, e: written(None, t.payload(e))),
    "blanks": ("json_layout", replaced(b'{"schema":', b'{ "schema":')),
    "schema of its own making": ("json_schema", lambda t, e: written({"x": 1}, t.payload(e))),
    "payload null": ("json_payload", lambda t, _e: written(t.schema(), None)),
    "payload of another kind": ("json_payload", lambda t, _e: written(t.schema(), [1])),
    "two payloads": ("json_payload", rewritten(lambda good: good + b',{"a":1}}')),
    "a whole record behind it": ("json_payload", rewritten(lambda good: good + good)),
    "half of a character": ("json_payload", replaced(b'"a"', b'"a\xe2\x82"')),
    "half of a pair": ("json_payload", replaced(b'"a"', b'"a\\uD83D"')),
    "a control character": ("json_payload", replaced(b'"a"', b'"a\x01"')),
    "single quotes": ("json_payload", replaced(b'"a"', b"'a'")),
    "a number as text": ("json_payload", changed(name=5)),
    "an object as text": ("json_payload", changed(name={"a": 1})),
    "a truth as text": ("json_payload", changed(name=True)),
    "null where none may be": ("json_payload", changed(must=None)),
    "a field left out": ("json_payload", changed(must=...)),
    "a number left out": ("json_payload", changed(id=...)),
    "a number in a list of texts": ("json_payload", changed(tags=["a", 1])),
    "a text for a list": ("json_payload", changed(tags="a")),
    "a text for a number": ("json_payload", changed(n="1")),
    "a fraction for a whole number": ("json_payload", changed(n=1.5)),
    "a whole number as a fraction": ("json_payload", changed(n=1.0)),
    "a number too large": ("json_payload", changed(n=2**31)),
    "an id too large": ("json_payload", changed(id=2**63)),
    "a float too large": ("json_payload", replaced(b'"x":null', b'"x":1e999')),
    "a decimal as a number": ("json_payload", changed(price=1.5)),
    "a decimal that is no base64": ("json_payload", changed(price="%%")),
    "source of another kind": ("json_payload", replaced(b'"ts_ms":17', b'"ts_ms":"17')),
    "a date out of range": ("value", changed(born=2932897)),
    "unknown op": ("op", lambda t, e: t.value(Event("x", e.row, e.position))),
}  # fmt: skip


def test_each_record_that_is_not_what_the_converter_writes_is_set_aside_by_name(
    played: Writer,
) -> None:
    found = {one["offset"]: one for one in letters(played)}
    first = len(STORED)
    assert {case: found[i]["reason"] for i, case in enumerate(POISON, first) if i in found} == {
        case: reason for case, (reason, _) in POISON.items()
    }
    sent = played.topic.records[first : first + len(POISON)]
    assert [one["value"] for one in found.values()] == [record[1] for record in sent]
    assert [one["key"] for one in found.values()] == [record[0] for record in sent]
    assert {one["id"]: one["name"] for one in rows_of(played, 1, 2)} == {1: "goes on", 2: "a"}
    assert not [one for one in played.rows() if one["id"] >= 100]


@pytest.mark.parametrize("case", ["without schema", "a number as text"])
def test_where_the_policy_is_to_stop_the_record_is_named(lake: Lake, name: str, case: str) -> None:
    topic = JsonTopic(WIDE)
    topic.send(Event("c", row(1), (1, 1)))
    event = Event("c", row(2), (1, 2))
    topic.raw(topic.key(event.row), POISON[case][1](topic, event))
    writer = writer_of(lake, name, topic, bad_record="stop")
    with pytest.raises(RecordError) as refused:
        writer.write()
    saw, remedy = {
        "without schema": (
            "the value is JSON without its Connect schema",
            "set value.converter.schemas.enable=true on the connector",
        ),
        "a number as text": (
            "the value's payload does not fit its schema",
            "set value.converter.decimal.format=BASE64 on the connector, or look for another producer on "
            "this topic",
        ),
    }[case]
    assert str(refused.value) == (
        f"shop.public.items[0]@1: {saw}; the batch was not applied, its offsets were not committed; "
        f"{remedy}."
    )
    assert writer.rows() == []


def test_a_key_without_its_schema_stops_the_table(writer: Writer) -> None:
    writer.topic.raw(b'{"id":1}', writer.topic.value(Event("u", row(1), (2, 1))))
    with pytest.raises(RecordError, match="the key is JSON without its Connect schema; "):
        writer.write(2)


def test_letters_are_replayed_by_a_driver_that_never_saw_their_schema(writer: Writer) -> None:
    topic = writer.topic
    topic.send(Event("u", row(1, name="bad", born=2932897), (2, 1)))
    topic.send(Event("u", row(1, name="later"), (2, 2)))
    writer.write(2)
    assert [one["reason"] for one in letters(writer)] == ["value", "key_quarantined"]
    store = f"{writer.lake.pipeline.catalog.name}.{writer.lake.pipeline.dead_letters}"
    good = topic.value(Event("u", row(1, name="mended"), (2, 1))).hex()
    mine = f"`table` = '{writer.target.name}' AND reason = 'value'"
    writer.spark.sql(f"UPDATE {store} SET value = X'{good}' WHERE {mine}")
    again = Writer(writer.lake, writer.target, topic)
    assert replay(again).replayed == 2
    assert names(writer) == {1: "later", 2: "a"}


def test_a_topic_that_was_not_json_is_named_from_its_first_record(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    topic.send(Event("c", {"id": 1, "name": "a"}))
    writer = writer_of(lake, name, topic)
    with pytest.raises(RecordError, match=r"items\[0\]@0: the (key|value) is no JSON text"):
        writer.write()
    assert not writer.exists


def test_two_schemas_of_one_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_input, "schema_id_of", lambda _text: 7)
    learnt = Json("table")
    learnt._add('{"type":"string","optional":false}')
    learnt._add('{"type":"string","optional":false}')
    with pytest.raises(SchemaError, match="two JSON schemas have one id, 7"):
        learnt._add('{"type":"string","optional":true}')


@pytest.mark.parametrize("text", ['{{"type":"string","doc":"{}"}}', "junk {}"])
def test_a_schema_per_record_is_refused(text: str) -> None:
    learnt = Json("table")
    for number in range(MOST_SCHEMAS):
        learnt._add(text.format(number))
    with pytest.raises(SchemaError, match="more than 300 different JSON schemas"):
        learnt._add(text.format("one more"))


def test_many_schemas_in_one_batch_are_told_apart(lake: Lake, name: str) -> None:
    """More than are planned unseen."""
    topic = JsonTopic(ITEMS)
    for number in range(12):
        more = {f"c{i}": optional("string") for i in range(number)}
        topic.write_as(SourceTable({**ITEMS.columns, **more}))
        filled = {f"c{i}": json.dumps(i) for i in range(number)}
        topic.send(Event("c", {"id": number, "name": "a", **filled}, (1, number)))
    writer = writer_of(lake, name, topic)
    writer.write()
    assert [one["c3"] for one in writer.rows()] == [None] * 4 + ["3"] * 8
