"""Whatever an operator or another program does to a table under its stream, no row is wrong without a word.

The batches are the stream's; between them come rollbacks, drops, replaced tables, foreign commits, compaction
and expiry. A batch either leaves the table as the source was after its records, or stops by name; and a start
that takes over goes on at the ledger's offsets until table and source are equal.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from debezium import ITEMS, Event, Row, Topic, item
from lake import Lake, Writer
from seeds import seeds

from cdc_sink.errors import StateError
from cdc_sink.spark.iceberg_table import IcebergTable

KEYS = 6
NAMED = (
    "rolled back or restored",
    "the table is gone",
    "the table is another one",
    "another program changed rows",
    "the table was replaced or rolled back",
)


@dataclass
class Stream:
    """A stream of one table, with the offsets that Spark would read next, and what its source held."""

    lake: Lake
    name: str
    seed: int
    mode: str = "mirror"
    at: int = 0
    topic: Topic = field(default_factory=lambda: Topic(ITEMS))
    source: list[dict[int, Row]] = field(default_factory=lambda: [{}])
    writer: Writer = field(init=False)
    stops: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.writer = self.start()

    def start(self) -> Writer:
        made = self.lake.writer(self.name, self.topic, mode=self.mode)
        iceberg = IcebergTable.load(made.spark, made.target)
        made.sink.shape.one_table.uuid = iceberg.uuid if iceberg else None
        return made

    def change(self) -> None:
        """One more change at the source."""
        rows, number = dict(self.source[-1]), len(self.topic.records)
        row = item(self.random.randrange(KEYS), f"v{number}")
        op = "u" if row["id"] in rows else "c"
        if op == "u" and self.random.random() < 0.3:
            op = "d"
            del rows[row["id"]]
        else:
            rows[row["id"]] = row
        self.topic.send(Event(op, row, (1, number)))
        self.source.append(rows)

    def batch(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            self.change()
        self.write()

    def write(self) -> None:
        """What Spark does: the next offsets in its log are read, whatever happened to the table."""
        first, self.at = self.at, len(self.topic.records)
        stopped = self.stopped(lambda: self.writer.write(first, self.at))
        if stopped is not None:
            assert any(name in stopped for name in NAMED), stopped
            self.stops.append(stopped)
            self.take_over()
        self.require_equal()

    @staticmethod
    def stopped(act: Callable[[], object]) -> str | None:
        """The sentence of a batch that stopped."""
        try:
            act()
        except StateError as error:
            return str(error)
        return None

    def take_over(self) -> None:
        """Do what the sentence says: undo what is foreign, else go on at the ledger's offsets."""
        iceberg = IcebergTable.load(self.lake.spark, self.writer.target)
        if iceberg is not None and "replaced or rolled back" in self.stops[-1]:
            self.sql("DROP TABLE {}")
            iceberg = None
        found = iceberg.found_ledger() if iceberg else None
        if found is not None and found.foreign is not None:
            self.sql(
                f"CALL {{catalog}}.system.rollback_to_snapshot('{{name}}', {found.snapshot_id})"
            )
        self.writer = self.start()
        first = found.ledger.next_offsets[0] if found else 0
        self.writer.write(first, self.at)

    def require_equal(self) -> None:
        if self.mode == "append":
            assert len(self.writer.table.scan().to_arrow()) == self.at
            return
        expected = self.source[self.at]
        assert {row["id"]: row for row in self.writer.rows()} == expected, self.stops

    def sql(self, statement: str) -> None:
        table = self.writer.target
        catalog = self.lake.pipeline.catalog.name
        text = statement.format(table.identifier, catalog=catalog, name=table.table.name)
        self.lake.spark.newSession().sql(text)  # a program of its own: nothing is cached

    # --- what other hands do

    def rollback(self) -> None:
        snapshots = [s.snapshot_id for s in self.writer.table.snapshots()]
        ancestors = {entry.snapshot_id for entry in self.writer.table.history()}
        chosen = self.random.choice([s for s in snapshots if s in ancestors])
        if self.writer.table.current_snapshot().snapshot_id != chosen:  # type: ignore[union-attr]
            self.sql(f"CALL {{catalog}}.system.set_current_snapshot('{{name}}', {chosen})")

    def drop(self) -> None:
        self.sql("DROP TABLE {}")

    def replace(self) -> None:
        self.sql("CREATE OR REPLACE TABLE {0} USING iceberg AS SELECT * FROM {0} WHERE false")

    def delete(self) -> None:
        self.sql("DELETE FROM {} WHERE id % 2 = 0")

    def compact(self) -> None:
        self.sql("CALL {catalog}.system.rewrite_data_files(table => '{name}', "
                 "options => map('rewrite-all', 'true'))")  # fmt: skip

    def expire(self) -> None:
        self.sql("CALL {catalog}.system.expire_snapshots(table => '{name}', retain_last => 1, "
                 "older_than => TIMESTAMP '2099-01-01 00:00:00')")  # fmt: skip


@pytest.mark.parametrize("mode", ["mirror", "append"])
@pytest.mark.parametrize("seed", seeds(11))
def test_whatever_other_hands_do_the_table_is_right_or_stops_by_name(
    lake: Lake, name: str, seed: int, mode: str
) -> None:
    stream = Stream(lake, name, seed, mode)
    hands: list[Callable[[], None]] = [
        stream.rollback, stream.drop, stream.delete, stream.compact, stream.expire, stream.replace,
    ]  # fmt: skip
    stream.batch()
    for _ in range(7):
        stream.batch()
        for hand in stream.random.sample(hands, stream.random.choice([1, 1, 2])):
            if stream.writer.exists:
                hand()
    stream.batch()
    assert stream.stops
