"""Tables that keep every change event: each once, in a fenced commit; and records without a position."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from debezium import ITEMS, Event, SourceTable, Topic, item, optional
from lake import PIPELINE, Lake, Writer
from put_back import put_back, snapshot_id
from test_dead_letters import INFINITY, TIMED, letters, row

from cdc_sink.debezium.options import UNAVAILABLE
from cdc_sink.errors import CommitConflictError, RecordError, StateError
from cdc_sink.spark.run.replay import replay_letters
from cdc_sink.spark.write.sink import Sink
from cdc_sink.table.plan import BatchFacts
from cdc_sink.table.schema.metadata_columns import (
    OFFSET,
    OP,
    PARTITION,
    POSITION_HI,
    POSITION_LO,
)

KEYLESS = SourceTable(ITEMS.columns, key=())


def events(writer: Writer, *partitions: int) -> list[dict[str, Any]]:
    """The rows in the order of their events; of these partitions only, if some are named."""
    found = writer.table.scan().to_arrow().to_pylist()
    found = [one for one in found if not partitions or one["_cdc_partition"] in partitions]
    return sorted(found, key=lambda one: (one["_cdc_partition"], one["_cdc_offset"]))


def shown(writer: Writer, *names: str, of: Sequence[int] = ()) -> list[tuple[Any, ...]]:
    return [tuple(one[name] for name in names) for one in events(writer, *of)]


TAIL = [Event("c", item(key, "new"), (1, key)) for key in (11, 12, 13)]
MORE = SourceTable({**ITEMS.columns, "more": optional("long")})


@dataclass
class Kept:
    """A table of the events of several cases, each in partitions of its own, after two batches."""

    writer: Writer
    facts: BatchFacts
    first_rows: int
    snapshot_id: int


@pytest.fixture(scope="module")
def kept(lake: Lake) -> Kept:
    topic = Topic(ITEMS)
    topic.send(Event("r", item(1, "read"), (1, 1), snapshot="true"))
    topic.send(Event("u", item(1, "updated"), (2, 1)))
    topic.send(Event("u", item(1, "again"), (2, 2)))
    topic.send(Event("d", item(1), (2, 3)))
    topic.tombstone(item(1))
    topic.send(Event("c", item(1, "elsewhere"), (3, 1)), partition=1)
    topic.send_all([*TAIL, *TAIL[:2], Event("c", item(14, "new"), (1, 14))], partition=2)
    topic.send(Event("c", item(21, "large"), (1, 1)), partition=3)
    topic.send(Event("u", item(21, UNAVAILABLE), (1, 2)), partition=3)
    topic.send(Event("c", item(31, "one"), (1, 1)), partition=4)
    writer = lake.writer("events", topic, mode="append")
    writer = dataclasses.replace(writer, partitions=range(5))
    facts = writer.write()
    assert facts is not None
    writer.write()  # the same batch once more
    first_rows = len(events(writer))
    topic.send(Event("c", item(2, "next batch"), (4, 1)))
    topic.send_all(TAIL, partition=2)
    topic.write_as(MORE)
    topic.send(Event("u", {**item(31, "one"), "more": 7}, (1, 2)), partition=4)
    writer.write()
    return Kept(writer, facts, first_rows, snapshot_id(writer))


def test_every_event_of_a_key_is_a_row(kept: Kept) -> None:
    names = (PARTITION, OFFSET, OP, "id", "name", POSITION_HI, POSITION_LO)
    assert shown(kept.writer, *names, of=(0, 1)) == [
        (0, 0, "r", 1, "read", 1, 1),
        (0, 1, "u", 1, "updated", 2, 1),
        (0, 2, "u", 1, "again", 2, 2),
        (0, 3, "d", 1, None, 2, 3),
        (0, 5, "c", 2, "next batch", 4, 1),
        (1, 0, "c", 1, "elsewhere", 3, 1),
    ]
    assert kept.facts.totals.applied == kept.first_rows == 5 + 4 + 2 + 1
    assert kept.facts.totals.tombstones == 1
    assert kept.writer.ledger.next_offsets == {0: 6, 1: 1, 2: 9, 3: 2, 4: 2}


def test_a_source_table_without_a_key_keeps_the_whole_row_of_a_delete(
    lake: Lake, name: str
) -> None:
    topic = Topic(KEYLESS)
    topic.send(Event("c", item(1, "one"), (1, 1)))
    topic.send(Event("c", item(1, "one"), (1, 2)))
    topic.send(Event("d", item(1), (1, 3), before=item(1, "one")))
    writer = lake.writer(name, topic, mode="append")
    writer.write()
    assert shown(writer, OP, "id", "name") == [
        ("c", 1, "one"),
        ("c", 1, "one"),
        ("d", 1, "one"),
    ]


def test_a_source_table_without_a_key_is_refused_as_a_mirror(lake: Lake, name: str) -> None:
    topic = Topic(KEYLESS)
    topic.send(Event("c", item(1, "one"), (1, 1)))
    writer = lake.writer(name, topic)
    with pytest.raises(RecordError, match="the record has no key") as refused:
        writer.write()
    assert "mode: append" in str(refused.value)
    assert not writer.exists


def test_a_delete_without_key_and_without_row_stops(lake: Lake, name: str) -> None:
    topic = Topic(KEYLESS)
    topic.send(Event("d", item(1), (1, 1)))
    writer = lake.writer(name, topic, mode="append")
    with pytest.raises(RecordError, match="no key"):
        writer.write()


def test_a_redelivered_tail_inside_one_batch_adds_nothing(kept: Kept) -> None:
    assert shown(kept.writer, OFFSET, "id", of=[2]) == [(0, 11), (1, 12), (2, 13), (5, 14)]
    assert kept.facts.redelivered == 2


def test_a_value_left_out_is_null_and_named(kept: Kept) -> None:
    found = shown(kept.writer, "name", "_cdc_unavailable", of=[3])
    assert found == [("large", None), (None, '["name"]')]


def test_a_new_column_is_added_and_older_events_go_on(kept: Kept) -> None:
    assert shown(kept.writer, OFFSET, "more", of=[4]) == [(0, None), (1, 7)]


def test_a_bad_event_goes_aside_alone_and_its_replay_adds_it(lake: Lake, name: str) -> None:
    topic = Topic(TIMED)
    topic.send(Event("c", row(1, "good"), (1, 1)))
    topic.send(Event("u", row(1, "bad", INFINITY), (1, 2)))
    topic.send(Event("u", row(1, "good again"), (1, 3)))
    writer = lake.writer(name, topic, mode="append")
    writer.write()
    topic.send(Event("u", row(1, "later"), (1, 4)))
    writer.write()
    assert shown(writer, OFFSET) == [(0,), (2,), (3,)]
    assert [(one["offset"], one["state"]) for one in letters(writer)] == [(1, "quarantined")]
    settings = {"columns": {"seen": {"on_infinity": "null"}}}
    again = lake.writer(name, topic, mode="append", **settings)
    for _ in range(2):
        replay_letters(again.records, again.ledger)
    assert shown(writer, OFFSET, "name") == [
        (0, "good"),
        (1, "bad"),
        (2, "good again"),
        (3, "later"),
    ]
    totals = writer.ledger.totals
    assert (totals.applied, totals.dead_letters) == (4, 0)


@pytest.mark.parametrize("policy", ["stop", "apply", "ignore"])
def test_a_truncate_is_an_event_only_by_policy(lake: Lake, name: str, policy: str) -> None:
    topic = Topic(ITEMS)
    topic.send(Event("c", item(1, "one"), (1, 1)))
    truncate = Event("t", item(1), (1, 2))
    topic.raw(None, topic.value(truncate))
    topic.send(Event("c", item(2, "two"), (1, 3)))
    writer = lake.writer(name, topic, mode="append", truncate=policy)
    if policy == "stop":
        with pytest.raises(RecordError, match="truncated"):
            writer.write()
        return
    writer.write()
    ops = {"apply": ["c", "t", "c"], "ignore": ["c", "c"]}
    assert [op for (op,) in shown(writer, OP)] == ops[policy]


class Overtaken(Sink):
    """A driver that is overtaken by another one just before its table commit."""

    other: Writer

    def _commit(self, *plan: object, **named: object) -> None:
        self.other.write(0)
        super()._commit(*plan, **named)  # type: ignore[arg-type]


def overtaken(writer: Writer) -> Writer:
    stale = dataclasses.replace(writer, kind=Overtaken)
    assert isinstance(stale.sink, Overtaken)
    stale.sink.other = writer
    return stale


@pytest.mark.parametrize("first", [True, False])
def test_a_driver_that_was_overtaken_adds_nothing(
    lake: Lake, name: str, kept: Kept, first: bool
) -> None:
    if first:
        topic, before = Topic(ITEMS), 0
        writer = lake.writer(name, topic, mode="append")
    else:
        writer = put_back(kept.writer, kept.snapshot_id, mode="append")
        topic, before = writer.topic, len(events(writer))
    topic.send(Event("c", {**item(2, "two"), "more": 1}, (5, 2)))
    with pytest.raises(CommitConflictError) as refused:
        overtaken(writer).write(0)
    assert refused.value.retry
    assert len(events(writer)) == before + 1
    topic.send(Event("c", {**item(3, "three"), "more": 1}, (5, 3)))
    dataclasses.replace(writer).write(0)
    assert len(events(writer)) == before + 2


# --- order: kafka -----------------------------------------------------------------------------


STATES = [Event("c", item(1, "first"), None), Event("u", item(1, "second"), None)]
BACK = [Event("d", item(11), None), Event("c", item(11, "back"), (1, 5))]
Unplaced = tuple[Writer, BatchFacts, list[Any]]


@pytest.fixture(scope="module")
def unplaced(lake: Lake) -> Unplaced:
    """A table in Kafka's order after two batches, the facts of the second, and its rows before that."""
    topic = Topic(ITEMS)
    topic.send_all([*STATES, Event("c", item(2, "gone"), None), Event("d", item(2), None)])
    topic.send(Event("c", item(11, "first"), (1, 1)), partition=1)
    topic.send_all(BACK, partition=1)
    topic.send(Event("c", item(12, "other"), (1, 9)), partition=1)
    topic.send(Event("c", item(21, "first"), None))
    writer = lake.writer("unplaced", topic, order="kafka")
    writer.write()
    rows, first = writer.rows(), len(topic.records)
    # Delivered again: older states stand for a moment, then the same again.
    topic.send_all(STATES)
    topic.send_all(BACK, partition=1)
    facts = writer.write(first)
    assert facts is not None
    return writer, facts, rows


