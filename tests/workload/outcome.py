"""What came of a run: each table equal, or stopped by name; anything else is a finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cdc_sink.observe.status import TableFacts
from cdc_sink.verification.verify import Verification
from tests.workload.stops import Stop

SETTLE_LIMIT_S = 480.0  # ten times what two quiet cores need


@dataclass(frozen=True)
class HandsTold:
    """What other hands did: how often each was drawn and refused, and every stop that followed.

    `letters`: how many dead letters wait, by table; `rebuilt`: names of the tables that a backfill made, by
    the name of the stopped one; `failures`: of the connector.
    """

    drawn: Mapping[str, int]
    refused: Mapping[str, int]
    stops: tuple[Stop, ...]
    failures: tuple[str, ...]
    letters: Mapping[str, int]
    rebuilt: Mapping[str, str]

    def names(self, table: str) -> bool:
        """Say whether a table is stopped by name, or its waiting letters say what it lacks."""
        is_open = any(one.table == table and one.is_open for one in self.stops)
        return is_open or table in self.letters

    def lines(self) -> Iterator[str]:
        """Tell all of it."""
        for kind in sorted({*self.drawn, *self.refused}):
            refused = self.refused.get(kind, 0)
            yield f"hand {kind}: {self.drawn.get(kind, 0)} drawn, {refused} refused"
        for stop in self.stops:
            end = "STAYS STOPPED" if stop.is_open else stop.command
            yield f"stop{' UNKNOWN' * stop.is_unknown}: {stop.sentence}\n  -> {end}"
        yield from (f"{failure}: restarted" for failure in self.failures)
        yield from (f"{table}: {count} dead letters wait" for table, count in self.letters.items())
        yield from (f"{old}: rebuilt as {new}" for old, new in self.rebuilt.items())


@dataclass(frozen=True)
class Outcome:
    """What came of it: a comparison per table, and what stopped a table or the connector."""

    verifications: tuple[Verification, ...]
    stops: tuple[str, ...]
    hands: HandsTold | None = None

    @property
    def is_equal(self) -> bool:
        """Whether every table equals its source, and nothing stopped."""
        return not self.stops and all(one.equal for one in self.verifications)

    @property
    def is_fine(self) -> bool:
        """Whether nothing is a finding: with other hands, a table may stop by name."""
        if self.hands is None or self.stops:
            return self.is_equal
        known = not any(one.is_unknown for one in self.hands.stops)
        return known and all(one.equal or self.hands.names(one.table) for one in self.verifications)


def is_applied(facts: TableFacts) -> bool:
    """Say whether a table has all of its topic."""
    if facts.ledger is None:
        return not any((facts.end_offsets or {}).values())
    return dict(facts.ledger.next_offsets) == facts.end_offsets
