"""Whatever happened upstream, and however it was cut and redelivered: the table is what fold.py says."""

from __future__ import annotations

import itertools
import random
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

import pytest
from debezium import TS_MS, Event, SourceTable, Topic, optional
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lake import Lake, Writer
from seeds import MORE

from cdc_sink.debezium.envelope import Op
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import StateError
from cdc_sink.spark.fold.latest import latest_per_key
from cdc_sink.spark.read.decode import decode
from cdc_sink.table.schema.writer_schemas import WriterSchemas
from cdc_sink.testing import fold as oracle
from cdc_sink.testing.fold import Change, apply_images

HISTORIES = 6
STEPS = 40
CUTS = 4
KEYS = 5

_numbers = itertools.count()


@dataclass
class Upstream:
    """A source table of few keys and its connector, playing a history into one Kafka partition.

    A transaction may hold several changes of one key at one position, as in compressed binlogs and MariaDB.
    """

    dice: random.Random
    history: int
    with_reads: bool
    position: tuple[int, int] = (1, 1)
    rows: dict[int, str] = field(default_factory=dict)
    log: list[Event] = field(default_factory=list)
    sent: list[Event] = field(default_factory=list)

    def play(self) -> list[Event]:
        for number in range(STEPS):
            step = self.dice.choices(
                (self.write, self.delete, self.read, self.advance, self.redeliver),
                weights=(8, 3, 2 * self.with_reads, 5, 2),
            )[0]
            step(number)
        return self.sent

    def key(self) -> int:
        return self.history * KEYS + self.dice.randrange(KEYS)

    def deliver(self, op: str, key: int, name: str | None) -> Event:
        snapshot = "incremental" if op == "r" else "false"
        self.sent.append(Event(op, {"id": key, "name": name}, self.position, snapshot))
        return self.sent[-1]

    def write(self, number: int) -> None:
        key = self.key()
        op = "u" if key in self.rows else "c"
        self.rows[key] = f"{key} at {number}"
        self.log.append(self.deliver(op, key, self.rows[key]))

    def delete(self, _number: int) -> None:
        key = self.key()
        if self.rows.pop(key, None) is not None:
            self.log.append(self.deliver("d", key, None))

    def read(self, number: int) -> None:
        """A row of an incremental source snapshot; it may say what no stream event said."""
        key = self.key()
        if key in self.rows:
            self.rows[key] = f"{key} read at {number}"
            self.deliver("r", key, self.rows[key])

    def advance(self, _number: int) -> None:
        hi, lo = self.position
        self.position = (hi + 1, 1) if self.dice.random() < 0.3 else (hi, lo + 1)

    def redeliver(self, _number: int) -> None:
        """The connector is killed and begins again somewhere before its end."""
        self.sent.extend(self.log[-self.dice.randrange(1, 15) :])


def as_change(event: Event, partition: int, offset: int) -> Change:
    after = None if event.op == "d" else dict(event.row)
    position = SourcePosition(*event.position) if event.position else None
    return Change(event.row["id"], Op(event.op), after, position, partition, offset)


def micro_batches(dice: random.Random, events: list[Event]) -> list[tuple[int, int]]:
    """Cut a history at random; a batch may begin before the end of the last one, as after a crash."""
    cuts = sorted(dice.randrange(len(events) + 1) for _ in range(CUTS - 1))
    spans = zip([0, *cuts], [*cuts, len(events)], strict=True)
    return [(max(0, first - dice.choice((0, 0, 1, 5, 40))), end) for first, end in spans]


Rows = dict[Hashable, Mapping[str, object]]


@pytest.mark.parametrize("with_reads", [True, False])
@settings(
    max_examples=1 + MORE,
    deadline=None,
    database=None,
    print_blob=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(st.integers(0, 2**32), min_size=HISTORIES, max_size=HISTORIES, unique=True))