def test_without_positions_only_kafka_order_counts(unplaced: Unplaced) -> None:
    writer, facts, before = unplaced
    assert [row["name"] for row in before if row["id"] in (1, 2)] == ["second"]
    assert facts.redelivered == 0
    assert [row["name"] for row in writer.rows() if row["id"] in (1, 2)] == ["second"]


def test_without_positions_no_delete_is_half_redelivered(unplaced: Unplaced) -> None:
    """A filter by position for some records only would drop the create and keep the delete."""
    writer = unplaced[0]
    assert writer.rows()[1:3] == [item(11, "back"), item(12, "other")]
    assert writer.ledger.high_water == {}


def test_without_positions_moved_keys_stop_the_table(lake: Lake, unplaced: Unplaced) -> None:
    topic = copy.deepcopy(unplaced[0].topic)
    first = len(topic.records)
    topic.send(Event("u", item(21, "moved"), None), partition=2)
    with pytest.raises(StateError, match="nothing orders their changes"):
        lake.writer("unplaced", topic, order="kafka").write(first)


@pytest.mark.parametrize(("before", "after"), [("mirror", "append"), ("append", "mirror")])
def test_a_table_does_not_change_its_mode(
    lake: Lake, kept: Kept, unplaced: Unplaced, before: str, after: str
) -> None:
    made = kept.writer if before == "append" else unplaced[0]
    topic = copy.deepcopy(made.topic)
    topic.send(Event("u", {**item(1, "two"), "more": 1}, (9, 2)))
    name = made.target.table.target.removeprefix(f"{PIPELINE}.")
    with pytest.raises(StateError, match=f"made with `mode: {before}`"):
        lake.writer(name, topic, mode=after).write()
