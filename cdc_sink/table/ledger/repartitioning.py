"""While keys may change their partition: what must be known until Kafka order is the order again.

A key moves when the topic gets more partitions, and when the bytes of its key change with the key's schema
(Kafka hashes the bytes). From then on its newer changes lie in another partition than its older ones, and a
batch may bring the newer ones first. So for a while changes are compared by source position: with each other,
with the stored row (newer_row.py), and with what was deleted meanwhile, which has no row any more.

Rules owned here:
- It begins with the first batch after the topic has grown, even before a record lies in a new partition: a
  key may also move between two old ones. A connector that was not told yet goes on as before; the first
  record in a new partition proves that it was.
- It begins with the first batch that holds a key of another schema.
- It begins with a table's first batch where the topic's oldest records tell that it grew before: they lie
  where a smaller number of partitions put them. A record in the last partition proves that the connector was
  told.
- It ends when every partition is applied up to a recorded end offset. The end offsets are taken once the
  connector is known to use the new partitions. So any later record was sent after all older changes of its
  key. Of a table of many sources, each connector must be known to use them.
- The deletes of that time are remembered in a small table beside the target; see
  spark/fold/repartitioned_keys.py. The ledger names it: without it, or with another in its place, the
  table stops.
- A value that the connector left out is the one of the change before. That change may still wait in another
  partition. Where keys move once, a change before in the same partition is the last one before; else nothing
  tells. So where keys move once, every record lies by today's number of partitions or by the one before.

Source: Kafka's default partitioner hashes key bytes; a source task has one producer per topic (Kafka 4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cdc_sink.errors import StateError
from cdc_sink.table.ledger.offsets import (
    NOT_APPLIED,
    Offsets,
    offsets_from_json,
    offsets_to_json,
    reaches,
)

IN_LEDGER = "ledger"


@dataclass(frozen=True)
class Moving:
    """Keys may have moved.

    `grown_from` is the number of partitions before the topic grew, `until` the offsets that end it: None as
    long as the connector may not know of the new partitions. `once`: no key moves a second time meanwhile.
    `deletes`: identity of the table that remembers what was deleted meanwhile; None while nothing was.
    `placed_by`: the number of partitions that older records lie by; None where keys move more than once.
    """

    grown_from: int
    until: Offsets | None = None
    once: bool = True
    deletes: str | None = None
    placed_by: int | None = None

    def require_deletes(self, found: str | None, where: str) -> None:
        """Refuse to go on without what was deleted meanwhile: older changes would bring rows back.

        In:     `found`, the identity of the table that remembers it, as it is now; None where there is none.
        Raises: StateError.
        """
        if self.deletes is not None and self.deletes != found:
            raise StateError(
                where,
                "what was deleted while keys moved is not remembered any more: the table of these deletes "
                "was dropped or made anew, or this table was set back to a time when keys moved",
                data=NOT_APPLIED,
                remedy="rebuild the table with `cdc-sink backfill` into a new target",
            )

    def is_over(self, next_offsets: Offsets) -> bool:
        """Say whether all older changes are applied. In: `next_offsets` of the ledger."""
        if self.until is None:
            return False
        return reaches(next_offsets, self.until)

    def to_json(self) -> dict[str, Any]:
        """Render as part of the ledger."""
        return {
            "grown_from": self.grown_from,
            "until": offsets_to_json(self.until),
            "once": self.once,
            "deletes": self.deletes,
            "placed_by": self.placed_by,
        }

    @classmethod
    def from_json(cls, seen: Mapping[str, Any]) -> Moving:
        """Read what `to_json` wrote."""
        return cls(
            seen["grown_from"],
            offsets_from_json(seen["until"]),
            seen.get("once", False),
            # Once they were in the ledger itself: no table has them.
            IN_LEDGER if seen.get("deleted") else seen.get("deletes"),
            seen.get("placed_by"),
        )


def grown_before(partitions: int, counts: tuple[int, ...]) -> Moving | None:
    """Whether keys may be moving when a table is begun.

    In: the smaller partition counts that explain the topic's oldest records; none where today's does.
    """
    if not counts:
        return None
    is_once = len(counts) == 1
    return Moving(partitions - 1, once=is_once, placed_by=counts[0] if is_once else None)


def next_moving(
    moving: Moving | None,
    next_offsets: Offsets,
    *,
    partitions: int,
    has_new_key_schema: bool,
    ends: Callable[[], Offsets],
    is_met: Callable[[range], bool],
) -> Moving | None:
    """Say whether keys may be moving, at the begin of a batch.

    In:  `next_offsets` of the ledger; how many partitions the topic has now; `ends`, asked only when needed:
         the topic's end offsets now; `is_met`, whether each connector wrote to one of these partitions.
    """
    if partitions > len(next_offsets):
        grown_from = len(next_offsets)
        if moving is None:
            return Moving(grown_from, placed_by=grown_from)
        return Moving(grown_from, once=False, deletes=moving.deletes)
    if has_new_key_schema:
        if moving is None:
            return Moving(partitions, ends(), placed_by=partitions)
        until = None if moving.until is None else ends()
        return Moving(moving.grown_from, until, once=False, deletes=moving.deletes)
    if moving is None:
        return None
    if moving.until is None:
        new = range(moving.grown_from, partitions)
        return replace(moving, until=ends()) if is_met(new) else moving
    return None if moving.is_over(next_offsets) else moving
