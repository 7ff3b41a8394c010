"""The tables of a workload: which columns they have, and what is drawn for each. No input, no output.

The rules this file owns: tables depend on the database, the seed and a switch alone; the keys of a
table are numbered, and few, so that many changes meet on one row; no column has a DEFAULT, because
rows that a database fills in itself at an ALTER TABLE reach no log.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Literal

from cdc_sink.demo.shop.tables import Draw, Values

Database = Literal["postgresql", "mysql", "mariadb"]
Toast = Literal["default", "full"]

KEYS = 60  # per table
_MOODS = ("sad", "ok", "glad")


@dataclass(frozen=True)
class Type:
    """A column type; `wider` names the type that it can become without a loss.

    `rewrites`: PostgreSQL writes the whole table anew for that.
    """

    name: str
    sql: str
    draw: Draw
    wider: str = ""
    is_large: bool = False
    rewrites: bool = False


@dataclass(frozen=True)
class Column:
    """A column that is no key."""

    name: str
    type: Type
    is_nullable: bool

    def draw(self, values: Values) -> object:
        """Draw a value, NULL among them."""
        if self.is_nullable and values.random.random() < 0.2:
            return None
        return self.type.draw(values)


@dataclass(frozen=True)
class WorkTable:
    """A table as it is now; an alteration makes another one of it."""

    name: str
    key: tuple[tuple[str, str], ...]  # name and kind of each key column
    columns: tuple[Column, ...]
    is_full: bool = False  # REPLICA IDENTITY FULL

    def key_of(self, number: int) -> tuple[object, ...]:
        """Return the key with a number from 0 to KEYS - 1."""
        return tuple(
            _key_value(kind, number // 7 if place else number % 7 if len(self.key) > 1 else number)
            for place, (_, kind) in enumerate(self.key)
        )

    @property
    def key_names(self) -> tuple[str, ...]:
        """The key columns."""
        return tuple(name for name, _ in self.key)

    def with_columns(self, columns: Sequence[Column]) -> WorkTable:
        """Return the table with other columns behind its key."""
        return replace(self, columns=tuple(columns))


def make_tables(database: Database, seed: int, toast: Toast) -> dict[str, WorkTable]:
    """Draw the tables of a workload: six, from a lone key to twenty columns."""
    draw = random.Random(f"{seed}/tables")
    types = [one for one in types_of(database).values() if not one.is_large]
    large = [one for one in types_of(database).values() if one.is_large]
    text, token = "text", "uuid" if database != "mysql" else "text"
    keys_and_widths = {
        "lone": (("number",), 0, 0),
        "narrow": (("number",), 2, 0),
        "pairs": (("short", text), 5, 0),
        "named": ((text,), 8, 1),
        "tokens": ((token, "day"), 3, 2),
        "wide": (("number",), 16, 3),
    }
    tables = {}
    for place, (name, (kinds, width, heavy)) in enumerate(keys_and_widths.items()):
        drawn = [draw.choice(types) for _ in range(width)] + draw.sample(large, heavy)
        columns = tuple(
            Column(f"c{number}", one, is_nullable=draw.random() < 0.7 or one.is_large)
            for number, one in enumerate(drawn)
        )
        key = tuple((f"k{number}", kind) for number, kind in enumerate(kinds))
        is_full = toast == "full" or place % 2 == 0
        tables[name] = WorkTable(name, key, columns, is_full)
    return tables


def create_sql(table: WorkTable, database: Database) -> list[str]:
    """Write the statements that make a table."""
    kinds = {
        "number": "bigint",
        "short": "smallint",
        "text": "text" if database == "postgresql" else "varchar(60)",
        "uuid": "uuid",
        "day": "date",
    }
    lines = [f"{name} {kinds[kind]} NOT NULL" for name, kind in table.key]
    lines += [column_sql(column) for column in table.columns]
    lines.append(f"PRIMARY KEY ({', '.join(table.key_names)})")
    sql = f"CREATE TABLE {table.name} ({', '.join(lines)})"
    if database != "postgresql":
        # A binary collation: keys that differ in case only are different keys, as in Iceberg.
        return [f"{sql} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"]
    return [sql] + [f"ALTER TABLE {table.name} REPLICA IDENTITY FULL"] * table.is_full


def first_sql(database: Database) -> list[str]:
    """Write what a database needs before its tables."""
    return [f"CREATE TYPE mood AS ENUM {_MOODS}"] if database == "postgresql" else []


def column_sql(column: Column) -> str:
    """Write a column as CREATE and ALTER TABLE want it; NULL is said, for MySQL's timestamps."""
    return f"{column.name} {column.type.sql} {'NULL' if column.is_nullable else 'NOT NULL'}"


def types_of(database: Database) -> Mapping[str, Type]:
    """Return the column types of a database, by name."""
    return _TYPES[database]


# --- values ---------------------------------------------------------------------------------------


def _key_value(kind: str, number: int) -> object:
    if kind == "number":
        return (number - 5) * 10_000_000_019
    if kind == "short":
        return number - 3
    if kind == "text":
        return f"{'Kk'[number % 2]}-{number}é'\"`\\%🚲"
    if kind == "uuid":
        return _uuid(random.Random(number))
    return date(1999, 12, 30) + timedelta(days=number)


def _uuid(draw: random.Random) -> str:
    """Debezium 3.5 loses the zero bytes at the end of a MariaDB uuid: there are none."""
    return str(uuid.UUID(int=draw.getrandbits(128) | 1, version=4))


