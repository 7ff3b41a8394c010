"""Source snapshots that were broken off, began again or came later: what they do not name is not left behind
without a word, and nothing that lives is deleted."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from debezium import ITEMS, NO_COMMIT, TS_MS, Event, SourceTable, Topic, item
from lake import Lake, Writer
from put_back import put_back, snapshot_id
from seeds import MORE, seeds

from cdc_sink.errors import StateError
from cdc_sink.spark.failpoints import AFTER_TABLE_COMMIT, BEFORE_TABLE_COMMIT
from cdc_sink.spark.write import left_over_rows as resnapshot
from cdc_sink.table.ledger.key_partitions import murmur2
from cdc_sink.table.ledger.source_snapshot import Outcome, Over, Run

KEYS = 12
PIECES = 5 if MORE else 2  # what was sent is cut into so many batches at most
NOT_IN_IT = "rows of the table are not in it"


@dataclass
class Source:
    """A source table, its connector, and the table's driver; the topic has some partitions."""

    writer: Writer
    topic: Topic
    partitions: int = 1
    position: int = 1
    rows: dict[int, str] = field(default_factory=dict)
    written: int = 0
    first_transaction: int = 0  # events of it to come: the slot is new, and no commit was seen yet
    dice: random.Random = field(default_factory=lambda: random.Random(0))

    @classmethod
    def of(
        cls,
        lake: Lake,
        name: str,
        partitions: int,
        connector: str = "postgresql",
        **settings: object,
    ) -> Source:
        topic = Topic(ITEMS if connector == "postgresql" else _mysql())
        writer = lake.writer(name, topic, **settings)
        writer.partitions = range(partitions)
        writer.__post_init__()
        rows = {key: "first" for key in range(KEYS)}
        return cls(writer, topic, partitions, rows=rows)

    def partition(self, key: int) -> int:
        """As Kafka's default partitioner says."""
        hashed = murmur2(self.topic.key(item(key)) or b"")
        return (hashed & 0x7FFFFFFF) % self.partitions

    def send(self, event: Event) -> None:
        event = replace(event, ts_ms=TS_MS + 1000 * self.position)
        self.topic.send(event, self.partition(event.row["id"]))

    def snapshot(
        self, only: int | None = None, *, leaving_out: frozenset[int] = frozenset()
    ) -> None:
        """All rows, or, broken off, so many of them; `leaving_out` stands for a filter."""
        self.position += 1
        keys = [key for key in sorted(self.rows) if key not in leaving_out]
        for number, key in enumerate(keys[:only]):
            mark = "last_in_data_collection" if number == len(keys) - 1 else "true"
            mark = "first_in_data_collection" if number == 0 else mark
            place = (NO_COMMIT if self.is_postgresql else 3, self.position)
            self.send(Event("r", item(key, self.rows[key]), place, mark))
        self.first_transaction = 2

    @property
    def is_postgresql(self) -> bool:
        return self.topic.table.connector == "postgresql"

    def place(self) -> tuple[int, int]:
        self.position += 1
        if not self.is_postgresql:
            return (3, self.position)
        self.first_transaction -= 1
        is_first = self.first_transaction >= 0
        return (NO_COMMIT if is_first else self.position - 1, self.position)

    def write(self, key: int, name: str) -> None:
        op = "u" if key in self.rows else "c"
        self.rows[key] = name
        self.send(Event(op, item(key, name), self.place()))

    def delete(self, key: int) -> None:
        del self.rows[key]
        self.send(Event("d", item(key), self.place()))
        self.topic.tombstone(item(key), self.partition(key))

    def lose(self, *keys: int) -> None:
        """Deleted while no connector looked."""
        self.position += 1
        for key in keys:
            del self.rows[key]

    def incremental(self, key: int) -> None:
        self.send(Event("r", item(key, self.rows[key]), self.place(), "incremental"))

    def apply(self) -> None:
        """What was sent since, cut anywhere; between partitions a batch may be further in one."""
        records, first = self.topic.records, self.written
        queues = [[r for r in records[first:] if r[3] == p] for p in range(self.partitions)]
        for number in range(first, len(records)):
            queue = self.dice.choice([q for q in queues if q])
            records[number] = queue.pop(0)
        cuts = {self.dice.randrange(first, len(records)) + 1 for _ in range(PIECES - 1)}
        for end in sorted({*cuts, len(records)}):
            self.apply_uncut(end)

    def apply_uncut(self, end: int | None = None) -> None:
        """What was sent since as one batch."""
        first, self.written = self.written, len(self.topic.records) if end is None else end
        self.writer.write(first, self.written)

    def put_back(self, to: int, **settings: object) -> Source:
        """The same with its table as it was, and with a driver that was just started."""
        writer = put_back(self.writer, to, **settings)
        return replace(self, writer=writer, topic=writer.topic, rows=dict(self.rows))

    @property
    def stored(self) -> dict[int, str]:
        return {row["id"]: row["name"] for row in self.writer.rows()}


