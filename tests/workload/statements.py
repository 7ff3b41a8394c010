"""The endless stream of transactions and alterations that a seed stands for. No input, no output.

The rules this file owns: what comes next depends on the seed, the lane and the tables as they are
now, on no clock and no answer. Lanes share the keys of a table, so they meet; a statement may
therefore fail (a key that is taken, a deadlock, a column that was dropped a moment ago), and its
transaction is taken back then. What is true is in the database, not here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from cdc_sink.demo.shop.tables import Values
from tests.workload.tables import (
    KEYS,
    Column,
    Database,
    WorkTable,
    column_sql,
    types_of,
)

_ROLLBACKS = 0.1


@dataclass(frozen=True)
class Statement:
    """One statement, for a driver that takes %s."""

    sql: str
    parameters: tuple[object, ...] = ()


@dataclass(frozen=True)
class Transaction:
    """Statements between BEGIN and their end."""

    statements: tuple[Statement, ...]
    is_rolled_back: bool

    @property
    def end(self) -> Statement:
        """The end that was meant."""
        return Statement("ROLLBACK" if self.is_rolled_back else "COMMIT")


@dataclass(frozen=True)
class Alteration:
    """An ALTER TABLE, and the table it makes when it succeeds and is kept.

    In PostgreSQL it may be a part of a transaction that goes on with the altered table, `rest`.
    """

    sql: str
    table: WorkTable
    rest: Transaction | None = None

    @property
    def statements(self) -> list[Statement]:
        """All of it."""
        if self.rest is None:
            return [Statement(self.sql)]
        return [Statement("BEGIN"), Statement(self.sql), *self.rest.statements, self.rest.end]

    @property
    def is_kept(self) -> bool:
        """Whether the table stays altered."""
        return self.rest is None or not self.rest.is_rolled_back


class Lane:
    """What one connection is asked to do."""

    def __init__(self, database: Database, seed: int, lane: int, *, truncates: bool) -> None:
        self._database = database
        self._values = Values(f"{seed}/lane/{lane}")
        self._truncates = truncates
        self._savepoints = 0

    def next(self, tables: Mapping[str, WorkTable]) -> Transaction:
        """Draw the next transaction on the tables as they are now."""
        draw = self._values.random
        actions = draw.choice((1, 1, 1, 2, 3, 6))
        statements = [one for _ in range(actions) for one in self._some_action(tables)]
        return Transaction(tuple(statements), draw.random() < _ROLLBACKS)

    def _some_action(self, tables: Mapping[str, WorkTable]) -> Iterator[Statement]:
        draw = self._values.random
        if draw.random() < 0.12:
            yield from self._savepoint(tables)
            return
        table = tables[draw.choice(sorted(tables))]
        number = draw.randrange(KEYS)
        if self._truncates and draw.random() < 0.01:
            yield Statement(f"TRUNCATE TABLE {table.name}")
            return
        yield from draw.choices(
            (
                self._insert,
                self._put,
                self._update,
                self._update_often,
                self._update_some,
                self._delete,
                self._delete_and_insert,
                self._move,
                self._come_and_go,
            ),
            (2, 6, 8, 3, 2, 2, 2, 2, 1),
        )[0](table, number)

    def _savepoint(self, tables: Mapping[str, WorkTable]) -> Iterator[Statement]:
        """Change something, and then forget it, or not."""
        self._savepoints += 1
        name = f"s{self._savepoints}"
        yield Statement(f"SAVEPOINT {name}")
        for _ in range(self._values.random.randrange(1, 4)):
            yield from self._some_action(tables)
        end = "ROLLBACK TO" if self._values.random.random() < 0.6 else "RELEASE"
        yield Statement(f"{end} SAVEPOINT {name}")

    # --- one row, or some -----------------------------------------------------------------------

    def _insert(self, table: WorkTable, number: int) -> Iterator[Statement]:
        yield self._inserted("INSERT", table, number)

    def _put(self, table: WorkTable, number: int) -> Iterator[Statement]:
        """Insert, or update what is there; MySQL may delete it first."""
        names = [column.name for column in table.columns]
        if self._database == "postgresql":
            changes = ", ".join(f"{name} = EXCLUDED.{name}" for name in names)
            action = f"UPDATE SET {changes}" if names else "NOTHING"
            end = f" ON CONFLICT ({', '.join(table.key_names)}) DO {action}"
            yield self._inserted("INSERT", table, number, end)
        elif not names or self._values.random.random() < 0.3:
            yield self._inserted("REPLACE", table, number)
        else:
            changes = ", ".join(f"{name} = VALUES({name})" for name in names)
            yield self._inserted("INSERT", table, number, f" ON DUPLICATE KEY UPDATE {changes}")

    def _update(self, table: WorkTable, number: int) -> Iterator[Statement]:
        if table.columns:
            yield self._updated(table, [number])

    def _update_often(self, table: WorkTable, number: int) -> Iterator[Statement]:
        for _ in range(self._values.random.randrange(2, 5)):
            yield from self._update(table, number)

    def _update_some(self, table: WorkTable, number: int) -> Iterator[Statement]:
        if table.columns:
            yield self._updated(table, range(number, min(number + 8, KEYS)))

    def _delete(self, table: WorkTable, number: int) -> Iterator[Statement]:
        yield Statement(f"DELETE FROM {table.name} WHERE {_matches(table)}", table.key_of(number))

    def _delete_and_insert(self, table: WorkTable, number: int) -> Iterator[Statement]:
        yield from self._delete(table, number)
        yield from self._insert(table, number)

    def _move(self, table: WorkTable, number: int) -> Iterator[Statement]:
        """Give a row another key; mostly one that was just made free."""
        other = self._values.random.randrange(KEYS)
        if self._values.random.random() < 0.8:
            yield from self._delete(table, other)
        changes = ", ".join(f"{name} = %s" for name in table.key_names)
        sql = f"UPDATE {table.name} SET {changes} WHERE {_matches(table)}"
        yield Statement(sql, (*table.key_of(other), *table.key_of(number)))

    def _come_and_go(self, table: WorkTable, number: int) -> Iterator[Statement]:
        yield from self._put(table, number)
        yield from self._delete(table, number)

    def _inserted(self, verb: str, table: WorkTable, number: int, end: str = "") -> Statement:
        names = [*table.key_names, *(column.name for column in table.columns)]
        places = ", ".join(["%s"] * len(names))
        drawn = (column.draw(self._values) for column in table.columns)
        sql = f"{verb} INTO {table.name} ({', '.join(names)}) VALUES ({places}){end}"
        return Statement(sql, (*table.key_of(number), *drawn))

    def _updated(self, table: WorkTable, numbers: range | list[int]) -> Statement:
        """Update some columns; the large ones mostly stay as they are."""
        draw = self._values.random
        light = [one for one in table.columns if not one.type.is_large or draw.random() < 0.15]
        some = draw.sample(light or table.columns, draw.randrange(1, len(light or "1") + 1))
        changes = ", ".join(f"{one.name} = %s" for one in some)
        drawn = [one.draw(self._values) for one in some]
        keys = [value for number in numbers for value in table.key_of(number)]
        where = " OR ".join([f"({_matches(table)})"] * len(numbers))
        return Statement(f"UPDATE {table.name} SET {changes} WHERE {where}", (*drawn, *keys))


def _matches(table: WorkTable) -> str:
    return " AND ".join(f"{name} = %s" for name in table.key_names)


# --- ALTER TABLE ----------------------------------------------------------------------------------


class Alterations:
    """Which table is altered next, and how; a name once dropped never comes back."""

    def __init__(self, database: Database, seed: int) -> None:
        self._database = database
        self._draw = random.Random(f"{seed}/alterations")
        self._lane = Lane(database, seed, -1, truncates=False)
        self._added = 0

    def next(self, tables: Mapping[str, WorkTable]) -> Alteration:
        """Draw the next alteration of one of the tables as they are now."""
        while True:
            table = tables[self._draw.choice(sorted(tables))]
            kind = self._draw.choice((self._add, self._drop, self._widen, self._widen, self._relax))
            if (alteration := kind(table)) is not None:
                break
        if self._database != "postgresql" or self._draw.random() < 0.6:
            return alteration
        rest = self._lane.next({table.name: alteration.table})
        return replace(alteration, rest=replace(rest, is_rolled_back=self._draw.random() < 0.5))

    def _add(self, table: WorkTable) -> Alteration:
        self._added += 1
        types = types_of(self._database)
        type_ = types[self._draw.choice(sorted(types))]
        column = Column(f"added{self._added}", type_, is_nullable=True)
        sql = f"ALTER TABLE {table.name} ADD COLUMN {column_sql(column)}"
        return Alteration(sql, table.with_columns((*table.columns, column)))

    def _drop(self, table: WorkTable) -> Alteration | None:
        if len(table.columns) < 2:
            return None
        gone = self._draw.choice(table.columns)
        sql = f"ALTER TABLE {table.name} DROP COLUMN {gone.name}"
        return Alteration(sql, table.with_columns([one for one in table.columns if one != gone]))

    def _widen(self, table: WorkTable) -> Alteration | None:
        able = [one for one in table.columns if one.type.wider]
        if self._database == "postgresql":
            # PostgreSQL 18.4 can't decode what was written before such a rewrite, once a slot was cut off:
            # its process ends with signal 11, or with "could not open toast relation", again and again.
            able = [one for one in able if not one.type.rewrites]
        if not able:
            return None
        old = self._draw.choice(able)
        new = replace(old, type=types_of(self._database)[old.type.wider])
        return self._changed(table, old, new, f"TYPE {new.type.sql}")

    def _relax(self, table: WorkTable) -> Alteration | None:
        strict = [one for one in table.columns if not one.is_nullable]
        if not strict:
            return None
        old = self._draw.choice(strict)
        return self._changed(table, old, replace(old, is_nullable=True), "DROP NOT NULL")

    def _changed(self, table: WorkTable, old: Column, new: Column, change: str) -> Alteration:
        sql = f"ALTER TABLE {table.name} ALTER COLUMN {old.name} {change}"
        if self._database != "postgresql":
            sql = f"ALTER TABLE {table.name} MODIFY COLUMN {column_sql(new)}"
        columns = [new if one == old else one for one in table.columns]
        return Alteration(sql, table.with_columns(columns))
