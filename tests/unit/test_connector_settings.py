"""The connectors' settings that users copy are those the chain runs with."""

from __future__ import annotations

import json
from pathlib import Path

from cdc_sink.demo.chain.connectors import (
    mariadb_settings,
    mysql_settings,
    postgres_settings,
    with_signals,
    with_topics,
)
from cdc_sink.demo.chain.servers.connect_worker import ConnectWorker
from cdc_sink.demo.chain.servers.mariadb import MariaDb
from cdc_sink.demo.chain.servers.mysql import MySql
from cdc_sink.demo.chain.servers.postgres import Postgres

CONF = Path(__file__).parents[2] / "conf" / "connectors"
NOWHERE = Path("/")
BROKERS = "broker-1.example.com:9092"
REGISTRY = "https://registry.example.com/apis/registry/v2"
SECRET = "${file:/etc/connect/secrets.properties:%s}"
# A cluster of several brokers, not one.
REPLICATED = {"topic.creation.default.replication.factor": "3"}


def converters() -> dict[str, str]:
    """What the chain tells its Connect worker, and a user tells each connector."""
    worker = ConnectWorker(NOWHERE, 8083, BROKERS, REGISTRY)
    return {key: value for key, value in worker._properties(NOWHERE).items() if "converter" in key}


def test_the_postgresql_settings_to_copy_are_those_of_the_chain() -> None:
    server = Postgres(
        NOWHERE, 5432, user="debezium", password=SECRET % "postgresql", host="pg.example.com"
    )
    tables = ["public.customers", "public.orders"]
    settings = postgres_settings(server, "shop_pg", "shop", tables, slot="shop")
    expected = with_topics(settings, partitions=8) | REPLICATED | converters()
    expected = with_signals(expected, BROKERS)
    assert json.loads((CONF / "postgresql.json").read_text()) == expected


def test_the_mysql_settings_to_copy_are_those_of_the_chain() -> None:
    server = MySql(
        NOWHERE, 3306, user="debezium", password=SECRET % "mysql", host="mysql.example.com"
    )
    tables = ["shop.products", "shop.payments"]
    settings = mysql_settings(server, "shop_my", "shop", tables, history_servers=BROKERS)
    expected = with_topics(settings, partitions=8) | REPLICATED | converters()
    expected = with_signals(expected, BROKERS)
    # The chain's server has no certificate; without TLS a login needs the server's public key.
    expected["database.ssl.mode"] = "preferred"
    del expected["database.allowPublicKeyRetrieval"]
    assert json.loads((CONF / "mysql.json").read_text()) == expected


def test_the_mariadb_settings_to_copy_are_those_of_the_chain() -> None:
    server = MariaDb(
        NOWHERE, 3306, user="debezium", password=SECRET % "mariadb", host="mariadb.example.com"
    )
    tables = ["shop.products", "shop.payments"]
    settings = mariadb_settings(server, "shop_ma", "shop", tables, history_servers=BROKERS)
    expected = with_topics(settings, partitions=8) | REPLICATED | converters()
    # The chain's server makes no certificate; 11.4 does by itself, one that only `trust` accepts.
    expected["database.ssl.mode"] = "trust"
    assert json.loads((CONF / "mariadb.json").read_text()) == expected
