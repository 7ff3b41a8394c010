"""The micro-batch writer: the one place that changes a table.

Steps, and what a crash leaves behind:
    1 open     load the table, or create it with an empty ledger   → a table without rows; opened again
    2 fold     drop what the ledger has, fold the rest per key      → nothing
    3 plan     facts in, plan out                                   → nothing
    4 evolve   widen or add columns                                 → an evolved table, no row; idempotent
    5 commit   rows and ledger in one table commit                  → replayed, and dropped by the ledger
    6 Spark writes its commit log after the function returned.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from cdc_sink.config import Target
from cdc_sink.errors import CommitConflictError, StateError
from cdc_sink.spark.engines import Engine, FoldedBatch
from cdc_sink.spark.engines.append import append
from cdc_sink.spark.engines.merge import merge, prepare_session
from cdc_sink.spark.failpoints import (
    AFTER_TABLE_COMMIT,
    BATCH_FOLDED,
    BEFORE_TABLE_COMMIT,
    TABLE_CREATED,
    TABLE_EVOLVED,
    TABLE_HALF_CREATED,
    TABLE_HALF_EVOLVED,
    TABLE_OPENED,
    failpoint,
)
from cdc_sink.spark.iceberg import IcebergTable, stamped
from cdc_sink.spark.latest import Folded, fold, not_in, require_applicable
from cdc_sink.table.columns import (
    TABLE_PROPERTIES,
    Column,
    add_cdc_sql,
    create_table_sql,
    iceberg_type,
    identifier_sql,
)
from cdc_sink.table.evolution import plan_evolution, require_key
from cdc_sink.table.ledger import BATCH_KEY, LEDGER_KEY, OWNER_PROPERTY, Claim, Ledger
from cdc_sink.table.plan import BatchFacts, Plan, Step, plan_batch

# JDBC catalogs look first and insert then: two tables that start together would collide.
_one_namespace_at_a_time = threading.Lock()

ENGINES: dict[Step, Engine] = {Step.APPEND: append, Step.MERGE: merge}


@dataclass
class Sink:
    """Applies the micro-batches of one table, in order, from one session."""

    spark: SparkSession
    target: Target
    claim: Claim
    partitions: tuple[int, ...]
    folds_exactly: bool = False

    def __post_init__(self) -> None:
        """Prepare the session: it belongs to this query alone."""
        prepare_session(self.spark)
        cores = self.spark.sparkContext.defaultParallelism
        self.spark.conf.set("spark.sql.shuffle.partitions", str(cores))

    def apply(self, changes: DataFrame, batch_id: int) -> BatchFacts:
        """Apply one micro-batch exactly once.

        In:     changes, one row per record; replayed records are dropped by the ledger.
        Raises: StateError, SchemaError, RecordError, CommitConflictError, CommitUnknownError.
        """
        table = self._open(changes)
        ledger = self._require_ledger(table)
        failpoint(TABLE_OPENED)
        folded, plan = self._fold(changes, table, ledger)
        try:
            failpoint(BATCH_FOLDED)
            if plan.step is not Step.SKIP:
                table = self._evolve(table, changes)
                self._commit(table, plan, folded, batch_id)
        finally:
            folded.release()
        return folded.facts

    def _open(self, changes: DataFrame) -> IcebergTable:
        table = IcebergTable.load(self.spark, self.target)
        if table is None:
            self._create(changes)
            failpoint(TABLE_CREATED)
            table = IcebergTable.load(self.spark, self.target)
            assert table is not None
        if table.ledger() is None:
            self._require_ours(table)
            self._finish(table, key_names(changes))
            table.note({LEDGER_KEY: self.claim.open(self.partitions).to_json()})
        return table

    def _create(self, changes: DataFrame) -> None:
        namespace = self.target.identifier.rpartition(".")[0]
        settings = self.target.table
        with _one_namespace_at_a_time:
            self.spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {namespace}")
        for statement in create_table_sql(
            self.target.identifier,
            struct_columns(changes, "after", key_names(changes)),
            key_names(changes),
            buckets=settings.buckets,
            bucket_column=settings.bucket_column,
            properties={**TABLE_PROPERTIES, OWNER_PROPERTY: self.target.pipeline.name},
        ):
            self.spark.sql(statement)
            failpoint(TABLE_HALF_CREATED)

    def _finish(self, table: IcebergTable, keys: tuple[str, ...]) -> None:
        """Complete a table that is adopted, or whose creation was cut short."""
        if not table.has_cdc:
            self.spark.sql(add_cdc_sql(self.target.identifier))
        if table.owner is not None and not table.key_columns():
            for statement in identifier_sql(self.target.identifier, keys):
                self.spark.sql(statement)
        table.java.refresh()

    def _require_ours(self, table: IcebergTable) -> None:
        unfinished = table.owner == self.target.pipeline.name and table.snapshot_id is None
        if not unfinished and not self.target.table.adopt:
            raise StateError(
                self.target.where,
                "the table exists, but was not written by cdc-sink: it has no ledger",
                remedy="choose another target, or set `adopt: true` for this table to write into it",
            )

    def _require_ledger(self, table: IcebergTable) -> Ledger:
        ledger = table.ledger()
        assert ledger is not None, "opened tables have one"
        self.claim.require_fits(ledger, self.target.where)
        return ledger

    def _fold(self, changes: DataFrame, table: IcebergTable, ledger: Ledger) -> tuple[Folded, Plan]:
        new = require_applicable(not_in(ledger, changes))
        known = sorted(ledger.next_offsets)
        folded = fold(new, ledger.high_water, known, exact=self.folds_exactly)
        plan = plan_batch(
            folded.facts,
            ledger,
            is_empty=table.is_empty,
            folded_exactly=self.folds_exactly,
            where=self.target.where,
        )
        if plan.step is Step.FOLD_EXACTLY:
            folded.release()
            self.folds_exactly = True
            return self._fold(changes, table, ledger)
        # Batches that follow a mixed one are likely mixed too; the first pure one ends it.
        self.folds_exactly = self.folds_exactly and folded.facts.is_mixed
        return folded, plan

    def _evolve(self, table: IcebergTable, changes: DataFrame) -> IcebergTable:
        keys = key_names(changes)
        wanted = struct_columns(changes, "after", keys)
        require_key(table.key_columns(), keys, self.target.table)
        steps = plan_evolution(table.columns(), wanted, keys, self.target.table, in_place=True)
        if not steps:
            return table
        for step in steps:
            self.spark.sql(step.sql(self.target.identifier))
            failpoint(TABLE_HALF_EVOLVED)
        failpoint(TABLE_EVOLVED)
        evolved = IcebergTable.load(self.spark, self.target)
        if evolved is None or evolved.snapshot_id != table.snapshot_id:
            raise CommitConflictError(
                self.target.where,
                "another writer committed to the table while its columns were changed",
                data="the batch was not applied and will be replayed",
                remedy="it is retried; stop the other writer if this goes on",
            )
        return evolved

    def _commit(self, table: IcebergTable, plan: Plan, folded: Folded, batch_id: int) -> None:
        counters = {"batch_id": batch_id, **folded.facts.counters()}
        counters["committed_at_ms"] = time.time_ns() // 1_000_000
        properties = {LEDGER_KEY: plan.ledger.to_json(), BATCH_KEY: json.dumps(counters)}
        failpoint(BEFORE_TABLE_COMMIT)
        if plan.step is Step.NOTE:
            table.note(properties)
        else:
            with stamped(self.spark, properties):
                ENGINES[plan.step](self._batch(table, folded))
        failpoint(AFTER_TABLE_COMMIT)

    def _batch(self, table: IcebergTable, folded: Folded) -> FoldedBatch:
        return FoldedBatch(
            spark=self.spark,
            table=self.target.identifier,
            snapshot_id=table.snapshot_id,
            columns=table.columns(),
            key_columns=key_names(folded.rows),
            is_partitioned=table.java.spec().isPartitioned(),
            rows=folded.rows.withColumn(
                "cdc",
                F.expr(
                    "named_struct('op', op, 'source_ts', source_ts, 'pos_hi', position.hi, "
                    "'pos_lo', position.lo, 'partition', partition, 'offset', offset, "
                    f"'schema_id', schema_id, 'generation', {self.target.table.generation})"
                ),
            ),
        )


def key_names(changes: DataFrame) -> tuple[str, ...]:
    """Names of the key columns of changes."""
    return tuple(_struct(changes, "key").names)


def struct_columns(
    changes: DataFrame, name: str, key_columns: tuple[str, ...]
) -> tuple[Column, ...]:
    """The table columns that a struct column of changes asks for."""
    return tuple(
        Column(f.name, iceberg_type(f.dataType.simpleString()), required=f.name in key_columns)
        for f in _struct(changes, name).fields
    )


def _struct(changes: DataFrame, name: str) -> StructType:
    kind = changes.schema[name].dataType
    assert isinstance(kind, StructType)
    return kind
