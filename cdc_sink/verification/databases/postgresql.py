"""PostgreSQL as a source, through psycopg 3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql
from psycopg.types.string import TextLoader

from cdc_sink.config import Database
from cdc_sink.verification.canonical.values import Kind
from cdc_sink.verification.databases.source_database import (
    BATCH_ROWS,
    CONNECT_TIMEOUT_S,
    Row,
    SourceColumn,
    no_such_table,
    refused,
    schema_and_table,
    unavailable,
)

# Texts that lose nothing: floats with all digits (extra_float_digits 1 is the shortest exact form). Without
# row_security, a policy that would hide rows from this user is an error.
_SESSION = """
SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL extra_float_digits = 1;
SET LOCAL bytea_output = 'hex'; SET LOCAL IntervalStyle = 'iso_8601'; SET LOCAL lc_monetary = 'C';
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL row_security = off
"""
_KINDS: dict[str, Kind] = {
    "json": "json",
    "jsonb": "json",
    "time": "time",
    "bit": "bits",
    "varbit": "bits",
    "float4": "real",
    "date": "stamp",
    "timestamp": "stamp",
    "timestamptz": "zoned",
    "timetz": "clock",
    "interval": "interval",
    "numeric": "number",
    "money": "money",
    "bytea": "bytes",
    "hstore": "hstore",
    "point": "point",
    "geometry": "ewkb",
    "geography": "ewkb",
    "sparsevec": "sparse",
}
# A domain is followed down to the type it is made of, an array to its elements'.
_COLUMNS = """
WITH RECURSIVE base AS (
  SELECT a.attnum, a.attname, a.atttypid, format_type(a.atttypid, a.atttypmod) AS shown,
    a.attgenerated <> '' AS computed
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = %s AND c.relname = %s
    AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT base.attnum, base.attname, t.typbasetype, base.shown, base.computed
  FROM base JOIN pg_type t ON t.oid = base.atttypid WHERE t.typtype = 'd'
)
SELECT base.attname, base.shown, coalesce(e.typname, t.typname), base.computed
FROM base JOIN pg_type t ON t.oid = base.atttypid
  LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
WHERE t.typtype <> 'd' ORDER BY base.attnum
"""
_KEY = """
SELECT a.attname
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
WHERE i.indisprimary AND n.nspname = %s AND c.relname = %s ORDER BY k.place
"""


class PostgreSQL:
    """One REPEATABLE READ, READ ONLY transaction."""

    def __init__(self, database: Database) -> None:
        self._where = f"database {database.host}:{database.port}/{database.database}"
        with self._translated():
            self._connection = psycopg.connect(
                host=database.host,
                port=database.port,
                dbname=database.database,
                user=database.user,
                password=database.password.reveal() if database.password else None,
                connect_timeout=CONNECT_TIMEOUT_S,
                client_encoding="UTF8",
                application_name="cdc-sink verify",
            )
            self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._connection.read_only = True
            self._connection.execute(_SESSION)

    def columns(self, table: str) -> tuple[SourceColumn, ...]:
        """Return the columns of `schema.table` in their order."""
        found = self._ask(_COLUMNS, schema_and_table(table, default_schema="public"))
        if not found:
            raise no_such_table(self._where, table)
        return tuple(
            SourceColumn(name, shown, _KINDS.get(base, "plain"), bool(computed))
            for name, shown, base, computed in found
        )

    def key_columns(self, table: str) -> tuple[str, ...]:
        """Return the primary key's columns in the key's order."""
        found = self._ask(_KEY, schema_and_table(table, default_schema="public"))
        return tuple(name for (name,) in found)

    def rows(self, table: str, columns: Sequence[SourceColumn]) -> Iterator[list[Row]]:
        """Stream all rows through a cursor on the server."""
        query = sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
            sql.Identifier(*schema_and_table(table, default_schema="public")),
        )
        with self._translated(), self._connection.cursor(name="cdc_sink_verify") as cursor:
            # Every type as text, except bytea, whose text is a form of its own.
            for info in self._connection.adapters.types:
                if info.name != "bytea":
                    cursor.adapters.register_loader(info.oid, TextLoader)
                cursor.adapters.register_loader(info.array_oid, TextLoader)
            cursor.execute(query)
            while batch := cursor.fetchmany(BATCH_ROWS):
                yield batch

    def close(self) -> None:
        """End the transaction and the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, query: str, parameters: Sequence[str] = ()) -> list[tuple[str, ...]]:
        """Return the rows of a query, as `check` puts them."""
        return self._ask(query, tuple(parameters))

    def _ask(self, query: str, parameters: tuple[str, ...]) -> list[tuple[str, ...]]:
        with self._translated():
            return self._connection.execute(query.encode(), parameters).fetchall()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.ProgrammingError, psycopg.DataError) as cause:
            raise refused(self._where) from cause
        except psycopg.Error as cause:
            raise unavailable(self._where) from cause