def _size(values: Values) -> int:
    """Draw the size of a large value: most are small, some need 200 kB."""
    most = values.random.choice((10, 300, 3_000, 3_000, 20_000, 200_000))
    return values.random.randrange(most)


def _large_text(values: Values) -> str:
    size = _size(values)
    if values.random.random() < 0.3:  # compresses well: PostgreSQL may keep it in the row
        return (values.text() * size)[:size]
    return values.random.randbytes(size // 2).hex()


def _number(digits: int, scale: int) -> Draw:
    def draw(values: Values) -> Decimal:
        largest = 10 ** values.random.randrange(1, digits + 1)
        return Decimal(f"{values.random.randrange(-largest + 1, largest)}E-{scale}")

    return draw


def _local(values: Values) -> object:
    return values.instant().replace(tzinfo=None)


def _varchar(length: int) -> Type:
    name = f"varchar{length}"
    wider = f"varchar{2 * length}" if length < 160 else ""
    return Type(name, f"varchar({length})", lambda v: v.text()[:length], wider)


_SHARED = (
    Type("smallint", "smallint", lambda v: v.integer(16), "int", rewrites=True),
    Type("int", "int", lambda v: v.integer(32), "bigint", rewrites=True),
    Type("bigint", "bigint", lambda v: v.integer(64)),
    Type("number8", "numeric(8,2)", _number(8, 2), "number12"),
    Type("number12", "numeric(12,2)", _number(12, 2), "number30"),
    Type("number30", "numeric(30,2)", _number(30, 2)),
    Type("number38", "numeric(38,10)", _number(38, 10)),
    Type("date", "date", Values.day),
    Type("json", "json", Values.document),
    *map(_varchar, (20, 40, 80, 160)),
)
_POSTGRESQL = (
    *_SHARED,
    Type("boolean", "boolean", Values.boolean),
    Type("real", "real", Values.real, "double", rewrites=True),
    Type("double", "double precision", Values.wild_double),
    Type("char", "char(8)", lambda v: v.text()[:8]),
    Type("timestamp", "timestamp", Values.wall_clock),
    Type("timestamp3", "timestamp(3)", Values.wall_clock),
    Type("timestamptz", "timestamptz", Values.instant),
    Type("time", "time", Values.time_of_day),
    Type("uuid", "uuid", Values.uuid),
    Type("jsonb", "jsonb", Values.document),
    Type("mood", "mood", lambda v: v.random.choice(_MOODS)),
    Type("bit", "bit(1)", lambda v: v.random.choice("01")),
    Type("bits", "bit(10)", lambda v: f"{v.random.getrandbits(10):010b}"),
    Type("varbits", "varbit(20)", lambda v: f"{v.random.getrandbits(v.random.randrange(21)):b}"),
    Type("bytes", "bytea", lambda v: v.bytes(40)),
    Type("text", "text", Values.text),
    Type("largetext", "text", _large_text, is_large=True),
    Type("largebytes", "bytea", lambda v: v.random.randbytes(_size(v)), is_large=True),
    Type("largejson", "jsonb", lambda v: json.dumps([_large_text(v)]), is_large=True),
)
_BINLOG = (
    *_SHARED,
    # Read from the server it is always tinyint(1); `boolean` in an ALTER TABLE makes it another type to
    # Debezium, which a registry refuses.
    Type("boolean", "tinyint(1)", Values.boolean),
    Type("tinyint", "tinyint", lambda v: v.integer(8), "smallint"),
    Type("mediumint", "mediumint", lambda v: v.integer(24), "int"),
    Type("unsigned", "int unsigned", lambda v: v.integer(32) % 2**32),
    Type("unsigned64", "bigint unsigned", lambda v: v.integer(64) % 2**64),
    Type("float", "float", Values.real, "double"),
    Type("double", "double", Values.double),
    Type("char", "char(8)", lambda v: v.text()[:8].rstrip()),
    Type("datetime", "datetime(6)", Values.wall_clock),
    Type("datetime3", "datetime(3)", Values.wall_clock),
    Type("timestamp", "timestamp(6)", _local),
    Type("time", "time(6)", Values.time_of_day),
    Type("year", "year", lambda v: v.random.randrange(1901, 2156)),
    Type("mood", f"enum{_MOODS}", lambda v: v.random.choice(_MOODS)),
    Type("moods", "set('x','y','z')", lambda v: v.random.choice(("", "x", "x,z", "x,y,z"))),
    Type("bit", "bit(1)", lambda v: v.random.randrange(2)),
    Type("bits", "bit(10)", lambda v: v.random.getrandbits(10)),
    Type("fixed", "binary(6)", lambda v: v.bytes(6)),
    Type("bytes", "varbinary(40)", lambda v: v.bytes(40)),
    Type("text", "text", Values.text),
    Type("largetext", "mediumtext", _large_text, is_large=True),
    Type("largebytes", "mediumblob", lambda v: v.random.randbytes(_size(v)), is_large=True),
    Type("largelong", "longtext", _large_text, is_large=True),
)
# Debezium 3.6 can't read MySQL 8.0.15's log of a table with eight numbers (or sixteen) and a year: it expects
# a sign of the year, too, where the server writes those of the numbers only. The connector is FAILED then.
_MYSQL = tuple(one for one in _BINLOG if one.name != "year")
_MARIADB = (*_BINLOG, Type("uuid", "uuid", lambda v: _uuid(v.random)))
_TYPES: dict[Database, dict[str, Type]] = {
    "postgresql": {one.name: one for one in _POSTGRESQL},
    "mysql": {one.name: one for one in _MYSQL},
    "mariadb": {one.name: one for one in _MARIADB},
}
