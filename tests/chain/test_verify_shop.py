"""`verify` of all of the sample shop.

The tables are written by pyiceberg from the drivers' own Python values, so nothing of the way that
is tested takes part in making what it is compared with.
"""

from __future__ import annotations

import json
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

from cdc_sink.config import Database, Pipeline, SourceTable, Table
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.shop.tables import TABLES
from cdc_sink.demo.shop.traffic import Traffic, create
from cdc_sink.verification.verify import verify
from tests.chain.databases import VERIFIED as NAME
from tests.chain.databases import execute
from tests.chain.settings import surroundings_of

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
def shop(
    chain: Chain, databases: dict[str, Database], tmp_path_factory: pytest.TempPathFactory
) -> Pipeline:
    connects = (partial(chain.postgres.connect, NAME), partial(chain.mysql.connect, NAME))
    create(*connects)
    Traffic(7, *connects, alter_after=1_000).run(events=3_000)
    folder = tmp_path_factory.mktemp("lake")
    write_tables(chain, folder)
    return Pipeline.model_validate(
        {
            "name": "shop",
            **surroundings_of(chain, folder, "lake"),
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


def write_tables(chain: Chain, folder: Path) -> None:
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
        part: Any = getattr(chain, table.side)
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
    chain: Chain, shop: Pipeline, table: str, statement: str
) -> None:
    side = next(each.side for each in TABLES if each.name == table)
    for column, value in CHANGED[table].items():
        execute(chain, side, statement.format(f"{column} = {value}"), database=NAME)
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
