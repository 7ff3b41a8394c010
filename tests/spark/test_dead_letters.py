"""What can't be applied is set aside, whole and counted; its key waits, everything else goes on."""

from __future__ import annotations

from typing import Any

import pytest
from debezium import ITEMS, Event, SourceTable, Topic, item, optional, semantic
from lake import Lake, Writer

from cdc_sink.clients.catalog import load_table
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import RecordError, StateError
from cdc_sink.spark.iceberg_table import stamped
from cdc_sink.spark.run.replay import ReplayReport, replay_letters
from cdc_sink.spark.write.dead_letter_table import DeadLetters
from cdc_sink.table.dead_letter import State
from cdc_sink.table.ledger.ledger import LEDGER_KEY, Totals

TIMED = SourceTable(
    {**ITEMS.columns, "seen": optional(semantic("long", "io.debezium.time.MicroTimestamp"))}
)
INFINITY = 9223372036825200000


def row(key: int, name: str | None = None, seen: int | None = 0) -> dict[str, Any]:
    return {**item(key, name), "seen": seen}


@pytest.fixture
def writer(lake: Lake, name: str) -> Writer:
    """A table of two rows, 1 and 2."""
    topic = Topic(TIMED)
    topic.send_all(Event("c", row(key, "first"), (1, key)) for key in (1, 2))
    writer = lake.writer(name, topic)
    writer.write()
    return writer


def letters(writer: Writer) -> list[dict[str, Any]]:
    table = load_table(writer.lake.pipeline.catalog, writer.lake.pipeline.dead_letters)
    if table is None:
        return []
    found: list[dict[str, Any]] = table.scan().to_arrow().to_pylist()
    mine = [one for one in found if one["table"] == writer.target.name]
    return sorted(mine, key=lambda one: (one["partition"], one["offset"]))


def names(writer: Writer) -> dict[int, str | None]:
    return {one["id"]: one["name"] for one in writer.rows()}


def test_a_bad_value_is_set_aside_with_all_that_follows_for_its_key(writer: Writer) -> None:
    topic = writer.topic
    topic.send(Event("u", row(1, "before it"), (2, 1)))
    topic.send(Event("u", row(1, "bad", INFINITY), (2, 2)))
    topic.send(Event("u", row(1, "after it"), (2, 3)))
    topic.send(Event("u", row(2, "goes on"), (2, 4)))
    writer.write(2)
    assert names(writer) == {1: "before it", 2: "goes on"}
    found = letters(writer)
    assert [(one["offset"], one["reason"], one["state"]) for one in found] == [
        (3, "value", "quarantined"),
        (4, "key_quarantined", "quarantined"),
    ]
    assert [one["value"] for one in found] == [record[1] for record in topic.records[3:5]]
    assert [one["key"] for one in found] == [record[0] for record in topic.records[3:5]]
    assert found[0]["message"] == (
        "the table can't hold a value (seen: outside the years 0001 to 9999)"
    )
    assert writer.ledger.quarantined == 2
    assert writer.ledger.next_offsets[0] == 6


def test_a_batch_may_end_with_what_is_set_aside(writer: Writer) -> None:
    topic = writer.topic
    topic.send(Event("u", row(1, "bad", INFINITY), (2, 1)))
    topic.send(Event("u", row(2, "good"), (2, 2)))
    topic.send(Event("u", row(1, "waits with its key"), (2, 3)))
    writer.write(2)
    assert names(writer) == {1: "first", 2: "good"}
    assert [one["offset"] for one in letters(writer)] == [2, 4]
    assert writer.marks[0] == SourcePosition(2, 2)


