"""Other framings on the way through: read to the same table, and every fault named."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any, cast

import pytest
from debezium import (
    ITEMS,
    Event,
    Registry,
    SourceTable,
    Topic,
    item,
    kafka_batch,
    optional,
    semantic,
)
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lake import Lake, Writer
from test_dead_letters import letters

from cdc_sink import config
from cdc_sink.clients.registry import RegistryClient
from cdc_sink.clients.registry_ids import SchemaLookup
from cdc_sink.config import Target
from cdc_sink.debezium.wire.other_framings import (
    apicurio_id,
    guid_header,
    with_apicurio_id,
    with_guid,
    with_long_id,
)
from cdc_sink.errors import ConfigError, RecordError, SchemaError
from cdc_sink.spark.read.converter import Converter
from cdc_sink.spark.read.converters import (
    ApicurioHeaders,
    ApicurioLongIds,
    Confluent,
    ConfluentHeaders,
    converter_of,
)
from cdc_sink.spark.read.source import read_records
from cdc_sink.spark.run.foreach_batch import read_changes
from cdc_sink.spark.run.replay import replay_letters
from cdc_sink.spark.write.dead_letter_table import DeadLetters

SPACE = uuid.UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")
TIMED = SourceTable(
    {**ITEMS.columns, "seen": optional(semantic("long", "io.debezium.time.MicroTimestamp"))}
)
WIDER = SourceTable({**TIMED.columns, "more": optional("int")})
INFINITY = 9223372036825200000


def guid_of(schema_id: int) -> uuid.UUID:
    return uuid.uuid5(SPACE, str(schema_id))


@dataclasses.dataclass
class Lookup:
    """The writer schemas of a test's registry by its other names."""

    registry: Registry
    hidden: set[int] = dataclasses.field(default_factory=set)
    asked: list[str] = dataclasses.field(default_factory=list)

    def by_global_id(self, global_id: int) -> str:
        return self.registry.schema(global_id)

    def by_guid(self, guid: str) -> str:
        return self.registry.schema(self._ids()[guid])

    def id_of_guid(self, guid: str) -> int | None:
        self.asked.append(guid)
        return self._ids().get(guid)

    def _ids(self) -> dict[str, int]:
        return {str(guid_of(i)): i for i in self.registry.texts if i not in self.hidden}


Sent = tuple[bytes | None, dict[str, bytes]]


def long_ids(_side: str, frame: bytes) -> Sent:
    return b"\x00" + bytes(4) + frame[1:], {}


def global_ids(side: str, frame: bytes) -> Sent:
    return frame[5:], {f"apicurio.{side}.globalId": bytes(4) + frame[1:5]}


def content_ids(side: str, frame: bytes) -> Sent:
    return frame[5:], {f"apicurio.{side}.contentId": bytes(4) + frame[1:5]}


def guids(side: str, frame: bytes) -> Sent:
    schema_id = int.from_bytes(frame[1:5], "big")
    return frame[5:], {f"__{side}_schema_id": b"\x01" + guid_of(schema_id).bytes}


CONVERTERS = {
    "8 byte": long_ids,
    "global ids": global_ids,
    "content ids": content_ids,
    "GUIDs": guids,
}


def input_for(case: str, lookup: Lookup) -> Converter:
    asked = cast(SchemaLookup, lookup)
    if case == "8 byte":
        return ApicurioLongIds(asked)
    if case == "GUIDs":
        return ConfluentHeaders(asked)
    return ApicurioHeaders(cast(RegistryClient, lookup.registry), asked)


@dataclasses.dataclass
class Framed:
    """A writer whose topic is written by one of the converters."""

    case: str
    writer: Writer
    lookup: Lookup
    written: int = 0

    @property
    def topic(self) -> Topic:
        return self.writer.topic

    def convert(self) -> None:
        """Write the records that were sent since as the converter would."""
        convert = CONVERTERS[self.case]
        for i in range(self.written, len(self.topic.records)):
            key, value, *rest, headers = self.topic.records[i]
            sent_key, named = (None, {}) if key is None else convert("key", key)
            sent_value, also = (None, {}) if value is None else convert("value", value)
            more = [*headers, *named.items(), *also.items()]
            self.topic.records[i] = (sent_key, sent_value, *rest, more)

    def write(self) -> None:
        first, self.written = self.written, len(self.topic.records)
        self.writer.write(first)

    def apply(self) -> None:
        self.convert()
        self.write()


def opened(lake: Lake, name: str, case: str, **policy: Any) -> Framed:
    topic = Topic(TIMED)
    writer = lake.writer(name, topic, **policy)
    lookup = Lookup(topic.registry)
    writer.records.input = input_for(case, lookup)
    return Framed(case, writer, lookup)


def row(key: int, name: str, seen: int = 0) -> dict[str, Any]:
    return {**item(key, name), "seen": seen}


def names(framed: Framed) -> dict[int, str]:
    return {one["id"]: one["name"] for one in framed.writer.rows()}


