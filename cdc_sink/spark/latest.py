"""Changes in, one final image per key out; `change/fold.py` is the same rule in plain Python.

Kafka order is the order inside a partition. The source position is the redelivery filter: a stream event
strictly below the partition's high-water mark was applied before and is dropped. Two ways to apply it:

    fast   the mark stands still during the batch; inside it the greatest (position, offset) of a key wins.
           Right when a batch holds only stream events or only snapshot rows, and ends at the mark.
    exact  the mark rises record by record, which costs one more shuffle. Needed when both are mixed,
           since snapshot rows have no position of their own and only Kafka order can place them; and when
           a batch ends below the mark it has reached, inside a redelivered tail: of two changes of a key
           at one position (MariaDB, compressed binlogs) only the first may be there once more.

One job decodes, folds and counts: the facts are observed while the rows pass, and the folded rows stay
where they are for the engine (a local checkpoint: rows as they are, cheaper than a columnar cache).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, Observation, Window
from pyspark.sql import functions as F

from cdc_sink.change.position import SourcePosition
from cdc_sink.change.quoting import quote
from cdc_sink.spark.faults import fault_sql
from cdc_sink.table.ledger import Ledger
from cdc_sink.table.merge_sql import key_alias
from cdc_sink.table.plan import BatchFacts

_NO_BYTES = "CAST(NULL AS BINARY)"
IS_STREAM = "op <> 'r'"
ORDER = ("order_hi", "order_lo", "offset")
# What the table commit needs of a change; the rest is not carried through the shuffle.
CARRIED = ("key", "op", "after", "position", "source_ts", "partition", "offset", "schema_id")


def latest_per_key(changes: DataFrame) -> DataFrame:
    """Keep, for each key, the change that decides its final image.

    In:     changes, as `read_changes` gives them, of one topic; a key's changes lie in one partition.
    Out:    one row per key that has a change, same columns; row order undefined.
    Source: Debezium 3.6 source blocks; the rule is in change/fold.py.
    """
    kept = _stale_exactly(changes, {}).where("op IS NOT NULL AND NOT stale")
    return _last(kept, exact=True).select(*changes.columns)


@dataclass(frozen=True)
class Folded:
    """A folded batch: `rows` has `key0` … `keyN`, `is_split` and the columns of CARRIED, one row per key."""

    rows: DataFrame
    facts: BatchFacts

    def release(self) -> None:
        """Free the memory that holds the rows."""
        java: Any = self.rows._jdf
        java.queryExecution().analyzed().rdd().unpersist(False)


def fold(
    changes: DataFrame,
    marks: Mapping[int, SourcePosition],
    partitions: Sequence[int],
    *,
    exact: bool = False,
) -> Folded:
    """Fold the changes of each key and count what passed; runs one job.

    In:  changes that the ledger does not have yet; its high-water marks; the partitions it knows.
    """
    marked = _stale_exactly(changes, marks) if exact else _stale(changes, marks)
    seen, left = Observation(), Observation()
    marked = marked.withColumn("was_applied", F.expr(_below(marks)))
    counted = marked.select(*CARRIED, "stale", "was_applied").observe(
        seen, *_passing_facts(partitions)
    )
    kept = counted.where("op IS NOT NULL AND NOT stale").drop("stale", "was_applied")
    rows = (
        _last(kept, exact=exact, with_split=len(partitions) > 1)
        .observe(left, *_remaining_facts())
        .localCheckpoint(eager=True)
    )
    return Folded(rows, _facts(seen.get, left.get, partitions))


def _last(changes: DataFrame, *, exact: bool, with_split: bool = False) -> DataFrame:
    names = changes.select("key.*").columns
    keys = [f"key.{quote(name)} AS {key_alias(i)}" for i, name in enumerate(names)]
    position = "CAST(NULL AS BIGINT)" if exact else f"CASE WHEN {IS_STREAM} THEN position.{{}} END"
    ordered = changes.selectExpr(
        "*", *keys, f"{position} AS order_hi".format("hi"), f"{position} AS order_lo".format("lo")
    )
    of_key = Window.partitionBy(*[F.expr(key_alias(i)) for i in range(len(names))])
    newest_first = of_key.orderBy(*[F.desc(name) for name in ORDER])
    # Only asked where keys could have moved: it keeps Spark from dropping old changes before the shuffle.
    split = F.min("partition").over(of_key) != F.max("partition").over(of_key)
    ordered = ordered.withColumn("is_split", split if with_split else F.lit(False))
    return ordered.withColumn("newest", F.row_number().over(newest_first)).where("newest = 1")


def _passing_facts(partitions: Sequence[int]) -> list[Column]:
    stream_position = f"CASE WHEN {IS_STREAM} THEN position END"
    return [
        F.count(F.lit(1)).alias("records"),
        F.count_if(F.expr("op IS NULL")).alias("tombstones"),
        F.count_if(F.expr("stale")).alias("redelivered"),
        F.count_if(F.expr("op = 'r'")).alias("reads"),
        F.max("partition").alias("highest_partition"),
        F.collect_set("schema_id").alias("schema_ids"),
        F.unix_millis(F.max("source_ts")).alias("newest_source_ts_ms"),
        # Only what an earlier batch applied: its time is in the ledger, that of this batch not yet.
        F.unix_millis(F.max(F.expr("IF(was_applied, source_ts, NULL)"))).alias(
            "newest_redelivered_ts_ms"
        ),
        *[
            F.max(F.expr(f"IF(partition = {p}, offset, NULL)")).alias(f"offset{p}")
            for p in partitions
        ],
        *[
            F.max(F.expr(f"IF(partition = {p}, {stream_position}, NULL)")).alias(f"mark{p}")
            for p in partitions
        ],
        *[
            F.expr(
                f"max_by({stream_position}, IF(partition = {p} AND {IS_STREAM}, offset, NULL))"
            ).alias(f"last{p}")
            for p in partitions
        ],
    ]


def _remaining_facts() -> list[Column]:
    return [
        F.count_if(F.expr("op <> 'd'")).alias("upserted_keys"),
        F.count_if(F.expr("op = 'd'")).alias("deleted_keys"),
        F.count_if(F.expr("is_split")).alias("split_keys"),
    ]


def _facts(seen: dict[str, Any], left: dict[str, Any], partitions: Sequence[int]) -> BatchFacts:
    marks = {p: seen[f"mark{p}"] for p in partitions if seen[f"mark{p}"] is not None}
    counts = ("records", "tombstones", "redelivered", "reads")
    return BatchFacts(
        **{name: seen[name] for name in counts},
        **{name: left[name] for name in ("upserted_keys", "deleted_keys", "split_keys")},
        ends_redelivered=any(seen[f"last{p}"] < mark for p, mark in marks.items()),
        highest_partition=seen["highest_partition"],
        next_offsets={
            p: seen[f"offset{p}"] + 1 for p in partitions if seen[f"offset{p}"] is not None
        },
        high_water={p: SourcePosition(mark["hi"], mark["lo"]) for p, mark in marks.items()},
        schema_ids=tuple(sorted(seen["schema_ids"])),
        newest_source_ts_ms=seen["newest_source_ts_ms"],
        newest_redelivered_ts_ms=seen["newest_redelivered_ts_ms"],
    )


def not_in(ledger: Ledger, changes: DataFrame) -> DataFrame:
    """Only the records that the ledger does not have yet; a replay leaves none."""
    offsets = {p: f"{o}L" for p, o in ledger.next_offsets.items() if o > 0}
    return (
        changes.where(f"offset >= coalesce({_by_partition(offsets)}, 0L)") if offsets else changes
    )


def require_applicable(changes: DataFrame) -> DataFrame:
    """Stop at changes that can't be applied: an unavailable value, a stream event without position."""
    unavailable = fault_sql("'unavailable'", _NO_BYTES, "array_join(unavailable, ', ')")
    no_position = fault_sql("'position'", _NO_BYTES)
    op = (
        f"CASE WHEN size(unavailable) > 0 THEN CAST({unavailable} AS STRING) "
        f"WHEN {IS_STREAM} AND (position.hi IS NULL OR position.lo IS NULL) THEN "
        f"CAST({no_position} AS STRING) ELSE op END"
    )
    return changes.withColumn("op", F.expr(op))


