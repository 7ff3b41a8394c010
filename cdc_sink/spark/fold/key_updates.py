"""Values that a changed key took along: the connector left them out, and they lie under the old key.

A key update arrives as a delete of the old key and a create of the new one, at one position. What the source
did not touch is left out of the create; the row that has it is the old key's, as it was right before that
delete. The two halves may lie in different partitions and so in different batches:

    both in this batch           older changes of the old key in the batch, else the stored row
    the delete not yet read      the topic is read on, from where the table stands, until it is there
    the delete applied before    the same from an older table snapshot, in which the old row still is

What is found in none of these stays left out; the table's policy for unavailable values decides. A half that
was applied before needs nothing: the redelivery filter drops it.

Of a batch only the changes of old keys are looked at, and in them only the columns that something left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, Observation, Window
from pyspark.sql import functions as F
from pyspark.sql.types import DataType

from cdc_sink.debezium.position import SourcePosition
from cdc_sink.spark.fold.held_rows import HeldRows
from cdc_sink.spark.fold.latest import known_sql
from cdc_sink.spark.fold.ledger_filter import below_sql, offset_sql
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.sql import literal, quote
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.ledger.many_sources import Lanes
from cdc_sink.table.ledger.offsets import Offsets

IS_HALF = "op = 'c' AND size(unavailable) > 0 AND old_key IS NOT NULL AND aside IS NULL"
OLDER_SNAPSHOTS = 5
# Records per partition, from where the table stands: the halves were sent one right after the other.
READ_BACK = 200_000
READ_ON = 200_000
SMALL_BYTES = (
    16 * 2**20
)  # of completed halves: where these are more, whole changes are sorted to find them
_LACKS = "is_half AND size(unavailable) > 0"
_ASKS = f"{_LACKS} AND place IS NOT NULL"

Marks = Mapping[int, SourcePosition]


@dataclass(frozen=True)
class Past:
    """What is left of the past: the table's snapshots, and its topic.

    `starts` gives the oldest offsets that the topic still has; `read` its changes between two offsets of each
    partition, decoded with `sets_aside`.
    """

    table: IcebergTable
    starts: Callable[[], Offsets]
    read: Callable[[Offsets, Offsets], DataFrame]

    def snapshots(self) -> list[tuple[int, Ledger]]:
        """The newest table snapshots of which the topic has all later changes; the current one first."""
        starts, found = self.starts(), list[tuple[int, Ledger]]()
        for snapshot_id, ledger in self.table.ledgers(OLDER_SNAPSHOTS):
            newest = found[0][1] if found else ledger
            is_same = _log_of(ledger) == _log_of(newest)
            if is_same and all(
                starts.get(p, 0) <= ledger.next_offsets.get(p, 0) >= offset - READ_BACK
                for p, offset in newest.next_offsets.items()
            ):
                found.append((snapshot_id, ledger))
        return found


@dataclass(frozen=True)
class _SnapshotCut:
    """A table snapshot, and the offsets from which on changes are not in it."""

    snapshot_id: int | None
    next_offsets: Offsets


def complete_moved(
    changes: DataFrame,
    past: Past | None,
    marks: Marks,
    kept: HeldRows,
    *,
    nulls_left_out: bool,
    by: Lanes | None = None,
) -> tuple[DataFrame, int]:
    """Give the second halves of key updates the values that lie under their old keys.

    In:  kept changes with `aside` and `old_key` (null unless the record is such a half); `past`, None while
         there is no table; the table's high-water marks, which tell what was applied before; whether a NULL
         may be the value that was left out; `by`, the lanes of a table of many sources.
    Out: the same, `unavailable` of these halves names only what was not found; how many halves there are.
    """
    of = "partition" if by is None else by.sql
    is_half = f"{IS_HALF} AND NOT {below_sql(marks, of)}"
    left_out = F.collect_set(F.expr(f"IF({is_half}, unavailable, NULL)"))
    row = changes.agg(F.count_if(F.expr(is_half)), F.array_distinct(F.flatten(left_out))).first()
    assert row is not None
    halves, columns = row
    if halves == 0:
        return changes, 0
    table = past.table if past else None
    search = _Search(tuple(sorted(columns)), table, kept, nulls_left_out, of)
    newest = _SnapshotCut(table.snapshot_id if table else None, {})
    found, left = search.complete(search.relevant(changes, is_half, marks), [newest])
    changes = _adopt(changes, found)
    if past and left and (snapshots := past.snapshots()):
        now, oldest = snapshots[0][1], snapshots[-1][1]
        ends = {p: offset + READ_ON for p, offset in now.next_offsets.items()}
        read = past.read(oldest.next_offsets, ends).withColumn("aside", F.col("fault"))
        relevant = search.relevant(read, IS_HALF, oldest.high_water)
        places = [_SnapshotCut(id_, ledger.next_offsets) for id_, ledger in snapshots]
        found, _ = search.complete(relevant, places)
        changes = _adopt(changes, found)
    return changes, halves


@dataclass(frozen=True)
class _Search:
    """Looks for the values of these columns among changes and rows."""

    columns: Sequence[str]
    table: IcebergTable | None
    kept: HeldRows
    nulls_left_out: bool
    mark_of: str

    def relevant(self, changes: DataFrame, is_half: str, marks: Marks) -> DataFrame:
        """The halves, each with the place `d` of its delete, and the changes of their old keys.

        A redelivery brings a delete once more; the first is the one that found the row. What lies below the
        marks, as they stood before these changes, was delivered before all of them, and the rows have it.
        """
        below = below_sql(marks, self.mark_of)
        is_delete = "op = 'd' AND position.hi IS NOT NULL AND position.lo IS NOT NULL"
        after = ", ".join(f"{literal(name)}, after.{quote(name)}" for name in self.columns)
        narrow = changes.where("op IN ('c', 'u', 'r', 'd')").selectExpr(
            *("key", "old_key", "op", "partition", "offset", "position", "unavailable"),
            f"named_struct({after}) AS after",
            f"{is_half} AS is_half",
            f"aside IS NULL AND NOT {below} AS is_image",
            f"IF({is_delete} AND NOT {below}, struct(partition, offset), NULL) AS deleted",
        )
        moved = narrow.where("is_half").select(F.col("old_key").alias("moved")).distinct()
        is_of_moved = F.col("key") == F.col("moved")
        both_halves = Window.partitionBy(F.expr("IF(op = 'd', key, old_key)"), "position")
        return (
            narrow.join(F.broadcast(moved), is_of_moved, "left")
            .where("is_half OR moved IS NOT NULL")
            .withColumn("d", F.min("deleted").over(both_halves))
            .drop("deleted", "moved")
        )

    def complete(
        self, relevant: DataFrame, places: Sequence[_SnapshotCut]
    ) -> tuple[DataFrame | None, int]:
        """Find values; places: the table snapshots to look into, newest first.

        Out: halves whose delete was found, if any, with `after` and `unavailable` as far as they are complete
             now; how many halves still lack something.
        """
        seen = Observation()
        placed = self.kept.keep(
            relevant.withColumn("place", F.expr(_place_sql(places))).observe(
                seen,
                F.count_if(F.expr(_LACKS)).alias("lacking"),
                F.count_if(F.expr(_ASKS)).alias("asking"),
                F.collect_set(F.expr(f"IF({_ASKS}, place, NULL)")).alias("places"),
            )
        )
        lacking, asking = seen.get["lacking"], seen.get["asking"]
        if asking == 0:
            return None, lacking
        halves = placed.where(_ASKS)
        others = self._images(placed.where("NOT is_half"))
        rows = self._rows(placed, {number: places[number] for number in seen.get["places"]})
        images = self.kept.keep(reduce(DataFrame.unionByName, rows, others))
        left, before = asking, asking + 1
        while 0 < left < before:  # a row's key may have changed from A to B to C
            done = Observation()
            known = images.unionByName(self._images(halves))
            completed = self._next(halves, known).observe(
                done,
                F.count_if(F.expr(_LACKS)).alias("left"),
                F.sum(F.octet_length(F.to_json("after"))).alias("bytes"),
            )
            halves = self.kept.keep(completed)
            left, before = done.get["left"], left
        if done.get["bytes"] <= SMALL_BYTES:
            halves = F.broadcast(halves)
        return halves, lacking - asking + left

    def _rows(self, placed: DataFrame, places: Mapping[int, _SnapshotCut]) -> Iterator[DataFrame]:
        """The old keys' rows, as images older than all changes."""
        if self.table is None:
            return
        names = placed.select("key.*").columns
        types = {f.name: f.dataType for f in placed.select("key.*", "after.*").schema}
        for number, place in places.items():
            called = self.table.names_at(place.snapshot_id)
            held = {
                name: F.col(quote(called[name])).cast(type_)
                for name, type_ in types.items()
                if name in called
            }
            # No name of the source's beside ours: it may be the same.
            rows = self.table.rows_at(place.snapshot_id).select(
                *[held[name].alias(f"of{i}") for i, name in enumerate(names)],
                *[
                    self._held(held.get(name), types[name]).alias(f"image{i}")
                    for i, name in enumerate(self.columns)
                ],
            )
            asked = placed.where(f"{_ASKS} AND place = {number}").select(
                *[
                    F.col(f"old_key.{quote(name)}").alias(f"asked{i}")
                    for i, name in enumerate(names)
                ]
            )
            is_asked = [F.col(f"of{i}") == F.col(f"asked{i}") for i in range(len(names))]
            yield rows.join(F.broadcast(asked.distinct()), is_asked, "left_semi").select(
                F.struct(*[F.col(f"of{i}").alias(name) for i, name in enumerate(names)]).alias(
                    "of"
                ),
                F.lit(number).alias("at_place"),
                F.lit(None).cast("int").alias("at_partition"),
                F.lit(-1).cast("bigint").alias("at"),
                *[f"image{i}" for i in range(len(self.columns))],
            )

    def _images(self, changes: DataFrame) -> DataFrame:
        return changes.where("is_image").selectExpr(
            "key AS of",
            "CAST(NULL AS INT) AS at_place",
            "partition AS at_partition",
            "offset AS at",
            *[
                f"{known_sql(name, self.nulls_left_out)} AS image{i}"
                for i, name in enumerate(self.columns)
            ],
        )

    def _held(self, value: Column | None, type_: DataType) -> Column:
        """A row's image of a column; nobody knows what a column held that came later."""
        if value is None:
            return F.expr(f"CAST(NULL AS STRUCT<known: BOOLEAN, value: {type_.simpleString()}>)")
        known = F.lit(True) if self.nulls_left_out else value.isNotNull()
        return F.struct(known.alias("known"), value.alias("value"))

    def _next(self, halves: DataFrame, images: DataFrame) -> DataFrame:
        """Complete the halves as far as the images can: what an image lacks, an older one may have."""
        is_before = F.expr(
            "old_key = of AND (at_place = place OR at_partition = d.partition AND at < d.offset)"
        )
        newest = [
            F.expr(f"max_by(image{i}, at) FILTER (WHERE image{i} IS NOT NULL) AS image{i}")
            for i in range(len(self.columns))
        ]
        asks = halves.where(_LACKS).select("partition", "offset", "old_key", "d", "place")
        found = asks.join(images, is_before).groupBy("partition", "offset").agg(*newest)
        is_known = [
            f"coalesce(image{i}.known AND array_contains(unavailable, {literal(name)}), false)"
            for i, name in enumerate(self.columns)
        ]
        after = ", ".join(
            f"{literal(name)}, IF({is_known[i]}, image{i}.value, after.{quote(name)})"
            for i, name in enumerate(self.columns)
        )
        names = ", ".join(
            f"IF({is_known[i]}, {literal(name)}, NULL)" for i, name in enumerate(self.columns)
        )
        completed = {
            "after": F.expr(f"named_struct({after})"),
            "unavailable": F.expr(f"array_except(unavailable, array({names}))"),
        }
        joined = halves.join(found, ["partition", "offset"], "left")
        return joined.withColumns(completed).select(*halves.columns)


