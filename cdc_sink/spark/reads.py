"""What is observed of snapshot rows while a batch is folded; the rule is in table/resnapshot.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from cdc_sink.change.position import SourcePosition
from cdc_sink.change.quoting import literal
from cdc_sink.table.resnapshot import ENDS_RUN, OF_RUN, Reads

READ_AT = f"IF(op = 'r' AND snapshot IN ({', '.join(map(literal, OF_RUN))}), position, NULL)"
_ENDED_AT = f"IF(snapshot IN ({', '.join(map(literal, ENDS_RUN))}), read_at, NULL)"


def passing_reads(partitions: Sequence[int]) -> list[Column]:
    """What to observe of snapshot rows; changes have `read_at`, their run's position."""
    # The greatest of position and negated offset is the newest run, and its first row.
    begins = "struct(read_at.hi AS hi, read_at.lo AS lo, -offset AS before)"
    return [
        F.min("read_at").alias("least_run"),
        F.min(F.expr(_ENDED_AT)).alias("least_end"),
        F.max(F.expr(_ENDED_AT)).alias("greatest_end"),
        F.min(F.expr("IF(op <> 'r' AND aside IS NULL, position, NULL)")).alias("least_stream"),
        *[
            F.max(F.expr(f"IF(partition = {p} AND read_at IS NOT NULL, {begins}, NULL)")).alias(
                f"run{p}"
            )
            for p in partitions
        ],
    ]


def reads_of(seen: Mapping[str, Any], partitions: Sequence[int]) -> Reads | None:
    """What was observed of them; None when there were none."""
    begins = {p: seen[f"run{p}"] for p in partitions if seen[f"run{p}"] is not None}
    least = _position(seen["least_run"])
    if not begins or least is None:
        return None
    newest = max(SourcePosition(one["hi"], one["lo"]) for one in begins.values())
    first = {
        p: -one["before"]
        for p, one in begins.items()
        if SourcePosition(one["hi"], one["lo"]) == newest
    }
    low, high = _position(seen["least_end"]), _position(seen["greatest_end"])
    ends = (low, high) if low is not None and high is not None else None
    return Reads(newest, first, least, ends, _position(seen["least_stream"]))


def _position(row: Any) -> SourcePosition | None:
    return None if row is None else SourcePosition(row["hi"], row["lo"])
