"""A sample shop over both databases, and people who use it.

    create(chain.postgres_of_shop, chain.mysql_of_shop)
    traffic = Traffic(7, chain.postgres_of_shop, chain.mysql_of_shop, alter_after=5_000)
    traffic.run(events=10_000, rate=500)

The rules this file owns: which statements are sent depends on the seed and on how many were sent
before, on no clock and no answer of a database; keys that live are known here and nowhere read, so
the traffic starts on empty tables; one traffic never waits for itself, and two with different lanes
touch different keys, so there are no deadlocks.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cdc_sink.demo.shop.tables import (
    CUSTOMERS,
    DOCUMENTS,
    MYSQL_DDL,
    ORDER_LINES,
    ORDERS,
    PAYMENTS,
    POSTGRES_DDL,
    PRODUCTS,
    SCHEMA_STEPS,
    TABLES,
    Draw,
    Key,
    SchemaStep,
    ShopTable,
    Side,
    Values,
)

LANE_KEYS = 1_000_000_000  # numeric keys of one lane
_ROLLBACKS = 0.08  # share of transactions that are taken back
_MANY_ROWS = 0.3  # share of transactions with several rows
_BUSY_TABLES = (CUSTOMERS, ORDERS, ORDER_LINES, PRODUCTS, PAYMENTS)

Verb = Literal["insert", "update", "delete", "rekey"]


class Connection(Protocol):
    """What the shop needs of a DB-API connection; each statement must commit by itself."""

    def cursor(self) -> Any:
        """Return a cursor that is a context manager."""

    def close(self) -> None:
        """End the connection."""


Connect = Callable[[], Connection]


def create(postgres: Connect, mysql: Connect) -> None:
    """Create the shop's tables in the two databases that the connections open."""
    for connect, statements in ((postgres, POSTGRES_DDL), (mysql, MYSQL_DDL)):
        with closing(connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


@dataclass
class RowChanges:
    """Rows of one table that were changed and kept; a rekey moves a row to another key."""

    insert: int = 0
    update: int = 0
    delete: int = 0
    rekey: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.insert + self.update + self.delete + self.rekey

    @property
    def records(self) -> int:
        """Change events of them at most, tombstones apart.

        A rekey is a delete and a create. MySQL logs nothing for an update that changes nothing.
        """
        return self.total + self.rekey


@dataclass(frozen=True)
class Statement:
    """One statement and the change it makes."""

    table: ShopTable
    verb: Verb
    sql: str
    parameters: tuple[object, ...]


@dataclass(frozen=True)
class Transaction:
    """Statements in one database, kept or taken back together."""

    side: Side
    statements: tuple[Statement, ...]
    is_rolled_back: bool


class LiveKeys:
    """The keys a table has now; any of them is found at once."""

    def __init__(self) -> None:
        self._keys: list[Key] = []
        self._places: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def any(self, values: Values) -> Key:
        """Return one of the keys."""
        return self._keys[values.random.randrange(len(self._keys))]

    def add(self, key: Key) -> None:
        """Put in a key that is not there."""
        self._places[key] = len(self._keys)
        self._keys.append(key)

    def remove(self, key: Key) -> None:
        """Take out a key: the last one moves to its place."""
        place, last = self._places.pop(key), self._keys.pop()
        if place < len(self._keys):
            self._keys[place] = last
            self._places[last] = place


class Statements:
    """The endless stream of transactions that a seed stands for. No input, no output."""

    def __init__(self, seed: int, lane: int = 0) -> None:
        self._values = Values(f"{seed}/{lane}")
        self._lane = lane
        self._numbers = 0
        self._columns: dict[str, dict[str, Draw]] = {t.name: dict(t.columns) for t in TABLES}
        self.live = {table.name: LiveKeys() for table in TABLES}
        self._undo: list[Callable[[], None]] = []

    def alter(self, step: SchemaStep) -> None:
        """From now on fill the column that the step made."""
        self._columns[step.table.name][step.column] = step.draw

    def next(self) -> Transaction:
        """Make the next transaction, and remember which keys it leaves."""
        self._undo = []
        draw = self._values.random
        if draw.random() < 0.15:
            statements = tuple(self._place_order())
        else:
            first = self._some_table()
            rows = draw.randrange(2, 13) if draw.random() < _MANY_ROWS else 1
            tables = [first] + [self._some_table(first.side) for _ in range(rows - 1)]
            statements = tuple(self._change(table) for table in tables)
        is_rolled_back = draw.random() < _ROLLBACKS
        if is_rolled_back:
            for undo in reversed(self._undo):
                undo()
        return Transaction(statements[0].table.side, statements, is_rolled_back)

    def _some_table(self, side: Side | None = None) -> ShopTable:
        if side != "mysql" and self._values.random.random() < 0.05:
            return DOCUMENTS
        tables = [table for table in _BUSY_TABLES if side in (None, table.side)]
        return self._values.random.choice(tables)

    def _place_order(self) -> Iterator[Statement]:
        order = self._new_key(ORDERS)
        yield self._insert(ORDERS, order)
        for line in range(self._values.random.randrange(1, 5)):
            yield self._insert(ORDER_LINES, (*order, line))

    def _change(self, table: ShopTable) -> Statement:
        live = self.live[table.name]
        dice = self._values.random.random()
        if not live or dice < 0.35:
            return self._insert(table, self._new_key(table))
        key = live.any(self._values)
        if dice < 0.82:
            return self._update(table, key)
        return self._delete(table, key) if dice < 0.95 else self._rekey(table, key)

    def _new_key(self, table: ShopTable) -> Key:
        if table is ORDERS:
            return (self._values.uuid(),)
        if table is ORDER_LINES:
            return self._new_line()
        self._numbers += 1
        number = self._lane * LANE_KEYS + self._numbers
        return (f"sku-{number:x}-{'Aa'[number % 2]}é",) if table is PRODUCTS else (number,)

    def _new_line(self) -> Key:
        orders, lines = self.live[ORDERS.name], self.live[ORDER_LINES.name]
        if orders:
            key = (*orders.any(self._values), self._values.random.randrange(5, 1_000))
            if key not in lines:
                return key
        return (self._values.uuid(), 0)

    # --- one row --------------------------------------------------------------------------------

    def _insert(self, table: ShopTable, key: Key) -> Statement:
        self._add(table, key)
        columns = self._columns[table.name]
        names = (*table.key, *columns)
        places = ", ".join(["%s"] * len(names))
        sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places})"
        drawn = (draw(self._values) for draw in columns.values())
        return Statement(table, "insert", sql, (*key, *drawn))

    def _update(self, table: ShopTable, key: Key) -> Statement:
        columns = self._columns[table.name]
        some = self._values.random.sample(
            sorted(columns), self._values.random.randrange(1, len(columns) + 1)
        )
        changes = ", ".join(f"{name} = %s" for name in some)
        drawn = (columns[name](self._values) for name in some)
        sql = f"UPDATE {table.name} SET {changes} WHERE {_matches(table)}"
        return Statement(table, "update", sql, (*drawn, *key))

    def _delete(self, table: ShopTable, key: Key) -> Statement:
        self._remove(table, key)
        return Statement(table, "delete", f"DELETE FROM {table.name} WHERE {_matches(table)}", key)

    def _rekey(self, table: ShopTable, key: Key) -> Statement:
        new = self._new_key(table)
        self._remove(table, key)
        self._add(table, new)
        changes = ", ".join(f"{name} = %s" for name in table.key)
        sql = f"UPDATE {table.name} SET {changes} WHERE {_matches(table)}"
        return Statement(table, "rekey", sql, (*new, *key))

    def _add(self, table: ShopTable, key: Key) -> None:
        live = self.live[table.name]
        live.add(key)
        self._undo.append(lambda: live.remove(key))

    def _remove(self, table: ShopTable, key: Key) -> None:
        live = self.live[table.name]
        live.remove(key)
        self._undo.append(lambda: live.add(key))