def test_the_table_equals_the_oracle_after_every_micro_batch_of_any_history(
    lake: Lake, with_reads: bool, seeds: list[int]
) -> None:
    """Without snapshot rows the fold is the fast one, with them the exact one."""
    print(f"seeds {seeds}")
    writer = _writer(lake, f"history{next(_numbers)}")
    dices = [random.Random(seed) for seed in seeds]
    topics = [Upstream(dice, number, with_reads).play() for number, dice in enumerate(dices)]
    cuts = [micro_batches(dice, events) for dice, events in zip(dices, topics, strict=True)]
    rows, marks, done = Rows(), dict[int, SourcePosition](), [0] * HISTORIES
    for number in range(CUTS):
        new = []
        begin = len(writer.topic.records)
        for partition, events in enumerate(topics):
            first, end = cuts[partition][number]
            _append(writer.topic, events, partition, range(first, end))
            new += [as_change(events[i], partition, i) for i in range(done[partition], end)]
            done[partition] = max(done[partition], end)
        writer.write(begin)
        folded = oracle.fold(new, marks)
        rows, marks = dict(apply_images(rows, folded)), folded.marks
        assert {row["id"]: row for row in writer.rows()} == rows, (seeds, number)
    assert writer.marks == marks
    assert writer.ledger.next_offsets == dict(enumerate(done))


def _writer(lake: Lake, name: str) -> Writer:
    topic = Topic(SourceTable({"id": "int", "name": optional("string")}, connector="mysql"))
    writer = lake.writer(name, topic, buckets=2)
    writer.sink.partitions = tuple(range(HISTORIES))
    return writer


def _append(topic: Topic, events: list[Event], partition: int, offsets: range) -> None:
    for offset in offsets:
        event = events[offset]
        record = (topic.key(event.row), topic.value(event), topic.table.name, partition, offset)
        topic.records.append((*record, None, []))


def test_a_delete_stays_when_a_batch_ends_inside_a_redelivered_transaction(
    lake: Lake, name: str
) -> None:
    """Both changes of the key share one position, as all of a MariaDB transaction do."""
    created, deleted = Event("c", {"id": 1, "name": "a"}, (1, 5)), Event("d", {"id": 1}, (1, 5))
    later = Event("c", {"id": 2, "name": "b"}, (1, 6))
    writer = _writer(lake, name)
    writer.topic.send_all([created, deleted, later, created])
    writer.write()
    assert writer.rows() == [later.row]
    writer.topic.send_all([deleted, later])
    writer.write(4)
    assert writer.rows() == [later.row]


def test_two_changes_at_one_position_are_both_applied_across_two_batches(
    lake: Lake, name: str
) -> None:
    """The two halves of a key update, or two changes of a compressed transaction."""
    writer = _writer(lake, name)
    writer.topic.send_all(Event(op, {"id": 1, "name": op}, (1, 5)) for op in "cud")
    writer.topic.send(Event("c", {"id": 2, "name": "moved"}, (1, 5)))
    for end in (1, 2, 4):
        writer.write(end - 1 if end < 4 else 2, end)
    assert writer.rows() == [{"id": 2, "name": "moved"}]


@pytest.mark.parametrize("split", [False, True])
def test_an_incremental_snapshot_row_wins_over_what_kafka_brought_before_it_only(
    lake: Lake, name: str, split: bool
) -> None:
    """The row was read before the update that follows it in Kafka, whatever its own position says."""
    writer = _writer(lake, name)
    for key, ops in ((1, "cru"), (2, "cur")):
        for op in ops:
            position, kind = ((9, 9), "incremental") if op == "r" else ((1, 5), "false")
            writer.topic.send(Event(op, {"id": key, "name": op}, position, kind))
    for first, end in ((0, 2), (2, None)) if split else ((0, None),):
        writer.write(first, end)
    assert [row["name"] for row in writer.rows()] == ["u", "r"]
    assert writer.marks == {0: SourcePosition(1, 5)}


