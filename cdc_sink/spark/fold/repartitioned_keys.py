"""Changes of keys that may have moved to another partition: see table/ledger/repartitioning.py for the rule.

What was deleted meanwhile has no row any more, so it is remembered in a table beside the target: a digest of
the key, and the delete's place. It is written before the table commit. Twice is harmless, since the newest
place of a key counts; so is a rollback of the target, since what was deleted at its source stays so. It is
dropped when the phase is over, and before another one begins; a target that is set back behind that stops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import IntegralType, StructType

from cdc_sink.config import Target
from cdc_sink.debezium.position import between_partitions_sql
from cdc_sink.spark.read.record_faults import fault_sql
from cdc_sink.sql import quote
from cdc_sink.table.faults import TIE
from cdc_sink.table.ledger.key_partitions import Placed
from cdc_sink.table.ledger.offsets import Offsets
from cdc_sink.table.ledger.repartitioning import Moving
from cdc_sink.table.schema.computed_columns import SentColumns


@dataclass(frozen=True)
class TopicState:
    """What a batch's writer knows of the topic besides the records.

    `grew` is what the topic's oldest records tell at a table's first batch: whether keys move. `strays` are
    records of the batch, observed while its rows passed: see key_partitions.py. `sent`: the columns of the
    writer schemas.
    """

    partitions: int
    key_schema_ids: tuple[int, ...]
    ends: Callable[[], Offsets]
    log: str | None = None
    fingerprints: Mapping[int, str] = field(default_factory=dict)
    grew: Moving | None = None
    strays: Callable[[], Mapping[int, Placed | None]] = dict
    sent: SentColumns = field(default_factory=SentColumns)


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

    def remember(self, rows: DataFrame) -> str:
        """Add the deletes among folded rows; the identity of the table that has them."""
        found = rows.where("op = 'd' AND position IS NOT NULL").select(
            digest_of(rows).alias("digest"),
            F.col("position.hi").alias("pos_hi"),
            F.col("position.lo").alias("pos_lo"),
            "partition",
        )
        self.spark.sql(
            f"CREATE TABLE IF NOT EXISTS {self.identifier} "
            "(digest string, pos_hi bigint, pos_lo bigint, partition int) USING iceberg"
        )
        found.coalesce(1).writeTo(self.identifier).append()
        return self._identity()

    def mark_outdated(self, changes: DataFrame, moving: Moving | None, *, ties: bool) -> DataFrame:
        """Add `outdated`: true for a change that lies before a delete of its key that was applied already.

        In:     `moving`, None for dead letters of a phase that is over. `ties`: different changes may share a
                position; then one that has a delete's, and lies in another partition, fails the job.
        Raises: StateError when the deletes of this phase are gone.
        """
        exists = self.spark.catalog.tableExists(self.identifier)
        if moving is not None:
            moving.require_deletes(self._identity() if exists else None, self.target.name)
        if not exists:
            return changes
        self.spark.sql(f"REFRESH TABLE {self.identifier}")
        # The highest and the lowest partition: one position may have deletes in several.
        deletes = (
            self.spark.table(self.identifier)
            .groupBy("digest")
            .agg(
                F.max(F.struct("pos_hi", "pos_lo", "partition")).alias("gone_at"),
                F.max(F.expr("struct(pos_hi, pos_lo, -partition AS back)")).alias("lowest"),
            )
        )
        return (
            changes.withColumn("digest", digest_of(changes))
            .join(deletes, "digest", "left")
            .withColumn("outdated", F.expr(_outdated_sql(ties)))
            .drop("digest", "gone_at", "lowest")
        )

    def _identity(self) -> str:
        jvm: Any = self.spark._jvm
        java: Any = self.spark._jsparkSession
        loaded = jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(java, self.identifier)
        return str(loaded.uuid())


_AT = between_partitions_sql("op", "position.hi", "position.lo")


def _outdated_sql(ties: bool) -> str:
    """Whether a change lies before the delete that is remembered of its key."""
    gone = "named_struct('hi', gone_at.pos_hi, 'lo', gone_at.pos_lo)"
    elsewhere = "(gone_at.partition <> partition OR -lowest.back <> partition)"
    # A row of a source snapshot is older than a stream event there; a second delete changes nothing.
    at_it = "op = 'r'"
    if ties:
        tie = fault_sql(f"'{TIE}'", "CAST(NULL AS BINARY)")
        at_it = f"CASE op WHEN 'r' THEN true WHEN 'd' THEN false ELSE CAST({tie} AS BOOLEAN) END"
    return (
        "CASE WHEN gone_at IS NULL OR position IS NULL OR op IS NULL THEN false "
        f"WHEN {_AT} < {gone} THEN true "
        f"WHEN {_AT} = {gone} AND {elsewhere} THEN {at_it} ELSE false END"
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
