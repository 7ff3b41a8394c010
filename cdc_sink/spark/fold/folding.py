"""What becomes of a micro-batch: its changes folded, and the plan for them. Reads the table, changes nothing.

It remembers from batch to batch what the last ones needed, so that the next is not folded in vain first.
A table that keeps every change event has the same ledger, dead letters, evolution and table commit as a
mirror; nothing is folded for it, and a value that was left out stays out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

from pyspark.sql import DataFrame

from cdc_sink.config import Target
from cdc_sink.errors import StateError
from cdc_sink.spark.fold.held_rows import HeldRows
from cdc_sink.spark.fold.latest import Folded, FoldOptions, fillable, fold
from cdc_sink.spark.fold.quarantine import settle_lacking, without_value
from cdc_sink.spark.fold.repartitioned_keys import MovedDeletes
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.ledger.many_sources import Lanes
from cdc_sink.table.plan import Plan, Step, plan_batch, plan_events
from cdc_sink.table.schema.writer_schemas import WriterSchemas


@dataclass
class Folding(ABC):
    """Folds and plans the batches of one table."""

    target: Target
    options: FoldOptions = field(default_factory=FoldOptions)
    kept: HeldRows = field(default_factory=HeldRows)  # until the micro-batch is done
    named: str = "CAST(NULL AS STRING)"  # SQL of what a `key` says in the router's field

    def __post_init__(self) -> None:
        """Fold as the table's settings say."""
        settings = self.target.table
        # What the policy would make of a value that nobody has, a stored NULL is already.
        self.options = replace(
            self.options,
            ignores_truncates=settings.truncate == "ignore",
            nulls_left_out=settings.unavailable_value == "set_null",
            finds_bare=settings.order == "source",
            needs_position=settings.order == "source",
        )

    @abstractmethod
    def decide(
        self, new: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded, Plan]:
        """What becomes of the records that the ledger does not have; them, folded, and the plan."""

    @abstractmethod
    def decide_again(
        self, marked: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded, Step]:
        """What of dead letters can be applied now, folded, and how it reaches the table."""

    def knows_schemas(self, schemas: WriterSchemas) -> None:
        """Fold what is decoded with these writer schemas."""
        self.options = replace(
            self.options,
            ties=schemas.positions_tie,
            nulls_left_out=self.options.nulls_left_out or schemas.leave_out_nulls,
            # A tombstone has no source: where its key tells none either, it is of no one's row.
            finds_bare=self.options.finds_bare and schemas.own_source_column is None,
        )
        self.named = schemas.router_key_sql()

    def knows_keys_filled_in(self, sql: str) -> None:
        """Mark changes whose key the connector may have filled in, as this SQL tells."""
        self.options = replace(self.options, filled_in=sql)

    def deletes(self, table: IcebergTable) -> MovedDeletes:
        """What was deleted while keys move."""
        return MovedDeletes(table.spark, self.target)

    def lanes(self, ledger: Ledger) -> Lanes | None:
        """What the ledger's marks are by; None where those are of partitions."""
        return None if self.target.table.sources == "one" else Lanes(ledger.sources, self.named)