def _place_sql(places: Sequence[_SnapshotCut]) -> str:
    """Number of the newest place that is older than the delete; null where there is none."""
    later = [
        f"IF(d.offset < {offset_sql(one.next_offsets, 'd.partition')}, 1, 0)"
        for one in places
        if one.next_offsets
    ]
    number = " + ".join(later) or "0"
    return f"IF(is_half AND d IS NOT NULL AND {number} < {len(places)}, {number}, NULL)"


def _adopt(changes: DataFrame, halves: DataFrame | None) -> DataFrame:
    """Put what is complete in the halves into the records they are."""
    if halves is None:
        return changes
    filled = halves.select("after.*").columns
    better = halves.selectExpr("partition", "offset", "after AS found", "unavailable AS still")
    is_found = "array_contains(unavailable, {0}) AND NOT array_contains(still, {0})".format
    after = ", ".join(
        f"{literal(n)}, IF({is_found(literal(n))}, found.{quote(n)}, after.{quote(n)})"
        if n in filled
        else f"{literal(n)}, after.{quote(n)}"
        for n in changes.select("after.*").columns
    )
    joined = changes.join(better, ["partition", "offset"], "left")
    return joined.withColumns(
        {
            "after": F.expr(f"IF(still IS NULL, after, named_struct({after}))"),
            "unavailable": F.expr(
                "IF(still IS NULL, unavailable, array_intersect(unavailable, still))"
            ),
        }
    ).select(*changes.columns)


def _log_of(ledger: Ledger) -> tuple[str, int]:
    """What its offsets and positions are of."""
    return ledger.stream.topic_id, ledger.stream.generation