def _mysql() -> SourceTable:
    return replace(ITEMS, connector="mysql")


@pytest.mark.parametrize(
    ("seed", "partitions", "connector"),
    [(1, 1, "postgresql"), (3, 2, "mysql")],
)
def test_a_first_snapshot_that_began_again_ends_right_by_itself(
    lake: Lake, name: str, seed: int, partitions: int, connector: str
) -> None:
    source = Source.of(lake, name, partitions, connector)
    source.dice = random.Random(seed)
    source.snapshot(only=9)
    source.lose(1, 5)
    if seed != 1:
        source.apply()
    source.snapshot(only=5)
    source.lose(0, 8)
    source.snapshot()
    for key in (2, 3, 4):
        source.write(key, "streamed")
    source.delete(6)
    source.write(1, "again")
    source.apply()
    assert source.stored == source.rows
    run = source.writer.ledger.run
    assert run is not None
    assert run.over is Over.INTERRUPTED
    before = source.writer.table.current_snapshot()
    source.writer.write(0)  # once more
    resnapshot.settle(source.writer.spark, source.writer.target)
    assert source.writer.table.current_snapshot() == before


Seen = tuple[dict[int, str], dict[int, str], Run]


@pytest.fixture(scope="module")
def whole(lake: Lake) -> list[Seen]:
    """Source, table and run after a whole snapshot of a source, and after a second one."""
    source, seen = Source.of(lake, "whole", 2), []
    for key in (3, 4):
        source.snapshot()
        source.write(key, "streamed")
        source.apply()
        run = source.writer.ledger.run
        assert run is not None
        seen.append((dict(source.rows), source.stored, run))
    return seen


def test_a_first_snapshot_runs_no_job_more(whole: list[Seen]) -> None:
    rows, stored, run = whole[0]
    assert (run.over, run.outcome) == (Over.NOTHING, Outcome.NONE)
    assert stored == rows


def test_a_whole_snapshot_that_names_all_rows_changes_nothing_and_asks_nothing(
    whole: list[Seen],
) -> None:
    rows, stored, run = whole[1]
    assert stored == rows
    assert (run.over, run.outcome) == (Over.ESTABLISHED, Outcome.NONE)


@pytest.mark.parametrize("seed", seeds(2, 3))  # also the number of partitions
def test_any_history_of_snapshots_ends_as_the_source_where_they_may_delete(
    lake: Lake, name: str, seed: int
) -> None:
    dice = random.Random(seed)
    source = Source.of(
        lake,
        name,
        seed,
        "mysql" if seed == 2 else "postgresql",
        on_resnapshot="delete",
    )
    source.dice = dice
    # One key of each partition is never deleted: where nothing lives, offsets tell nothing.
    first_of = {source.partition(key): key for key in reversed(range(KEYS))}
    mortal = [key for key in range(KEYS) if key not in first_of.values()]
    source.snapshot(only=dice.randrange(KEYS))
    for number in range(3):
        source.lose(*[k for k in mortal if k in source.rows and dice.random() < 0.2])
        source.snapshot(only=dice.choice([4, None]))
        source.snapshot()
        for key in mortal:
            act = dice.choice(["write", "delete", "read", "none"])
            if act == "write":
                source.write(key, f"{key} at {number}")
            elif act == "delete" and key in source.rows:
                source.delete(key)
            elif act == "read" and key in source.rows:
                source.incremental(key)
        source.apply()
        assert source.stored == source.rows


@pytest.mark.parametrize("seed", seeds(1))
def test_a_snapshot_of_a_new_slot_in_a_topic_that_grew_ends_as_the_source(
    lake: Lake, name: str, seed: int
) -> None:
    """Its rows lie elsewhere than the changes before them, which may be read later."""
    source = Source.of(lake, name, 2, on_resnapshot="delete")
    dice = source.dice = random.Random(seed)
    source.snapshot()
    source.apply_uncut()
    for key in range(KEYS):
        if dice.random() < 0.7:
            source.write(key, "streamed")
        if dice.random() < 0.3:
            source.delete(key)
    source.partitions = 4
    for key in [key for key in source.rows if dice.random() < 0.5]:
        source.lose(key)
        if dice.random() < 0.7:
            source.rows[key] = "written while nobody looked"
    source.snapshot()
    for key in range(KEYS):
        if dice.random() < 0.3:
            source.write(key, "later")
    source.apply()
    for number in range(3):  # the growth is over then
        source.write(KEYS + number, "last")
    source.apply()
    assert source.stored == source.rows


