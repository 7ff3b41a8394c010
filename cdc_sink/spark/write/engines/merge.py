"""MERGE INTO: the portable engine, for any batch.

The join is storage-partitioned and one-sided: the table lies in buckets already, so only the batch is
shuffled, into the table's buckets. Most of the settings below are what Spark 4.1 needs for that.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from cdc_sink.spark.fold.tombstones import STOPS
from cdc_sink.spark.read.record_faults import fault_sql
from cdc_sink.spark.write.engines import DISTRIBUTION, FoldedBatch
from cdc_sink.table.faults import UNAVAILABLE_VALUE
from cdc_sink.table.merge_sql import StoredRowCheck, StoredValues, merge_sql
from cdc_sink.table.schema.metadata_columns import PARTITION

VIEW = "cdc_sink_batch"
# A value that the connector left out, and no stored row has it.
UNFILLED = fault_sql(
    f"'{UNAVAILABLE_VALUE}'", "CAST(NULL AS BINARY)", "array_join(s.missing, ', ')", record="s.{}"
)
SAME_PARTITION = f"t.{PARTITION} <=> s.{PARTITION}"
SETTINGS = {
    "spark.sql.sources.v2.bucketing.enabled": "true",
    "spark.sql.sources.v2.bucketing.pushPartValues.enabled": "true",
    "spark.sql.sources.v2.bucketing.shuffle.enabled": "true",
    "spark.sql.requireAllClusterKeysForCoPartition": "false",
    "spark.sql.iceberg.planning.preserve-data-grouping": "true",
    # Without it both sides of the join are sorted, the table's keys among them.
    "spark.sql.join.preferSortMergeJoin": "false",
    # It would drop the counting of a batch of which no row is left, and the counts with it.
    "spark.sql.adaptive.optimizer.excludedRules": (
        "org.apache.spark.sql.execution.adaptive.AQEPropagateEmptyRelation"
    ),
    # A small batch is planned longer than it runs. These rules found nothing in our plans, and took the most.
    "spark.sql.optimizer.excludedRules": ",".join(
        f"org.apache.spark.sql.catalyst.optimizer.{name}"
        for name in (
            "RemoveRedundantAliases",
            "OptimizeOneRowRelationSubquery",
            "MergeScalarSubqueries",
            "OptimizeCsvJsonExprs",
        )
    ),
    # It would add tests for NULL that change no result, and look for them in every expression.
    "spark.sql.constraintPropagation.enabled": "false",
    # The JVM compiles no method above this size: many columns fused into one stage would be interpreted.
    "spark.sql.codegen.hugeMethodLimit": "8000",
}


def merge(batch: FoldedBatch) -> None:
    """Apply updates, inserts and deletes in one table commit."""
    batch.rows.createOrReplaceTempView(VIEW)
    # After a storage-partitioned join each task holds whole buckets: another shuffle would change nothing.
    batch.spark.conf.set(DISTRIBUTION, "none" if batch.is_partitioned else "hash")
    bare = STOPS if batch.has_bare else None
    statement = merge_sql(
        batch.table,
        VIEW,
        batch.columns,
        batch.key_columns,
        fill=StoredValues(
            batch.fills, UNFILLED, batch.keeps_nulls, SAME_PARTITION if batch.is_moving else None
        ),
        stored=StoredRowCheck(batch.guard, bare),
    )
    batch.spark.sql(statement)


def prepare_session(spark: SparkSession) -> None:
    """Set on a batch's own session what the engines rely on."""
    for key, value in SETTINGS.items():
        spark.conf.set(key, value)
