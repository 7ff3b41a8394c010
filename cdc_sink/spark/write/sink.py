"""The micro-batch writer: the one place that changes a table.

Steps, and what a crash leaves behind:
    1 open     load the table, or create it with an empty ledger   → a table without rows; opened again
    2 fold     drop what the ledger has, fold the rest per key      → nothing
    3 plan     facts in, plan out                                   → nothing
    4 letters  what goes aside, into the dead letters               → letters that are there; put once only
    5 evolve   widen or add columns                                 → an evolved table, no row; idempotent
    6 commit   rows and ledger in one table commit                  → replayed, and dropped by the ledger
    7 copy     the ledger into the table's properties               → brought up to date by the replay
    8 Spark writes its commit log after the function returned.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from cdc_sink.config import Target
from cdc_sink.spark.failpoints import (
    AFTER_TABLE_COMMIT,
    BATCH_FOLDED,
    BEFORE_TABLE_COMMIT,
    LETTERS_PUT,
    LETTERS_REPLAYING,
    TABLE_OPENED,
    failpoint,
)
from cdc_sink.spark.fold.folding import Folding
from cdc_sink.spark.fold.latest import Folded, not_in
from cdc_sink.spark.fold.repartitioned_keys import TopicState
from cdc_sink.spark.fold.suspect_deletes import require_no_row, require_rows
from cdc_sink.spark.iceberg_table import IcebergTable, stamped
from cdc_sink.spark.java_names import remember_names
from cdc_sink.spark.read.decode import key_names
from cdc_sink.spark.read.record_faults import fault_sql
from cdc_sink.spark.write.dead_letter_table import DeadLetters, count_of, digest_of
from cdc_sink.spark.write.engines import Engine, FoldedBatch
from cdc_sink.spark.write.engines.merge import merge, prepare_session
from cdc_sink.spark.write.engines.replace import append, table_rows
from cdc_sink.spark.write.left_over_rows import settle
from cdc_sink.spark.write.table_setup import TableSetup
from cdc_sink.table.dead_letter import NAMED_BY, State
from cdc_sink.table.faults import TIE
from cdc_sink.table.ledger.key_partitions import neither_placed, not_hashed
from cdc_sink.table.ledger.ledger import BATCH_KEY, LEDGER_KEY, Ledger
from cdc_sink.table.ledger.offsets import OffsetRange, require_continuous
from cdc_sink.table.ledger.one_source import require_same_schemas
from cdc_sink.table.ledger.one_table import OneTable
from cdc_sink.table.ledger.stream_identity import StreamIdentity
from cdc_sink.table.newer_row import newer_sql
from cdc_sink.table.plan import BatchFacts, Plan, Step
from cdc_sink.table.schema.metadata_columns import change_sql

# A change and a stored row of one position in two partitions.
_TIE = fault_sql(f"'{TIE}'", "CAST(NULL AS BINARY)", record="s.{}")
TIED = f"CAST({_TIE} AS BOOLEAN)"
ENGINES: dict[Step, Engine] = {Step.FIRST_LOAD: append, Step.REPLACE_ALL: append, Step.MERGE: merge}


@dataclass(frozen=True)
class NeedsQuarantine:
    """Values were left out that neither the batch nor a stored row has: nothing was written."""


@dataclass
class Sink:
    """Applies the micro-batches of one table, in order, from one session."""

    spark: SparkSession
    stream: StreamIdentity
    partitions: tuple[int, ...]
    folding: Folding
    one_table: OneTable | None = None
    is_transformed: bool = False  # the rows are made by a transform
    shape: TableSetup = field(init=False)

    def __post_init__(self) -> None:
        """Prepare the session: it belongs to this query alone."""
        remember_names(self.spark)
        prepare_session(self.spark)
        cores = self.spark.sparkContext.defaultParallelism
        self.spark.conf.set("spark.sql.shuffle.partitions", str(cores))
        one_table = self.one_table or OneTable(self.target.name)
        transformed = frozenset[str]() if self.is_transformed else None
        self.shape = TableSetup(self.spark, self.target, one_table, transformed=transformed)

    @property
    def target(self) -> Target:
        """The table, and what the configuration says of it."""
        return self.folding.target

    def apply(
        self,
        changes: DataFrame,
        batch_id: int,
        table: IcebergTable | None,
        topic: TopicState | None = None,
        batch: OffsetRange | None = None,
    ) -> BatchFacts | NeedsQuarantine:
        """Apply one micro-batch exactly once.

        In:     changes, one row per record; replayed records are dropped by the ledger. With `raw` and
                `aside` (see quarantine.py) some go to the dead letters. `table`, as it was loaded for this
                batch; None when it was not there. `batch`: the offsets that Spark read.
        Out:    NeedsQuarantine when only changes with `aside` can be applied.
        Raises: StateError, SchemaError, RecordError, CommitConflictError, CommitUnknownError.
        """
        table, before = self._open(table, changes, batch)
        ledger = before if topic is None else self._of_topic(before, topic)
        if ledger.moving is not None and before.moving is None and self._is_mirror:
            self.folding.deletes(table).forget()  # of an earlier phase
        failpoint(TABLE_OPENED)
        new = not_in(ledger, changes)
        new, folded, plan = self.folding.decide(new, table, ledger)
        if batch is not None:
            plan = plan.up_to(batch.end)
        try:
            plan = self._with_what_it_saw(plan, ledger, folded, topic, table)
            failpoint(BATCH_FOLDED)
            if plan.step is Step.NEEDS_QUARANTINE:
                return NeedsQuarantine()
            if plan.step is Step.SKIP:
                table.keep_copy()  # a crash may have come between the table commit and the copy
            else:
                require_rows(folded, new, table, ledger, self.folding.options)
                if folded.facts.bare_keys and plan.step is Step.OFFSETS_ONLY and not table.is_empty:
                    require_no_row(folded, table, ledger.stream.topic)
                self._require_hashed(ledger, topic)
                plan = self._put_letters(new, plan, ledger, batch_id)
                plan = self._remember_deletes(plan, table, folded)
                self._write(self.shape.evolve(table, changes), plan, folded, ledger, batch_id)
        finally:
            folded.release()
        # Letters that wait may be older than what was deleted meanwhile.
        if before.moving and not plan.ledger.moving and not plan.ledger.quarantined:
            self.folding.deletes(table).forget()
        if plan.ledger.has_to_decide:
            settle(self.spark, self.target)
        return folded.facts

    def _with_what_it_saw(
        self,
        plan: Plan,
        ledger: Ledger,
        folded: Folded,
        topic: TopicState | None,
        table: IcebergTable,
    ) -> Plan:
        """The plan, with a ledger that knows what the batch says of its source."""
        if topic is None or plan.step is Step.SKIP:
            return plan
        held = {column.name for column in table.columns()} if topic.sent.of else ()
        facts, where = folded.facts, self.target.name
        plan = plan.with_columns_sent(ledger, facts, held, topic.sent, where)
        return plan.with_run(ledger, facts, topic.ends) if self._is_mirror else plan

    def _write(
        self, table: IcebergTable, plan: Plan, folded: Folded, ledger: Ledger, batch_id: int
    ) -> None:
        tied = TIED if self.folding.options.ties else None
        guard = newer_sql("s", "t", tied) if ledger.moving else None
        counters = {"batch_id": batch_id, **folded.facts.counters()}
        self._commit(table, plan, folded, counters, guard=guard)

    def replay(self, marked: DataFrame, letters: DeadLetters, table: IcebergTable | None) -> int:
        """Apply dead letters after all: under the guard, since newer state may be there by now.

        In:  changes of waiting letters, with `aside` for those that still can't be applied.
        Out: how many were applied. A crash leaves letters in state `replaying`; see spark/run/replay.py.
        """
        table = self.shape.open(table, marked, Ledger.opened(self.stream, self.partitions))
        ledger = self._require_ledger(table)
        settled, folded, step = self.folding.decide_again(
            marked, table, replace(ledger, high_water={})
        )
        try:
            done = self.folding.kept.keep(self._letters_of(settled.where("aside IS NULL")))
            count = count_of(done)
            if count:
                letters.mark(done, State.REPLAYING)
                failpoint(LETTERS_REPLAYING)
                table = self.shape.evolve(table, settled)
                plan = Plan(step, ledger.replayed(count, digest_of(done)))
                guard = newer_sql("s", "t")
                self._commit(table, plan, folded, {"replayed": count}, guard=guard)
                letters.mark(done, State.REPLAYED)
        finally:
            folded.release()
        return count

    @property
    def _is_mirror(self) -> bool:
        return not self.target.table.mode.keeps_events

    def _open(
        self, loaded: IcebergTable | None, changes: DataFrame, batch: OffsetRange | None
    ) -> tuple[IcebergTable, Ledger]:
        """The table and its ledger, with nothing due that an earlier batch left."""
        empty = Ledger.opened(self.stream, self.partitions, batch.first if batch else None)
        table = self.shape.open(loaded, changes, empty)
        ledger = self._require_ledger(table)
        if ledger.has_to_decide:
            settle(self.spark, self.target)  # a crash came before it, or the operator had to say
            table = self.shape.open(IcebergTable.load(self.spark, self.target), changes, empty)
            ledger = self._require_ledger(table)
        if batch is not None:
            require_continuous(batch, ledger.next_offsets, self.target.name)
        return table, ledger

    def _of_topic(self, ledger: Ledger, topic: TopicState) -> Ledger:
        """The ledger at the begin of a batch, with what is known of the topic now."""
        known = require_same_schemas(ledger.fingerprints, topic.fingerprints, self.target.name)
        moving = ledger.moving if ledger.key_schema_ids else topic.grew
        ledger = replace(ledger, fingerprints=known, moving=moving)
        return ledger.beginning(topic.partitions, topic.key_schema_ids, topic.ends, topic.log)

    def _letters_of(self, changes: DataFrame) -> DataFrame:
        own = {"table": F.lit(self.target.name), "topic_id": F.lit(self.stream.topic_id)}
        return changes.withColumns(own).select(*NAMED_BY)

    def _require_ledger(self, table: IcebergTable) -> Ledger:
        ledger = table.own_ledger()
        assert ledger is not None, "opened tables have one"
        ledger.require_of(self.stream, self.target.name)
        return ledger

    def _put_letters(self, new: DataFrame, plan: Plan, ledger: Ledger, batch_id: int) -> Plan:
        """Keep what goes aside before the offsets move, and note how many letters wait."""
        if "aside" not in new.columns:
            return plan
        letters = DeadLetters(self.spark, self.target, self.stream.topic_id)
        aside = new.where("aside IS NOT NULL")
        if plan.ledger.totals.dead_letters > ledger.totals.dead_letters:
            letters.put(aside, batch_id)
        failpoint(LETTERS_PUT)
        waiting = count_of(letters.waiting())
        return replace(plan, ledger=replace(plan.ledger, quarantined=waiting))

    def _remember_deletes(self, plan: Plan, table: IcebergTable, folded: Folded) -> Plan:
        moving = plan.ledger.moving
        if moving is None or not self._is_mirror or folded.facts.deleted_keys == 0:
            return plan
        moving = replace(moving, deletes=self.folding.deletes(table).remember(folded.rows))
        return replace(plan, ledger=replace(plan.ledger, moving=moving))

    def _require_hashed(self, ledger: Ledger, topic: TopicState | None) -> None:
        """Refuse a batch with a record that does not lie where its key's bytes say.

        While keys move more than once nothing rests on it.
        """
        strays = {} if topic is None else topic.strays()
        if topic is None or not strays:
            return
        partitions, where = topic.partitions, self.target.name
        by = ledger.moving.placed_by if ledger.moving else partitions
        stray = None if by is None else strays[by]
        if stray is None or by is None:
            return
        if by < partitions:
            raise neither_placed(stray, partitions, by, ledger.stream.topic, where)
        raise not_hashed(stray, partitions, ledger.stream.topic, where)

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
        if plan.step is Step.OFFSETS_ONLY:
            table.note(properties)
        else:
            batch = replace(self._batch(table, folded), guard=guard)
            with stamped(self.spark, properties):
                if plan.step is Step.ADD_EVENTS:
                    table.add(table_rows(batch))
                else:
                    ENGINES[plan.step](batch)
        failpoint(AFTER_TABLE_COMMIT)
        table.keep_copy()

    def _batch(self, table: IcebergTable, folded: Folded) -> FoldedBatch:
        metadata = change_sql(self.target.table.mode, self.target.table.generation)
        return FoldedBatch(
            spark=self.spark,
            table=self.target.identifier,
            snapshot_id=table.snapshot_id,
            columns=table.columns(),
            key_columns=key_names(folded.rows),
            is_partitioned=table.java.spec().isPartitioned(),
            fills=tuple(folded.facts.lacking),
            is_moving=self.folding.options.moving is not None,
            keeps_nulls=self.folding.options.nulls_left_out,
            has_bare=folded.facts.bare_keys > 0,
            rows=folded.rows.withColumns(
                {"topic": F.lit(self.stream.topic)}
                | {name: F.expr(sql) for name, sql in metadata.items()}
            ),
        )
