"""Rows into an empty table: no key to look up, nothing to delete."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cdc_sink.spark.write.engines import DISTRIBUTION, FoldedBatch
from cdc_sink.sql import quote
from cdc_sink.table.schema.metadata_columns import is_metadata


def table_rows(batch: FoldedBatch) -> DataFrame:
    """The rows of a batch as the table has them."""
    values = [f"after.{quote(c.name)} AS {quote(c.name)}" for c in batch.columns]
    return batch.rows.selectExpr(*values, *filter(is_metadata, batch.rows.columns))


def append(batch: FoldedBatch) -> None:
    """Write all rows that are left, in one table commit.

    A plain append validates nothing: two drivers would both insert. Overwriting "everything" in a table that
    is empty replaces no row, and Iceberg refuses it when a file was added after `snapshot_id`.
    """
    rows = table_rows(replace(batch, rows=batch.rows.where("op <> 'd'")))
    batch.spark.conf.set(DISTRIBUTION, "hash")  # one file a bucket
    writer = rows.writeTo(batch.table).option("isolation-level", "serializable")
    if batch.snapshot_id is not None:
        writer = writer.option("validate-from-snapshot-id", str(batch.snapshot_id))
    writer.overwrite(F.lit(True))