@pytest.fixture(scope="module")
def filtered(lake: Lake) -> tuple[Source, int]:
    """An established table that a snapshot without two of its rows stopped, and its table snapshot."""
    source = Source.of(lake, "filtered", 1)
    source.snapshot()
    source.write(3, "streamed")
    source.apply_uncut()
    source.snapshot(leaving_out=frozenset({3, 4}))
    with pytest.raises(StateError, match=f"2 {NOT_IN_IT}"):
        source.apply_uncut()
    assert source.stored == source.rows
    return source, snapshot_id(source.writer)


@pytest.mark.parametrize("policy", ["stop", "keep", "delete"])
def test_rows_of_an_established_table_that_a_snapshot_leaves_out_are_for_the_operator(
    filtered: tuple[Source, int], policy: str
) -> None:
    """A filtered snapshot looks like a whole one."""
    stopped, at = filtered
    source = stopped.put_back(at, on_resnapshot=policy)
    source.write(5, "later")
    if policy == "stop":
        with pytest.raises(StateError, match=f"2 {NOT_IN_IT}"):
            source.apply_uncut()
        return
    source.apply_uncut()
    left = {} if policy == "keep" else {3, 4}
    assert source.stored == {k: v for k, v in source.rows.items() if k not in left}
    run = source.writer.ledger.run
    assert run is not None
    assert (run.rows, run.outcome) == (2, "kept" if policy == "keep" else "deleted")


def test_the_batch_that_ends_a_growth_decides_over_a_snapshot(lake: Lake, name: str) -> None:
    """Its topic may be silent from then on."""
    source = Source.of(lake, name, 2, on_resnapshot="delete")
    source.snapshot()
    source.write(3, "streamed")
    source.apply_uncut()
    source.partitions = 3
    source.lose(5)
    source.snapshot()
    source.writer.write(source.written)
    assert source.stored == {**source.rows, 5: "first"}
    assert "since its partitions grew" in (source.writer.ledger.waits_to_decide or "")
    end = len(source.topic.records)
    source.write(4, "later")
    source.writer.write(end)
    assert source.stored == source.rows
    assert source.writer.ledger.waits_to_decide is None


def test_all_rows_of_files_left_over_are_deleted_in_a_commit_that_has_the_ledger(
    lake: Lake, name: str
) -> None:
    """Iceberg drops whole files then, by another way than it rewrites them."""
    source = Source.of(lake, name, 1)
    source.snapshot(only=4)
    source.apply_uncut()
    source.lose(*range(4))
    source.snapshot()
    source.apply_uncut()
    assert source.stored == source.rows
    assert source.writer.ledgers[-1].run is not None


def test_nothing_is_deleted_for_a_row_whose_snapshot_record_could_not_be_read(
    lake: Lake, name: str
) -> None:
    source = Source.of(lake, name, 1, on_resnapshot="delete")
    source.snapshot()
    source.write(3, "streamed")
    source.apply_uncut()
    source.lose(4)
    first = len(source.topic.records)
    source.snapshot()
    for number, record in enumerate(source.topic.records[first:], first):
        if record[0] == source.topic.key(item(5)):
            source.topic.records[number] = (record[0], record[1][:9], *record[2:])
    source.writer.write(first)
    assert set(source.stored) == {4, *source.rows}
    run = source.writer.ledger.run
    assert run is not None
    assert run.is_torn
    assert run.outcome is None  # the letter waits


class Killed(Exception):
    """The driver ends here."""


@pytest.fixture(scope="module", params=[BEFORE_TABLE_COMMIT, AFTER_TABLE_COMMIT])
def killed(lake: Lake, request: pytest.FixtureRequest) -> tuple[Source, int]:
    """A source whose driver was killed at this instant, and the table snapshot that it left."""

    def failpoint(passed: str) -> None:
        if passed == request.param:
            raise Killed

    source = Source.of(lake, f"killed_{request.param}", 1)
    source.snapshot(only=9)
    source.lose(1, 5)
    source.snapshot()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(resnapshot, "failpoint", failpoint)
        with pytest.raises(Killed):
            source.apply_uncut()
    assert set(source.stored) - set(source.rows) == (
        {1, 5} if request.param == BEFORE_TABLE_COMMIT else set()
    )
    return source, snapshot_id(source.writer)


@pytest.mark.parametrize("then", ["the batch again", "the next batch", "a start"])
def test_a_driver_killed_around_the_deletion_does_it_once(
    killed: tuple[Source, int], then: str
) -> None:
    dead, at = killed
    source = dead.put_back(at)
    after = source.writer
    if then == "the batch again":
        after.write(0)
    elif then == "the next batch":
        source.write(1, "again")
        source.apply_uncut()
    else:
        resnapshot.settle(after.spark, after.target)
    assert source.stored == source.rows
    assert [ledger.run is not None and ledger.run.outcome for ledger in after.ledgers].count(
        Outcome.DELETED
    ) == (2 if then == "the next batch" else 1)
