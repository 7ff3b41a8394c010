"""A value that the connector left out is the one of the row before it, wherever that row is, or nobody's."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from typing import Any

import pytest
from debezium import Event, SourceTable, Topic, optional
from lake import Lake, Reread, Writer
from test_dead_letters import letters

from cdc_sink.change.avro_types import UNAVAILABLE
from cdc_sink.errors import RecordError

DOCUMENTS = SourceTable(
    {
        "id": "long",
        "title": optional("string"),
        "body": optional("string"),
        "scan": optional("bytes"),
    }
)
SCAN = UNAVAILABLE.encode()


def row(
    key: int, title: str = "t", body: str | None = UNAVAILABLE, scan: bytes | None = SCAN
) -> dict[str, Any]:
    return {"id": key, "title": title, "body": body, "scan": scan}


FULL = row(1, "first", "long text", b"scan")


@pytest.fixture
def writer(lake: Lake, name: str) -> Writer:
    """A table of one whole row; topics of two partitions."""
    topic = Topic(DOCUMENTS)
    topic.send(Event("c", FULL, (1, 1)))
    writer = lake.writer(name, topic)
    writer.write()
    return writer


def move(
    topic: Topic, old: dict[str, Any], new: dict[str, Any], position: tuple[int, int], to: int = 0
) -> None:
    """A key update: both halves, the second with Debezium's header."""
    delete, create = Event("d", old, position), Event("c", new, position)
    topic.raw(topic.key(old), topic.value(delete), 0, {"__debezium.newkey": _key(new)})
    topic.tombstone(old, 0)
    topic.raw(topic.key(new), topic.value(create), to, {"__debezium.oldkey": _key(old)})


def _not_needed(*_: object) -> None:
    pytest.fail("the topic was read on, for what the table's row says")


def _key(of: dict[str, Any]) -> bytes:
    return json.dumps({"id": of["id"]}).encode()


def test_it_comes_from_the_stored_row(writer: Writer) -> None:
    writer.topic.send(Event("u", row(1, "second"), (2, 1)))
    writer.write(1)
    assert writer.rows() == [{**FULL, "title": "second"}]
    assert json.loads(str(writer.table.current_snapshot().summary["cdc-sink.batch"]))[  # type: ignore[union-attr,index]
        "unavailable"
    ] == {"body": 1, "scan": 1}


def test_it_comes_from_an_older_change_of_the_batch_column_by_column(writer: Writer) -> None:
    """The second of two updates of one row must not undo the first."""
    writer.topic.send(Event("u", row(1, "second", body="new text"), (2, 1)))
    writer.topic.send(Event("u", row(1, "third", scan=b"new scan"), (2, 2)))
    writer.topic.send(Event("u", row(1, "fourth"), (2, 3)))
    writer.topic.send(Event("c", row(2, "whole", "b", b"s"), (2, 4)))
    writer.topic.send(Event("u", row(2, "whole again", body=None), (2, 5)))
    writer.write(1)
    assert writer.rows() == [
        row(1, "fourth", "new text", b"new scan"),
        row(2, "whole again", None, b"s"),
    ]


def test_a_text_that_contains_the_placeholder_is_data(writer: Writer) -> None:
    written = row(1, "second", f"see {UNAVAILABLE}", SCAN + b"!")
    writer.topic.send(Event("u", written, (2, 1)))
    writer.write(1)
    assert writer.rows() == [written]


@pytest.mark.parametrize("to", [0, 1])
def test_a_changed_key_takes_its_values_along(writer: Writer, to: int) -> None:
    move(writer.topic, row(1), row(7, "moved"), (2, 1), to)
    writer.write(1)
    assert writer.rows() == [{**FULL, "id": 7, "title": "moved"}]
    assert letters(writer) == []


