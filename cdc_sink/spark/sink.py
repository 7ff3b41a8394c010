"""The micro-batch writer: the one place that changes a table.

Steps, and what a crash leaves behind:
    1 open     load the table, or create it with an empty ledger   → a table without rows; opened again
    2 fold     drop what the ledger has, fold the rest per key      → nothing
    3 plan     facts in, plan out                                   → nothing
    4 letters  what goes aside, into the dead letters               → letters that are there; put once only
    5 evolve   widen or add columns                                 → an evolved table, no row; idempotent
    6 commit   rows and ledger in one table commit                  → replayed, and dropped by the ledger
    7 Spark writes its commit log after the function returned.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from cdc_sink.change.quoting import quote
from cdc_sink.config import Target
from cdc_sink.errors import CommitConflictError, StateError
from cdc_sink.spark.dead_letters import DeadLetters, count_of, digest_of
from cdc_sink.spark.engines import Engine, FoldedBatch
from cdc_sink.spark.engines.append import append
from cdc_sink.spark.engines.merge import merge, prepare_session
from cdc_sink.spark.failpoints import (
    AFTER_TABLE_COMMIT,
    BATCH_FOLDED,
    BEFORE_TABLE_COMMIT,
    LETTERS_PUT,
    LETTERS_REPLAYING,
    TABLE_CREATED,
    TABLE_EVOLVED,
    TABLE_HALF_CREATED,
    TABLE_HALF_EVOLVED,
    TABLE_OPENED,
    failpoint,
)
from cdc_sink.spark.iceberg import IcebergTable, stamped
from cdc_sink.spark.latest import (
    Folded,
    FoldOptions,
    fillable,
    fold,
    not_in,
    require_applicable,
)
from cdc_sink.spark.moving import TopicNow, deletes_of, mark_outdated
from cdc_sink.spark.set_aside import lacking_error, settle_lacking
from cdc_sink.table.columns import (
    CDC_COLUMN,
    TABLE_PROPERTIES,
    Column,
    add_cdc_sql,
    create_table_sql,
    iceberg_type,
    identifier_sql,
)
from cdc_sink.table.dead_letters import NAMED_BY, State
from cdc_sink.table.evolution import plan_evolution, require_key
from cdc_sink.table.guard import newer_sql
from cdc_sink.table.ledger import BATCH_KEY, LEDGER_KEY, OWNER_PROPERTY, Claim, Ledger
from cdc_sink.table.merge_sql import key_alias
from cdc_sink.table.plan import BatchFacts, Plan, Step, plan_batch

GUARDED = f"t.{quote(CDC_COLUMN)}"

# JDBC catalogs look first and insert then: two tables that start together would collide.
_one_namespace_at_a_time = threading.Lock()

ENGINES: dict[Step, Engine] = {Step.APPEND: append, Step.REPLACE: append, Step.MERGE: merge}


class ValuesLacking(Exception):
    """Values were left out that neither batch nor stored row has; nothing was written."""


@dataclass
class Sink:
    """Applies the micro-batches of one table, in order, from one session."""

    spark: SparkSession
    target: Target
    claim: Claim
    partitions: tuple[int, ...]
    options: FoldOptions = field(default_factory=FoldOptions)

    def __post_init__(self) -> None:
        """Prepare the session: it belongs to this query alone."""
        ignores = self.target.table.truncate == "ignore"
        self.options = replace(self.options, ignores_truncates=ignores)
        prepare_session(self.spark)
        cores = self.spark.sparkContext.defaultParallelism
        self.spark.conf.set("spark.sql.shuffle.partitions", str(cores))

    def apply(self, changes: DataFrame, batch_id: int, topic: TopicNow | None = None) -> BatchFacts:
        """Apply one micro-batch exactly once.

        In:     changes, one row per record; replayed records are dropped by the ledger. With `raw` and
                `aside` (see set_aside.py) some go to the dead letters.
        Raises: ValuesLacking when changes without `aside` need it; StateError, SchemaError, RecordError,
                CommitConflictError, CommitUnknownError.
        """
        table = self._open(changes)
        ledger = self._require_ledger(table)
        if ledger.quarantined and "aside" not in changes.columns:
            raise StateError(
                self.target.where,
                f"{ledger.quarantined} records of this table wait among the dead letters, and these changes "
                "don't tell which keys are quarantined",
                remedy="replay or release them with `cdc-sink dead-letters`, then run one batch of "
                "`cdc-sink run --once`",
            )
        if topic is not None:
            ledger = ledger.beginning(topic.partitions, topic.key_schema_ids, topic.ends)
        failpoint(TABLE_OPENED)
        new = not_in(ledger, changes)
        if self.target.table.order == "source":
            new = require_applicable(new)
        if ledger.moving is not None:
            new = mark_outdated(new, ledger.moving.deleted)
        folded = None
        if "aside" in new.columns:
            new, folded = self._settled(new, table, ledger)
        folded, plan = self._fold(new, table, ledger, folded)
        try:
            failpoint(BATCH_FOLDED)
            if plan.step is Step.LOOK_UP:
                raise ValuesLacking
            if plan.step is not Step.SKIP:
                plan = self._put_letters(new, plan, ledger, batch_id)
                plan = self._remember_deletes(plan, folded)
                table = self._evolve(table, changes)
                guard = newer_sql("s.cdc", GUARDED) if ledger.moving else None
                counters = {"batch_id": batch_id, **folded.facts.counters()}
                self._commit(table, plan, folded, counters, guard=guard)
        finally:
            folded.release()
        return folded.facts

    def replay(self, marked: DataFrame, letters: DeadLetters) -> int:
        """Apply dead letters after all: under the guard, since newer state may be there by now.

        In:  changes of waiting letters, with `aside` for those that still can't be applied.
        Out: how many were applied. A crash leaves letters in state `replaying`; see spark/replay.py.
        """
        table = self._open(marked)
        ledger = self._require_ledger(table)
        settled, folded = self._settled(marked, table, replace(ledger, high_water={}))
        done = self._letters_of(settled.where("aside IS NULL")).localCheckpoint(eager=True)
        count = count_of(done)
        try:
            if count == 0:
                return 0
            letters.mark(done, State.REPLAYING)
            failpoint(LETTERS_REPLAYING)
            table = self._evolve(table, settled)
            plan = Plan(Step.MERGE, ledger.replayed(count, digest_of(done)))
            self._commit(
                table, plan, folded, {"replayed": count}, guard=newer_sql("s.cdc", GUARDED)
            )
            letters.mark(done, State.REPLAYED)
        finally:
            folded.release()
        return count

    def _letters_of(self, changes: DataFrame) -> DataFrame:
        own = {"table": F.lit(self.target.where), "topic_id": F.lit(self.claim.topic_id)}
        return changes.withColumns(own).select(*NAMED_BY)

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

    def _fold(
        self, new: DataFrame, table: IcebergTable, ledger: Ledger, folded: Folded | None = None
    ) -> tuple[Folded, Plan]:
        is_exact = self.options.exact or folded is not None
        if folded is None:
            folded = fold(new, ledger.high_water, sorted(ledger.next_offsets), self.options)
        facts = folded.facts
        plan = plan_batch(
            facts,
            ledger,
            is_empty=table.is_empty,
            folded_exactly=is_exact,
            where=self.target.where,
        )
        if plan.step in (Step.FOLD_EXACTLY, Step.FILL):
            folded.release()
            exact = self.options.exact or plan.step is Step.FOLD_EXACTLY
            fills = fillable(new) if plan.step is Step.FILL else self.options.fills
            self.options = replace(self.options, exact=exact, fills=fills)
            return self._fold(new, table, ledger)
        # Batches that follow a mixed one are likely mixed too; the first pure one ends it. A column once
        # left out will be left out again.
        lacking = tuple(facts.lacking)
        stays_exact = facts.is_mixed or ledger.moving is not None
        exact = self.options.exact and stays_exact
        self.options = replace(self.options, exact=exact, fills=lacking)
        return folded, plan

    def _settled(
        self, marked: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded]:
        """Decide over the values that nobody has; the changes as they are then, and folded."""
        everything = replace(self.options, exact=True, fills=fillable(marked))
        known = sorted(ledger.next_offsets)
        folded = fold(marked, ledger.high_water, known, everything)
        if not folded.facts.lacking_keys:
            return marked, folded
        lacking = folded.rows.where("size(missing) > 0")
        stored = table.rows_at(table.snapshot_id).selectExpr(
            *[f"{quote(name)} AS {key_alias(i)}" for i, name in enumerate(key_names(marked))]
        )
        nobody = lacking.where("is_unknown").unionByName(
            lacking.where("NOT is_unknown").join(stored, stored.columns, "left_anti")
        )
        try:
            if nobody.isEmpty():
                return marked, folded
            policy = self.target.table.unavailable_value
            if policy == "stop":
                raise lacking_error(nobody, self.target)
            settled = settle_lacking(marked, nobody, policy).localCheckpoint(eager=True)
        except BaseException:
            folded.release()
            raise
        folded.release()
        return settled, fold(settled, ledger.high_water, known, everything)

    def _put_letters(self, new: DataFrame, plan: Plan, ledger: Ledger, batch_id: int) -> Plan:
        """Keep what goes aside before the offsets move, and note how many letters wait."""
        if "aside" not in new.columns:
            return plan
        letters = DeadLetters(self.spark, self.target, self.claim.topic_id)
        aside = new.where("aside IS NOT NULL")
        if plan.ledger.totals.dead_letters > ledger.totals.dead_letters:
            letters.put(aside, batch_id)
        failpoint(LETTERS_PUT)
        waiting = count_of(letters.waiting())
        return replace(plan, ledger=replace(plan.ledger, quarantined=waiting))

    def _remember_deletes(self, plan: Plan, folded: Folded) -> Plan:
        moving = plan.ledger.moving
        if moving is None or folded.facts.deleted_keys == 0:
            return plan
        moving = moving.with_deletes(deletes_of(folded.rows), self.target.where)
        return replace(plan, ledger=replace(plan.ledger, moving=moving))

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

    def _commit(
        self,
        table: IcebergTable,
        plan: Plan,
        folded: Folded,
        counters: Mapping[str, Any],
        *,
        guard: str | None = None,
    ) -> None:
        stamp = {**counters, "committed_at_ms": time.time_ns() // 1_000_000}
        properties = {LEDGER_KEY: plan.ledger.to_json(), BATCH_KEY: json.dumps(stamp)}
        failpoint(BEFORE_TABLE_COMMIT)
        if plan.step is Step.NOTE:
            table.note(properties)
        else:
            with stamped(self.spark, properties):
                ENGINES[plan.step](replace(self._batch(table, folded), guard=guard))
        failpoint(AFTER_TABLE_COMMIT)

    def _batch(self, table: IcebergTable, folded: Folded) -> FoldedBatch:
        return FoldedBatch(
            spark=self.spark,
            table=self.target.identifier,
            snapshot_id=table.snapshot_id,
            columns=table.columns(),
            key_columns=key_names(folded.rows),
            is_partitioned=table.java.spec().isPartitioned(),
            fills=tuple(folded.facts.lacking),
            rows=folded.rows.withColumn("topic", F.lit(self.claim.topic)).withColumn(
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
