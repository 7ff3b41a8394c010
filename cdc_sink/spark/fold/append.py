"""Tables that keep every change event: a row per event, in no order that a key would need.

The same writer otherwise: ledger, dead letters, evolution and table commit are those of the mirror. What
differs is that nothing is folded, that a value which was left out stays out, and that rows are only added.
"""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import DataFrame

from cdc_sink.config import Target
from cdc_sink.spark.fold.latest import Folded, FoldOptions, fold
from cdc_sink.spark.fold.mirror import MirrorMode
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.plan import Plan, Step, plan_events


def folding_of(target: Target) -> MirrorMode:
    """How the batches of a table become rows, by its mode."""
    return AppendMode(target) if target.table.mode.keeps_events else MirrorMode(target)


class AppendMode(MirrorMode):
    """Folds nothing: the events of a batch are its rows.

    An event that the connector delivers again lies below the high-water mark and is dropped; those exactly
    at the mark can't be told from new ones and are kept: a reader tells them by key, position and op.
    """

    def decide(
        self, new: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded, Plan]:
        """As for a mirror; nothing in the table matters: rows are only added."""
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
        """As for a mirror."""
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