def test_later_batches_leave_a_quarantined_key_alone(writer: Writer) -> None:
    topic = writer.topic
    topic.send(Event("u", row(1, "bad", INFINITY), (2, 1)))
    writer.write(2)
    topic.send(Event("u", row(1, "later"), (2, 2)))
    topic.send(Event("d", row(2), (2, 3)))
    topic.tombstone(row(2))
    writer.write(3)
    assert names(writer) == {1: "first"}
    assert [one["offset"] for one in letters(writer)] == [2, 3]
    totals = writer.ledger.totals
    assert totals.records == len(topic.records) == 6
    assert (totals.applied, totals.tombstones, totals.dead_letters) == (3, 1, 2)


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        ("short_value", lambda good: good[:3]),
        ("wrong_magic", lambda _good: b'{"a": 1}'),
        ("eight_byte_id", lambda good: good[:1] + bytes(4) + good[1:]),
        ("malformed", lambda good: good[:9]),
    ],
)
def test_a_value_of_broken_bytes_is_set_aside(writer: Writer, reason: str, value: Any) -> None:
    topic = writer.topic
    event = Event("u", row(1, "x"), (2, 1))
    topic.raw(topic.key(event.row), value(topic.value(event)))
    topic.send(Event("u", row(2, "goes on"), (2, 2)))
    writer.write(2)
    assert names(writer) == {1: "first", 2: "goes on"}
    assert [one["reason"] for one in letters(writer)] == [reason]


def test_a_batch_that_is_replayed_puts_its_letters_once(writer: Writer) -> None:
    topic = writer.topic
    topic.send(Event("u", row(1, "bad", INFINITY), (2, 1)))
    writer.write(2)
    before = letters(writer)
    writer.write(2)  # the ledger has it
    fenced = writer.records.sink._commit
    writer.topic.send(Event("u", row(1, "later"), (2, 2)))

    def dies(*_given: object, **_named: object) -> None:
        raise StateError("here", "the driver died", remedy="start it")

    writer.records.sink._commit = dies  # type: ignore[method-assign]
    with pytest.raises(StateError):
        writer.write(3)
    assert len(letters(writer)) == 2
    writer.records.sink._commit = fenced  # type: ignore[method-assign]
    writer.write(3)
    assert [one["offset"] for one in letters(writer)] == [2, 3]
    assert letters(writer)[0] == before[0]
    assert writer.ledger.totals.dead_letters == writer.ledger.quarantined == 2


def test_the_policy_stop_stops(lake: Lake, name: str) -> None:
    topic = Topic(TIMED)
    topic.send(Event("c", row(1, "first"), (1, 1)))
    writer = lake.writer(name, topic, bad_record="stop")
    writer.write()
    topic.send(Event("u", row(1, "bad", INFINITY), (2, 1)))
    with pytest.raises(RecordError, match="seen: outside the years"):
        writer.write(1)
    assert letters(writer) == []


def test_an_unreadable_key_stops_the_table_always(writer: Writer) -> None:
    writer.topic.raw(b"1-1-1", writer.topic.value(Event("u", row(1, "x"), (2, 1))))
    with pytest.raises(RecordError, match="the key does not begin with the magic byte 0x00"):
        writer.write(2)
    assert letters(writer) == []


# --- replay, release ------------------------------------------------------------------------------


def replay(writer: Writer) -> ReplayReport:
    return replay_letters(writer.records, writer.ledger)


def mend(writer: Writer) -> None:
    """What made the letters bad is mended: their values fit the table now."""
    store = f"{writer.lake.pipeline.catalog.name}.{writer.lake.pipeline.dead_letters}"
    good = writer.topic.value(Event("u", row(1, "mended", 7), (2, 2))).hex()
    writer.spark.sql(
        f"UPDATE {store} SET value = X'{good}' WHERE `table` = '{writer.target.name}' AND reason = 'value'"
    )


@pytest.fixture
def quarantined(writer: Writer) -> Writer:
    """Key 1 is quarantined by a bad value, with a later change and then a delete; key 2 went on."""
    topic = writer.topic
    topic.send(Event("u", row(1, "bad", INFINITY), (2, 2)))
    topic.send(Event("u", row(1, "later"), (2, 3)))
    topic.send(Event("u", row(2, "goes on"), (2, 4)))
    writer.write(2)
    return writer


def test_a_replay_applies_letters_in_order_and_twice_is_harmless(quarantined: Writer) -> None:
    writer = quarantined
    mend(writer)
    assert replay(writer) == ReplayReport(writer.target.name, 2, 0)
    assert names(writer) == {1: "later", 2: "goes on"}
    assert {one["state"] for one in letters(writer)} == {"replayed"}
    totals = writer.ledger.totals
    assert (totals.records, totals.applied, totals.dead_letters) == (5, 5, 0)
    before = writer.table.current_snapshot()
    assert replay(writer) == ReplayReport(writer.target.name, 0, 0)
    assert writer.table.current_snapshot() == before
    writer.topic.send(Event("u", row(1, "as usual"), (2, 5)))
    writer.write(5)
    assert names(writer) == {1: "as usual", 2: "goes on"}


