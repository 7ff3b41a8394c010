"""The sample shop against real databases: what is counted is what is there."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import pytest

from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.shop.tables import TABLES
from cdc_sink.demo.shop.traffic import Connect, Traffic, create


@dataclass(frozen=True)
class Shop:
    postgres: Connect
    mysql: Connect

    def count(self, table: str, side: str) -> int:
        connect = self.postgres if side == "postgres" else self.mysql
        with closing(connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {table}")
            return int(cursor.fetchone()[0])

    def counts(self) -> dict[str, int]:
        return {table.name: self.count(table.name, table.side) for table in TABLES}

    def type_of(self, table: str, column: str) -> str:
        with closing(self.postgres()) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_typeof({column}) FROM {table} LIMIT 1")
            return str(cursor.fetchone()[0])


@pytest.fixture
def shop(chain: Chain, request: pytest.FixtureRequest) -> Iterator[Shop]:
    name = f"shop_{zlib.crc32(request.node.name.encode())}"
    chain.postgres.create_database(name)
    chain.mysql.create_database(name)
    shop = Shop(partial(chain.postgres.connect, name), partial(chain.mysql.connect, name))
    create(shop.postgres, shop.mysql)
    yield shop
    with closing(chain.postgres.connect()) as connection:
        connection.execute(f"DROP DATABASE {name}")
    with closing(chain.mysql.connect()) as opened, opened.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name}")


def test_the_tables_hold_the_rows_the_traffic_says(shop: Shop) -> None:
    traffic = Traffic(7, shop.postgres, shop.mysql)
    traffic.run(events=1_000)
    assert traffic.total >= 1_000
    assert shop.counts() == traffic.rows


def test_a_second_run_goes_on_where_the_first_ended(shop: Shop) -> None:
    traffic = Traffic(7, shop.postgres, shop.mysql)
    traffic.run(events=200)
    traffic.run(events=200)
    assert traffic.total >= 400
    assert shop.counts() == traffic.rows


def test_tables_are_altered_once_and_new_columns_are_filled(shop: Shop) -> None:
    traffic = Traffic(7, shop.postgres, shop.mysql, alter_after=300)
    traffic.run(events=299)
    assert not traffic.is_altered
    traffic.run(events=1_000)
    assert traffic.is_altered
    assert shop.type_of("order_lines", "quantity") == "bigint"
    assert shop.count("customers WHERE phone IS NOT NULL", "postgres") > 0
    assert shop.count("order_lines WHERE quantity > 2147483647", "postgres") > 0
    assert shop.count("products WHERE available_from IS NOT NULL", "mysql") > 0
    assert shop.counts() == traffic.rows


def test_a_started_traffic_stops_when_told_and_lanes_do_not_disturb_each_other(shop: Shop) -> None:
    lanes = [Traffic(7, shop.postgres, shop.mysql, lane=lane) for lane in (0, 1)]
    for traffic in lanes:
        traffic.start(events=300)
    for traffic in lanes:
        traffic.join()
    endless = Traffic(7, shop.postgres, shop.mysql, lane=2)
    endless.start(rate=50)
    endless.stop()
    expected = [traffic.rows for traffic in (*lanes, endless)]
    assert shop.counts() == {
        table.name: sum(rows[table.name] for rows in expected) for table in TABLES
    }


def test_what_stops_a_started_traffic_is_raised_when_it_is_joined(shop: Shop) -> None:
    with closing(shop.mysql()) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE products")
    traffic = Traffic(7, shop.postgres, shop.mysql)
    traffic.start(events=1_000)
    with pytest.raises(Exception, match="products"):
        traffic.join()