def test_latest_per_key_alone_follows_the_same_rule(lake: Lake) -> None:
    topic = Topic(SourceTable({"id": "int", "name": optional("string")}, connector="mysql"))
    events = [
        Event("c", {"id": 1, "name": "old"}, (1, 5)),
        Event("r", {"id": 1, "name": "read after it"}, (1, 1), "incremental"),
        Event("c", {"id": 2, "name": "x"}, (1, 6)),
        Event("c", {"id": 1, "name": "old"}, (1, 5)),
    ]
    topic.send_all(events)
    topic.tombstone({"id": 3})
    keys = {topic.key_id: topic.registry.texts[topic.key_id]}
    schemas = WriterSchemas({topic.value_id: topic.registry.texts[topic.value_id]}, keys)
    changes = decode(topic.batch(lake.spark), schemas, schemas.extend(()))
    rows = latest_per_key(changes).orderBy("key.id").collect()
    assert [row["after"].asDict() for row in rows] == [events[1].row, events[2].row]
    assert changes.columns == latest_per_key(changes).columns


@pytest.mark.parametrize("op", ["r", "c"])
def test_a_redelivery_inside_the_batch_that_first_brought_it_is_no_reset_source(
    lake: Lake, name: str, op: str
) -> None:
    """Its source time is newer than the ledger's, but no newer than the batch's own."""
    writer = _writer(lake, name)
    writer.topic.send(Event("c", {"id": 1, "name": "a"}, (1, 1)))
    writer.write()
    events = [Event("u", {"id": 1, "name": str(lo)}, (9, lo)) for lo in (1, 2, 3)]
    writer.topic.send_all([*events, *events[:2], Event(op, {"id": 2, "name": "b"}, (9, 1))])
    writer.write(1)
    assert writer.rows()[0] == {"id": 1, "name": "3"}


@pytest.mark.parametrize("passes", [False, True])
def test_a_source_whose_log_began_again_inside_a_batch_stops_its_table(
    lake: Lake, name: str, passes: bool
) -> None:
    """Nothing of the new log may be dropped as redelivered, not even in a table's first batch.

    The new log may have passed the end of the old one, so that the batch ends at its highest position.
    """
    writer = _writer(lake, name)
    old = [Event("c", {"id": key, "name": "old"}, (5, key), ts_ms=TS_MS + key) for key in (1, 2)]
    new = Event("u", {"id": 1, "name": "after the restore"}, (1, 1), ts_ms=TS_MS + 60_000)
    writer.topic.send_all([*old, new])
    if passes:
        writer.topic.send(Event("c", {"id": 3, "name": "later"}, (9, 1), ts_ms=TS_MS + 60_001))
    with pytest.raises(StateError, match="the source's log began again"):
        writer.write()
    assert writer.rows() == []


def test_log_files_of_another_name_stop_the_table_whatever_their_numbers_and_times(
    lake: Lake, name: str
) -> None:
    """The name is in the ledger: a driver that starts anew knows it, too."""
    writer = _writer(lake, name)
    writer.topic.send(Event("c", {"id": 1, "name": "a"}, (5, 1)))
    writer.write()
    assert writer.ledger.log == "binlog"
    writer.topic.write_as(replace(writer.topic.table, log="mysql-bin.1"))
    new = Event("u", {"id": 1, "name": "of another server"}, (9, 1), ts_ms=TS_MS)
    writer.topic.send(new)
    other = lake.writer(name, writer.topic, buckets=2)
    for one in (writer, other):
        with pytest.raises(StateError, match=r"are called mysql-bin\.1, those .* applied binlog:"):
            one.write(1)
    assert writer.rows() == [{"id": 1, "name": "a"}]


def test_a_source_whose_log_began_again_stops_its_table(lake: Lake, name: str) -> None:
    writer = _writer(lake, name)
    writer.topic.send(Event("c", {"id": 1, "name": "a"}, (5, 1)))
    writer.write()
    before = writer.table.current_snapshot()
    row = {"id": 1, "name": "after the restore"}
    writer.topic.send(Event("u", row, (4, 1), ts_ms=TS_MS + 60_000))
    with pytest.raises(StateError, match="the source's log began again"):
        writer.write(1)
    assert writer.table.current_snapshot() == before