WITHOUT_ID = {
    "8 byte": (lambda: (b"\x00" + b"\x00\x00\x00\x01" + bytes(9), {}), "id_out_of_range"),
    "global ids": (lambda: (b"body", {}), "no_id_header"),
    "content ids": (lambda: (b"body", {"apicurio.value.contentId": b"7"}), "bad_id_header"),
    "GUIDs": (lambda: (b"body", {"__value_schema_id": bytes(17)}), "bad_id_header"),
}  # fmt: skip


@pytest.fixture(scope="module", params=CONVERTERS)
def played(lake: Lake, request: pytest.FixtureRequest) -> Framed:
    """Each test has keys of its own: 1 to 5, and 11 and 12."""
    case: str = request.param
    framed = opened(lake, f"framed_{case.replace(' ', '_')}", case)
    topic = framed.topic
    topic.send_all(Event("c", row(key, "first"), (1, key)) for key in (1, 2, 3, 4, 5, 11, 12))
    framed.apply()
    topic.send(Event("d", row(1, "first"), (2, 1)))
    topic.tombstone(row(1, "first"))
    topic.send(Event("u", row(11, "second"), (2, 2)))
    topic.write_as(WIDER)  # a writer schema that appears later is learned
    topic.send(Event("u", {**row(2, "second"), "more": 7}, (2, 3)))
    topic.send(Event("u", {**row(5, "bad", INFINITY), "more": 1}, (3, 1)))
    topic.send(Event("u", {**row(5, "after it"), "more": 1}, (3, 2)))
    topic.send(Event("u", {**row(4, "third"), "more": 1}, (3, 3)))
    framed.convert()
    value, headers = WITHOUT_ID[case][0]()
    bad_key, named = CONVERTERS[case]("key", topic.key(row(12, "")))
    topic.raw(bad_key, value, headers={**named, **headers})
    framed.write()
    return framed


def test_each_framing_leads_to_the_same_table_and_bad_records_stay_as_they_were(
    played: Framed,
) -> None:
    framed, topic = played, played.topic
    found_names = names(framed)
    assert {key: found_names.get(key) for key in range(1, 6)} == {
        1: None, 2: "second", 3: "first", 4: "third", 5: "first"
    }  # fmt: skip
    assert [one["more"] for one in framed.writer.rows() if one["id"] == 2] == [7]
    *found, _without_id = letters(framed.writer)
    assert [one["reason"] for one in found] == ["value", "key_quarantined"]
    sent = [record for record in topic.records if record[4] in {one["offset"] for one in found}]
    assert [(one["key"], one["value"]) for one in found] == [record[:2] for record in sent]
    assert [[(h["key"], h["value"]) for h in one["headers"]] for one in found] == [
        record[6] for record in sent
    ]

    store = DeadLetters(framed.writer.spark, framed.writer.target, "topic-1")
    lasting = framed.writer.ledger
    # The first is still bad, the second waits for it, and one has no id.
    assert replay_letters(framed.writer.records, lasting).waiting == 3
    assert store.exists


def test_a_value_without_a_readable_id_is_set_aside_under_its_own_code(played: Framed) -> None:
    found_names = names(played)
    assert (found_names[11], found_names[12]) == ("second", "first")
    key = played.topic.records[-1][0]
    (found,) = [one for one in letters(played.writer) if one["key"] == key]
    assert (found["reason"], found["value"]) == (
        WITHOUT_ID[played.case][1],
        played.topic.records[-1][1],
    )


def test_a_key_without_its_header_stops_the_table_and_is_named(lake: Lake, name: str) -> None:
    framed = opened(lake, name, "global ids", bad_record="stop")
    framed.topic.send(Event("c", row(1, "first"), (1, 1)))
    framed.apply()
    framed.topic.send(Event("u", row(1, "second"), (2, 1)))
    framed.convert()
    *record, headers = framed.topic.records[-1]
    framed.topic.records[-1] = (*record, [h for h in headers if ".key." not in h[0]])
    with pytest.raises(RecordError, match=r"@1: the key has no header with its schema id; ") as why:
        framed.write()
    assert "compare `wire` of this table" in why.value.remedy


def test_global_and_content_ids_of_one_number_are_told_apart(lake: Lake, name: str) -> None:
    """The converter's use-id was changed: what is in the topic already keeps its ids."""
    framed = opened(lake, name, "global ids")
    framed.topic.send(Event("c", row(1, "by global id"), (1, 1)))
    framed.apply()
    other = Registry()
    other.register({"type": "record", "name": "Unused", "fields": []})
    by_content = Topic(WIDER, other)
    input_ = framed.writer.records.input
    assert isinstance(input_, ApicurioHeaders)
    input_.registry = cast(RegistryClient, other)
    assert by_content.value_id == 2  # as the key schema's global id
    framed.topic.table, framed.topic.value_id = WIDER, by_content.value_id
    framed.topic.key_id = by_content.key_id
    framed.topic.send(Event("c", {**row(2, "by content id"), "more": 7}, (1, 2)))
    framed.case = "content ids"
    framed.apply()
    assert names(framed) == {1: "by global id", 2: "by content id"}


