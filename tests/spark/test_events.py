"""Tables that keep every change event: each once, in a fenced commit; and records without a position."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from debezium import ITEMS, Event, SourceTable, Topic, item, optional
from lake import Lake, Writer
from test_dead_letters import INFINITY, TIMED, letters, row

from cdc_sink.debezium.options import UNAVAILABLE
from cdc_sink.errors import CommitConflictError, RecordError, StateError
from cdc_sink.spark.run.replay import replay_letters
from cdc_sink.spark.write.sink import Sink
from cdc_sink.table.schema.metadata_columns import (
    OFFSET,
    OP,
    PARTITION,
    POSITION_HI,
    POSITION_LO,
)

KEYLESS = SourceTable(ITEMS.columns, key=())


def events(writer: Writer) -> list[dict[str, Any]]:
    """The rows in the order of their events."""
    found = writer.table.scan().to_arrow().to_pylist()
    return sorted(found, key=lambda one: (one["_cdc_partition"], one["_cdc_offset"]))


def shown(writer: Writer, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(one[name] for name in names) for one in events(writer)]


def test_every_event_of_a_key_is_a_row(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    topic.send(Event("r", item(1, "read"), (1, 1), snapshot="true"))
    topic.send(Event("u", item(1, "updated"), (2, 1)))
    topic.send(Event("u", item(1, "again"), (2, 2)))
    topic.send(Event("d", item(1), (2, 3)))
    topic.tombstone(item(1))
    topic.send(Event("c", item(1, "elsewhere"), (3, 1)), partition=1)
    writer = lake.writer(name, topic, mode="append")
    facts = writer.write()
    assert shown(writer, PARTITION, OFFSET, OP, "id", "name", POSITION_HI, POSITION_LO) == [
        (0, 0, "r", 1, "read", 1, 1),
        (0, 1, "u", 1, "updated", 2, 1),
        (0, 2, "u", 1, "again", 2, 2),
        (0, 3, "d", 1, None, 2, 3),
        (1, 0, "c", 1, "elsewhere", 3, 1),
    ]
    assert facts is not None
    assert facts.totals.applied == 5
    assert facts.totals.tombstones == 1
    writer.write()  # the same batch once more
    assert len(events(writer)) == 5
    topic.send(Event("c", item(2, "next batch"), (4, 1)))
    writer.write()
    assert len(events(writer)) == 6
    assert writer.ledger.next_offsets == {0: 6, 1: 1}


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


def test_a_redelivered_tail_inside_one_batch_adds_nothing(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    sent = [Event("c", item(key, "new"), (1, key)) for key in (1, 2, 3)]
    topic.send_all(sent)
    topic.send_all(sent[:2])
    topic.send(Event("c", item(4, "new"), (1, 4)))
    writer = lake.writer(name, topic, mode="append")
    facts = writer.write()
    assert shown(writer, OFFSET, "id") == [(0, 1), (1, 2), (2, 3), (5, 4)]
    assert facts is not None
    assert facts.redelivered == 2
    topic.send_all(sent)
    writer.write()
    assert len(events(writer)) == 4


def test_a_value_left_out_is_null_and_named(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    topic.send(Event("c", item(1, "large"), (1, 1)))
    topic.send(Event("u", item(1, UNAVAILABLE), (1, 2)))
    writer = lake.writer(name, topic, mode="append")
    writer.write()
    assert shown(writer, "name", "_cdc_unavailable") == [("large", None), (None, '["name"]')]


def test_a_new_column_is_added_and_older_events_go_on(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    topic.send(Event("c", item(1, "one"), (1, 1)))
    writer = lake.writer(name, topic, mode="append")
    writer.write()
    topic.write_as(SourceTable({**ITEMS.columns, "more": optional("long")}))
    topic.send(Event("u", {**item(1, "one"), "more": 7}, (1, 2)))
    writer.write()
    assert shown(writer, OFFSET, "more") == [(0, None), (1, 7)]


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


@pytest.mark.parametrize("first", [True, False])
def test_a_driver_that_was_overtaken_adds_nothing(lake: Lake, name: str, first: bool) -> None:
    topic = Topic(ITEMS)
    topic.send(Event("c", item(1, "one"), (1, 1)))
    writer = lake.writer(name, topic, mode="append")
    if not first:
        writer.write()
        topic.send(Event("c", item(2, "two"), (1, 2)))
    stale = dataclasses.replace(writer, kind=Overtaken)
    assert isinstance(stale.sink, Overtaken)
    stale.sink.other = writer
    with pytest.raises(CommitConflictError) as refused:
        stale.write(0)
    assert refused.value.retry
    assert len(events(writer)) == (1 if first else 2)
    stale.sink.other = dataclasses.replace(writer)
    topic.send(Event("c", item(3, "three"), (1, 3)))
    dataclasses.replace(writer).write(0)
    assert len(events(writer)) == (2 if first else 3)


@pytest.mark.parametrize(("before", "after"), [("mirror", "append"), ("append", "mirror")])
def test_a_table_does_not_change_its_mode(lake: Lake, name: str, before: str, after: str) -> None:
    topic = Topic(ITEMS)
    topic.send(Event("c", item(1, "one"), (1, 1)))
    lake.writer(name, topic, mode=before).write()
    topic.send(Event("u", item(1, "two"), (1, 2)))
    with pytest.raises(StateError, match=f"made with `mode: {before}`"):
        lake.writer(name, topic, mode=after).write()


# --- order: kafka -----------------------------------------------------------------------------


def test_without_positions_only_kafka_order_counts(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    topic.send(Event("c", item(1, "first"), None))
    topic.send(Event("u", item(1, "second"), None))
    topic.send(Event("c", item(2, "gone"), None))
    topic.send(Event("d", item(2), None))
    writer = lake.writer(name, topic, order="kafka")
    writer.write()
    assert [(one["id"], one["name"]) for one in writer.rows()] == [(1, "second")]
    # Delivered again: older states stand for a moment, then the same again.
    topic.send(Event("c", item(1, "first"), None))
    topic.send(Event("u", item(1, "second"), None))
    facts = writer.write(4)
    assert facts is not None
    assert facts.redelivered == 0
    assert [(one["id"], one["name"]) for one in writer.rows()] == [(1, "second")]


def test_without_positions_no_delete_is_half_redelivered(lake: Lake, name: str) -> None:
    """A filter by position for some records only would drop the create and keep the delete."""
    topic = Topic(ITEMS)
    again = [Event("d", item(1), None), Event("c", item(1, "back"), (1, 5))]
    topic.send(Event("c", item(1, "first"), (1, 1)))
    topic.send_all(again)
    topic.send(Event("c", item(2, "other"), (1, 9)))
    writer = lake.writer(name, topic, order="kafka")
    writer.write()
    topic.send_all(again)
    writer.write(4)
    assert [(one["id"], one["name"]) for one in writer.rows()] == [(1, "back"), (2, "other")]
    assert writer.ledger.high_water == {}


def test_without_positions_moved_keys_stop_the_table(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    topic.send(Event("c", item(1, "first"), None))
    lake.writer(name, topic, order="kafka").write()
    topic.send(Event("u", item(1, "moved"), None), partition=2)
    with pytest.raises(StateError, match="nothing orders their changes"):
        lake.writer(name, topic, order="kafka").write(1)
