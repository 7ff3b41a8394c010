"""Values that a changed key took along: the connector left them out, and they lie under the old key.

A key update arrives as a delete of the old key and a create of the new one, at one position. What the source
did not touch is left out of the create; the row that has it is the old key's, as it was right before that
delete. The two halves may lie in different partitions and so in different batches:

    both in this batch           older changes of the old key in the batch, else the stored row
    the delete not yet read      the topic is read on, from where the table stands, until it is there
    the delete applied before    the same from an older table snapshot, in which the old row still is

What is found in none of these stays left out; the table's policy for unavailable values decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cdc_sink.change.quoting import literal, quote
from cdc_sink.spark.iceberg import IcebergTable
from cdc_sink.spark.latest import fillable, known_sql

IS_HALF = "op = 'c' AND size(unavailable) > 0 AND old_key IS NOT NULL AND aside IS NULL"
MOST_HOPS = 8  # key updates of one row that follow each other: A → B → C …
OLDER_SNAPSHOTS = 5
READ_ON = 200_000  # records per partition; the other half was sent right after this one


# The topic's changes decoded with `sets_aside`, from these offsets on, at most so many per partition.
ReadOn = Callable[[Mapping[int, int], int], DataFrame]


@dataclass(frozen=True)
class _Source:
    """Where values are looked for: changes in Kafka order, and the rows that were stored before them."""

    changes: DataFrame
    stored: DataFrame


def complete_moved(
    changes: DataFrame, table: IcebergTable | None, read_on: ReadOn
) -> tuple[DataFrame, int]:
    """Give the second halves of key updates the values that lie under their old keys.

    In:  changes with `aside` and `old_key` (null unless the record is such a half).
    Out: the same, `unavailable` of these halves names only what was not found; how many halves there are.
    """
    changes = changes.localCheckpoint(eager=True)  # decoded once, looked at often
    halves = left = _count(changes)
    names = changes.select("key.*").columns, changes.select("after.*").columns
    if left and table is not None:
        stored = _rows(table, table.snapshot_id, *names)
        changes, left = _complete(_Source(changes, stored), left)
    elif left:
        nothing = changes.where("false").select("key", "after")
        changes, left = _complete(_Source(changes, nothing), left)
    if left and table is not None:
        for snapshot_id, ledger in table.ledgers(OLDER_SNAPSHOTS):
            read = read_on(ledger.next_offsets, READ_ON).withColumn("aside", F.col("fault"))
            read = read.localCheckpoint(eager=True)
            found, _ = _complete(_Source(read, _rows(table, snapshot_id, *names)), _count(read))
            changes = _adopt(changes, found).localCheckpoint(eager=True)
            left = _count(changes)
            if not left:
                break
    return changes, halves


def _count(changes: DataFrame) -> int:
    return changes.where(IS_HALF).count()


def _rows(
    table: IcebergTable, snapshot_id: int | None, keys: Sequence[str], columns: Sequence[str]
) -> DataFrame:
    reader = table.rows_at(snapshot_id)
    held = set(reader.columns)
    key = F.struct(*[F.col(quote(n)).alias(n) for n in keys])
    # A column that is added by this very batch was null in every row before.
    after = F.struct(*[(F.col(quote(n)) if n in held else F.lit(None)).alias(n) for n in columns])
    return reader.select(key.alias("key"), after.alias("after"))


def _complete(source: _Source, left: int) -> tuple[DataFrame, int]:
    """Complete the halves among a source's own changes, from hop to hop; how many are left."""
    changes = source.changes
    for _ in range(MOST_HOPS):
        if left == 0:
            break
        changes = _adopt(changes, _found(changes, source.stored)).localCheckpoint(eager=True)
        before, left = left, _count(changes)
        if left == before:
            break
    return changes, left


def _found(changes: DataFrame, stored: DataFrame) -> DataFrame:
    """The halves of `changes`, completed as far as older changes of the old key and its row can."""
    halves = changes.where(IS_HALF)
    deletes = changes.where("op = 'd'").select(
        F.col("key").alias("old_key"),
        "position",
        F.col("partition").alias("d_partition"),
        F.col("offset").alias("d_offset"),
    )
    # A redelivery brings both once more; the first delete is the one that found the row.
    first = deletes.groupBy("old_key", "position").agg(
        F.min(F.struct("d_partition", "d_offset")).alias("d")
    )
    placed = halves.join(first, ["old_key", "position"]).selectExpr(
        "partition AS h_partition", "offset AS h_offset", "old_key", "d"
    )
    columns = fillable(changes)
    older = changes.where("op IN ('c', 'u', 'r', 'd') AND aside IS NULL").selectExpr(
        "key AS old_key",
        "partition AS e_partition",
        "offset AS e_offset",
        *[f"{known_sql(name)} AS image{i}" for i, name in enumerate(columns)],
    )
    is_before = F.expr(
        "placed.old_key = older.old_key AND e_partition = d.d_partition AND e_offset < d.d_offset"
    )
    before = (
        placed.alias("placed")
        .join(older.alias("older"), is_before, "left")
        .drop(F.col("older.old_key"))
        .groupBy("h_partition", "h_offset", "old_key")
        .agg(
            *[
                F.expr(f"max_by(image{i}, e_offset) FILTER (WHERE image{i} IS NOT NULL)").alias(
                    f"image{i}"
                )
                for i in range(len(columns))
            ]
        )
        .join(stored.selectExpr("key AS old_key", "after AS row"), "old_key", "left")
    )
    image = {n: i for i, n in enumerate(columns)}
    joined = halves.join(
        before.drop("old_key"),
        (F.col("partition") == F.col("h_partition")) & (F.col("offset") == F.col("h_offset")),
    )
    after, lacks = [], []
    for name in changes.select("after.*").columns:
        value = f"after.{quote(name)}"
        if name in image:
            known = f"image{image[name]}"
            is_left_out = f"array_contains(unavailable, {literal(name)})"
            found = f"IF({known} IS NULL, row.{quote(name)}, {known}.value)"
            nobody = f"IF({known} IS NULL, row IS NULL, NOT {known}.known)"
            value = f"IF({is_left_out}, {found}, {value})"
            lacks.append(f"IF({is_left_out} AND {nobody}, {literal(name)}, NULL)")
        after.append(f"{literal(name)}, {value}")
    lacking = f"array_except(array({', '.join(lacks)}), array(NULL))"
    return joined.selectExpr(
        "partition",
        "offset",
        f"named_struct({', '.join(after)}) AS after",
        f"{lacking} AS unavailable",
    )


def _adopt(changes: DataFrame, found: DataFrame) -> DataFrame:
    """Take `after` and `unavailable` of the records that `found` has, where it knows more."""
    better = found.selectExpr(
        "partition", "offset", "after AS found_after", "unavailable AS found_unavailable"
    )
    joined = changes.join(better, ["partition", "offset"], "left")
    knows_more = F.expr(f"{IS_HALF} AND size(found_unavailable) < size(unavailable)")
    return joined.withColumns(
        {
            "after": F.when(knows_more, F.col("found_after")).otherwise(F.col("after")),
            "unavailable": F.when(knows_more, F.col("found_unavailable")).otherwise(
                F.col("unavailable")
            ),
        }
    ).select(*changes.columns)