def test_a_guid_is_asked_for_once_and_an_unknown_one_stops_the_table(lake: Lake, name: str) -> None:
    framed = opened(lake, name, "GUIDs")
    for lo in (1, 2):
        framed.topic.send(Event("c", row(lo, "first"), (1, lo)))
        framed.apply()
    assert len(framed.lookup.asked) == 2  # one for values, one for keys
    hidden = framed.topic.write_as(WIDER)
    framed.lookup.hidden.add(hidden)
    framed.topic.send(Event("c", {**row(3, "first"), "more": 1}, (1, 3)))
    with pytest.raises(SchemaError, match=f"unknown schema GUIDs {guid_of(hidden)}") as failure:
        framed.apply()
    assert not failure.value.retry
    framed.lookup.hidden.clear()
    framed.writer.write(2)
    assert names(framed) == {1: "first", 2: "first", 3: "first"}
    assert framed.lookup.asked.count(str(guid_of(framed.topic.key_id))) == 1


def test_two_guids_of_one_id_are_refused(lake: Lake, name: str) -> None:
    framed = opened(lake, name, "GUIDs")
    framed.topic.send(Event("c", row(1, "first"), (1, 1)))
    framed.lookup.id_of_guid = lambda _: 7  # type: ignore[method-assign]
    with pytest.raises(SchemaError, match="two of them have schema id 7"):
        framed.apply()


def target(lake: Lake, wire: str, url: str = "http://127.0.0.1:1/apis/ccompat/v7") -> Target:
    pipeline = lake.pipeline.model_copy(update={"registry": config.Registry(url=url)})
    return Target(
        pipeline, config.Table.model_validate({"topic": "t", "target": "shop.t", "wire": wire})
    )


@pytest.mark.parametrize(
    ("wire", "kind"),
    [
        ("confluent", Confluent),
        ("apicurio_8_byte", ApicurioLongIds),
        ("apicurio_headers", ApicurioHeaders),
        ("confluent_headers", ConfluentHeaders),
    ],
)
def test_the_wire_of_a_table_chooses_how_its_records_are_read(
    lake: Lake, wire: str, kind: type[object]
) -> None:
    asked = cast(RegistryClient, Registry())
    assert type(converter_of(target(lake, wire), asked)) is kind
    columns = read_records(lake.spark, target(lake, wire), None).columns
    assert ("headers" in columns) == wire.endswith("_headers")


@pytest.mark.parametrize("wire", ["apicurio_8_byte", "apicurio_headers"])
def test_an_apicurio_wire_wants_an_apicurio_registry(lake: Lake, wire: str) -> None:
    with pytest.raises(ConfigError, match="isn't the address of an Apicurio registry"):
        converter_of(target(lake, wire, "http://127.0.0.1:1"), cast(RegistryClient, Registry()))


def test_a_pipeline_of_ones_own_reads_the_usual_framing_only(lake: Lake) -> None:
    with pytest.raises(ConfigError, match="not apicurio_headers"):
        read_changes(lake.spark, target(lake, "apicurio_headers"))


KNOWN = {guid_of(i).bytes: i for i in (1, 2)}
LONGS = st.sampled_from([0, 1, 7, 2**24 - 1, 2**24, 2**32 - 1, 2**32, 2**63]).map(
    lambda n: n.to_bytes(8, "big")
)
GIVEN = st.none() | LONGS | st.binary(max_size=18) | st.sampled_from([b"\x01" + g for g in KNOWN])
NAMES = st.sampled_from(
    [f"apicurio.value.{kind}" for kind in ("globalId", "contentId")]
    + ["__value_schema_id", "other"]
)
VALUES = st.none() | st.binary(max_size=12) | LONGS.map(lambda n: b"\x00" + n + b"body")
RECORDS = st.tuples(VALUES, st.none() | st.lists(st.tuples(NAMES, GIVEN), max_size=3))


# Every example is a few Spark jobs: a failure is told as it was found, not made smaller for minutes.
@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(RECORDS, min_size=100, max_size=300))
def test_sql_and_python_rewrite_alike(
    lake: Lake, records: list[tuple[bytes | None, list[tuple[str, bytes | None]] | None]]
) -> None:
    rows = [(None, v, "t", 0, i, None, h) for i, (v, h) in enumerate(records)]
    batch = kafka_batch(lake.spark, rows)
    by_guid = ConfluentHeaders(cast(SchemaLookup, None))
    by_guid._ids = dict(KNOWN)
    inputs: list[Converter] = [
        ApicurioLongIds(cast(SchemaLookup, None)),
        ApicurioHeaders(cast(RegistryClient, None), cast(SchemaLookup, None)),
        by_guid,
    ]
    rewritten = [
        i.framed(batch).select("value", "offset").orderBy("offset").collect() for i in inputs
    ]
    for at, (value, headers) in enumerate(records):
        said = headers or []
        assert [found[at]["value"] for found in rewritten] == [
            with_long_id(value),
            with_apicurio_id(value, apicurio_id("value", said)),
            with_guid(value, guid_header("value", said), KNOWN),
        ]
