"""Which driver runs the query of a checkpoint, and how it is doing: one small JSON file beside it.

Written by the driver, read by the next driver before it starts and by `cdc-sink status`. A lease is numbered:
a driver that takes over the free lease N makes the claim N + 1 first, a file that must not exist yet, so that
of two drivers that find it free at one moment one gets it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum, StrEnum

# A driver renews its lease every quarter of this; after it, one on another host may be taken for gone.
LEASE_S = 60


class QueryState(StrEnum):
    """What the query of a table does. A table that is parked needs somebody; nothing more happens to it."""

    RUNNING = "running"
    WAITING = "waiting"
    BACKING_OFF = "backing_off"
    PARKED = "parked"
    STOPPED = "stopped"

    @property
    def is_over(self) -> bool:
        """Nothing more will happen by itself."""
        return self in (QueryState.PARKED, QueryState.STOPPED)


class LeaseState(Enum):
    """What a lease says about starting a query."""

    FREE = "free"
    HELD = "held"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Lease:
    """What a driver says about one table's query; renewed while the driver lives."""

    host: str
    pid: int
    started: str
    renewed_at_ms: int
    state: QueryState
    error: str | None = None
    take: int = 0  # counts the drivers that took it over

    @classmethod
    def from_json(cls, text: str) -> Lease | None:
        """Read a lease; None when it is cut off, as it is while being written."""
        try:
            seen = json.loads(text)
            return cls(
                host=str(seen["host"]),
                pid=int(seen["pid"]),
                started=str(seen["started"]),
                renewed_at_ms=int(seen["renewed_at_ms"]),
                state=QueryState(seen["state"]),
                error=None if seen.get("error") is None else str(seen["error"]),
                take=int(seen.get("take", 0)),
            )
        except (ValueError, KeyError, TypeError):
            return None

    def to_json(self) -> str:
        """Render for the file."""
        return json.dumps(asdict(self))

    def is_fresh(self, now_ms: int) -> bool:
        """Renewed recently enough to be believed."""
        return now_ms - self.renewed_at_ms <= LEASE_S * 1000

    def is_of(self, me: Lease) -> bool:
        """Written by the process that writes `me`."""
        return (self.host, self.pid, self.started) == (me.host, me.pid, me.started)

    def judge(self, me: Lease, *, is_alive: bool) -> LeaseState:
        """May `me` take over? On one host the process table tells, else only time does."""
        if self.is_of(me) or self.state is QueryState.STOPPED:
            return LeaseState.FREE
        if self.host == me.host:
            return LeaseState.HELD if is_alive else LeaseState.FREE
        return LeaseState.UNSURE if self.is_fresh(me.renewed_at_ms) else LeaseState.FREE
