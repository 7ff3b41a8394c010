"""MySQL and MariaDB as sources, through PyMySQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import pymysql
from pymysql.constants import ER
from pymysql.converters import encoders
from pymysql.cursors import SSCursor

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

_SESSION = (
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET SESSION time_zone = '+00:00'",
    "SET SESSION sql_mode = ''",  # PAD_CHAR_TO_FULL_LENGTH would change what CHAR prints
    # A table is read as fast as it is compared; the server must not hang up meanwhile.
    "SET SESSION net_write_timeout = 3600",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
)
_NO_DECODERS: dict[Any, Any] = {**encoders}  # values stay as the server prints them
_KINDS: dict[str, Kind] = {
    "json": "json_doubles",
    "time": "time",
    "bit": "bits",
    "float": "real",
    "date": "stamp",
    "datetime": "stamp",
    "timestamp": "stamp",
    "decimal": "number",
    **dict.fromkeys(("binary", "varbinary"), "bytes"),
    **dict.fromkeys(("tinyblob", "blob", "mediumblob", "longblob"), "bytes"),
    "point": "wkb_point",
    **dict.fromkeys(("geometry", "linestring", "polygon", "multipoint"), "wkb"),
    **dict.fromkeys(("multilinestring", "multipolygon"), "wkb"),
    **dict.fromkeys(("geomcollection", "geometrycollection"), "wkb"),
}
# Not by `extra`: MySQL 8 says DEFAULT_GENERATED there of each column with DEFAULT CURRENT_TIMESTAMP.
# What isn't computed has an empty expression in MySQL, and none in MariaDB.
_COLUMNS = """
SELECT column_name, column_type, data_type, coalesce(generation_expression, '') <> ''
FROM information_schema.columns WHERE table_schema = %s AND table_name = %s
ORDER BY ordinal_position
"""
_KEY = """
SELECT column_name FROM information_schema.statistics
WHERE table_schema = %s AND table_name = %s AND index_name = 'PRIMARY' ORDER BY seq_in_index
"""
_REFUSED = {
    ER.TABLEACCESS_DENIED_ERROR,
    ER.COLUMNACCESS_DENIED_ERROR,
    ER.DBACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
}


class MySQL:
    """One REPEATABLE READ, READ ONLY transaction with a consistent read view."""

    def __init__(self, database: Database) -> None:
        self._where = f"database {database.host}:{database.port}/{database.database}"
        self._schema = database.database
        with self._translated():
            self._connection = pymysql.connect(
                host=database.host,
                port=database.port,
                database=database.database,
                user=database.user,
                password=database.password.reveal() if database.password else "",
                charset="utf8mb4",
                connect_timeout=CONNECT_TIMEOUT_S,
                conv=_NO_DECODERS,
                program_name="cdc-sink verify",
            )
            with self._connection.cursor() as cursor:
                for statement in _SESSION:
                    cursor.execute(statement)

    def columns(self, table: str) -> tuple[SourceColumn, ...]:
        """Return the columns of `schema.table` in their order.

        Raises: ConfigError when the user may not see all of them: the schema shows the others as if they
                were all.
        """
        found = self._ask(_COLUMNS, schema_and_table(table, default_schema=self._schema))
        if not found:
            raise no_such_table(self._where, table)
        self._ask(f"SELECT * FROM {self._quoted(table)} LIMIT 0")
        return tuple(
            SourceColumn(name, shown, _KINDS.get(base, "plain"), bool(int(computed)))
            for name, shown, base, computed in found
        )

    def key_columns(self, table: str) -> tuple[str, ...]:
        """Return the primary key's columns in the key's order."""
        found = self._ask(_KEY, schema_and_table(table, default_schema=self._schema))
        return tuple(name for (name,) in found)

    def rows(self, table: str, columns: Sequence[SourceColumn]) -> Iterator[list[Row]]:
        """Stream all rows through an unbuffered cursor."""
        selected = ", ".join(_expression(column) for column in columns)
        query = f"SELECT {selected} FROM {self._quoted(table)}"
        with self._translated(), self._connection.cursor(SSCursor) as cursor:
            cursor.execute(query)
            while batch := cursor.fetchmany(BATCH_ROWS):
                yield list(batch)

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

    def ask(self, query: str, parameters: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query, as `check` puts them."""
        return self._ask(query, tuple(parameters))

    def _quoted(self, table: str) -> str:
        return ".".join(map(_quote, schema_and_table(table, default_schema=self._schema)))

    def _ask(self, query: str, parameters: tuple[str, ...] | None = None) -> list[tuple[Any, ...]]:
        with self._translated(), self._connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return list(cursor.fetchall())

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except pymysql.OperationalError as cause:
            error = refused if cause.args[0] in _REFUSED else unavailable
            raise error(self._where) from cause
        except (pymysql.ProgrammingError, pymysql.DataError, pymysql.NotSupportedError) as cause:
            raise refused(self._where) from cause
        except pymysql.Error as cause:
            raise unavailable(self._where) from cause


def _expression(column: SourceColumn) -> str:
    name = _quote(column.name)
    if column.kind == "bits":
        return f"BIN({name})"
    if column.type.startswith(("float", "double")):
        # MySQL prints a FLOAT with six digits (16777217 as 16777200), FLOAT(7,4) with four
        # decimals; as a DOUBLE without declared decimals it has all of them.
        return f"{name} * 1e0"
    return name


def _quote(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
