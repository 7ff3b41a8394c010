"""The sample shop's tables: three in PostgreSQL and one with large values, two in MySQL.

The rules this file owns: together the columns cover the types that Debezium sends and Iceberg can
hold; a value depends on nothing but the seeded source it is drawn from. Rows stay far below 2 kB,
so that PostgreSQL stores no value out of line (an update would then send a placeholder instead of
it), except in `documents`, which says REPLICA IDENTITY FULL and therefore always sends everything.
No column has a DEFAULT: with some converters an explicit NULL would arrive as the default.
"""

from __future__ import annotations

import json
import math
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Literal

Side = Literal["postgres", "mysql"]
Key = tuple[object, ...]

_WORDS = ("tea", "Büro", "niño", "日本", "🚲", "O'Hara", 'say "hi"', "a,b;c", "tab\there", "naïve")
_TIERS = ("basic", "silver", "gold")
_STATES = ("new", "paid", "shipped", "returned")
_CATEGORIES = ("book", "bike", "tea & co")
_METHODS = ("card", "cash", "voucher")

POSTGRES_DDL = (
    f"CREATE TYPE customer_tier AS ENUM {_TIERS}",
    f"CREATE TYPE order_state AS ENUM {_STATES}",
    """CREATE TABLE customers (
         id bigint PRIMARY KEY, name text NOT NULL, level smallint, visits int, active boolean,
         balance numeric(12,2), born date, tier customer_tier, preferences jsonb,
         created_at timestamptz NOT NULL)""",
    """CREATE TABLE orders (
         id uuid PRIMARY KEY, customer_id bigint NOT NULL, state order_state NOT NULL,
         total numeric(12,2), weight real, placed_at timestamp NOT NULL, shipped_at timestamptz,
         slot time, note varchar(200))""",
    """CREATE TABLE order_lines (
         order_id uuid, line_no int, sku text NOT NULL, quantity int NOT NULL,
         unit_price numeric(12,2) NOT NULL, discount double precision,
         PRIMARY KEY (order_id, line_no))""",
    """CREATE TABLE documents (
         id bigint PRIMARY KEY, customer_id bigint, body text, payload bytea, labels json)""",
    "ALTER TABLE documents REPLICA IDENTITY FULL",
)
# A binary collation: keys that differ in case only are different keys, as they are in Iceberg.
MYSQL_DDL = (
    f"""CREATE TABLE products (
         sku varchar(40) PRIMARY KEY, title varchar(200) NOT NULL, price decimal(12,2) NOT NULL,
         category enum{_CATEGORIES}, stock int, shelf smallint, rating float, weight double,
         attributes json, thumbnail varbinary(64), updated_at timestamp(6) NULL)
         CHARACTER SET utf8mb4 COLLATE utf8mb4_bin""",
    f"""CREATE TABLE payments (
         id bigint PRIMARY KEY, order_ref char(36) NOT NULL, amount decimal(12,2) NOT NULL,
         method enum{_METHODS} NOT NULL, refunded boolean, paid_on date, paid_at datetime(6))
         CHARACTER SET utf8mb4 COLLATE utf8mb4_bin""",
)


class Values:
    """Values of each type, drawn from one seeded source."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)

    def integer(self, bits: int) -> int:
        """Return a signed integer, small ones and the ends of the range more often."""
        end = 2 ** (bits - 1)
        return self.random.choice((self.random.randrange(100), self.random.randrange(-end, end)))

    def cents(self) -> Decimal:
        """Return an amount that fits numeric(12,2)."""
        largest = 10 ** self.random.choice((3, 5, 12))
        return Decimal(self.random.randrange(-largest + 1, largest)).scaleb(-2)

    def real(self) -> float:
        """Return a number that 32 bits hold exactly and six digits print exactly."""
        return self.random.randrange(-4000, 4000) / 4

    def double(self) -> float:
        """Return any finite number, -0.0 among them."""
        gauss = self.random.gauss(0, 1e6)
        return self.random.choice((gauss, gauss * 1e-200, -0.0, 0.1, float(int(gauss))))

    def wild_double(self) -> float:
        """Return a number, sometimes one that is none."""
        return self.random.choice((*(self.double() for _ in range(7)), math.nan, -math.inf))

    def boolean(self) -> bool:
        """Return a truth value."""
        return self.random.random() < 0.5

    def text(self, words: int = 6) -> str:
        """Return words in several scripts; sometimes none."""
        return " ".join(self.random.choices(_WORDS, k=self.random.randrange(words)))

    def large_text(self) -> str:
        """Return 2 to 8 kB that don't compress well."""
        return self.random.randbytes(self.random.randrange(1_000, 4_000)).hex()

    def bytes(self, most: int) -> bytes:
        """Return up to so many bytes."""
        return self.random.randbytes(self.random.randrange(most + 1))

    def document(self) -> str:
        """Return a small JSON document."""
        number = self.random.choice((self.integer(64), round(self.random.random(), 6), 1.5e20))
        list_ = [self.boolean(), None, self.text(3)]
        return json.dumps({"z": number, "a": {"list": list_, "ü": self.text(2)}})

    def day(self) -> date:
        """Return a date from 1900 to 2199."""
        return date(1900, 1, 1) + timedelta(days=self.random.randrange(109_500))

    def wall_clock(self) -> datetime:
        """Return a date and time with microseconds, without a zone."""
        return datetime.combine(self.day(), self.time_of_day())

    def instant(self) -> datetime:
        """Return an instant that MySQL's TIMESTAMP can hold too (1970 to 2037)."""
        us = self.random.randrange(86_400_000_000, 2_145_000_000_000_000)
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)

    def time_of_day(self) -> time:
        """Return a time of day, with and without microseconds."""
        us = self.random.choice((0, 500_000, self.random.randrange(1_000_000)))
        hour, minute = self.random.randrange(24), self.random.randrange(60)
        return time(hour, minute, self.random.randrange(60), us)

    def uuid(self) -> uuid.UUID:
        """Return a random UUID."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)


Draw = Callable[[Values], object]


def _choice(options: tuple[str, ...]) -> Draw:
    return lambda values: values.random.choice(options)


def _maybe(draw: Draw) -> Draw:
    return lambda values: None if values.random.random() < 0.15 else draw(values)


@dataclass(frozen=True)
class ShopTable:
    """A table, as the traffic fills it: key columns, and how each other column's value is drawn."""

    name: str
    side: Side
    key: tuple[str, ...]
    columns: Mapping[str, Draw]


