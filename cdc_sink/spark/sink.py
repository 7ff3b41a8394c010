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
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from cdc_sink.change.quoting import quote
from cdc_sink.config import Target
from cdc_sink.errors import StateError
from cdc_sink.spark.dead_letters import DeadLetters, count_of, digest_of
from cdc_sink.spark.engines import Engine, FoldedBatch
from cdc_sink.spark.engines.append import append, table_rows
from cdc_sink.spark.engines.merge import merge, prepare_session
from cdc_sink.spark.failpoints import (
    AFTER_TABLE_COMMIT,
    BATCH_FOLDED,
    BEFORE_TABLE_COMMIT,
    LETTERS_PUT,
    LETTERS_REPLAYING,
    TABLE_OPENED,
    failpoint,
)
from cdc_sink.spark.iceberg import IcebergTable, stamped
from cdc_sink.spark.kept import Kept
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
from cdc_sink.spark.shape import Shape, key_names
from cdc_sink.table.columns import (
    CDC_COLUMN,
)
from cdc_sink.table.dead_letters import NAMED_BY, State
from cdc_sink.table.guard import newer_sql
from cdc_sink.table.ledger import BATCH_KEY, LEDGER_KEY, Claim, Ledger
from cdc_sink.table.merge_sql import key_alias
from cdc_sink.table.plan import BatchFacts, Plan, Step, plan_batch

GUARDED = f"t.{quote(CDC_COLUMN)}"

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
    shape: Shape = field(init=False)
    kept: Kept = field(default_factory=Kept)  # until the record writer is done with the batch

    def __post_init__(self) -> None:
        """Prepare the session: it belongs to this query alone."""
        ignores = self.target.table.truncate == "ignore"
        self.options = replace(self.options, ignores_truncates=ignores)
        prepare_session(self.spark)
        cores = self.spark.sparkContext.defaultParallelism
        self.spark.conf.set("spark.sql.shuffle.partitions", str(cores))
        self.shape = Shape(self.spark, self.target)

    def apply(self, changes: DataFrame, batch_id: int, topic: TopicNow | None = None) -> BatchFacts:
        """Apply one micro-batch exactly once.

        In:     changes, one row per record; replayed records are dropped by the ledger. With `raw` and
                `aside` (see set_aside.py) some go to the dead letters.
        Raises: ValuesLacking when changes without `aside` need it; StateError, SchemaError, RecordError,
                CommitConflictError, CommitUnknownError.
        """
        table = self.shape.open(changes, self.claim.open(self.partitions))
        ledger = self._require_ledger(table)
        if topic is not None:
            ledger = ledger.beginning(topic.partitions, topic.key_schema_ids, topic.ends)
        failpoint(TABLE_OPENED)
        new = not_in(ledger, changes)
        if self.target.table.order == "source":
            new = require_applicable(new)
        new, folded, plan = self._decide(new, table, ledger)
        try:
            failpoint(BATCH_FOLDED)
            if plan.step is Step.LOOK_UP:
                raise ValuesLacking
            if plan.step is not Step.SKIP:
                plan = self._put_letters(new, plan, ledger, batch_id)
                plan = self._remember_deletes(plan, folded)
                table = self.shape.evolve(table, changes)
                guard = newer_sql("s.cdc", GUARDED) if ledger.moving else None
                counters = {"batch_id": batch_id, **folded.facts.counters()}
                self._commit(table, plan, folded, counters, guard=guard)
        finally:
            folded.release()
        return folded.facts

    def _decide(
        self, new: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded, Plan]:
        """What becomes of the records that the ledger does not have; them, folded, and the plan."""
        if ledger.quarantined and "aside" not in new.columns:
            raise StateError(
                self.target.where,
                f"{ledger.quarantined} records of this table wait among the dead letters, and these changes "
                "don't tell which keys are quarantined",
                remedy="replay or release them with `cdc-sink dead-letters`, then run one batch of "
                "`cdc-sink run --once`",
            )
        if ledger.moving is not None:
            self._require_positions()
            new = mark_outdated(new, ledger.moving.deleted)
        folded = None
        if "aside" in new.columns:
            new, folded = self._settled(new, table, ledger)
        return new, *self._fold(new, table, ledger, folded)

    def _require_positions(self) -> None:
        settings = self.target.table
        if settings.order == "kafka" and not settings.outbox:  # an event never changes
            raise StateError(
                self.target.where,
                "keys may have changed partition (more partitions, or another key schema), and with "
                "`order: kafka` nothing orders their changes then",
                data="the batch was not applied, its offsets were not committed",
                remedy="rebuild the table with `cdc-sink backfill` after a new snapshot into a new topic",
            )

    def replay(self, marked: DataFrame, letters: DeadLetters) -> int:
        """Apply dead letters after all: under the guard, since newer state may be there by now.

        In:  changes of waiting letters, with `aside` for those that still can't be applied.
        Out: how many were applied. A crash leaves letters in state `replaying`; see spark/replay.py.
        """
        table = self.shape.open(marked, self.claim.open(self.partitions))
        ledger = self._require_ledger(table)
        settled, folded, step = self._again(marked, table, replace(ledger, high_water={}))
        try:
            done = self.kept.keep(self._letters_of(settled.where("aside IS NULL")))
            count = count_of(done)
            if count:
                letters.mark(done, State.REPLAYING)
                failpoint(LETTERS_REPLAYING)
                table = self.shape.evolve(table, settled)
                plan = Plan(step, ledger.replayed(count, digest_of(done)))
                guard = newer_sql("s.cdc", GUARDED)
                self._commit(table, plan, folded, {"replayed": count}, guard=guard)
                letters.mark(done, State.REPLAYED)
        finally:
            folded.release()
        return count

    def _again(
        self, marked: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded, Step]:
        """What of letters can be applied now, folded, and how it reaches the table."""
        return *self._settled(marked, table, ledger), Step.MERGE

    def _letters_of(self, changes: DataFrame) -> DataFrame:
        own = {"table": F.lit(self.target.where), "topic_id": F.lit(self.claim.topic_id)}
        return changes.withColumns(own).select(*NAMED_BY)

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
            settled = self.kept.keep(settle_lacking(marked, nobody, policy))
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
            batch = replace(self._batch(table, folded), guard=guard)
            with stamped(self.spark, properties):
                if plan.step is Step.ADD:
                    table.add(table_rows(batch))
                else:
                    ENGINES[plan.step](batch)
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
            rows=folded.rows.withColumns(
                {"topic": F.lit(self.claim.topic), "cdc": F.expr(self._cdc())}
            ),
        )

    def _cdc(self) -> str:
        """The `_cdc` struct of a change."""
        values = {
            "op": "op",
            "source_ts": "source_ts",
            "pos_hi": "position.hi",
            "pos_lo": "position.lo",
            "partition": "partition",
            "offset": "offset",
            "schema_id": "schema_id",
            "generation": str(self.target.table.generation),
            "unavailable": "unavailable",
        }
        parts = [f"'{name}', {values[name]}" for name, _ in self.shape.cdc_fields]
        return f"named_struct({', '.join(parts)})"
