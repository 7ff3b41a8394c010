"""Other hands on a table: a program of its own with nothing in common with the stream but the catalog."""

from __future__ import annotations

import random
from collections.abc import Iterator

from pyiceberg.table import Table
from pyspark.sql import SparkSession

from cdc_sink.clients.catalog import load_table
from cdc_sink.config import Pipeline

_FAR = 8  # snapshots that a rollback goes back, at most


class TableHands:
    """What others do to the tables of one catalog."""

    def __init__(self, spark: SparkSession, pipeline: Pipeline) -> None:
        self._spark, self._pipeline = spark, pipeline
        self._catalog = pipeline.catalog.name

    def rollback(self, table: str, draw: random.Random) -> str:
        """Set a table back to one of its last snapshots."""
        loaded = load_table(self._pipeline.catalog, table)
        older = [] if loaded is None else list(_ancestors(loaded))[1 : 1 + _FAR]
        if not older:
            return ""
        steps = draw.randrange(len(older))
        snapshot = older[steps]
        self._run(
            f"CALL {self._catalog}.system.rollback_to_snapshot('{self._catalog}.{table}', {snapshot})"
        )
        return f"{steps + 1} snapshots back, to {snapshot}"

    def exists(self, table: str) -> bool:
        """Say whether the catalog has a table."""
        return load_table(self._pipeline.catalog, table) is not None

    def drop(self, table: str) -> str:
        """Drop a table; its files stay."""
        if not self.exists(table):
            return ""
        self._run(f"DROP TABLE {self._catalog}.{table}")
        return "dropped"

    def compact(self, table: str) -> str:
        """Write all files of a table anew."""
        if not self.exists(table):
            return ""
        self._run(
            f"CALL {self._catalog}.system.rewrite_data_files(table => '{self._catalog}.{table}', "
            "options => map('rewrite-all', 'true'))"
        )
        return "rewritten"

    def expire(self, table: str, draw: random.Random) -> str:
        """Expire all snapshots but a few, and delete their files."""
        if not self.exists(table):
            return ""
        left = draw.choice((1, 1, 3))
        self._run(
            f"CALL {self._catalog}.system.expire_snapshots(table => '{self._catalog}.{table}', "
            f"retain_last => {left}, older_than => TIMESTAMP '2099-01-01 00:00:00')"
        )
        return f"{left} snapshots left"

    def _run(self, statement: str) -> None:
        session: SparkSession = self._spark.newSession()
        for key, value in self._spark.conf.getAll.items():
            if key.startswith(f"spark.sql.catalog.{self._catalog}"):
                session.conf.set(key, value)
        session.sql(statement).collect()


def _ancestors(table: Table) -> Iterator[int]:
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot.snapshot_id
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else table.snapshot_by_id(parent)