CUSTOMERS = ShopTable(
    "customers",
    "postgres",
    ("id",),
    {
        "name": Values.text,
        "level": _maybe(lambda v: v.integer(16)),
        "visits": _maybe(lambda v: v.integer(32)),
        "active": _maybe(Values.boolean),
        "balance": _maybe(Values.cents),
        "born": _maybe(Values.day),
        "tier": _maybe(_choice(_TIERS)),
        "preferences": _maybe(Values.document),
        "created_at": Values.instant,
    },
)
ORDERS = ShopTable(
    "orders",
    "postgres",
    ("id",),
    {
        "customer_id": lambda v: v.integer(64),
        "state": _choice(_STATES),
        "total": _maybe(Values.cents),
        "weight": _maybe(Values.real),
        "placed_at": Values.wall_clock,
        "shipped_at": _maybe(Values.instant),
        "slot": _maybe(Values.time_of_day),
        "note": _maybe(Values.text),
    },
)
ORDER_LINES = ShopTable(
    "order_lines",
    "postgres",
    ("order_id", "line_no"),
    {
        "sku": Values.text,
        "quantity": lambda v: v.integer(32),
        "unit_price": Values.cents,
        "discount": _maybe(Values.wild_double),
    },
)
DOCUMENTS = ShopTable(
    "documents",
    "postgres",
    ("id",),
    {
        "customer_id": _maybe(lambda v: v.integer(64)),
        "body": _maybe(Values.large_text),
        "payload": _maybe(lambda v: v.bytes(3_000)),
        "labels": _maybe(Values.document),
    },
)
PRODUCTS = ShopTable(
    "products",
    "mysql",
    ("sku",),
    {
        "title": Values.text,
        "price": Values.cents,
        "category": _maybe(_choice(_CATEGORIES)),
        "stock": _maybe(lambda v: v.integer(32)),
        "shelf": _maybe(lambda v: v.integer(16)),
        "rating": _maybe(Values.real),
        "weight": _maybe(Values.double),
        "attributes": _maybe(Values.document),
        "thumbnail": _maybe(lambda v: v.bytes(64)),
        "updated_at": _maybe(lambda v: v.instant().replace(tzinfo=None)),
    },
)
PAYMENTS = ShopTable(
    "payments",
    "mysql",
    ("id",),
    {
        "order_ref": lambda v: str(v.uuid()),
        "amount": Values.cents,
        "method": _choice(_METHODS),
        "refunded": _maybe(Values.boolean),
        "paid_on": _maybe(Values.day),
        "paid_at": _maybe(Values.wall_clock),
    },
)
TABLES = (CUSTOMERS, ORDERS, ORDER_LINES, DOCUMENTS, PRODUCTS, PAYMENTS)


@dataclass(frozen=True)
class SchemaStep:
    """One ALTER TABLE, and what the traffic draws for the column afterwards."""

    table: ShopTable
    sql: str
    column: str
    draw: Draw


SCHEMA_STEPS = (
    SchemaStep(CUSTOMERS, "ALTER TABLE customers ADD COLUMN phone text", "phone", Values.text),
    SchemaStep(
        ORDER_LINES,
        "ALTER TABLE order_lines ALTER COLUMN quantity TYPE bigint",
        "quantity",
        lambda v: v.integer(64),
    ),
    SchemaStep(
        PRODUCTS,
        "ALTER TABLE products ADD COLUMN available_from datetime(6)",
        "available_from",
        _maybe(Values.wall_clock),
    ),
)
