"""How a folded batch reaches the table. One protocol, the same result; the plan chooses.

An engine makes exactly one table commit, validated against the table snapshot that the plan was made for.
The session's snapshot properties (the ledger) are in that commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from cdc_sink.table.schema.columns import Column

# How Iceberg's writers want the rows spread; each engine sets it for its own statement.
DISTRIBUTION = "spark.sql.iceberg.distribution-mode"


@dataclass(frozen=True)
class FoldedBatch:
    """What an engine gets.

    `rows` has one row per key with a change: `key0` … `keyN` (the key columns, on top so that a join can be
    partitioned by them), `op`, `after` and the metadata columns under their names; where `fills` names
    columns, also `missing`: those of them whose value a row leaves to the stored row, a NULL only if
    `keeps_nulls`. `is_moving`: a stored value is the one before only if its row came through the same
    partition. With `has_bare` some have no op: tombstones without a delete, which must not meet a stored row.
    `guard`, if any, is what has to hold between the metadata columns of `s` and of `t` before a stored row is
    touched.
    """

    spark: SparkSession
    table: str
    snapshot_id: int | None
    columns: tuple[Column, ...]
    key_columns: tuple[str, ...]
    is_partitioned: bool
    rows: DataFrame
    fills: tuple[str, ...] = ()
    keeps_nulls: bool = False
    guard: str | None = None
    is_moving: bool = False
    has_bare: bool = False


Engine = Callable[[FoldedBatch], None]
