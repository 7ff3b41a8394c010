"""Which part of a topic a query reads: the whole of it from the ledger on, or a span that ends."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame

from cdc_sink.table.ledger.offsets import Offsets, reaches


@dataclass(frozen=True)
class Span:
    """Which offsets a query reads, by partition; None means from the ledger or earliest, and no end."""

    first: Offsets | None = None
    end: Offsets | None = None

    def cut(self, records: DataFrame) -> DataFrame:
        """Leave out what lies at or behind the end."""
        if self.end is None:
            return records
        below = " OR ".join(f"(partition = {p} AND offset < {o})" for p, o in self.end.items())
        return records.where(below or "false")

    def within(self, offsets: Offsets) -> dict[int, int]:
        """Offsets, none of them behind the end; partitions that came later are left out."""
        end = self.end
        if end is None:
            return dict(offsets)
        return {p: min(o, end[p]) for p, o in offsets.items() if p in end}

    def is_reached(self, offsets: Offsets) -> bool:
        """All that was to be read lies below these offsets."""
        return self.end is not None and reaches(offsets, self.end)
