"""Keys that change their partition keep their order, even when a batch brings the newer change first."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
from debezium import ITEMS, Event, SourceTable, Topic, item, optional
from lake import Lake, Writer


@pytest.fixture
def writer(lake: Lake, name: str) -> Writer:
    """A topic of two partitions; keys 1 to 3 are stored from the first."""
    topic = Topic(ITEMS)
    topic.send_all(Event("c", item(key, "first"), (1, key)) for key in (1, 2, 3))
    writer = lake.writer(name, topic)
    writer.write()
    return writer


def names(writer: Writer) -> dict[int, str | None]:
    return {row["id"]: row["name"] for row in writer.rows()}


def older_changes(topic: Topic) -> None:
    """What was sent to the first partition before the topic grew."""
    topic.send(Event("u", item(1, "older"), (2, 1)))
    topic.send(Event("u", item(2, "older"), (2, 2)))
    topic.send(Event("d", item(3), (2, 3)))


def newer_changes(topic: Topic, partition: int) -> None:
    topic.send(Event("u", item(1, "newer"), (3, 1)), partition)
    topic.send(Event("d", item(2), (3, 2)), partition)
    topic.send(Event("c", item(3, "newer"), (3, 3)), partition)


MOVED = {1: "newer", 3: "newer"}


@pytest.mark.parametrize("partition", [1, 2])
def test_a_topic_that_grew_is_applied_in_order_though_read_out_of_order(
    writer: Writer, partition: int
) -> None:
    """The connector knew of the new partition; the older changes come a batch later."""
    topic = writer.topic
    topic.raw(topic.key(item(9)), None, 2)  # a third partition is there
    newer_changes(topic, partition)
    older_changes(topic)
    writer.write(3, 7)
    assert names(writer) == MOVED
    assert writer.ledger.moving is not None
    writer.write(7)
    assert names(writer) == MOVED
    topic.send(Event("u", item(1, "newest"), (4, 1)), partition)
    writer.write(10)
    topic.send(Event("u", item(3, "newest"), (4, 2)), partition)
    writer.write(11)
    assert names(writer) == {1: "newest", 3: "newest"}
    assert writer.ledger.moving is None


def test_both_in_one_batch_are_told_apart_by_their_place_in_the_source(writer: Writer) -> None:
    topic = writer.topic
    newer_changes(topic, 2)
    older_changes(topic)
    topic.send(Event("u", item(2, "older still"), (2, 4)))
    writer.write(3)
    assert names(writer) == MOVED


def test_another_key_schema_is_applied_in_order_though_read_out_of_order(writer: Writer) -> None:
    topic = writer.topic
    wider = SourceTable(
        {"id": {"type": "long", "connect.doc": "the number"}, "name": optional("string")}
    )
    older = dataclasses.replace(topic, records=list(topic.records))
    older_changes(older)
    topic.write_as(wider)
    newer_changes(topic, 1)
    topic.records += older.records[3:]
    writer.write(3, 6)
    assert names(writer) == MOVED
    assert writer.ledger.moving is not None
    assert len(writer.ledger.key_schema_ids) == 2
    writer.write(6)
    assert names(writer) == MOVED


@pytest.mark.parametrize("seed", [1, 2])
def test_any_history_in_a_growing_topic_ends_as_its_source(
    lake: Lake, name: str, seed: int
) -> None:
    """Partitions are read at different speed; each holds what its hash gave it, before and after."""
    dice = random.Random(seed)
    topic, rows = Topic(ITEMS), dict[int, dict[str, Any]]()
    count = 2
    for number in range(120):
        if number == 60:
            count = 5
        key = dice.randrange(6)
        op = ("d" if dice.random() < 0.4 else "u") if key in rows else "c"
        row = item(key, f"{key} at {number}")
        topic.send(Event(op, row, (1, number)), partition=(key * 7) % count)
        if op == "d":
            del rows[key]
        else:
            rows[key] = row
    writer = lake.writer(name, topic)
    writer.write(0, 20)
    rest = topic.records[20:]
    lag = {p: dice.randrange(4) for p in range(5)}
    # A slow partition's records come batches later; inside a partition the order stays.
    when = [(number // 20 + lag[record[3]], number) for number, record in enumerate(rest)]
    topic.records[20:] = [rest[number] for _, number in sorted(when)]
    ends = [20]
    for step in sorted({step for step, _ in when}):
        ends.append(ends[-1] + sum(s == step for s, _ in when))
        writer.write(ends[-2], ends[-1])
    expected = [rows[key] for key in sorted(rows)]
    assert writer.rows() == expected, f"seed {seed}"
