"""The pipeline that all histories are of: its tables in two databases, and its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.shop.tables import CUSTOMERS, ORDER_LINES, PRODUCTS
from cdc_sink.demo.shop.traffic import Connect

NAME = "shop_chaos"
TABLES = (CUSTOMERS, ORDER_LINES, PRODUCTS)  # of the shop's, from both databases
PARCELS = "parcels"  # empty at first: Debezium makes its topic with the first row
READINGS = "readings"  # left alone by the traffic: its changes are a test's own, see readings.py
VISITS = "visits"  # of its own connector, which comes late
KEYS: Mapping[str, tuple[str, ...]] = {t.name: t.key for t in TABLES} | dict.fromkeys(
    (PARCELS, READINGS, VISITS), ("id",)
)
DDL = (
    "CREATE TABLE parcels (id bigint PRIMARY KEY, grams int)",
    "CREATE TABLE readings (id bigint PRIMARY KEY, value int, seen timestamptz, note text)",
    "INSERT INTO readings SELECT i, i, now(), 'first' FROM generate_series(1, 40) i",
    "CREATE TABLE visits (id bigint PRIMARY KEY, page text NOT NULL, seconds int)",
)


def name_of(table: str) -> str:
    """The pipeline's name of a table."""
    return f"{NAME}.{table}"


def connects(chain: Chain) -> tuple[Connect, Connect]:
    """How the shop's people reach the two databases."""
    return partial(chain.postgres.connect, NAME), partial(chain.mysql.connect, NAME)


def captured(side: str) -> list[str]:
    """The tables that a database's first connector reads."""
    of_shop = [table.name for table in TABLES if table.side == side]
    return [*of_shop, PARCELS, READINGS] if side == "postgres" else of_shop


def config_of(chain: Chain, folder: Path) -> dict[str, Any]:
    """The configuration, with everything that it writes in this folder."""
    password = folder / "password"
    password.write_text(chain.mysql.password)
    side = {"postgres": ("shop_pg.public", "public"), "mysql": (f"shop_my.{NAME}", NAME)}
    tables = [(name, *side[at], at) for at in ("postgres", "mysql") for name in captured(at)]
    tables.append((VISITS, "late_pg.public", "public", "postgres"))
    return {
        "pipeline": NAME,
        "kafka": {"bootstrap_servers": chain.bootstrap_servers},
        "registry": {"url": chain.registry_url},
        "catalog": {
            "type": "jdbc",
            "uri": f"jdbc:sqlite:{folder}/catalog.db",
            "warehouse": f"file://{folder}/warehouse",
        },
        "checkpoints": f"file://{folder}/checkpoints",
        "spark": {
            "master": "local[2]",
            "jars": "locked",
            "conf": {"spark.driver.memory": "1g", "spark.driver.extraJavaOptions": "-Xms1g"},
        },
        # Of a driver of all tables a batch of any is waited for, and what it does meanwhile costs the most.
        "defaults": {
            "namespace": NAME,
            "buckets": 2,
            "trigger_s": 3.0,
            "max_records_per_batch": 300,
        },
        "tables": [
            {
                "topic": f"{topic}.{name}",
                "source": {"database": database, "table": f"{schema}.{name}"},
                "max_records_per_batch": 5_000 if name == VISITS else 300,
            }
            for name, topic, schema, database in tables
        ],
        "databases": {
            "postgres": {
                "type": "postgresql",
                "host": chain.postgres.host,
                "port": chain.postgres.port,
                "database": NAME,
                "user": chain.postgres.user,
            },
            "mysql": {
                "type": "mysql",
                "host": chain.mysql.host,
                "port": chain.mysql.port,
                "database": NAME,
                "user": chain.mysql.user,
                "password": {"file": str(password)},
            },
        },
    }
