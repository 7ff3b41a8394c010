"""What is observed of snapshot rows while a batch is folded.

The rule is in table/ledger/source_snapshot.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cdc_sink.debezium.position import SourcePosition
from cdc_sink.sql import literal
from cdc_sink.table.ledger.source_snapshot import ENDS_RUN, OF_RUN, Reads

# The position of its run, for a row of a whole source snapshot; null for all else.
READ_AT = f"IF(op = 'r' AND snapshot IN ({', '.join(map(literal, OF_RUN))}), position, NULL)"
_ENDED_AT = f"IF(snapshot IN ({', '.join(map(literal, ENDS_RUN))}), {READ_AT}, NULL)"


def passing_reads(partitions: Sequence[int]) -> dict[str, str]:
    """What to observe of snapshot rows, as SQL by name."""
    # The greatest of position and negated offset is the newest run, and its first row.
    begins = "struct(position.hi AS hi, position.lo AS lo, -offset AS before)"
    return {
        "least_run": f"min({READ_AT})",
        "least_end": f"min({_ENDED_AT})",
        "greatest_end": f"max({_ENDED_AT})",
        "least_stream": "min(IF(op <> 'r' AND aside IS NULL, position, NULL))",
        **{
            f"run{p}": f"max(IF(partition = {p} AND {READ_AT} IS NOT NULL, {begins}, NULL))"
            for p in partitions
        },
    }


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