def test_a_key_that_changed_twice_takes_along_what_changed_between(writer: Writer) -> None:
    topic = writer.topic
    topic.send(Event("u", row(1, "second", body="new text"), (2, 1)))
    move(topic, row(1), row(7, "moved"), (2, 2), 1)
    topic.send(Event("u", row(7, "third", scan=b"new scan"), (2, 3)), 1)
    delete, create = Event("d", row(7), (2, 4)), Event("c", row(1, "back"), (2, 4))
    topic.raw(topic.key(row(7)), topic.value(delete), 1)
    topic.raw(topic.key(row(1)), topic.value(create), 0, {"__debezium.oldkey": _key(row(7))})
    writer.write(1)
    assert writer.rows() == [row(1, "back", "new text", b"new scan")]


OPEN_SCALE = {
    "type": "record",
    "name": "VariableScaleDecimal",
    "namespace": "io.debezium.data",
    "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
    "connect.name": "io.debezium.data.VariableScaleDecimal",
}


def test_a_changed_key_may_be_a_number_of_any_scale(lake: Lake, name: str) -> None:
    """The header has it as Connect writes a struct into JSON: seen for a key of type numeric."""
    topic = Topic(SourceTable({"id": OPEN_SCALE, "body": optional("string")}))
    old, new = ({"id": {"scale": 1, "value": value}} for value in (b"\x7d", b"\x46"))
    topic.send(Event("c", {**old, "body": "long text"}, (1, 1)))
    writer = lake.writer(name, topic)
    writer.write()
    topic.send(Event("d", old, (2, 1)))
    create = topic.value(Event("c", {**new, "body": UNAVAILABLE}, (2, 1)))
    header = {"__debezium.oldkey": b'{"id":{"scale":1,"value":"fQ=="}}'}
    topic.raw(topic.key(new), create, 0, header)
    writer.write(1)
    assert writer.rows() == [{"id": "7.0", "body": "long text"}]


def test_a_changed_key_may_be_called_as_a_column_of_our_own(lake: Lake, name: str) -> None:
    names = ("of0", "asked0", "image0", "at", "place", "partition", "offset", "old_key", "is_half")
    table = SourceTable(
        {"of0": "long", **dict.fromkeys(names[1:], optional("string"))}, key=("of0",)
    )
    topic = Topic(table)
    whole = {"of0": 1, **{name: f"long {name}" for name in names[1:]}}
    topic.send(Event("c", whole, (1, 1)))
    writer = lake.writer(name, topic)
    writer.write()
    moved = {"of0": 7, **dict.fromkeys(names[1:], UNAVAILABLE)}
    topic.send(Event("d", whole, (2, 1)))
    create = topic.value(Event("c", moved, (2, 1)))
    topic.raw(topic.key(moved), create, 0, {"__debezium.oldkey": b'{"of0": 1}'})
    writer.write(1)
    assert writer.rows() == [{**whole, "of0": 7}]


