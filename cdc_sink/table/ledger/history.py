"""Which ledger holds for a table: the newest in the history of its snapshots, or the copy in its properties.

Rules owned here:
- The ledger is in the summary of every table snapshot that the pipeline writes. Walking from the head, the
  first one found holds: after a rollback it is the ledger of the state that the table went back to.
- Other programs may write snapshots behind it. Those that only rearrange files (`replace`: compaction) change
  no row. Any other one changed rows that the ledger does not know of, and is named.
- Expiry may take every snapshot with a ledger: then the copy in the table's properties holds, which no expiry
  reaches, nor a catalog that keeps one snapshot. It holds only if all that is left of the history was written
  after it, and changed no row. Else the table went back to a state that nobody knows.

Source: Iceberg spec 1.12, snapshots: `operation`, `sequence-number`, `changed-partition-count`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cdc_sink.errors import StateError
from cdc_sink.table.ledger.ledger import LEDGER_KEY, Ledger


@dataclass(frozen=True)
class TableSnapshot:
    """What one snapshot of a table says of itself."""

    snapshot_id: int
    parent_id: int | None
    sequence: int
    operation: str
    summary: Mapping[str, str]

    @property
    def changed_rows(self) -> bool:
        """Rows may differ from those of the snapshot before."""
        return self.operation != "replace" and self.summary.get("changed-partition-count") != "0"


@dataclass(frozen=True)
class LedgerCopy:
    """The ledger as the table's properties hold it, and the snapshot that it is of."""

    snapshot_id: int
    sequence: int
    ledger: str

    def to_json(self) -> str:
        """Render as the value of the table property `cdc-sink.ledger`."""
        return json.dumps(
            {"snapshot_id": self.snapshot_id, "sequence": self.sequence, "ledger": self.ledger},
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> LedgerCopy:
        """Read what `to_json` wrote. Raises: StateError."""
        try:
            seen = json.loads(text)
            return cls(int(seen["snapshot_id"]), int(seen["sequence"]), str(seen["ledger"]))
        except (ValueError, KeyError, TypeError) as cause:
            raise StateError(
                where,
                f"the table property '{LEDGER_KEY}' can't be read",
                remedy=f"find out which program wrote it, and remove it with ALTER TABLE … UNSET "
                f"TBLPROPERTIES ('{LEDGER_KEY}'): the table's snapshots have the ledger, too",
            ) from cause


@dataclass(frozen=True)
class FoundLedger:
    """A table's ledger, the snapshot it is of, and whether the table's properties have it as well.

    `foreign`: the oldest snapshot behind it that another program wrote and that changed rows.
    """

    ledger: Ledger
    snapshot_id: int
    sequence: int
    is_copied: bool
    foreign: TableSnapshot | None = None

    @property
    def copy(self) -> LedgerCopy:
        """The ledger as the table's properties should hold it."""
        return LedgerCopy(self.snapshot_id, self.sequence, self.ledger.to_json())

    def require_own(self, where: str, identifier: str) -> None:
        """Refuse a table whose rows another program changed.

        Raises: StateError that names the snapshot.
        """
        if self.foreign is None:
            return
        one = self.foreign
        raise StateError(
            where,
            f"another program changed rows of the table: table snapshot {one.snapshot_id} "
            f"({one.operation}), written after the pipeline's {self.snapshot_id}",
            data="nothing was applied since",
            remedy="undo it in Spark with CALL "
            f"system.rollback_to_snapshot('{identifier}', {self.snapshot_id}); if these changes are "
            "meant to stay, set `foreign_commits: accept` for this table",
        )


def _may_follow(copy: LedgerCopy, one: TableSnapshot) -> bool:
    """The snapshot was written behind the one of the copy, and changed no row.

    One without a parent begins a new history: the table was replaced.
    """
    return one.parent_id is not None and one.sequence > copy.sequence and not one.changed_rows


def find_ledger(
    ancestry: Iterable[TableSnapshot], copied: str | None, where: str
) -> FoundLedger | None:
    """Find the ledger that holds for a table.

    In:     its snapshots from the head to the oldest that is left; the property's text.
    Out:    None for a table that never had a ledger.
    Raises: StateError when there was one, and nothing tells which state the rows have.
    """
    copy = None if copied is None else LedgerCopy.from_json(copied, where)
    passed: list[TableSnapshot] = []
    for snapshot in ancestry:
        text = snapshot.summary.get(LEDGER_KEY)
        if text is not None:
            foreign = next((one for one in reversed(passed) if one.changed_rows), None)
            is_copied = copy is not None and copy.snapshot_id == snapshot.snapshot_id
            ledger = Ledger.from_json(text, f"{where} table snapshot {snapshot.snapshot_id}")
            return FoundLedger(ledger, snapshot.snapshot_id, snapshot.sequence, is_copied, foreign)
        passed.append(snapshot)
    if copy is None:
        return None
    if not passed or not all(_may_follow(copy, one) for one in passed):
        raise StateError(
            where,
            "the table's rows are not those of its ledger: the table was replaced or rolled back, and the "
            "snapshot that says to which offsets was expired",
            data="nothing was applied",
            remedy="roll the table back to a snapshot of cdc-sink if one is left, else rebuild it into a new "
            "target with `cdc-sink backfill`",
        )
    ledger = Ledger.from_json(copy.ledger, where)
    return FoundLedger(ledger, copy.snapshot_id, copy.sequence, is_copied=True)
