"""A table that the traffic leaves alone, so that a test knows what becomes of each record.

Its changes go wrong on purpose: an infinite timestamp is no value of a table, three columns change at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyiceberg.table import Table

from cdc_sink.clients.catalog import load_table
from cdc_sink.clients.dead_letters import read_letters
from cdc_sink.observe.table_facts import read_ledger
from cdc_sink.table.ledger.ledger import Ledger, Totals
from tests.chaos.driver import Driver, wait_until
from tests.chaos.history import History
from tests.chaos.looks import batches_of, facts_of, is_applied
from tests.chaos.shop import READINGS, name_of

TARGET = name_of(READINGS)

GROW = (
    "ALTER TABLE readings ALTER COLUMN value TYPE bigint, ADD COLUMN place text, ADD COLUMN unit text",
    "UPDATE readings SET value = 3000000000 + id, place = 'roof', unit = 'mm'"
    " WHERE id % 3 = 0 AND id % 4 <> 0",  # none of those that SPOIL deletes
)
GROWN = {"value": "long", "place": "string", "unit": "string"}
GREW = Totals(applied=10)

# All letters that this leaves are of the keys that 4 divides, and of -20.
SPOIL = (
    "UPDATE readings SET seen = 'infinity' WHERE id % 4 = 0",  # 10 letters
    "UPDATE readings SET note = 'later' WHERE id % 2 = 0",  # 10 letters, 10 applied
    "UPDATE readings SET seen = now() WHERE id % 8 = 0",  # 5 letters: their keys are quarantined
    "DELETE FROM readings WHERE id % 12 = 0",  # 3 letters, 3 tombstones
    "UPDATE readings SET id = -id WHERE id = 20",  # 2 letters, 1 tombstone
)
SPOILT = Totals(applied=10, tombstones=4, dead_letters=30)


@dataclass(frozen=True)
class Readings:
    """What lies in the table, and among its dead letters, read past Spark."""

    history: History

    @property
    def _table(self) -> Table:
        loaded = load_table(self.history.pipeline.catalog, TARGET)
        assert loaded is not None
        return loaded

    @property
    def ledger(self) -> Ledger:
        """The newest ledger."""
        found = read_ledger(self._table)
        assert found is not None
        return found[0]

    @property
    def rows(self) -> dict[int, dict[str, Any]]:
        """The rows as the table holds them, by key."""
        return {row["id"]: row for row in self._table.scan().to_arrow().to_pylist()}

    @property
    def grown(self) -> set[str]:
        """Which of the columns that GROW changes have changed."""
        types = {f.name: str(f.field_type) for f in self._table.schema().fields}
        return {name for name, kind in GROWN.items() if types.get(name) == kind}

    @property
    def letters(self) -> list[dict[str, Any]]:
        """All letters, whatever became of them, in Kafka's order."""
        return read_letters(self.history.pipeline, TARGET, None)

    @property
    def states(self) -> set[str]:
        """The states that letters are in."""
        return {letter["state"] for letter in self.letters}

    def note(self, text: str, *keys: int) -> Callable[[], None]:
        """What writes a note into the rows of these keys, or of the first row: a change of each."""
        some = ", ".join(map(str, keys or (1,)))
        statement = f"UPDATE readings SET note = '{text}' WHERE id IN ({some})"
        return lambda: self.history.execute(statement)

    def be_level(self) -> None:
        """See to it that the table has all that was sent, and that no batch of it waits for its replay."""
        history = self.history
        facts = facts_of(history.pipeline)[TARGET]
        is_level = facts.ledger is not None and is_applied(facts)
        if not is_level or batches_of(history.pipeline, READINGS).is_open:
            history.settle(READINGS)

    def wait_for(self, totals: Totals) -> None:
        """Wait until the table's ledger has so many records, and see what became of them."""
        driver = self.history.keep_running(READINGS)

        def is_there() -> bool:
            ended = driver.is_gone or bool(driver.said("parked"))
            return ended or self.ledger.totals.records >= totals.records

        wait_until(f"{totals} in {TARGET}", is_there, self.history.tell, poll_s=0.5)
        assert self.ledger.totals == totals, self.history.tell()

    def replay(self) -> Driver:
        """Start a replay of the letters."""
        return self.history.start_command(
            "dead-letters", "replay", str(self.history.config), TARGET, alone=READINGS
        )

    def kill_replay_at(self, failpoint: str) -> None:
        """Start a replay that ends by -9 at an instant."""
        driver = self.replay()
        driver.arm(failpoint, 1)
        self.history.wait_killed(driver, failpoint)
