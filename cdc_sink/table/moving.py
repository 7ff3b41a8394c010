"""While keys may change their partition: what must be known until Kafka order is the order again.

A key moves when the topic gets more partitions, and when the bytes of its key change with the key's schema
(Kafka hashes the bytes). From then on its newer changes lie in another partition than its older ones, and a
batch may bring the newer ones first. So for a while changes are compared by source position: with each other,
with the stored row (guard.py), and with what was deleted meanwhile, which has no row any more.

Rules owned here:
- It begins with the first batch after the topic has grown, even before a record lies in a new partition: a
  key may also move between two old ones. A connector that was not told yet goes on as before; the first
  record in a new partition proves that it was.
- It begins with the first batch that holds a key of another schema.
- It ends when all partitions are applied up to the ends they had at a moment when the connector surely knew:
  whatever lies behind them was sent after all older changes of its key.
- The deletes of that time are remembered by a digest of the key. Too many of them stop the table.

Source: Kafka's default partitioner hashes key bytes; a source task has one producer per topic (Kafka 4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cdc_sink.change.position import SourcePosition
from cdc_sink.errors import StateError

MOST_DELETES = 20_000  # 60 bytes each, in the summary of every table snapshot until it is over

Offsets = Mapping[int, int]


@dataclass(frozen=True)
class Moving:
    """Keys may have moved.

    `grown_from` is the number of partitions before the topic grew, `until` the offsets that end it: None as
    long as the connector may not know of the new partitions. `deleted`: digest of a key → its delete's place.
    """

    grown_from: int
    until: Offsets | None = None
    deleted: Mapping[str, SourcePosition] = field(default_factory=dict)

    def with_deletes(self, deleted: Mapping[str, SourcePosition], where: str) -> Moving:
        """The same with more deletes.

        Raises: StateError when they are too many to be remembered.
        """
        merged = dict(self.deleted)
        for digest, position in deleted.items():
            merged[digest] = max(position, merged.get(digest, position))
        if len(merged) > MOST_DELETES:
            raise StateError(
                where,
                f"keys are changing their partition, and more than {MOST_DELETES:,} rows were deleted "
                "meanwhile: which of two changes in two partitions is newer can't be told any more",
                data="the batch was not applied, its offsets were not committed",
                remedy="rebuild the table with `cdc-sink backfill` into a new target",
            )
        return replace(self, deleted=merged)

    def to_json(self) -> dict[str, Any]:
        """Render as part of the ledger."""
        until = None if self.until is None else {str(p): o for p, o in self.until.items()}
        deleted = {digest: [p.hi, p.lo] for digest, p in self.deleted.items()}
        return {"grown_from": self.grown_from, "until": until, "deleted": deleted}

    @classmethod
    def from_json(cls, seen: Mapping[str, Any]) -> Moving:
        """Read what `to_json` wrote."""
        until = seen["until"]
        return cls(
            seen["grown_from"],
            None if until is None else {int(p): o for p, o in until.items()},
            {digest: SourcePosition(*p) for digest, p in seen["deleted"].items()},
        )


def next_moving(
    moving: Moving | None,
    next_offsets: Offsets,
    *,
    partitions: int,
    has_new_key_schema: bool,
    ends: Callable[[], Offsets],
) -> Moving | None:
    """Say whether keys may be moving, at the begin of a batch.

    In:  `next_offsets` of the ledger; how many partitions the topic has now; `ends`, asked only when needed:
         the topic's end offsets now.
    """
    if partitions > len(next_offsets):
        deleted = moving.deleted if moving else {}
        return Moving(len(next_offsets), None, deleted)
    if has_new_key_schema:
        grown_from = moving.grown_from if moving else partitions
        deleted = moving.deleted if moving else {}
        waits = moving is not None and moving.until is None
        return Moving(grown_from, None if waits else ends(), deleted)
    if moving is None:
        return None
    if moving.until is None:
        new = range(moving.grown_from, partitions)
        return replace(moving, until=ends()) if any(next_offsets[p] for p in new) else moving
    is_over = all(next_offsets.get(p, 0) >= o for p, o in moving.until.items())
    return None if is_over else moving


def with_partitions(next_offsets: Offsets, partitions: Iterable[int]) -> dict[int, int]:
    """Name every partition: of those that came later nothing was applied yet."""
    return {p: next_offsets.get(p, 0) for p in sorted({*next_offsets, *partitions})}