def _matches(table: ShopTable) -> str:
    return " AND ".join(f"{name} = %s" for name in table.key)


class Traffic:
    """Sends a seed's transactions to both databases, and counts what was kept.

    `alter_after`: number of row changes after which the tables are altered, once, as
    SCHEMA_STEPS says; none: never. Traffics that run at the same time need different lanes.
    """

    def __init__(
        self,
        seed: int,
        postgres: Connect,
        mysql: Connect,
        *,
        alter_after: int | None = None,
        lane: int = 0,
    ) -> None:
        self.seed = seed
        self.changes = {table.name: RowChanges() for table in TABLES}
        self.is_altered = False
        self._connects: dict[Side, Connect] = {"postgres": postgres, "mysql": mysql}
        self._statements = Statements(seed, lane)
        self._alter_after = alter_after
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        print(f"shop traffic: seed {seed}, lane {lane}", file=sys.stderr)

    @property
    def total(self) -> int:
        """Row changes kept so far."""
        return sum(changes.total for changes in self.changes.values())

    @property
    def rows(self) -> dict[str, int]:
        """Rows that each table must have now."""
        return {name: len(keys) for name, keys in self._statements.live.items()}

    def run(
        self,
        *,
        events: int | None = None,
        seconds: float | None = None,
        rate: float | None = None,
    ) -> None:
        """Send transactions until `events` more row changes are kept, time is over, or `stop`.

        rate: row changes per second; none: as fast as the databases answer. A later call goes on
        where this one ended.
        """
        self._stopped.clear()
        self._send(events=events, seconds=seconds, rate=rate)

    def start(
        self,
        *,
        events: int | None = None,
        seconds: float | None = None,
        rate: float | None = None,
    ) -> None:
        """Do what `run` does in a thread of its own; `join` waits for its end."""
        self._stopped.clear()
        self._thread = threading.Thread(
            target=self._send_and_keep_failure,
            kwargs={"events": events, "seconds": seconds, "rate": rate},
            name="shop-traffic",
            daemon=True,
        )
        self._thread.start()

    def alter(self) -> None:
        """Alter the tables before the next transaction, unless they are altered already."""
        self._alter_after = 0

    def stop(self) -> None:
        """End after the transaction under way, and wait for that."""
        self._stopped.set()
        self.join()

    def join(self) -> None:
        """Wait for the end of a started run; what stopped it is raised here."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _send_and_keep_failure(self, **limits: Any) -> None:
        try:
            self._send(**limits)
        except BaseException as failure:
            self._failure = failure

    def _send(self, *, events: int | None, seconds: float | None, rate: float | None) -> None:
        began, first = time.monotonic(), self.total
        with ExitStack() as opened:
            connections = {
                side: opened.enter_context(closing(connect()))
                for side, connect in self._connects.items()
            }
            while not self._stopped.is_set():
                done = self.total - first
                elapsed = time.monotonic() - began
                if (events is not None and done >= events) or (seconds and elapsed >= seconds):
                    return
                if rate and (early := done / rate - elapsed) > 0:
                    self._stopped.wait(early)
                    continue
                self._alter_when_due(connections)
                self._apply(connections)

    def _alter_when_due(self, connections: dict[Side, Connection]) -> None:
        if self.is_altered or self._alter_after is None or self.total < self._alter_after:
            return
        for step in SCHEMA_STEPS:
            with connections[step.table.side].cursor() as cursor:
                cursor.execute(step.sql)
            self._statements.alter(step)
        self.is_altered = True

    def _apply(self, connections: dict[Side, Connection]) -> None:
        transaction = self._statements.next()
        with connections[transaction.side].cursor() as cursor:
            cursor.execute("BEGIN")
            for statement in transaction.statements:
                cursor.execute(statement.sql, statement.parameters)
            cursor.execute("ROLLBACK" if transaction.is_rolled_back else "COMMIT")
        if not transaction.is_rolled_back:
            for statement in transaction.statements:
                counted = self.changes[statement.table.name]
                setattr(counted, statement.verb, getattr(counted, statement.verb) + 1)
