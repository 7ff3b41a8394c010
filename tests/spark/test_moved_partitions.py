"""Keys that change their partition keep their order, even when a batch brings the newer change first."""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from debezium import ITEMS, Event, SourceTable, Topic, item, optional, semantic
from lake import Lake, Writer
from seeds import seeds

from cdc_sink.errors import CdcSinkError
from cdc_sink.spark.write.dead_letter_table import DeadLetters
from cdc_sink.table.ledger.key_partitions import partition_of


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
    assert not writer.spark.catalog.tableExists(writer.target.beside("moved_deletes"))


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


@pytest.mark.parametrize("seed", seeds(1))
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


# --- any routing, growth at any time ---------------------------------------------------------------

MOMENTS = {
    "id": semantic("long", "io.debezium.time.MicroTimestamp"),
    "note": optional("string"),
}
NAMED = (
    "do not lie in the partition that follows from their key",
    "a record lies in neither of those that its key gives",
    "have the same position in the source's log and lie in two partitions",
    "have changes in more than one partition",
)


@dataclasses.dataclass
class Play:
    """A source of few keys, whose connector spreads its records as the case says."""

    topic: Topic
    dice: random.Random
    counts: tuple[int, ...]
    routing: str
    leaves_out: bool
    rows: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def partition(self, key: bytes, step: int, steps: int) -> int:
        count = self.counts[step * len(self.counts) // steps]
        if self.routing == "by a changing column":
            return self.dice.randrange(count)
        return partition_of(key, count)

    def run(self, steps: int) -> None:
        """Changes of one transaction share a position where the connector has one for it."""
        ties = self.topic.table.connector == "mysql"
        for step in range(steps):
            key = KEYS[self.dice.randrange(len(KEYS))]
            known = key in self.rows
            op = ("d" if self.dice.random() < 0.3 else "u") if known else "c"
            note = f"{key} at {step}" + "x" * 50
            row = {"id": key, "note": note}
            if op == "u" and self.leaves_out and self.dice.random() < 0.5:
                row["note"] = self.rows[key]["note"]
                sent = {**row, "note": "__debezium_unavailable_value"}
            else:
                sent = row
            at = step // 3 if ties else step
            partition = self.partition(self.topic.key(row) or b"", step, steps)
            self.topic.send(Event(op, sent, (1, at)), partition)
            if op == "d":
                del self.rows[key]
            else:
                self.rows[key] = row


KEYS = [1_770_000_000_000_000 + n for n in range(5)]  # apart by less than a millisecond


def read_at_will(play: Play, writer: Writer) -> str | None:
    """Batches as Kafka allows: each partition in its own order, at its own speed; what stopped them."""
    records = play.topic.records
    lag = {p: play.dice.randrange(3) for p in range(max(play.counts))}
    when = sorted((n // 16 + lag[record[3]], n) for n, record in enumerate(records))
    play.topic.records = [records[n] for _, n in when]
    begin = 0
    for step in sorted({step for step, _ in when}):
        end = begin + sum(s == step for s, _ in when)
        try:
            writer.write(begin, end)
        except CdcSinkError as stopped:
            return str(stopped)
        begin = end
    return None


@pytest.mark.parametrize(
    ("counts", "routing", "connector", "leaves_out", "stops"),
    [
        ((3,), "by key", "postgresql", False, False),
        ((2, 3), "by key", "postgresql", False, False),  # grown before the table's first batch
        ((1, 3), "by key", "postgresql", True, False),
        ((1, 2, 4), "by key", "postgresql", True, False),
        (
            (2, 3),
            "by key",
            "mysql",
            False,
            None,
        ),  # where one transaction lies in two partitions it stops
        ((3,), "by a changing column", "postgresql", False, True),
    ],
)
def test_records_spread_in_any_way_end_as_their_source_or_at_a_named_stop(
    lake: Lake,
    name: str,
    counts: tuple[int, ...],
    routing: str,
    connector: str,
    leaves_out: bool,
    stops: bool | None,
) -> None:
    seed = sum(counts) + leaves_out
    table = SourceTable(MOMENTS, connector=connector)
    play = Play(Topic(table), random.Random(seed), counts, routing, leaves_out)
    play.run(60)
    writer = lake.writer(name, play.topic, key_partition="hashed")
    writer.sink.partitions = tuple(range(max(counts)))
    stopped = read_at_will(play, writer)
    assert stops is None or stops == (stopped is not None), stopped
    if stopped is not None:
        assert any(sentence in stopped for sentence in NAMED)
        return
    letters = DeadLetters(writer.spark, writer.target, "topic-1").waiting()
    waiting = {bytes(one["key"]) for one in letters.collect()} if letters else set()
    stored = {micros(row["id"]): row["note"] for row in writer.rows()}
    expected = {key: row["note"] for key, row in play.rows.items()}
    for key in KEYS:
        if play.topic.key({"id": key}) not in waiting:
            assert stored.get(key) == expected.get(key), (seed, key)
    assert leaves_out or not waiting


def micros(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp() * 1_000_000)


def grown(lake: Lake, name: str, connector: str) -> Writer:
    """Two keys stored from the first of two partitions; then the topic has a third."""
    topic = Topic(SourceTable(MOMENTS, connector=connector))
    for number, key in enumerate(KEYS[:2]):
        topic.send(Event("c", {"id": key, "note": "first"}, (1, number)))
    writer = lake.writer(name, topic)
    writer.write()
    topic.raw(topic.key({"id": KEYS[4]}), None, 2)
    return writer


def notes(writer: Writer) -> dict[int, str | None]:
    return {KEYS.index(micros(row["id"])): row["note"] for row in writer.rows()}


def test_a_left_out_value_is_not_taken_from_a_row_whose_next_change_still_waits(
    lake: Lake, name: str
) -> None:
    writer = grown(lake, name, "postgresql")
    topic = writer.topic
    left_out = {"id": KEYS[0], "note": "__debezium_unavailable_value"}
    topic.send(Event("u", left_out, (5, 1)), 2)
    topic.send(Event("u", {"id": KEYS[0], "note": "between"}, (3, 1)))
    writer.write(2, 4)  # the new partition is read first
    letters = DeadLetters(writer.spark, writer.target, "topic-1").waiting()
    assert letters is not None
    assert [bytes(one["key"]) for one in letters.collect()] == [topic.key(left_out)]
    assert notes(writer) == {0: "first", 1: "first"}


def test_two_changes_of_one_position_in_two_partitions_stop_the_table(
    lake: Lake, name: str
) -> None:
    """MySQL's position is that of a log event, MariaDB's that of a transaction."""
    writer = grown(lake, name, "mysql")
    topic = writer.topic
    topic.send(Event("u", {"id": KEYS[0], "note": "second"}, (2, 7)))
    topic.send(Event("u", {"id": KEYS[0], "note": "third"}, (2, 7)), 2)
    with pytest.raises(CdcSinkError, match="nothing tells which is newer"):
        writer.write(2)  # both in one batch
    writer.write(2, 4)
    with pytest.raises(CdcSinkError, match="nothing tells which is newer"):
        writer.write(4)  # one against the stored row
    assert notes(writer) == {0: "second", 1: "first"}


def test_a_remembered_delete_hides_older_changes_of_its_own_key_only(lake: Lake, name: str) -> None:
    """The two keys are a microsecond apart."""
    writer = grown(lake, name, "postgresql")
    topic = writer.topic
    topic.send(Event("d", {"id": KEYS[0]}, (9, 1)), 2)
    writer.write(2)
    topic.send(Event("u", {"id": KEYS[0], "note": "older"}, (5, 1)))
    topic.send(Event("u", {"id": KEYS[1], "note": "second"}, (5, 2)))
    writer.write(4)
    assert notes(writer) == {1: "second"}
    assert writer.ledger.to_json().count("digest") == 0  # nothing that grows with the keys is in it


def test_a_change_of_the_position_of_a_remembered_delete_is_never_guessed(
    lake: Lake, name: str
) -> None:
    """The row is gone, so only what is remembered can tell; in its own partition Kafka's order does."""
    writer = grown(lake, name, "mysql")
    topic = writer.topic
    topic.send(Event("d", {"id": KEYS[0]}, (2, 7)), 2)
    topic.send(Event("d", {"id": KEYS[1]}, (2, 7)), 2)
    writer.write(2)
    topic.send(Event("c", {"id": KEYS[1], "note": "again"}, (2, 7)), 2)
    topic.send(Event("c", {"id": KEYS[0], "note": "a ghost?"}, (2, 7)))
    writer.write(5, 6)  # the other one still waits, so the phase goes on
    assert notes(writer) == {1: "again"}
    with pytest.raises(CdcSinkError, match="nothing tells which is newer"):
        writer.write(6)
    assert notes(writer) == {1: "again"}


def test_a_phase_whose_remembered_deletes_are_gone_stops_the_table(lake: Lake, name: str) -> None:
    """As after a rollback of the target into a phase that had ended."""
    writer = grown(lake, name, "postgresql")
    topic = writer.topic
    topic.send(Event("d", {"id": KEYS[0]}, (9, 1)), 2)
    writer.write(2)
    writer.spark.sql(f"DROP TABLE {writer.target.beside('moved_deletes')} PURGE")
    topic.send(Event("u", {"id": KEYS[0], "note": "older"}, (5, 1)))
    with pytest.raises(CdcSinkError, match="deleted while keys moved is not remembered any more"):
        writer.write(4)
    assert notes(writer) == {1: "first"}


def test_the_hash_is_that_of_the_kafka_client_beside_spark(lake: Lake) -> None:
    kafka: Any = lake.spark._jvm.org.apache.kafka.common.utils.Utils  # type: ignore[union-attr]
    dice = random.Random(7)
    for length in range(40):
        key = dice.randbytes(length)
        assert partition_of(key, 7) == kafka.toPositive(kafka.murmur2(key)) % 7, key.hex()
