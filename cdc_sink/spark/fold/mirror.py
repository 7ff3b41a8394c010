"""What becomes of a micro-batch: its changes folded, and the plan for them. Reads the table, changes nothing.

It remembers from batch to batch what the last ones needed, so that the next is not folded in vain first.
"""

from __future__ import annotations

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
from cdc_sink.table.plan import Plan, Step, plan_batch


@dataclass
class MirrorMode:
    """Folds and plans the batches of a table that mirrors its source."""

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

    def lanes(self, ledger: Ledger) -> Lanes | None:
        """What the ledger's marks are by; None where those are of partitions."""
        return None if self.target.table.sources == "one" else Lanes(ledger.sources, self.named)

    def decide(
        self, new: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded, Plan]:
        """What becomes of the records that the ledger does not have; them, folded, and the plan."""
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
        """What of letters can be applied now, folded, and how it reaches the table."""
        known = self.deletes(table).mark_outdated(marked, ledger.moving, ties=self.options.ties)
        return *self._settled(known, table, ledger), Step.MERGE

    def deletes(self, table: IcebergTable) -> MovedDeletes:
        """What was deleted while keys move."""
        return MovedDeletes(table.spark, self.target)

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