class MirrorMode(Folding):
    """Folds the batches of a table that mirrors its source: to the last change of each key."""

    def decide(
        self, new: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded, Plan]:
        """The changes of a batch, the last ones of their keys, and the plan."""
        if ledger.quarantined and "aside" not in new.columns:
            raise StateError(
                self.target.name,
                f"{ledger.quarantined} dead letters of this table wait, and `apply_changes` cannot tell "
                "which keys they quarantine",
                remedy="replay or release them with `cdc-sink dead-letters`, then run one batch of "
                "`cdc-sink run --once`",
            )
        if ledger.moving is not None:
            self._require_positions()
            new = self.deletes(table).mark_outdated(new, ledger.moving, ties=self.options.ties)
        self.options = replace(self.options, moving=ledger.moving)
        folded = None
        if "aside" in new.columns:
            new, folded = self._settled(new, table, ledger)
        return new, *self._fold(new, table, ledger, folded)

    def decide_again(
        self, marked: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded, Step]:
        """The changes of dead letters, the last ones of their keys, to be merged."""
        known = self.deletes(table).mark_outdated(marked, ledger.moving, ties=self.options.ties)
        return *self._settled(known, table, ledger), Step.MERGE

    def _require_positions(self) -> None:
        settings = self.target.table
        if settings.order == "kafka" and not settings.outbox:  # an event never changes
            raise StateError(
                self.target.name,
                "keys may have changed partition (more partitions, or another key schema), and with "
                "`order: kafka` nothing orders their changes then",
                data="the batch was not applied, its offsets were not committed",
                remedy="rebuild the table with `cdc-sink backfill` after a new snapshot into a new topic",
            )

    def _fold(
        self, new: DataFrame, table: IcebergTable, ledger: Ledger, folded: Folded | None = None
    ) -> tuple[Folded, Plan]:
        is_exact = self.options.exact or folded is not None
        self.options = replace(self.options, by=self.lanes(ledger))
        if folded is None:
            partitions = sorted(ledger.next_offsets)
            folded = fold(new, ledger.high_water, partitions, self.options, ledger.ended_with)
        facts = folded.facts
        plan = plan_batch(
            facts,
            ledger,
            is_empty=table.is_empty,
            folded_exactly=is_exact,
            where=self.target.name,
            on_resnapshot=self.target.table.on_resnapshot,
        )
        if plan.step is Step.KNOW_SOURCES:
            folded.release()
            return self._fold(new, table, plan.ledger)
        if plan.step in (Step.REFOLD_IN_KAFKA_ORDER, Step.REFOLD_WITH_FILLS):
            folded.release()
            exact = self.options.exact or plan.step is Step.REFOLD_IN_KAFKA_ORDER
            fills = fillable(new) if plan.step is Step.REFOLD_WITH_FILLS else self.options.fills
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
        by = self.lanes(ledger)
        everything = replace(self.options, exact=True, fills=fillable(marked), by=by)
        known = sorted(ledger.next_offsets)
        folded = fold(marked, ledger.high_water, known, everything, ledger.ended_with)
        if not folded.facts.lacking_keys:
            return marked, folded
        try:
            lacking = without_value(
                folded,
                table,
                nulls_left_out=self.options.nulls_left_out,
                is_moving=self.options.moving is not None,
            )
            if lacking.isEmpty():
                return marked, folded
            settled = self.kept.keep(settle_lacking(marked, lacking, self.target))
        except BaseException:
            folded.release()
            raise
        folded.release()
        again = fold(settled, ledger.high_water, known, everything, ledger.ended_with)
        return settled, again


class AppendMode(Folding):
    """Folds nothing: the events of a batch are its rows.

    An event that the connector delivers again lies below the high-water mark and is dropped; those exactly
    at the mark can't be told from new ones and are kept: a reader tells them by key, position and op.
    """

    def decide(
        self, new: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded, Plan]:
        """The events of a batch and the plan; nothing in the table matters: rows are only added."""
        folded = self._rows(new, ledger)
        plan = plan_events(folded.facts, ledger, where=self.target.name)
        if plan.step is Step.KNOW_SOURCES:
            folded.release()
            return self.decide(new, table, plan.ledger)
        # No key has to be found again, so it does not matter where keys lie.
        return new, folded, replace(plan, ledger=replace(plan.ledger, moving=None))

    def decide_again(
        self, marked: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded, Step]:
        """The events of dead letters, to be added."""
        del table
        return marked, self._rows(marked, ledger), Step.ADD_EVENTS

    def _rows(self, events: DataFrame, ledger: Ledger) -> Folded:
        # The mark rises record by record: a redelivered tail may begin and end inside the batch.
        options = FoldOptions(
            exact=True,
            every=True,
            ignores_truncates=self.options.ignores_truncates,
            needs_position=self.options.needs_position,
            by=self.lanes(ledger),
        )
        return fold(events, ledger.high_water, sorted(ledger.next_offsets), options)


def folding_of(target: Target) -> Folding:
    """How the batches of a table become rows, by its mode."""
    return AppendMode(target) if target.table.mode.keeps_events else MirrorMode(target)