def _by_partition(values: Mapping[int, str]) -> str:
    """A value per partition, as a map: a constant map is handed to the generated code by reference.

    Written as CASE, the numbers would stand in the code itself, and every batch would be compiled anew.
    """
    partitions = ", ".join(str(p) for p in sorted(values))
    listed = ", ".join(values[p] for p in sorted(values))
    return f"element_at(map_from_arrays(array({partitions}), array({listed})), partition)"


def _mark_sql(marks: Mapping[int, SourcePosition]) -> str:
    if not marks:
        return "CAST(NULL AS STRUCT<hi: BIGINT, lo: BIGINT>)"
    return _by_partition(
        {p: f"named_struct('hi', {m.hi}L, 'lo', {m.lo}L)" for p, m in marks.items()}
    )


def _below(marks: Mapping[int, SourcePosition]) -> str:
    return f"coalesce({IS_STREAM} AND position < {_mark_sql(marks)}, false)"


def _stale(changes: DataFrame, marks: Mapping[int, SourcePosition]) -> DataFrame:
    return changes.withColumn("stale", F.expr(_below(marks)))


def _stale_exactly(changes: DataFrame, marks: Mapping[int, SourcePosition]) -> DataFrame:
    before = (
        Window.partitionBy("partition").orderBy("offset").rowsBetween(Window.unboundedPreceding, -1)
    )
    risen = F.max(F.expr(f"CASE WHEN {IS_STREAM} THEN position END")).over(before)
    mark = F.greatest(risen, F.expr(_mark_sql(marks)))
    below = F.expr(IS_STREAM) & (F.col("position") < mark)
    return changes.withColumn("stale", F.coalesce(below, F.lit(False)))
