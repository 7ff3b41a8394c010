"""Changes of keys that may have moved to another partition: see table/moving.py for the rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cdc_sink.change.position import SourcePosition
from cdc_sink.table.moving import MOST_DELETES

# A digest, since the ledger holds no cell values.
DIGEST = "md5(CAST(to_json(key) AS BINARY))"


@dataclass(frozen=True)
class TopicNow:
    """What a batch's writer knows of the topic besides the records."""

    partitions: int
    key_schema_ids: tuple[int, ...]
    ends: Callable[[], Mapping[int, int]]
    log: str | None = None
    fingerprints: Mapping[int, str] = field(default_factory=dict)


def mark_outdated(changes: DataFrame, deleted: Mapping[str, SourcePosition]) -> DataFrame:
    """Add `outdated`: true for a change that lies before a delete of its key that was applied already."""
    if not deleted:
        return changes
    # As a constant that the JVM reads: rows made by createDataFrame would need Python on the executors.
    rows = json.dumps([{"digest": d, "d_hi": p.hi, "d_lo": p.lo} for d, p in deleted.items()])
    shape = "array<struct<digest: string, d_hi: bigint, d_lo: bigint>>"
    deletes = changes.sparkSession.range(1).select(F.inline(F.from_json(F.lit(rows), shape)))
    digested = changes.withColumn("digest", F.expr(DIGEST))
    is_older = F.expr("coalesce(position < named_struct('hi', d_hi, 'lo', d_lo), false)")
    return (
        digested.join(F.broadcast(deletes), "digest", "left")
        .withColumn("outdated", is_older)
        .drop("digest", "d_hi", "d_lo")
    )


def deletes_of(rows: DataFrame) -> dict[str, SourcePosition]:
    """Digest and place of the deletes among folded rows; at most one more than can be remembered."""
    found = rows.where("op = 'd' AND position IS NOT NULL").selectExpr(
        f"{DIGEST} AS digest", "position.hi AS hi", "position.lo AS lo"
    )
    listed = found.limit(MOST_DELETES + 1).collect()
    return {row["digest"]: SourcePosition(row["hi"], row["lo"]) for row in listed}
