"""Changes of keys that may have moved to another partition: see table/moving.py for the rule.

What was deleted meanwhile has no row any more, so it is remembered in a table beside the target: a digest of
the key, and the delete's place. It is written before the table commit. Twice is harmless, since the newest
place of a key counts; so is a rollback of the target, since what was deleted at its source stays so. It is
dropped when the phase is over, and before another one begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import IntegralType, StructType

from cdc_sink.change.quoting import quote
from cdc_sink.config import Target
from cdc_sink.table.partitioning import Placed


@dataclass(frozen=True)
class TopicNow:
    """What a batch's writer knows of the topic besides the records.

    `oldest` reads a sample of the topic's oldest records; `sampled` is the one of the batch, observed while
    its rows passed.
    """

    partitions: int
    key_schema_ids: tuple[int, ...]
    ends: Callable[[], Mapping[int, int]]
    log: str | None = None
    fingerprints: Mapping[int, str] = field(default_factory=dict)
    oldest: Callable[[], Sequence[Placed]] = tuple
    sampled: Callable[[], Sequence[Placed]] = tuple


@dataclass(frozen=True)
class MovedDeletes:
    """The deletes of one target while its keys move."""

    spark: SparkSession
    target: Target

    @property
    def identifier(self) -> str:
        """The table beside the target, for Spark SQL."""
        return self.target.beside("moved_deletes")

    def forget(self) -> None:
        """Drop what a phase has left: its end is in the ledger, or another one begins. Twice is harmless."""
        self.spark.sql(f"DROP TABLE IF EXISTS {self.identifier} PURGE")

    def remember(self, rows: DataFrame) -> None:
        """Add the deletes among folded rows."""
        found = rows.where("op = 'd' AND position IS NOT NULL").select(
            digest_of(rows).alias("digest"),
            F.col("position.hi").alias("pos_hi"),
            F.col("position.lo").alias("pos_lo"),
        )
        self.spark.sql(
            f"CREATE TABLE IF NOT EXISTS {self.identifier} "
            "(digest string, pos_hi bigint, pos_lo bigint) USING iceberg"
        )
        found.coalesce(1).writeTo(self.identifier).append()

    def mark_outdated(self, changes: DataFrame) -> DataFrame:
        """Add `outdated`: true for a change that lies before a delete of its key that was applied already."""
        if not self.spark.catalog.tableExists(self.identifier):
            return changes
        self.spark.sql(f"REFRESH TABLE {self.identifier}")
        newest = self.spark.table(self.identifier).groupBy("digest")
        deletes = newest.agg(F.max(F.struct("pos_hi", "pos_lo")).alias("gone_at"))
        is_older = F.expr(
            "coalesce(position < named_struct('hi', gone_at.pos_hi, 'lo', gone_at.pos_lo), false)"
        )
        return (
            changes.withColumn("digest", digest_of(changes))
            .join(deletes, "digest", "left")
            .withColumn("outdated", is_older)
            .drop("digest", "gone_at")
        )


def digest_of(rows: DataFrame) -> Column:
    """A digest of the whole key, since a table of ours should hold no cell values; 128 bits.

    Numbers are taken as the widest of their kind: a key column may be widened meanwhile.
    """
    kind = rows.schema["key"].dataType
    assert isinstance(kind, StructType)
    parts = [
        F.expr(f"CAST(key.{quote(f.name)} AS BIGINT)")
        if isinstance(f.dataType, IntegralType)
        else F.expr(f"key.{quote(f.name)}")
        for f in kind.fields
    ]
    return F.concat(F.hex(F.xxhash64(*parts)), F.hex(F.xxhash64(F.lit("cdc-sink"), *parts)))
