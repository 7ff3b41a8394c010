"""What a history left, whatever it was: each promise about table snapshots, asked of all of them.

Every table snapshot that no look has seen yet is read at the next one. So no order of tests hides any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cdc_sink.clients.catalog import load_table
from cdc_sink.config import Pipeline
from cdc_sink.table.dead_letter import NAMED_BY
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.ledger.offsets import Offsets
from tests.chaos.every_snapshot import EverySnapshot, Seen
from tests.chaos.shop import KEYS

KINDS = ("applied", "redelivered", "tombstones", "dead_letters")
OTHERS = {"replayed", "left_over"}  # a replay of letters, rows that a source snapshot did not name


@dataclass
class Left:
    """All table snapshots of all tables and of the dead letters, as far as they were looked at."""

    tables: dict[str, EverySnapshot] = field(default_factory=dict)
    letters: EverySnapshot = field(default_factory=lambda: EverySnapshot(NAMED_BY))

    def look(self, pipeline: Pipeline) -> None:
        """Look at what is new."""
        for table in pipeline.tables:
            loaded = load_table(pipeline.catalog, table.name)
            if loaded is not None:
                fresh = EverySnapshot(KEYS[table.table_name])
                self.tables.setdefault(table.name, fresh).look(loaded)
        letters = load_table(pipeline.catalog, pipeline.dead_letters)
        if letters is not None:
            self.letters.look(letters)

    @property
    def snapshots(self) -> int:
        """How many table snapshots were looked at."""
        return sum(len(table.seen) for table in self.tables.values())

    def keys_twice(self) -> list[str]:
        """Table snapshots that have a key twice."""
        return [
            f"{name}: table snapshot {seen.snapshot_id} has {seen.duplicates} keys twice"
            for name, table in self.tables.items()
            for seen in table.seen.values()
            if seen.duplicates
        ]

    def letters_twice(self) -> list[str]:
        """Table snapshots of the dead letters that have a letter twice."""
        return [
            f"dead letters: table snapshot {seen.snapshot_id} has {seen.duplicates} letters twice"
            for seen in self.letters.seen.values()
            if seen.duplicates
        ]

    def gone_back(self) -> list[str]:
        """Table snapshots whose ledger is behind that of the one before, or missing."""
        return [
            f"{name}: the ledger went from {seen.parent_ledger} to {seen.ledger}, {seen.snapshot_id}"
            for name, table in self.tables.items()
            for seen in table.seen.values()
            if seen.ledger is None or not _is_forward(seen.parent_ledger, seen.ledger)
        ]

    def uncounted(self, ends: Mapping[str, Offsets]) -> list[str]:
        """What speaks against: each record up to these ends is in exactly one table commit."""
        found = []
        for name, table in self.tables.items():
            records = 0
            for seen in table.seen.values():
                more = _records(seen)
                records += more or 0
                if more is None or not (seen.ledger and seen.ledger.totals.records == records):
                    found.append(f"{name}: {records} records up to {seen}")
            if name in ends and records != sum(ends[name].values()):
                found.append(f"{name}: {records} records in table commits of {ends[name]}")
        return found

    def wrong(self, ends: Mapping[str, Offsets]) -> list[str]:
        """What speaks against any of these promises; `ends` of the tables that are level."""
        promises = (self.keys_twice(), self.letters_twice(), self.gone_back())
        return [*(one for promise in promises for one in promise), *self.uncounted(ends)]


def _is_forward(before: Ledger | None, after: Ledger) -> bool:
    if before is None:
        return True
    offsets = all(after.next_offsets[p] >= o for p, o in before.next_offsets.items())
    return offsets and all(after.high_water[p] >= m for p, m in before.high_water.items())


def _records(seen: Seen) -> int | None:
    """The records that came with a table snapshot; None where its parts and its ledgers differ in that."""
    if seen.batch is None:
        return 0  # the opening of the ledger
    if seen.ledger is None or seen.parent_ledger is None:
        return None
    moved = sum(seen.ledger.next_offsets.values()) - sum(seen.parent_ledger.next_offsets.values())
    if "records" not in seen.batch:
        return 0 if moved == 0 and seen.batch.keys() & OTHERS else None
    records = int(seen.batch["records"])
    parts = sum(seen.batch[kind] for kind in KINDS)
    return records if records == parts == moved else None
