"""How a table comes to be, and how its columns follow the source's: everything but its rows.

Each statement may be the last one before a crash; the next batch goes on from what is there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog
from pyspark.sql import DataFrame, SparkSession

from cdc_sink.config import Target
from cdc_sink.errors import CommitConflictError, StateError
from cdc_sink.spark.column_defaults import add_with_default, remember_defaults
from cdc_sink.spark.failpoints import (
    TABLE_CREATED,
    TABLE_EVOLVED,
    TABLE_HALF_CREATED,
    TABLE_HALF_EVOLVED,
    failpoint,
)
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.spark.read.decode import key_names, struct_columns
from cdc_sink.table.ledger.ledger import LEDGER_KEY, Ledger
from cdc_sink.table.ledger.one_table import OneTable
from cdc_sink.table.schema.columns import AddedColumn, Column
from cdc_sink.table.schema.ddl import add_metadata_sql, creation_sql, identifier_sql
from cdc_sink.table.schema.evolution import (
    UNKNOWN,
    AddColumn,
    older_rows,
    plan_evolution,
    require_key,
)
from cdc_sink.table.schema.policy import TableMode

log: structlog.stdlib.BoundLogger = structlog.get_logger("cdc_sink.shape")

# JDBC catalogs look first and insert then: two tables that start together would collide.
_one_namespace_at_a_time = threading.Lock()


@dataclass(frozen=True)
class TableSetup:
    """The table of one target, as its changes ask for it."""

    spark: SparkSession
    target: Target
    one_table: OneTable
    added: Mapping[str, AddedColumn] = field(default_factory=dict)
    transformed: frozenset[str] | None = None  # columns, by a transform; None without one

    def knowing(self, columns: Iterable[Column]) -> TableSetup:
        """The same, told what rows hold that are older than a column."""
        return replace(self, added={c.name: c.added for c in columns if c.added is not None})

    def changing(self, columns: frozenset[str]) -> TableSetup:
        """The same, told which columns its transform changes, adds or leaves out."""
        return self if self.transformed == columns else replace(self, transformed=columns)

    def open(self, table: IcebergTable | None, changes: DataFrame, empty: Ledger) -> IcebergTable:
        """The table with a ledger; made first, with an empty one, if there never was a table.

        In:     table, as it was loaded for this batch; None when it was not there.
        Raises: StateError when it is somebody else's, or not the one of before; SchemaError; ConfigError;
                CommitConflictError.
        """
        if table is None:
            self.one_table.require_may_create()
            self._create(changes)
            failpoint(TABLE_CREATED)
            table = IcebergTable.load(self.spark, self.target)
            assert table is not None
        self.one_table.require_same(table.uuid)
        self._require_mode(table)
        self._require_transform(table)
        if table.found_ledger() is None:
            self._require_ours(table)
            self._finish(table, key_names(changes))
            table.note({LEDGER_KEY: empty.to_json()})
        return table

    def _require_mode(self, table: IcebergTable) -> None:
        mode = self.target.table.mode
        made = TableMode.APPEND if table.keeps_events else TableMode.MIRROR
        if table.has_metadata and made is not mode:
            raise StateError(
                self.target.name,
                f"the table was made with `mode: {made}`, the configuration says `mode: {mode}`",
                remedy=f"set `mode: {made}`, or name another target",
            )

    def _require_transform(self, table: IcebergTable) -> None:
        """Rows of a table that a transform made must not stand beside rows that none did."""
        before = table.transformed
        if before is not None and self.transformed is None:
            raise StateError(
                self.target.name,
                "a transform made the rows of this table, and none is given now",
                remedy="set `transform` of this table, or give the transform in code as before; to go on "
                "without, rebuild the table with `cdc-sink backfill` into another target",
            )
        if self.transformed is not None and (before is None or self.transformed - before):
            table.set_transformed(self.transformed | (before or frozenset()))

    def _create(self, changes: DataFrame) -> None:
        namespace = self.target.identifier.rpartition(".")[0]
        with _one_namespace_at_a_time:
            self.spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {namespace}")
        keys = key_names(changes)
        for statement in creation_sql(
            self.target.identifier,
            struct_columns(changes, "after", keys),
            keys,
            self.target.table.policy,
            self.target.pipeline.name,
        ):
            self.spark.sql(statement)
            failpoint(TABLE_HALF_CREATED)

    def _finish(self, table: IcebergTable, keys: tuple[str, ...]) -> None:
        """Complete a table that is adopted, or whose creation was cut short."""
        if not table.has_metadata:
            self.spark.sql(add_metadata_sql(self.target.identifier, self.target.table.mode))
        if table.owner is not None and not table.key_columns():
            for statement in identifier_sql(self.target.identifier, keys):
                self.spark.sql(statement)
        table.java.refresh()
        # So that records of older schemas that come after a restart find it.
        remember_defaults(self.spark, table.java, self.added)

    def _require_ours(self, table: IcebergTable) -> None:
        unfinished = table.owner == self.target.pipeline.name and table.snapshot_id is None
        if not unfinished and table.owner == self.target.pipeline.name:
            raise StateError(
                self.target.name,
                "the table is this pipeline's, and its ledger is gone: another program expired its "
                "snapshots, and removed the copy in its properties",
                remedy="rebuild the table: `cdc-sink backfill` with `--into` and another target",
            )
        if not unfinished and not self.target.table.adopt:
            raise StateError(
                self.target.name,
                "the table exists, but was not written by cdc-sink: it has no ledger",
                remedy="choose another target, or set `adopt: true` for this table to write into it",
            )

    def evolve(self, table: IcebergTable, changes: DataFrame) -> IcebergTable:
        """Change the table's columns as the changes ask for; the table as it is then.

        Raises: SchemaError when the policy refuses; CommitConflictError when another writer committed.
        """
        keys = key_names(changes)
        shaped = struct_columns(changes, "after", keys)
        wanted = [replace(c, added=self.added.get(c.name)) for c in shaped]
        require_key(table.key_columns(), keys, self.target.table.policy)
        steps = plan_evolution(
            table.columns(), wanted, keys, self.target.table.policy, in_place=True
        )
        if not steps:
            return table
        for step in steps:
            if isinstance(step, AddColumn):
                self._add(table, step)
            else:
                self.spark.sql(step.sql(self.target.identifier))
            failpoint(TABLE_HALF_EVOLVED)
        failpoint(TABLE_EVOLVED)
        evolved = IcebergTable.load(self.spark, self.target)
        if evolved is None or evolved.snapshot_id != table.snapshot_id:
            raise CommitConflictError(
                self.target.name,
                "another writer committed to the table while its columns were changed",
                data="the batch was not applied and will be replayed",
                remedy="it is retried; stop the other writer if this goes on",
            )
        return evolved

    def _add(self, table: IcebergTable, step: AddColumn) -> None:
        """Add a column, and say what the rows hold in it that are there."""
        column, added = step.column, step.column.added or AddedColumn()
        table.java.refresh()
        given = added.default is not None and add_with_default(self.spark, table.java, column)
        if not given:
            self.spark.sql(step.sql(self.target.identifier))
        say = log.warning if older_rows(added, given=given) == UNKNOWN else log.info
        say(
            "column_added",
            table=self.target.name,
            column=column.name,
            type=column.type,
            older_rows=older_rows(added, given=given),
        )
