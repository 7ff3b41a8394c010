"""Tables that keep every change event: a row per event, in no order that a key would need.

The same writer otherwise: ledger, dead letters, evolution and table commit are those of the mirror. What
differs is that nothing is folded, that a value which was left out stays out, and that rows are only added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pyspark.sql import DataFrame, SparkSession

from cdc_sink.config import Target
from cdc_sink.spark.iceberg import IcebergTable
from cdc_sink.spark.latest import Folded, FoldOptions, fold
from cdc_sink.spark.sink import Sink
from cdc_sink.table.ledger import Claim, Ledger
from cdc_sink.table.plan import Plan, Step, plan_events


def sink_of(spark: SparkSession, target: Target, claim: Claim, partitions: Sequence[int]) -> Sink:
    """The writer of a table, by its mode."""
    kind = EventSink if target.table.mode == "append" else Sink
    return kind(spark, target, claim, tuple(partitions))


class EventSink(Sink):
    """Adds the events of a batch as rows.

    An event that the connector delivers again lies below the high-water mark and is dropped; those exactly
    at the mark can't be told from new ones and are kept: a reader tells them by key, position and op.
    """

    def _decide(
        self, new: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded, Plan]:
        del table  # nothing in it matters: rows are only added
        # No key has to be found again, so it does not matter where keys lie.
        ledger = replace(ledger, moving=None)
        folded = self._rows(new, ledger)
        return new, folded, plan_events(folded.facts, ledger, where=self.target.where)

    def _again(
        self, marked: DataFrame, table: IcebergTable, ledger: Ledger
    ) -> tuple[DataFrame, Folded, Step]:
        del table
        return marked, self._rows(marked, ledger), Step.ADD

    def _rows(self, events: DataFrame, ledger: Ledger) -> Folded:
        # The mark rises record by record: a redelivered tail may begin and end inside the batch.
        options = FoldOptions(
            exact=True, every=True, ignores_truncates=self.options.ignores_truncates
        )
        return fold(events, ledger.high_water, sorted(ledger.next_offsets), options)
