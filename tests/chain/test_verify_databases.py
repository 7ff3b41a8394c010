"""`verify` against real databases: every value as it is printed, and all of the sample shop.

The tables are written by pyiceberg from the drivers' own Python values, so nothing of the way that
is tested takes part in making what it is compared with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import time
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from cdc_sink.config import Database, Pipeline, Secret, SourceTable, Table
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.shop.tables import TABLES
from cdc_sink.demo.shop.traffic import Traffic, create
from cdc_sink.errors import ConfigError, UnavailableError
from cdc_sink.verification.databases.open_database import open_database
from cdc_sink.verification.databases.source_database import SourceDatabase
from cdc_sink.verification.verify import verify

NAME = "shop_verify"

ICEBERG: dict[str, dict[str, IcebergType]] = {
    "customers": {
        "id": LongType(),
        "name": StringType(),
        "level": IntegerType(),
        "visits": IntegerType(),
        "active": BooleanType(),
        "balance": DecimalType(12, 2),
        "born": DateType(),
        "tier": StringType(),
        "preferences": StringType(),
        "created_at": TimestamptzType(),
        "phone": StringType(),
    },
    "orders": {
        "id": StringType(),
        "customer_id": LongType(),
        "state": StringType(),
        "total": DecimalType(12, 2),
        "weight": FloatType(),
        "placed_at": TimestampType(),
        "shipped_at": TimestamptzType(),
        "slot": LongType(),
        "note": StringType(),
    },
    "order_lines": {
        "order_id": StringType(),
        "line_no": IntegerType(),
        "sku": StringType(),
        "quantity": LongType(),
        "unit_price": DecimalType(12, 2),
        "discount": DoubleType(),
    },
    "documents": {
        "id": LongType(),
        "customer_id": LongType(),
        "body": StringType(),
        "payload": BinaryType(),
        "labels": StringType(),
    },
    "products": {
        "sku": StringType(),
        "title": StringType(),
        "price": DecimalType(12, 2),
        "category": StringType(),
        "stock": IntegerType(),
        "shelf": IntegerType(),
        "rating": FloatType(),
        "weight": DoubleType(),
        "attributes": StringType(),
        "thumbnail": BinaryType(),
        "updated_at": TimestamptzType(),
        "available_from": TimestampType(),
    },
    "payments": {
        "id": LongType(),
        "order_ref": StringType(),
        "amount": DecimalType(12, 2),
        "method": StringType(),
        "refunded": IntegerType(),
        "paid_on": DateType(),
        "paid_at": TimestampType(),
    },
}


@pytest.fixture(scope="module")
def databases(
    stack: Chain, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Database]]:
    stack.postgres.create_database(NAME)
    stack.mysql.create_database(NAME)
    stack.mariadb.create_database(NAME)
    secret = tmp_path_factory.mktemp("secret") / "password"
    secret.write_text(stack.mysql.password)
    yield {
        "postgres": Database(
            type="postgresql",
            host=stack.postgres.host,
            port=stack.postgres.port,
            database=NAME,
            user=stack.postgres.user,
        ),
        "mysql": Database(
            type="mysql",
            host=stack.mysql.host,
            port=stack.mysql.port,
            database=NAME,
            user=stack.mysql.user,
            password=Secret(file=str(secret)),
        ),
        "mariadb": Database(
            type="mysql",
            host=stack.mariadb.host,
            port=stack.mariadb.port,
            database=NAME,
            user=stack.mariadb.user,
            password=Secret(file=str(secret)),
        ),
    }
    with closing(stack.postgres.connect()) as connection:
        connection.execute(f"DROP DATABASE {NAME}")
    for server in (stack.mysql, stack.mariadb):
        with closing(server.connect()) as opened, opened.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {NAME}")


def execute(stack: Chain, side: str, *statements: str) -> None:
    part: Any = getattr(stack, side)
    with closing(part.connect(NAME)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def printed(database: SourceDatabase, table: str) -> list[tuple[Any, ...]]:
    return [row for rows in database.rows(table, database.columns(table)) for row in rows]


# --- values as they are printed -------------------------------------------------------------------


def test_postgresql_prints_every_type_without_loss(
    stack: Chain, databases: Mapping[str, Database]
) -> None:
    execute(
        stack,
        "postgres",
        "CREATE DOMAIN short_time AS time(3)",
        "CREATE DOMAIN shift AS short_time",
        """CREATE TABLE odd ("a.b""c%d" bigint PRIMARY KEY, r real, d double precision, c char(3),
             b bytea, t shift, tz timestamptz, ts timestamp, day date, one bit, bits bit(10),
             doc jsonb, twice bigint GENERATED ALWAYS AS ("a.b""c%d" * 2) STORED, a int[])""",
        """INSERT INTO odd VALUES (1, 0.1, 0.1, 'x', '\\x00ff', '24:00', 'infinity',
             '0044-03-15 BC', '10000-01-01', B'1', B'1000000001', '{"b": 1.10, "a": 1}', DEFAULT,
             '{1,2}')""",
    )
    with open_database(databases["postgres"]) as database:
        columns = database.columns("public.odd")
        assert [(column.name, column.kind) for column in columns] == [
            ('a.b"c%d', "plain"),
            ("r", "real"),
            ("d", "plain"),
            ("c", "plain"),
            ("b", "bytes"),
            ("t", "time"),
            ("tz", "zoned"),
            ("ts", "stamp"),
            ("day", "stamp"),
            ("one", "bits"),
            ("bits", "bits"),
            ("doc", "json"),
            ("twice", "plain"),
            ("a", "plain"),
        ]
        assert [column.name for column in columns if column.is_generated] == ["twice"]
        assert [" | ".join(map(str, row)) for row in printed(database, "public.odd")] == [
            "1 | 0.1 | 0.1 | x   | b'\\x00\\xff' | 24:00:00 | infinity | 0044-03-15 00:00:00 BC | "
            '10000-01-01 | 1 | 1000000001 | {"a": 1, "b": 1.10} | 2 | {1,2}'
        ]
        assert database.key_columns("public.odd") == ('a.b"c%d',)


def test_mysql_prints_every_type_without_loss(
    stack: Chain, databases: Mapping[str, Database]
) -> None:
    execute(
        stack,
        "mysql",
        """CREATE TABLE odd (`a.b``c%d` bigint unsigned, part int, f float, f4 float(7,4),
             d double, t time(6), y year, z int zerofill, c char(3), fixed binary(3), one bit(1),
             bits bit(10), s set('x','y'), doc json, ts timestamp(6) NULL, flag boolean,
             twice int GENERATED ALWAYS AS (part * 2) STORED, PRIMARY KEY (part, `a.b``c%d`))""",
        """INSERT INTO odd (`a.b``c%d`, part, f, f4, d, t, y, z, c, fixed, one, bits, s, doc, ts,
             flag) VALUES (18446744073709551615, 1, 16777217, 0.1, -0e0, '-838:59:59', 2024, 7,
             'x', x'00', 1, b'1000000001', 'y,x', '{"b": 1.0, "a": 1}',
             '2024-06-01 12:00:00.000001', true)""",
    )
    with open_database(databases["mysql"]) as database:
        columns = database.columns(f"{NAME}.odd")
        kinds = {column.name: column.kind for column in columns}
        assert kinds["f"] == kinds["f4"] == "real"
        assert kinds["one"] == "bits"
        assert kinds["bits"] == "bits"
        assert kinds["t"] == "time"
        assert kinds["doc"] == "json_doubles"
        assert [column.name for column in columns if column.is_generated] == ["twice"]
        assert [" | ".join(map(str, row)) for row in printed(database, f"{NAME}.odd")] == [
            "18446744073709551615 | 1 | 16777216 | 0.10000000149011612 | -0 | -838:59:59.000000 | "
            "2024 | 0000000007 | x | b'\\x00\\x00\\x00' | 1 | 1000000001 | x,y | "
            '{"a": 1, "b": 1.0} | 2024-06-01 12:00:00.000001 | 1 | 2'
        ]
        assert database.key_columns(f"{NAME}.odd") == ("part", "a.b`c%d")


@pytest.mark.parametrize(("side", "schema"), [("postgres", "public"), ("mysql", NAME)])
def test_one_open_database_shows_one_state(
    stack: Chain, databases: Mapping[str, Database], side: str, schema: str
) -> None:
    execute(stack, side, "CREATE TABLE still (id int PRIMARY KEY)", "INSERT INTO still VALUES (1)")
    with open_database(databases[side]) as database:
        before = printed(database, f"{schema}.still")
        execute(stack, side, "INSERT INTO still VALUES (2)")
        assert printed(database, f"{schema}.still") == before == [("1",)]


@pytest.mark.parametrize("side", ["postgres", "mysql"])
def test_a_source_that_is_not_there_says_what_is_wrong(
    databases: Mapping[str, Database], side: str
) -> None:
    with open_database(databases[side]) as database, pytest.raises(ConfigError, match=r"x\.gone"):
        database.columns("x.gone")
    with pytest.raises(UnavailableError, match="does not answer"):
        open_database(databases[side].model_copy(update={"port": 1}))


# --- what only the databases can answer -----------------------------------------------------------


@pytest.mark.parametrize("side", ["mysql", "mariadb"])
def test_mysql_columns_that_this_user_may_not_see_are_no_columns_that_are_not_there(
    stack: Chain, databases: Mapping[str, Database], side: str
) -> None:
    execute(
        stack,
        side,
        "CREATE TABLE partly (id int PRIMARY KEY, v text, secret text)",
        "CREATE USER IF NOT EXISTS partly_reader",
        f"GRANT SELECT (id, v) ON {NAME}.partly TO partly_reader",
    )
    reader = {"user": "partly_reader", "password": None}
    with (
        open_database(databases[side].model_copy(update=reader)) as database,
        pytest.raises(ConfigError, match="refused to read"),
    ):
        database.columns(f"{NAME}.partly")


@pytest.mark.parametrize(
    "grant",
    ["GRANT SELECT (id) ON guarded TO guarded_reader", "GRANT SELECT ON guarded TO guarded_reader"],
)
def test_postgresql_rows_or_columns_that_this_user_may_not_see_are_an_error(
    stack: Chain, databases: Mapping[str, Database], grant: str
) -> None:
    execute(
        stack,
        "postgres",
        "DROP TABLE IF EXISTS guarded",
        "DROP ROLE IF EXISTS guarded_reader",
        "CREATE TABLE guarded (id int PRIMARY KEY, owner text)",
        "INSERT INTO guarded VALUES (1, 'guarded_reader'), (2, 'other')",
        "CREATE ROLE guarded_reader LOGIN",
        "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON guarded USING (owner = current_user)",
        grant,
    )
    reader = databases["postgres"].model_copy(update={"user": "guarded_reader"})
    with (
        open_database(reader) as database,
        pytest.raises(ConfigError, match="refused to read"),
    ):
        printed(database, "public.guarded")


def test_of_two_tables_that_differ_in_case_each_has_its_own_columns(
    stack: Chain, databases: Mapping[str, Database]
) -> None:
    for side, schema in (("postgres", "public"), ("mysql", NAME), ("mariadb", NAME)):
        quote = '"' if side == "postgres" else "`"
        execute(
            stack,
            side,
            f"CREATE TABLE {quote}Twin{quote} (id int PRIMARY KEY, a int)",
            "CREATE TABLE twin (key_ int PRIMARY KEY, b int, c int)",
        )
        with open_database(databases[side]) as database:
            assert [one.name for one in database.columns(f"{schema}.Twin")] == ["id", "a"]
            assert [one.name for one in database.columns(f"{schema}.twin")] == ["key_", "b", "c"]
            assert database.key_columns(f"{schema}.Twin") == ("id",)


# --- the sample shop ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(
    stack: Chain, databases: dict[str, Database], tmp_path_factory: pytest.TempPathFactory
) -> Pipeline:
    connects = (partial(stack.postgres.connect, NAME), partial(stack.mysql.connect, NAME))
    create(*connects)
    Traffic(7, *connects, alter_after=1_000).run(events=3_000)
    folder = tmp_path_factory.mktemp("lake")
    write_tables(stack, folder)
    return Pipeline.model_validate(
        {
            "name": "shop",
            "kafka": {"bootstrap_servers": "127.0.0.1:9092"},
            "registry": {"url": "http://127.0.0.1:8081"},
            "catalog": {
                "type": "jdbc",
                "uri": f"jdbc:sqlite:{folder}/catalog.db",
                "warehouse": f"file://{folder}/warehouse",
            },
            "checkpoints": f"file://{folder}/checkpoints",
            "defaults": {"namespace": "shop"},
            "databases": databases,
            "tables": [
                Table(
                    topic=f"shop.{table.name}",
                    target=f"shop.{table.name}",
                    source=SourceTable(
                        database=table.side,
                        table=f"{'public' if table.side == 'postgres' else NAME}.{table.name}",
                    ),
                )
                for table in TABLES
            ],
        }
    )


def write_tables(stack: Chain, folder: Path) -> None:
    catalog = SqlCatalog(
        "lake", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse"
    )
    catalog.create_namespace("shop")
    for table in TABLES:
        types = ICEBERG[table.name]
        fields = [
            NestedField(at, name, type_, required=name in table.key)
            for at, (name, type_) in enumerate(types.items(), start=1)
        ]
        keys = [field.field_id for field in fields if field.name in table.key]
        schema = Schema(*fields, identifier_field_ids=keys)
        part: Any = getattr(stack, table.side)
        with closing(part.connect(NAME)) as connection, connection.cursor() as cursor:
            # A FLOAT is read as the double it stands for: MySQL prints six digits of it.
            names = ["rating * 1e0" if name == "rating" else name for name in types]
            cursor.execute(f"SELECT {', '.join(names)} FROM {table.name}")
            rows = [[as_stored(value) for value in row] for row in cursor.fetchall()]
        arrow = schema.as_arrow()
        columns = [
            pa.array(values, field.type)
            for values, field in zip(zip(*rows, strict=True), arrow, strict=True)
        ]
        catalog.create_table(f"shop.{table.name}", schema).append(
            pa.Table.from_arrays(columns, schema=arrow)
        )
    catalog.close()


def as_stored(value: object) -> object:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, time):
        return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + (
            value.microsecond
        )
    return json.dumps(value) if isinstance(value, dict | list) else value


def test_all_tables_of_the_shop_equal_their_copies(shop: Pipeline) -> None:
    found = verify(shop)
    assert [one.table for one in found] == [f"shop.{table.name}" for table in TABLES]
    assert [one.differences for one in found] == [()] * len(TABLES)
    assert all(one.equal and one.rows_source == one.rows_table > 0 for one in found)


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("customers", "UPDATE customers SET {} WHERE id = (SELECT min(id) FROM customers)"),
        ("orders", "UPDATE orders SET {} WHERE id = (SELECT id FROM orders ORDER BY 1 LIMIT 1)"),
        ("products", "UPDATE products SET {} ORDER BY sku LIMIT 1"),
    ],
)
def test_a_change_of_any_column_is_found_by_key_and_column(
    stack: Chain, shop: Pipeline, table: str, statement: str
) -> None:
    side = next(each.side for each in TABLES if each.name == table)
    for column, value in CHANGED[table].items():
        execute(stack, side, statement.format(f"{column} = {value}"))
    (found,) = verify(shop, [f"shop.{table}"])
    (difference,) = found.differences
    assert difference.kind == "different"
    assert set(difference.columns) == set(CHANGED[table])


CHANGED = {
    "customers": {
        "name": "name || ' '",
        "level": "coalesce(nullif(-level, 0), 1)",
        "balance": "coalesce(balance, 0) + CASE WHEN balance > 0 THEN -0.01 ELSE 0.01 END",
        "active": "active IS NOT TRUE",
        "born": "coalesce(born, '2000-01-01') + 1",
        "tier": "CASE tier WHEN 'gold' THEN 'basic' ELSE 'gold' END::customer_tier",
        "preferences": "'[1]'",
        "created_at": "created_at + interval '1 us'",
    },
    "orders": {
        "weight": "coalesce(nullif(-weight, 0), 1)",
        "placed_at": "placed_at + interval '1 us'",
        "slot": "CASE WHEN slot = '00:00' THEN '00:01' ELSE '00:00' END::time",
    },
    "products": {
        "title": "concat(title, ' ')",
        "rating": "coalesce(-rating, 0) + 0.25",
        "weight": "coalesce(-weight, 0) + 1e-300",
        "attributes": "'[1]'",
        "thumbnail": "concat(coalesce(thumbnail, ''), x'00')",
        "updated_at": "coalesce(updated_at, '2000-01-01') + interval 1 microsecond",
    },
}
