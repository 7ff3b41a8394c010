"""Plays a workload on a real database: some connections that meet, and one that alters the tables.

A transaction that the database refuses is taken back and counted; nobody tries it again. Which
transactions meet depends on the machine, so one seed gives the same statements, not the same rows.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pymysql

from tests.workload.statements import Alterations, Lane, Statement, Transaction
from tests.workload.tables import Database, Toast, create_sql, first_sql, make_tables

Connect = Callable[[], Any]

# Who waits for a lock longer is refused, so that nobody waits for an ALTER TABLE for long.
_SESSION = {
    "postgresql": ("SET lock_timeout = '3s'", "SET deadlock_timeout = '100ms'"),
    "mysql": ("SET innodb_lock_wait_timeout = 3", "SET lock_wait_timeout = 3"),
    "mariadb": ("SET innodb_lock_wait_timeout = 3", "SET lock_wait_timeout = 3"),
}
_LOST = (2006, 2013)  # MySQL's numbers for a connection that is gone


@dataclass(frozen=True)
class Play:
    """What is played: everything that a workload depends on but the machine."""

    database: Database
    seed: int
    toast: Toast = "default"
    truncates: bool = False
    lanes: int = 3
    rate: float = 4.0  # transactions of one lane in a second
    alter_every_s: float = 6.0


@dataclass
class Counts:
    """What the database took, and what it refused."""

    committed: int = 0
    rolled_back: int = 0
    altered: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Player:
    """A workload on one database; the tables are made when it is made."""

    def __init__(self, play: Play, connect: Connect) -> None:
        """In: connect opens a connection on which each statement commits by itself."""
        self.play, self.counts = play, Counts()
        self.tables = make_tables(play.database, play.seed, play.toast)
        self._connect = connect
        self._stopped = threading.Event()
        self._failures: list[BaseException] = []
        lanes = [
            Lane(play.database, play.seed, number, truncates=play.truncates)
            for number in range(play.lanes)
        ]
        self._parts = [lambda lane=lane: self._play_lane(lane) for lane in lanes]
        self._threads: list[threading.Thread] = []
        statements = [
            *first_sql(play.database),
            *(sql for table in self.tables.values() for sql in create_sql(table, play.database)),
        ]
        with closing(connect()) as connection, connection.cursor() as cursor:
            for sql in statements:
                cursor.execute(sql)

    def start(self, *, alters: bool) -> None:
        """Play in threads until `stop`."""
        self._stopped.clear()
        parts = [*self._parts, self._play_alterations] if alters else self._parts
        self._threads = [threading.Thread(target=self._guarded, args=(part,)) for part in parts]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the transactions under way; what stopped a thread before is raised here."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._threads = []
        if self._failures:
            raise self._failures[0]

    def _guarded(self, part: Callable[[], None]) -> None:
        try:
            part()
        except BaseException as failure:
            self._failures.append(failure)
            self._stopped.set()

    # --- threads ----------------------------------------------------------------------------

    def _play_lane(self, lane: Lane) -> None:
        due = time.monotonic()
        with closing(self._open()) as connection:
            while not self._stopped.wait(max(0.0, due - time.monotonic())):
                due += 1 / self.play.rate
                self._apply(connection, lane.next(self.tables))

    def _play_alterations(self) -> None:
        alterations = Alterations(self.play.database, self.play.seed)
        with closing(self._open()) as connection:
            while not self._stopped.wait(self.play.alter_every_s):
                alteration = alterations.next(self.tables)
                if self._accepted(connection, alteration.statements) and alteration.is_kept:
                    self.tables = self.tables | {alteration.table.name: alteration.table}
                    self.counts.altered += 1

    def _apply(self, connection: Any, transaction: Transaction) -> None:
        statements = [Statement("BEGIN"), *transaction.statements, transaction.end]
        if not self._accepted(connection, statements):
            return
        if transaction.is_rolled_back:
            self.counts.rolled_back += 1
        else:
            self.counts.committed += 1

    def _accepted(self, connection: Any, statements: list[Statement]) -> bool:
        with connection.cursor() as cursor:
            try:
                for statement in statements:
                    cursor.execute(statement.sql, statement.parameters or None)
            except (psycopg.Error, pymysql.Error) as refusal:
                if _is_lost(connection, refusal):
                    raise
                cursor.execute("ROLLBACK")
                self.counts.refused[_kind(refusal)] += 1
                return False
        return True

    def _open(self) -> Any:
        connection = self._connect()
        with connection.cursor() as cursor:
            for statement in _SESSION[self.play.database]:
                cursor.execute(statement)
        return connection


def _is_lost(connection: Any, refusal: Exception) -> bool:
    if isinstance(refusal, psycopg.Error):
        return bool(connection.closed)
    return isinstance(refusal, pymysql.InterfaceError) or refusal.args[0] in _LOST


def _kind(refusal: Exception) -> str:
    if isinstance(refusal, psycopg.Error):
        return type(refusal).__name__
    return f"{type(refusal).__name__} {refusal.args[0]}"
