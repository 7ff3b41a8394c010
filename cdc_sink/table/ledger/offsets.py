"""Offsets by partition; which of them a micro-batch reads, and whether they go on where the ledger ends.

Rules owned here:
- The range of a batch is what Spark's own offset log says, never what was seen in its records: a topic has
  offsets without a record (transaction markers, aborted transactions, what compaction removed).
- A batch may begin before the ledger's next offset: it is a replay, and the ledger drops what it has.
- A batch must not begin behind it: what lies between would be lost without a word.
- A partition that the ledger does not name begins at its first record, offset 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cdc_sink.errors import StateError

NOT_APPLIED = "the batch was not applied, its offsets were not committed"

# Of each partition one offset: the first that is not applied, or not read, or not there yet.
Offsets = Mapping[int, int]


def including(offsets: Offsets, partitions: Iterable[int]) -> dict[int, int]:
    """Name every partition: of those that came later nothing was applied yet."""
    return {p: offsets.get(p, 0) for p in sorted({*offsets, *partitions})}


def ahead_of(offsets: Offsets, others: Offsets) -> dict[int, int]:
    """Those that are greater than in `others`, by partition."""
    return {p: o for p, o in sorted(offsets.items()) if o > others.get(p, 0)}


def reaches(offsets: Offsets, ends: Offsets) -> bool:
    """Whether no end lies behind them."""
    return not ahead_of(ends, offsets)


def offsets_to_json(offsets: Offsets | None) -> dict[str, int] | None:
    """Render as JSON has them: by the partition's number as text; None stays None."""
    return None if offsets is None else {str(p): o for p, o in sorted(offsets.items())}


def offsets_from_json(seen: Mapping[str, int] | None) -> dict[int, int] | None:
    """Read what `offsets_to_json` made. Raises: ValueError for a partition that is no number."""
    return None if seen is None else {int(p): o for p, o in seen.items()}


@dataclass(frozen=True)
class OffsetRange:
    """What one micro-batch reads, by partition: the first offset, and the one behind the last."""

    first: Offsets
    end: Offsets

    def up_to(self, end: Offsets | None) -> OffsetRange:
        """The same, cut at an end that the whole query has; None for no such end."""
        if end is None:
            return self
        cut = {p: min(o, end.get(p, self.first.get(p, 0))) for p, o in self.end.items()}
        return OffsetRange(self.first, cut)


def parse_offsets(text: str) -> dict[int, int] | None:
    """Read the offsets by partition from the last line of a file of Spark's; None when there are none.

    Source: Spark 4.1, `{"topic":{"0":17}}`.
    """
    try:
        topics: dict[str, dict[str, int]] = json.loads(text.splitlines()[-1])
        return {int(p): o for offsets in topics.values() for p, o in offsets.items()}
    except (ValueError, IndexError, AttributeError, TypeError):
        return None


def require_continuous(batch: OffsetRange, next_offsets: Offsets, where: str) -> None:
    """Refuse a batch that begins behind the ledger's next offset.

    Raises: StateError.
    """
    gap = ahead_of(batch.first, next_offsets)
    if gap:
        raise gap_error(gap, next_offsets, where, "the batch begins")


def gap_error(begins: Offsets, next_offsets: Offsets, where: str, saw: str) -> StateError:
    """Reading would go on behind what the table holds; `begins` names the partitions where it would."""
    partition, offset = next(iter(begins.items()))
    return StateError(
        where,
        f"{saw} at offset {offset} of partition {partition}, the table's ledger ends at "
        f"{next_offsets.get(partition, 0)}: the table was rolled back or restored",
        data=NOT_APPLIED,
        remedy="start once with `cdc-sink run --take-over`: reading goes on at the ledger's offsets, and the "
        "old checkpoint is moved aside",
    )
