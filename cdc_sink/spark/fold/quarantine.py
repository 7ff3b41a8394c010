"""Which changes of a batch go aside, and the values that only a row under another key can give.

Only ever for a batch in which something is wrong: a bad record, a quarantined key, or a value that the
connector left out and that neither batch nor stored row has. Everything here costs more than the usual path.

Out of it comes `aside`, null for a change that is applied, else `code|detail` for the dead letter.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Observation, Window
from pyspark.sql import functions as F

from cdc_sink.config import Target
from cdc_sink.errors import RecordError, RecordRef
from cdc_sink.spark.fold.held_rows import HeldRows
from cdc_sink.spark.fold.latest import Folded
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.spark.read.decode import key_names
from cdc_sink.spark.read.record_faults import STOPPED
from cdc_sink.sql import literal, quote
from cdc_sink.table.dead_letter import message_sql
from cdc_sink.table.faults import FAULTS, KEY_QUARANTINED, UNAVAILABLE_VALUE
from cdc_sink.table.merge_sql import key_alias
from cdc_sink.table.schema.metadata_columns import PARTITION

_LATER = f"{KEY_QUARANTINED}|"


def mark_aside(changes: DataFrame, quarantined_keys: DataFrame | None, kept: HeldRows) -> DataFrame:
    """Set aside bad changes, and all changes of a key from its first bad one on.

    In:  changes decoded with `sets_aside`, which are computed here, once; the `key` structs that are
         quarantined already.
    Out: the same with `aside`.
    """
    seen = Observation()
    changes = kept.keep(changes.observe(seen, F.count("fault").alias("faults")))
    marked, comes_later = changes, F.lit(False)
    # No window: it would sort whole rows, large values among them.
    if seen.get["faults"]:
        first_bad = F.min(F.struct("partition", "offset")).alias("first_bad")
        bad = changes.where("fault IS NOT NULL").groupBy("key").agg(first_bad)
        marked = marked.join(F.broadcast(bad), "key", "left")
        comes_later = F.expr(
            "first_bad IS NOT NULL AND (partition <> first_bad.partition OR offset > first_bad.offset)"
        )
    if quarantined_keys is not None:
        known = quarantined_keys.select("key").distinct().withColumn("waits", F.lit(True))
        marked = marked.join(F.broadcast(known), "key", "left")
        comes_later = comes_later | F.col("waits")
    # A truncate concerns all keys, a tombstone carries no change: no key's quarantine holds them back. Where
    # a tombstone is a delete, it has an op.
    is_change = F.col("raw.value").isNotNull() | F.col("op").isNotNull()
    is_of_key = F.col("key").isNotNull() & is_change
    aside = F.coalesce("fault", F.when(is_of_key & comes_later, F.lit(_LATER)))
    return marked.withColumn("aside", aside).select(*changes.columns, "aside")


def require_no_fault(changes: DataFrame) -> None:
    """Stop at the first bad record, where the policy is to stop.

    Raises: RecordError.
    """
    bad = changes.where("fault IS NOT NULL").orderBy("partition", "offset")
    first = bad.selectExpr(
        "topic", "partition", "offset", f"{message_sql('fault')} AS said"
    ).first()
    if first is not None:
        raise RecordError(
            RecordRef(first["topic"], first["partition"], first["offset"]),
            first["said"],
            data=STOPPED,
            remedy="correct the record's producer, or set `bad_record: quarantine_key` for this table",
        )


def without_value(
    folded: Folded, table: IcebergTable, *, nulls_left_out: bool, is_moving: bool = False
) -> DataFrame:
    """Rows of a fold that lack a value which nobody has: neither the batch nor the stored row.

    In:  a fold that looked into the whole batch; the table it is for, not evolved yet; whether keys may be
         moving: a stored row of another partition may have a change behind it that still waits.
    Out: its rows, `missing` names only columns that the stored row can't fill.
    """
    called = table.names_at(table.snapshot_id)
    nulls = [
        f"IF({quote(called[name]) if name in called else 'NULL'} IS NULL, {literal(name)}, NULL)"
        for name in folded.facts.lacking
        if not nulls_left_out
    ]
    names = key_names(folded.rows)
    stored = table.rows_at(table.snapshot_id).selectExpr(
        *[f"{quote(called[name])} AS {key_alias(i)}" for i, name in enumerate(names)],
        f"array_except(CAST(array({', '.join(nulls)}) AS ARRAY<STRING>), array(NULL)) AS nulls",
        f"{PARTITION} AS stored_in",
    )
    lacking = folded.rows.where("size(missing) > 0")
    moved = "NOT (stored_in <=> partition)" if is_moving else "false"
    still = F.expr(f"IF(nulls IS NULL OR {moved}, missing, array_intersect(missing, nulls))")
    asked = lacking.where("NOT is_unknown").join(stored, stored.columns[:-2], "left")
    unfilled = asked.withColumn("missing", still).where("size(missing) > 0")
    unfilled = unfilled.drop("nulls", "stored_in")
    return lacking.where("is_unknown").unionByName(unfilled)


def settle_lacking(changes: DataFrame, lacking: DataFrame, target: Target) -> DataFrame:
    """Decide over the values that nobody has, as the table's policy says.

    In:     changes with `aside`; `lacking`, one row per such key: `key`, `missing` (names of columns).
    Raises: RecordError where the policy is to stop.
    """
    policy = target.table.unavailable_value
    if policy == "stop":
        raise _lacking_error(lacking, target)
    known = lacking.select("key", F.col("missing").alias("lacks"))
    joined = changes.join(F.broadcast(known), "key", "left")
    lacks = F.col("lacks").isNotNull()
    if policy == "set_null":
        return joined.withColumns(
            {
                "after": _without(changes, lacks),
                "unavailable": F.when(
                    lacks, F.array_except("unavailable", F.col("lacks"))
                ).otherwise(F.col("unavailable")),
            }
        ).select(*changes.columns)
    detail = F.concat(F.lit(f"{UNAVAILABLE_VALUE}|"), F.array_join("lacks", ", "))
    by_offset = Window.partitionBy("key").orderBy("partition", "offset")
    is_first = F.row_number().over(by_offset) == 1
    why = F.when(is_first, detail).otherwise(F.lit(_LATER))
    aside = F.coalesce("aside", F.when(lacks, why))
    return joined.withColumn("aside", aside).select(*changes.columns)


def _lacking_error(lacking: DataFrame, target: Target) -> RecordError:
    first = lacking.orderBy("partition", "offset").first()
    assert first is not None
    saw, remedy = FAULTS[UNAVAILABLE_VALUE].of("value", ", ".join(first["missing"]))
    return RecordError(
        RecordRef(target.table.topic, first["partition"], first["offset"]),
        saw,
        data=STOPPED,
        remedy=f"{remedy}, or set `unavailable_value` of this table to quarantine_key or set_null",
    )


def _without(changes: DataFrame, lacks: Column) -> Column:
    names = changes.select("after.*").columns
    after = F.col("after")
    held = F.struct(
        *[
            F.when(
                ~F.array_contains("lacks", n) | ~F.array_contains("unavailable", n), after[n]
            ).alias(n)
            for n in names
        ]
    )
    return F.when(lacks & after.isNotNull(), held).otherwise(after)
