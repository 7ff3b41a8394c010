"""Source databases, read by `verify` only, each through its own driver.

The rules this room owns: one connection is one read-only transaction that sees one state of the
database; the session's time zone is UTC; rows come through a cursor on the server, some thousand at
a time; every value comes as its database prints it (`Printed`), so that no driver's idea of a type
stands between the database and the comparison. MariaDB is read as MySQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from cdc_sink.errors import ConfigError, UnavailableError
from cdc_sink.verification.canonical.values import Kind, Printed

BATCH_ROWS = 2_000  # greater batches were not faster, and rows can be wide
CONNECT_TIMEOUT_S = 10

Row = tuple[Printed, ...]


@dataclass(frozen=True)
class SourceColumn:
    """A column as its database describes it, and how it prints the values."""

    name: str
    type: str  # the database's own name
    kind: Kind = "plain"
    is_generated: bool = False  # computed by the database: not every connector sends it


class SourceDatabase(Protocol):
    """One open read-only transaction of a source database."""

    def columns(self, table: str) -> tuple[SourceColumn, ...]:
        """Return the columns of `schema.table` in their order, those that the database computes, too.

        Raises: ConfigError when there is no such table.
        """

    def key_columns(self, table: str) -> tuple[str, ...]:
        """Return the primary key's columns in the key's order; none without a primary key."""

    def rows(self, table: str, columns: Sequence[SourceColumn]) -> Iterator[list[Row]]:
        """Stream all rows, in batches, in no order, always of the same state of the database."""

    def close(self) -> None:
        """End the transaction and the connection."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def schema_and_table(name: str, *, default_schema: str) -> tuple[str, str]:
    """Split `schema.table` at its first dot."""
    schema, dot, table = name.partition(".")
    return (schema, table) if dot else (default_schema, name)


def no_such_table(where: str, table: str) -> ConfigError:
    """Say that a configured source table isn't there."""
    return ConfigError(
        where,
        f"there is no table {table} that this user may see",
        data="nothing was compared",
        remedy="correct the table's `source`, or grant SELECT on it",
    )


def refused(where: str) -> ConfigError:
    """Say that the database understood, and refused."""
    return ConfigError(
        where,
        "the database refused to read",
        data="nothing was compared",
        remedy="grant the user SELECT on the table; the cause is printed with -v",
    )


def unavailable(where: str) -> UnavailableError:
    """Say that there is no answer."""
    return UnavailableError(
        where,
        "the database does not answer, or does not let this user in",
        data="nothing was compared",
        remedy="check that it runs, and host, port, user and password under `databases`",
    )
