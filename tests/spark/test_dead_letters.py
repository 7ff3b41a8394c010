"""What can't be applied is set aside, whole and counted; its key waits, everything else goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from debezium import ITEMS, Event, SourceTable, Topic, item, optional, semantic
from lake import Lake, Writer

from cdc_sink.clients.catalog import load_table
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import RecordError, StateError
from cdc_sink.table.ledger.ledger import Totals

TIMED = SourceTable(
    {**ITEMS.columns, "seen": optional(semantic("long", "io.debezium.time.MicroTimestamp"))}
)
INFINITY = 9223372036825200000


def row(key: int, name: str | None = None, seen: int | None = 0) -> dict[str, Any]:
    return {**item(key, name), "seen": seen}


def letters(writer: Writer) -> list[dict[str, Any]]:
    table = load_table(writer.lake.pipeline.catalog, writer.lake.pipeline.dead_letters)
    if table is None:
        return []
    found: list[dict[str, Any]] = table.scan().to_arrow().to_pylist()
    mine = [one for one in found if one["table"] == writer.target.name]
    return sorted(mine, key=lambda one: (one["partition"], one["offset"]))


def names(writer: Writer) -> dict[int, str | None]:
    return {one["id"]: one["name"] for one in writer.rows()}


def create(topic: Topic, keys: list[int]) -> None:
    topic.send_all(Event("c", row(key, "first"), (1, key)) for key in keys)


# --- set aside: stories of keys of their own in one table -----------------------------------------

BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "short_value": lambda good: good[:3],
    "wrong_magic": lambda _good: b'{"a": 1}',
    "eight_byte_id": lambda good: good[:1] + bytes(4) + good[1:],
    "malformed": lambda good: good[:9],
}
BROKEN_KEYS = {reason: (30 + n, 40 + n) for n, reason in enumerate(BROKEN)}


@dataclasses.dataclass
class Seen:
    """What a table and its letters were at one time."""

    writer: Writer

    def __post_init__(self) -> None:
        self.names = names(self.writer)
        self.all_letters = letters(self.writer)
        self.ledger, self.marks = self.writer.ledger, self.writer.marks
        self.sent = len(self.writer.topic.records)

    def letters(self, *keys: int) -> list[dict[str, Any]]:
        wanted = [self.writer.topic.key(row(key)) for key in keys]
        return [one for one in self.all_letters if one["key"] in wanted]

    def of(self, *keys: int) -> dict[int, str | None]:
        return {key: self.names[key] for key in keys if key in self.names}

    def totals(self) -> tuple[int, int, int]:
        totals = self.ledger.totals
        return totals.records, totals.applied, totals.dead_letters


@pytest.fixture(scope="module")
def aside(lake: Lake) -> dict[str, Seen]:
    """A table of which some is set aside, after each of its batches."""
    topic, seen = Topic(TIMED), dict[str, Seen]()
    broken = [key for pair in BROKEN_KEYS.values() for key in pair]
    create(topic, [1, 2, 11, 12, 21, 22, *broken, 51])
    writer = lake.writer("set_aside", topic)
    writer.write()
    first = len(topic.records)
    topic.send(Event("u", row(1, "before it"), (2, 1)))
    topic.send(Event("u", row(1, "bad", INFINITY), (2, 2)))
    topic.send(Event("u", row(1, "after it"), (2, 3)))
    topic.send(Event("u", row(2, "goes on"), (2, 4)))
    for number, (reason, (key, other)) in enumerate(BROKEN_KEYS.items()):
        event = Event("u", row(key, "x"), (3, number))
        topic.raw(topic.key(event.row), BROKEN[reason](topic.value(event)))
        topic.send(Event("u", row(other, "goes on"), (3, number)))
    topic.send(Event("u", row(21, "bad", INFINITY), (4, 1)))
    topic.send(Event("u", row(51, "bad", INFINITY), (4, 2)))
    topic.send(Event("u", row(11, "bad", INFINITY), (5, 1)))
    topic.send(Event("u", row(12, "good"), (5, 2)))
    topic.send(Event("u", row(11, "waits with its key"), (5, 3)))
    writer.write(first)
    seen["first"] = Seen(writer)
    writer.write(first)  # the ledger has it
    seen["again"] = Seen(writer)

    second = len(topic.records)
    topic.send(Event("u", row(21, "later"), (6, 1)))
    topic.send(Event("d", row(22), (6, 2)))
    topic.tombstone(row(22))
    writer.write(second)
    seen["second"] = Seen(writer)

    third = len(topic.records)
    topic.send(Event("u", row(51, "later"), (7, 1)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(writer.records.sink, "_commit", dies)
        with pytest.raises(StateError, match="the driver died"):
            writer.write(third)
    seen["died"] = Seen(writer)
    writer.write(third)
    seen["third"] = Seen(writer)
    return seen


def dies(*_given: object, **_named: object) -> None:
    raise StateError("here", "the driver died", remedy="start it")


def test_a_bad_value_is_set_aside_with_all_that_follows_for_its_key(
    aside: dict[str, Seen],
) -> None:
    seen = aside["first"]
    assert seen.of(1, 2) == {1: "before it", 2: "goes on"}
    found, topic = seen.letters(1, 2), seen.writer.topic
    records = [one for one in topic.records[: seen.sent] if one[0] == topic.key(row(1))][2:]
    assert [(one["offset"], one["reason"], one["state"]) for one in found] == [
        (records[0][4], "value", "quarantined"),
        (records[1][4], "key_quarantined", "quarantined"),
    ]
    assert [one["value"] for one in found] == [record[1] for record in records]
    assert [one["key"] for one in found] == [record[0] for record in records]
    assert found[0]["message"] == (
        "the table can't hold a value (seen: outside the years 0001 to 9999)"
    )
    assert seen.ledger.quarantined == len(seen.all_letters) == 10
    assert seen.ledger.next_offsets[0] == seen.sent


def test_a_batch_may_end_with_what_is_set_aside(aside: dict[str, Seen]) -> None:
    seen = aside["first"]
    assert seen.of(11, 12) == {11: "first", 12: "good"}
    end = seen.sent
    assert [one["offset"] for one in seen.letters(11, 12)] == [end - 3, end - 1]
    assert seen.marks[0] == SourcePosition(5, 2)


def test_later_batches_leave_a_quarantined_key_alone(aside: dict[str, Seen]) -> None:
    before, seen = aside["first"], aside["second"]
    assert seen.of(21, 22) == {21: "first"}
    bad, later = seen.letters(21, 22)
    assert [bad] == before.letters(21, 22)
    assert later["offset"] == before.sent
    totals = seen.ledger.totals
    assert totals.records == seen.sent == 35
    assert (totals.applied, totals.tombstones, totals.dead_letters) == (23, 1, 11)


@pytest.mark.parametrize("reason", BROKEN)
def test_a_value_of_broken_bytes_is_set_aside(aside: dict[str, Seen], reason: str) -> None:
    seen, (key, other) = aside["first"], BROKEN_KEYS[reason]
    assert seen.of(key, other) == {key: "first", other: "goes on"}
    assert [one["reason"] for one in seen.letters(key, other)] == [reason]


def test_a_batch_that_is_replayed_puts_its_letters_once(aside: dict[str, Seen]) -> None:
    assert aside["again"].all_letters == aside["first"].all_letters
    second, died, seen = aside["second"], aside["died"], aside["third"]
    assert len(died.letters(51)) == 2
    assert died.ledger == second.ledger
    bad, later = seen.letters(51)
    assert [bad] == aside["first"].letters(51)
    assert later["offset"] == second.sent
    assert seen.ledger.totals.dead_letters == seen.ledger.quarantined == len(seen.all_letters) == 12


# --- stopped: what leaves a table without letters as it was ---------------------------------------


@pytest.fixture(scope="module")
def stocked(lake: Lake) -> Writer:
    """A table of two rows, 1 and 2."""
    topic = Topic(TIMED)
    create(topic, [1, 2])
    writer = lake.writer("stopped", topic)
    writer.write()
    return writer


@pytest.fixture
def another(stocked: Writer) -> Iterator[Callable[..., Writer]]:
    """Drivers of that table, with other settings; whatever they read leaves no trace."""
    before = stocked.table.current_snapshot(), stocked.rows()

    def open_another(**settings: Any) -> Writer:
        topic = dataclasses.replace(stocked.topic, records=list(stocked.topic.records))
        return stocked.lake.writer("stopped", topic, **settings)

    yield open_another
    assert (stocked.table.current_snapshot(), stocked.rows()) == before
    assert letters(stocked) == []


def test_the_policy_stop_stops(another: Callable[..., Writer]) -> None:
    writer = another(bad_record="stop")
    writer.topic.send(Event("u", row(1, "bad", INFINITY), (2, 1)))
    with pytest.raises(RecordError, match="seen: outside the years"):
        writer.write(2)


def test_an_unreadable_key_stops_the_table_always(another: Callable[..., Writer]) -> None:
    writer = another()
    writer.topic.raw(b"1-1-1", writer.topic.value(Event("u", row(1, "x"), (2, 1))))
    with pytest.raises(RecordError, match="the key does not begin with the magic byte 0x00"):
        writer.write(2)


def test_a_truncate_that_nothing_orders_stops(another: Callable[..., Writer]) -> None:
    writer = another(truncate="apply")
    truncated(writer)
    with pytest.raises(StateError, match="has 2 partitions: the truncate lies in one of them"):
        writer.write(2)


# --- truncate -------------------------------------------------------------------------------------


def truncated(writer: Writer) -> None:
    topic = writer.topic
    topic.send(Event("u", row(1, "before it"), (2, 1)))
    topic.send(Event("c", row(3, "before it"), (2, 2)))
    topic.raw(None, topic.value(Event("t", row(0), (2, 3))))
    topic.send(Event("c", row(4, "after it"), (2, 4)))


def test_a_truncate_empties_the_table_at_its_place(lake: Lake, name: str) -> None:
    topic = Topic(TIMED)
    create(topic, [1, 2])
    writer = lake.writer(name, topic, truncate="apply")
    writer.sink.partitions = (0,)
    writer.write()
    truncated(writer)
    writer.write(2)
    assert names(writer) == {4: "after it"}
    # Redelivered, it must not empty the table once more.
    topic.raw(None, topic.value(Event("t", row(0), (2, 3))))
    topic.send(Event("u", row(4, "after it"), (2, 4)))
    writer.write(6)
    assert names(writer) == {4: "after it"}
    topic.raw(None, topic.value(Event("t", row(0), (3, 1))))
    writer.write(8)
    assert names(writer) == {}
    assert writer.ledger.totals == Totals(applied=8, redelivered=1)


def test_a_truncate_is_ignored_when_the_policy_says_so(lake: Lake, name: str) -> None:
    topic = Topic(TIMED)
    topic.send(Event("c", row(1, "first"), (1, 1)))
    writer = lake.writer(name, topic, truncate="ignore")
    writer.write()
    truncated(writer)
    writer.write(1)
    assert names(writer) == {1: "before it", 3: "before it", 4: "after it"}
    assert writer.ledger.totals == Totals(applied=4, ignored=1)


@pytest.mark.parametrize(("policy", "left"), [("apply", {}), ("ignore", {1: "first"})])
def test_a_driver_that_was_just_started_may_meet_a_truncate_alone(
    lake: Lake, name: str, policy: str, left: dict[int, str]
) -> None:
    """A truncate has no key, and so does not tell the schema of the table's keys."""
    topic = Topic(TIMED)
    create(topic, [1])
    writer = lake.writer(name, topic, truncate=policy)
    writer.sink.partitions = (0,)
    writer.write()
    topic.raw(None, topic.value(Event("t", row(0), (2, 1))))
    started = lake.writer(name, topic, truncate=policy)
    started.sink.partitions = (0,)
    started.write(1)
    assert names(started) == left
