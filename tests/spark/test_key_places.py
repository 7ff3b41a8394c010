"""Every record is held against its key: it lies where Kafka's hash puts it, or the table stops."""

from __future__ import annotations

import random

import pytest
from debezium import ITEMS, Event, Topic, item
from lake import Lake, Writer

from cdc_sink.errors import CdcSinkError
from cdc_sink.spark.fold.key_partitions import KeyPartitions
from cdc_sink.table.ledger.key_partitions import Placed, elsewhere, partition_of


def hashed(lake: Lake, name: str, keys: int, partitions: int) -> Writer:
    """As many keys, each stored from where its bytes put it."""
    topic = Topic(ITEMS)
    for number in range(keys):
        place(topic, Event("c", item(number, "first"), (1, number)), partitions)
    writer = lake.writer(name, topic, key_partition="hashed")
    writer.sink.partitions = tuple(range(partitions))
    writer.write()
    return writer


def place(topic: Topic, event: Event, partitions: int) -> None:
    topic.send(event, partition_of(topic.key(event.row) or b"", partitions))


def test_one_record_in_hundreds_that_lies_elsewhere_stops_the_table(lake: Lake, name: str) -> None:
    writer = hashed(lake, name, 3, 3)
    topic = writer.topic
    for number in range(300):
        place(topic, Event("u", item(number % 3, f"{number}"), (2, number)), 3)
        if number == 150:
            event = Event("u", item(7, "elsewhere"), (3, number))
            topic.send(event, (partition_of(topic.key(event.row) or b"", 3) + 1) % 3)
    before = writer.ledger
    with pytest.raises(CdcSinkError, match="do not lie in the partition that follows"):
        writer.write(3)
    assert writer.ledger == before


def test_while_keys_move_once_a_record_lies_by_one_of_two_numbers(lake: Lake, name: str) -> None:
    """Else a left-out value might be taken from a row that is not the one before."""
    writer = hashed(lake, name, 12, 2)
    topic = writer.topic
    for number in range(12):
        place(topic, Event("u", item(number, "old"), (2, number)), 2)
    for number in range(12):
        place(topic, Event("u", item(number, "new"), (3, number)), 5)
    writer.write(12)
    assert set(names(writer).values()) == {"new"}
    first = len(topic.records)
    odd = next(n for n in range(100, 200) if partitions_of(topic, n).isdisjoint({4}))
    topic.send(Event("c", item(odd, "third"), (4, 1)), 4)
    with pytest.raises(CdcSinkError, match="a record lies in neither of those that its key gives"):
        writer.write(first)


def test_what_was_applied_while_keys_moved_may_come_again_when_that_is_over(
    lake: Lake, name: str
) -> None:
    """A restored checkpoint reads records of the topic's smaller days once more."""
    writer = hashed(lake, name, 12, 2)
    topic = writer.topic
    for number in range(12):
        place(topic, Event("u", item(number, "new"), (3, number)), 5)
    writer.write(12)
    for step in (4, 5):
        for number in range(12):
            place(topic, Event("u", item(number, "newer"), (step, number)), 5)
        writer.write(len(topic.records) - 12)
    assert writer.ledger.moving is None
    place(topic, Event("u", item(3, "newest"), (6, 1)), 5)
    writer.write(0)
    assert names(writer) == {n: "newest" if n == 3 else "newer" for n in range(12)}


def partitions_of(topic: Topic, key: int) -> set[int]:
    """Where two and five partitions put a key."""
    return {partition_of(topic.key(item(key)) or b"", count) for count in (2, 5)}


def names(writer: Writer) -> dict[int, str | None]:
    return {row["id"]: row["name"] for row in writer.rows()}


def test_spark_finds_the_records_that_lie_elsewhere(lake: Lake) -> None:
    dice = random.Random(11)
    for partitions, before in ((2, 1), (3, 3), (7, 5)):
        placed = [
            (key, partition_of(key, dice.choice((partitions, before))), number)
            for number in range(40)
            for key in [dice.randbytes(dice.randrange(1, 30))]
        ]
        records = lake.spark.createDataFrame(
            [*placed, (None, 0, 99)], "key binary, partition int, offset long"
        )
        places = KeyPartitions()
        places.observed(records, partitions, {before}, {0: 20, 1: 1}).collect()
        new = [Placed(k, p) for k, p, o in placed if o >= {0: 20, 1: 1}.get(p, 0)]
        found = places.strays()
        assert found[before] is None or before == partitions
        strays = elsewhere(new, partitions)
        assert found[partitions] in strays if strays else found[partitions] is None