def test_a_changed_key_takes_along_what_is_stored_under_a_renamed_column(
    lake: Lake, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename and the key update come in one batch, before the table has the new name."""
    topic = Topic(DOCUMENTS)
    topic.send(Event("c", FULL, (1, 1)))
    lake.writer(name, topic).write()
    writer = lake.writer(name, topic, renames={"body": "story"})
    move(topic, row(1), row(2, "moved"), (2, 1))  # from now on such updates are expected
    writer.write(1)
    renamed = {
        "story" if name == "body" else name: type_ for name, type_ in topic.table.columns.items()
    }
    topic.write_as(replace(topic.table, columns=renamed))
    whole = {"id": 2, "title": "moved", "story": "long text", "scan": b"scan"}
    moved = {"id": 7, "title": "again", "story": UNAVAILABLE, "scan": SCAN}
    move(topic, whole, moved, (2, 2))
    monkeypatch.setattr(Reread, "span", _not_needed)
    writer.write(4)
    assert writer.rows() == [{**whole, "id": 7, "title": "again"}]


def test_what_comes_again_says_nothing_of_the_row_that_is_stored(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key 7 was deleted and made anew, by a key update; then both come again, before its key changes too."""
    topic = writer.topic
    topic.send(Event("c", row(7, "other", "other text", b"other"), (2, 1)))
    for _ in range(2):
        topic.send(Event("d", row(7), (2, 2)))
        move(topic, row(1), row(7, "moved"), (2, 3))
        topic.send(Event("u", row(7, "after"), (2, 4)))
    move(topic, row(7), row(8, "moved again"), (2, 5))
    writer.write(1, 7)
    monkeypatch.setattr(Reread, "span", _not_needed)
    writer.write(7)
    assert writer.rows() == [row(8, "moved again", "long text", b"scan")]


def test_in_kafkas_order_nothing_tells_which_row_a_changed_key_had(lake: Lake, name: str) -> None:
    """Without positions the halves can't be paired, and the key may have had other rows before."""
    topic = Topic(DOCUMENTS)
    topic.send(Event("c", FULL, (1, 1)))
    writer = lake.writer(name, topic, order="kafka")
    writer.write()
    topic.send(Event("d", row(1), (2, 1)))
    topic.send(Event("c", row(1, "other", "other text", b"other"), (2, 2)))
    move(topic, row(1), row(7, "moved"), (2, 3))
    writer.write(1)
    assert writer.rows() == []
    assert [one["reason"] for one in letters(writer)] == ["unavailable_value"]


def test_a_batch_leaves_nothing_in_memory(writer: Writer) -> None:
    move(writer.topic, row(1), row(7, "moved"), (2, 1), 1)
    java: Any = writer.spark.sparkContext._jsc
    before = set(java.getPersistentRDDs())
    writer.write(1)
    assert set(java.getPersistentRDDs()) <= before


def test_the_second_half_of_a_key_update_may_come_a_batch_later(writer: Writer) -> None:
    """By then the old row is gone; what it was is in the table's history, and newer changes in the topic."""
    topic = writer.topic
    topic.send(Event("u", row(1, "second", body="new text"), (2, 1)))
    move(topic, row(1), row(7, "moved"), (2, 2), 1)
    writer.write(1, 3)
    assert writer.rows() == []
    writer.write(3)
    assert writer.rows() == [row(7, "moved", "new text", b"scan")]


def test_the_second_half_of_a_key_update_may_come_a_batch_earlier(writer: Writer) -> None:
    """The stored row is older than the one that moved: the topic is read on."""
    topic = writer.topic
    topic.send(Event("u", row(1, "second", body="new text"), (2, 1)))
    move(topic, row(1), row(7, "moved"), (2, 2), 1)
    topic.records.append(topic.records.pop(1))  # partition 1 is ahead of partition 0
    topic.records.append(topic.records.pop(1))
    topic.records.append(topic.records.pop(1))
    writer.write(1, 2)
    assert row(7, "moved", "new text", b"scan") in writer.rows()
    writer.write(2)
    assert writer.rows() == [row(7, "moved", "new text", b"scan")]


def test_nobodys_value_puts_the_key_into_quarantine(writer: Writer) -> None:
    topic = writer.topic
    topic.send(Event("u", row(9, "never seen whole"), (2, 1)))
    topic.send(Event("u", row(1, "second"), (2, 2)))
    topic.send(Event("d", row(1), (2, 3)))
    topic.send(Event("u", row(1, "after its delete"), (2, 4)))
    writer.write(1)
    assert [(one["offset"], one["reason"]) for one in letters(writer)] == [
        (1, "unavailable_value"),
        (2, "unavailable_value"),
        (3, "key_quarantined"),
        (4, "key_quarantined"),
    ]
    assert letters(writer)[0]["message"].endswith("(body, scan)")
    assert writer.rows() == [FULL]


def test_nobodys_value_may_become_null_when_the_policy_says_so(lake: Lake, name: str) -> None:
    topic = Topic(DOCUMENTS)
    topic.send(Event("c", FULL, (1, 1)))
    writer = lake.writer(name, topic, unavailable_value="set_null")
    writer.write()
    topic.send(Event("u", row(9, "never seen whole", scan=b"s"), (2, 1)))
    topic.send(Event("u", row(1, "second"), (2, 2)))
    writer.write(1)
    assert writer.rows() == [{**FULL, "title": "second"}, row(9, "never seen whole", None, b"s")]
    assert letters(writer) == []


def test_nobodys_value_may_stop_the_table(lake: Lake, name: str) -> None:
    topic = Topic(DOCUMENTS)
    topic.send(Event("c", FULL, (1, 1)))
    writer = lake.writer(name, topic, unavailable_value="stop")
    writer.write()
    topic.send(Event("u", row(9, "never seen whole"), (2, 1)))
    with pytest.raises(RecordError, match="columns body, scan hold Debezium's placeholder"):
        writer.write(1)
    assert writer.rows() == [FULL]


def test_an_empty_table_has_no_row_to_take_it_from(lake: Lake, name: str) -> None:
    topic = Topic(DOCUMENTS)
    topic.send(Event("u", row(9, "never seen whole"), (2, 1)))
    topic.send(Event("c", FULL, (2, 2)))
    writer = lake.writer(name, topic)
    writer.write()
    assert writer.rows() == [FULL]
    assert [one["reason"] for one in letters(writer)] == ["unavailable_value"]


# --- columns that came later ----------------------------------------------------------------------

BEFORE_SCAN = replace(
    DOCUMENTS, columns={n: t for n, t in DOCUMENTS.columns.items() if n != "scan"}
)


def without_scan(lake: Lake, name: str, **settings: Any) -> Writer:
    """A table whose one row was written before its source had, or sent, the column `scan`."""
    topic = Topic(BEFORE_SCAN)
    topic.send(Event("c", FULL, (1, 1)))
    writer = lake.writer(name, topic, **settings)
    writer.write()
    topic.write_as(DOCUMENTS)
    return writer


@pytest.mark.parametrize("steps", ["at once", "column first", "row in the batch"])
def test_a_column_that_came_later_has_no_value_to_take(lake: Lake, name: str, steps: str) -> None:
    """Its NULL is none of the source: it was excluded, or filled by an ALTER TABLE, which sends no event.

    The placeholder comes while the table lacks the column, has it, and with the older row in one batch.
    """
    writer, begin = without_scan(lake, name), 1
    if steps == "column first":
        writer.topic.send(Event("c", row(2, "other", "b", b"s"), (2, 1)))
        writer.write(1)
        begin = 2
    if steps == "row in the batch":
        old = Topic(BEFORE_SCAN, registry=writer.topic.registry)
        value = old.value(Event("u", row(1, "between", "b"), (2, 2)))
        writer.topic.raw(writer.topic.key(FULL), value)
    writer.topic.send(Event("u", row(1, "second"), (2, 3)))
    before = {one["id"]: one["title"] for one in writer.rows()}
    writer.write(begin)
    assert [(one["reason"], one["message"][-6:]) for one in letters(writer)[:1]] == [
        ("unavailable_value", "(scan)")
    ]
    assert {one["id"]: one["title"] for one in writer.rows()} == before


def test_a_column_that_came_later_may_be_null_when_the_policy_says_so(
    lake: Lake, name: str
) -> None:
    writer = without_scan(lake, name, unavailable_value="set_null")
    writer.topic.send(Event("u", row(1, "second"), (2, 1)))
    writer.write(1)
    assert writer.rows() == [row(1, "second", "long text", None)]
    assert letters(writer) == []


@pytest.mark.parametrize("has_column", [True, False])
def test_a_changed_key_takes_no_column_along_that_came_later(
    lake: Lake, name: str, has_column: bool
) -> None:
    """Neither the NULL of the old key's row, nor that of a row whose table lacks the column still."""
    writer = without_scan(lake, name)
    if has_column:
        writer.topic.send(Event("u", row(1, "first", "long text", None), (2, 1)))
        writer.write(1)
        assert writer.rows() == [row(1, "first", "long text", None)]
    begin = len(writer.topic.records)
    move(writer.topic, row(1), row(7, "moved"), (2, 2))
    writer.write(begin)
    assert writer.rows() == []
    assert [one["reason"] for one in letters(writer)] == ["unavailable_value"]


def test_a_connector_that_leaves_nulls_out_means_the_stored_null(lake: Lake, name: str) -> None:
    """Oracle sends the placeholder for a LOB that no statement touched, NULL or not."""
    topic = Topic(replace(DOCUMENTS, connector="oracle"))
    whole = row(1, "first", None, b"scan")
    topic.send(Event("c", whole, (1, 1)))
    topic.send(Event("c", row(2, "other", None, None), (1, 2)))
    topic.send(Event("u", row(2, "again"), (1, 3)))
    writer = lake.writer(name, topic)
    writer.write()
    topic.send(Event("u", row(1, "second"), (2, 1)))
    writer.write(3)
    assert writer.rows() == [{**whole, "title": "second"}, row(2, "again", None, None)]
    assert letters(writer) == []


# --- any history ----------------------------------------------------------------------------------


class Source:
    """A table at its source, under the default replica identity: what a change left alone is left out."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.topic = Topic(DOCUMENTS)
        self.rows: dict[int, dict[str, Any]] = {}
        self.position = 0
        self.sent: list[tuple[Any, ...]] = []

    def play(self, steps: int) -> None:
        for number in range(steps):
            if self.dice.random() < 0.1:
                self.redeliver()
            key = self.dice.randrange(5)
            if key not in self.rows:
                self.insert(key, number)
            else:
                self.dice.choice((self.update, self.update, self.delete, self.move))(key, number)

    def insert(self, key: int, number: int) -> None:
        self.rows[key] = row(key, f"{key} at {number}", f"body {number}", bytes([number % 256]))
        self.send(Event("c", self.rows[key], self.next_position()))

    def update(self, key: int, number: int) -> None:
        new = dict(self.rows[key])
        for name, value in (("title", f"{number}"), ("body", f"new {number}"), ("scan", b"new")):
            if self.dice.random() < 0.4:
                new[name] = value
        event = Event("u", self.left_out(self.rows[key], new), self.next_position())
        self.rows[key] = new
        self.send(event)

    def delete(self, key: int, _number: int) -> None:
        self.send(Event("d", self.rows.pop(key), self.next_position()))

    def move(self, key: int, _number: int) -> None:
        to = self.dice.randrange(5)
        if to in self.rows:
            return
        old, position = self.rows.pop(key), self.next_position()
        self.rows[to] = {**old, "id": to}
        self.send(Event("d", old, position))
        half = Event("c", self.left_out(old, self.rows[to]), position)
        self.send(half, {"__debezium.oldkey": _key(old)})

    def left_out(self, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        """The large columns that did not change, as PostgreSQL's connector sends them."""
        placeholders = {"body": UNAVAILABLE, "scan": SCAN}
        return {n: placeholders.get(n, v) if v == old[n] else v for n, v in new.items()}

    def next_position(self) -> tuple[int, int]:
        self.position += 1
        return (1, self.position)

    def send(self, event: Event, headers: dict[str, bytes] | None = None) -> None:
        key, value = self.topic.key(event.row), self.topic.value(event)
        self.sent.append((key, value, event.row["id"] % 2, headers))
        self.topic.raw(*self.sent[-1])

    def redeliver(self) -> None:
        """Connect was killed: it sends its last changes again, before it goes on."""
        for again in self.sent[-self.dice.randrange(1, 8) :]:
            self.topic.raw(*again)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_any_history_with_values_left_out_ends_as_its_source(
    lake: Lake, name: str, seed: int
) -> None:
    """Keys change, changes come twice, batches cut the history anywhere, partitions run at their own pace."""
    source = Source(seed)
    source.play(90)
    records, dice = source.topic.records, source.dice
    # A partition may lag a few records; inside it the order stays.
    lag = {0: 0, 1: dice.randrange(6)}
    order = sorted(range(len(records)), key=lambda n: (n + lag[records[n][3]], n))
    source.topic.records = [records[n] for n in order]
    writer = lake.writer(name, source.topic)
    cuts = sorted({0, *(dice.randrange(len(records)) for _ in range(4)), len(records)})
    for first, end in itertools.pairwise(cuts):
        writer.write(first, end)
    assert letters(writer) == []
    assert writer.rows() == [source.rows[key] for key in sorted(source.rows)], f"seed {seed}"
