"""What a complete source snapshot says of the stored rows that it does not name.

Rules owned here:
- The rows of one run of a snapshot share a position: the one of the log when the run began. A later run has a
  greater one, unless nothing was committed in between, and then it names the same rows. PostgreSQL's first
  number, the last commit, is 0 in a run that begins a slot: then the second one compares before it. An ad-hoc
  snapshot of the task that made the slot has the slot's second number once more.
- A run is complete when its last row of this table was read (`last`, `last_in_data_collection`); it is whole
  here when every partition is applied up to where it ended by then.
- Behind an interrupted run no stream event was sent: what is left of it, and what was not read again, was
  deleted in between. These rows have op `r` and a smaller position, so no other row can be meant.
- Behind anything else stand rows that the stream keeps, and the run may have been filtered
  (`snapshot.select.statement.overrides`, an ad-hoc snapshot with a condition): nothing in the topic tells. So
  the operator says which it was.
- In a partition that has no row of the run, offsets tell nothing: there, only older snapshot rows are taken
  for left over.
- Incremental snapshots are no runs: their rows have their place among the stream's.

Source: Debezium 3.6 `SnapshotRecord`, `PostgresSnapshotChangeEventSource`, `BinlogSnapshotChangeEventSource`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import StateError
from cdc_sink.table.ledger.offsets import Offsets, offsets_from_json, offsets_to_json, reaches

Policy = Literal["delete", "keep", "stop"]
# Debezium's words for rows of a run, and for the last one of a table.
OF_RUN = ("true", "first", "first_in_data_collection", "last_in_data_collection", "last")
ENDS_RUN = ("last_in_data_collection", "last")


class Over(StrEnum):
    """What the table held when a run began."""

    NOTHING = "nothing"
    INTERRUPTED = "interrupted"
    ESTABLISHED = "established"


class Outcome(StrEnum):
    """What became of the rows that a whole run does not name."""

    NONE = "none"
    DELETED = "deleted"
    KEPT = "kept"


@dataclass(frozen=True)
class Reads:
    """The snapshot rows of a batch: the newest run, its first offsets, and the smallest position of any.

    `ends`: the smallest and the greatest position that a run ended at; `least_stream`: of the stream events.
    """

    position: SourcePosition
    first: Offsets
    least: SourcePosition
    ends: tuple[SourcePosition, SourcePosition] | None = None
    least_stream: SourcePosition | None = None


@dataclass(frozen=True)
class Run:
    """The newest run of a source snapshot, as the ledger knows it.

    `first`: by partition the offset of its first row; `ends`: of all partitions, those at which it was over.
    `is_torn`: records of it went to the dead letters.
    """

    position: SourcePosition
    first: Offsets
    over: Over
    ends: Offsets | None = None
    is_torn: bool = False
    outcome: Outcome | None = None
    rows: int = 0

    def is_due(self, next_offsets: Offsets) -> bool:
        """Whole, and nothing was decided over what it does not name."""
        if self.ends is None or self.outcome is not None:
            return False
        return reaches(next_offsets, self.ends)

    def to_json(self) -> dict[str, Any]:
        """Render as part of the ledger."""
        return {
            "position": [self.position.hi, self.position.lo],
            "first": offsets_to_json(self.first),
            "over": self.over.value,
            "ends": offsets_to_json(self.ends),
            "is_torn": self.is_torn,
            "outcome": self.outcome and self.outcome.value,
            "rows": self.rows,
        }

    @classmethod
    def from_json(cls, seen: Mapping[str, Any] | None) -> Run | None:
        """Read what `to_json` made."""
        if seen is None:
            return None
        return cls(
            position=SourcePosition(*seen["position"]),
            first=offsets_from_json(seen["first"]) or {},
            over=Over(seen["over"]),
            ends=offsets_from_json(seen["ends"]),
            is_torn=seen["is_torn"],
            outcome=seen["outcome"] and Outcome(seen["outcome"]),
            rows=seen["rows"],
        )


@dataclass(frozen=True)
class Before:
    """What a table had before a batch: its newest run, rows of any kind, and changes of the stream."""

    run: Run | None = None
    has_rows: bool = False
    has_stream: bool = False


def is_earlier(one: SourcePosition, other: SourcePosition) -> bool:
    """Does a run, or a change, at one position lie before a run at the other one?"""
    if one.hi == 0 or other.hi == 0:
        return (one.lo, one.hi) < (other.lo, other.hi)
    return one < other


def next_run(
    before: Before, reads: Reads | None, *, has_letters: bool, ends: Callable[[], Offsets]
) -> Run | None:
    """The newest run after a batch.

    In:  has_letters, some of the batch went to the dead letters; `ends` is asked only when a run is complete.
    """
    run = before.run
    if reads is not None and (run is None or is_earlier(run.position, reads.position)):
        run = Run(reads.position, {}, _over(before, reads))
    if run is None or run.outcome is not None:
        return run
    if reads is not None and reads.position == run.position:
        run = replace(run, first={**reads.first, **run.first})
        if run.ends is None and reads.ends is not None and reads.ends[1] == run.position:
            run = replace(run, ends=dict(ends()))
    run = replace(run, is_torn=run.is_torn or has_letters)
    if run.ends is not None and run.over is Over.NOTHING:
        return replace(run, outcome=Outcome.NONE)
    return run


def _over(before: Before, reads: Reads) -> Over:
    ended = before.run is not None and before.run.ends is not None
    ended = ended or (reads.ends is not None and is_earlier(reads.ends[0], reads.position))
    stream = reads.least_stream
    streamed = before.has_stream or (stream is not None and is_earlier(stream, reads.position))
    if ended or streamed:
        return Over.ESTABLISHED
    if before.has_rows or is_earlier(reads.least, reads.position):
        return Over.INTERRUPTED
    return Over.NOTHING


def judge(run: Run, rows: int, policy: Policy, where: str) -> Run:
    """The run with what becomes of so many rows that it does not name.

    Raises: StateError where that is for the operator to say.
    """
    if rows == 0:
        return replace(run, outcome=Outcome.NONE)
    if policy == "keep" or (run.is_torn and policy == "delete"):
        return replace(run, outcome=Outcome.KEPT, rows=rows)
    if not run.is_torn and (policy == "delete" or run.over is Over.INTERRUPTED):
        return replace(run, outcome=Outcome.DELETED, rows=rows)
    raise StateError(
        where,
        f"a new source snapshot is complete, and {rows} rows of the table are not in it: they were deleted "
        "at the source and the stream did not say so, or the snapshot was of a part of the rows",
        data="they are in the table still; all that came before is applied",
        remedy="set `on_resnapshot` of this table and start `cdc-sink run` again: `delete` if the snapshot "
        "was of the whole table, `keep` if it was not; `cdc-sink verify` names the rows",
    )