def test_letters_that_still_fail_stay_with_all_that_follow_them(quarantined: Writer) -> None:
    assert replay(quarantined) == ReplayReport(quarantined.target.name, 0, 2)
    assert names(quarantined) == {1: "first", 2: "goes on"}
    assert {one["state"] for one in letters(quarantined)} == {"quarantined"}


@pytest.mark.parametrize("dies_after_commit", [True, False])
def test_a_replay_that_died_is_settled_by_the_next_one(
    quarantined: Writer, dies_after_commit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = quarantined
    mend(writer)
    commit = writer.sink._commit

    def dies(*given: Any, **named: Any) -> None:
        if dies_after_commit:
            commit(*given, **named)
        raise StateError("here", "the driver died", remedy="start it")

    with monkeypatch.context() as patched:
        patched.setattr(writer.sink, "_commit", dies)
        with pytest.raises(StateError, match="the driver died"):
            replay(writer)
    assert {one["state"] for one in letters(writer)} == {"replaying"}
    report = replay(writer)
    assert report.replayed == (0 if dies_after_commit else 2)
    assert names(writer) == {1: "later", 2: "goes on"}
    assert {one["state"] for one in letters(writer)} == {"replayed"}
    totals = writer.ledger.totals
    assert (totals.records, totals.applied, totals.dead_letters) == (5, 5, 0)


def test_a_released_key_is_applied_again_and_its_letters_never_come_back(
    quarantined: Writer,
) -> None:
    writer = quarantined
    store = DeadLetters(writer.spark, writer.target, writer.ledger.stream.topic_id)
    store.mark(store.of_key(0, 3), State.RELEASED)  # named by its second letter: the key counts
    writer.topic.send(Event("u", row(1, "newer"), (2, 5)))
    writer.write(5)
    assert names(writer) == {1: "newer", 2: "goes on"}
    assert writer.ledger.quarantined == 0
    mend(writer)
    assert replay(writer) == ReplayReport(writer.target.name, 0, 0)
    assert names(writer) == {1: "newer", 2: "goes on"}


def test_an_old_letter_does_not_overwrite_newer_state(quarantined: Writer) -> None:
    """The guard, not the quarantine: the letter waits, and yet somebody wrote the row anew."""
    writer, before = quarantined, quarantined.ledger
    mend(writer)
    with stamped(writer.spark, {LEDGER_KEY: before.to_json()}):
        writer.spark.sql(
            f"UPDATE {writer.target.identifier} SET name = 'newer', _cdc_op = 'u', "
            "_cdc_position_hi = 9, _cdc_position_lo = 9, _cdc_partition = 0, _cdc_offset = 99 WHERE id = 1"
        )
    assert replay_letters(writer.records, before).replayed == 2
    assert names(writer) == {1: "newer", 2: "goes on"}


# --- truncate -------------------------------------------------------------------------------------


def truncated(writer: Writer) -> None:
    topic = writer.topic
    topic.send(Event("u", row(1, "before it"), (2, 1)))
    topic.send(Event("c", row(3, "before it"), (2, 2)))
    topic.raw(None, topic.value(Event("t", row(0), (2, 3))))
    topic.send(Event("c", row(4, "after it"), (2, 4)))


def test_a_truncate_empties_the_table_at_its_place(lake: Lake, name: str) -> None:
    topic = Topic(TIMED)
    topic.send_all(Event("c", row(key, "first"), (1, key)) for key in (1, 2))
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


def test_a_truncate_that_nothing_orders_stops(lake: Lake, name: str) -> None:
    topic = Topic(TIMED)
    topic.send(Event("c", row(1, "first"), (1, 1)))
    writer = lake.writer(name, topic, truncate="apply")
    writer.write()
    truncated(writer)
    with pytest.raises(StateError, match="has 2 partitions: the truncate lies in one of them"):
        writer.write(1)
