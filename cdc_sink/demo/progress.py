"""What one look at the demo's tables saw."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableProgress:
    """How one table is doing. Units: row changes kept by the source, records, seconds."""

    table: str
    sent: int
    state: str
    lag_records: int | None
    freshness_s: float | None


@dataclass(frozen=True)
class Progress:
    """One look at all tables."""

    doing: str
    elapsed_s: float
    tables: tuple[TableProgress, ...]

    @property
    def sent(self) -> int:
        """Row changes of all tables."""
        return sum(table.sent for table in self.tables)

    @property
    def lag_records(self) -> int:
        """Records that wait, as far as known."""
        return sum(table.lag_records or 0 for table in self.tables)

    @property
    def is_still(self) -> bool:
        """True when nothing waits anywhere; an unknown lag isn't 0."""
        return all(table.lag_records == 0 for table in self.tables)
