"""What the demo shows: a live table, or one line per look where nobody watches, and the last screen."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table as Screen

from cdc_sink.config import Database
from cdc_sink.demo.folder import DemoFolder, shown
from cdc_sink.demo.progress import Progress
from cdc_sink.demo.shop.tables import SCHEMA_STEPS

SPARK_QUERY = "SELECT count(*) AS customers, count(phone) AS with_phone FROM shop.customers"
DUCKDB_QUERY = "SELECT state, count(*), sum(total) FROM orders GROUP BY state ORDER BY state"

SHOP_CHANGE = "DELETE FROM customers WHERE id % 2 = 0"


def render_live(progress: Progress) -> Screen:
    """Render one look for a terminal."""
    screen = Screen(title=progress.doing, title_justify="left")
    screen.add_column("table", no_wrap=True)
    screen.add_column("pipeline")
    for name in ("events sent", "lag (records)", "freshness"):
        screen.add_column(name, justify="right")
    for table in progress.tables:
        lag = "unknown" if table.lag_records is None else f"{table.lag_records:,}"
        fresh = _freshness(table.lag_records, table.freshness_s)
        screen.add_row(table.table, table.state, f"{table.sent:,}", lag, fresh)
    return screen


def render_line(progress: Progress) -> str:
    """Render one look for a log: all tables, then each as lag in records and freshness."""
    each = ", ".join(
        f"{table.table.rpartition('.')[2]} "
        f"{'?' if table.lag_records is None else table.lag_records}"
        f"/{_freshness(table.lag_records, table.freshness_s)}"
        for table in progress.tables
    )
    return (
        f"{progress.doing}: {progress.sent:,} events sent, {progress.lag_records:,} records wait"
        f" (lag/freshness: {each})"
    )


def _freshness(lag_records: int | None, freshness_s: float | None) -> str:
    if lag_records == 0:
        return "caught up"
    return "unknown" if freshness_s is None else f"{freshness_s:.1f} s"


@dataclass(frozen=True)
class Closing:
    """What the last screen tells of."""

    folder: DemoFolder
    is_equal: bool
    is_kept: bool  # chain and pipeline go on
    sent: int
    tables: int
    rows: int
    commits: int
    shop: Database  # one that can be changed by hand


def render_closing(closing: Closing) -> Iterator[str]:
    """Say what was made, where it lies, and what can be done with it now."""
    verdict = "equal to its source" if closing.is_equal else "compared with its source: NOT equal"
    yield ""
    yield f"{closing.tables} Iceberg tables, {closing.rows:,} rows, every one {verdict}."
    yield (
        f"{closing.sent:,} row changes and {len(SCHEMA_STEPS)} ALTER TABLEs went through Debezium "
        f"and Kafka, and arrived in {closing.commits:,} table commits."
    )
    yield ""
    for said, path in _places(closing.folder):
        yield f"  {said:22}{shown(path)}"
    yield ""
    yield "To go on, copy:"
    yield ""
    yield from _queries(closing.folder)
    yield from _kept(closing) if closing.is_kept else _brought_back(closing.folder)


def _places(folder: DemoFolder) -> tuple[tuple[str, Path], ...]:
    return (
        ("configuration", folder.config),
        ("tables", folder.warehouse),
        ("catalog", folder.catalog),
        ("checkpoints", folder.checkpoints),
        ("pipeline's log", folder.pipeline_log),
        ("chain, with its logs", folder.chain),
    )


def _queries(folder: DemoFolder) -> Iterator[str]:
    scripts = Path(sysconfig.get_path("scripts"))
    if str(scripts) not in os.get_exec_path():
        yield f"source {shown(scripts / 'activate')}"
    yield "# Spark SQL"
    yield f"spark-sql --properties-file {shown(folder.spark_properties)} \\"
    yield f'  -e "{SPARK_QUERY}"'
    yield "# pyiceberg and DuckDB"
    yield "python -c '"
    yield "from pyiceberg.catalog import load_catalog"
    yield f'lake = load_catalog("lake", type="sql", uri="sqlite:///{folder.catalog}")'
    yield 'duck = lake.load_table("shop.orders").scan().to_duckdb("orders")'
    yield f'duck.sql("{DUCKDB_QUERY}").show()\''


def _brought_back(folder: DemoFolder) -> Iterator[str]:
    workdir, config = shown(folder.chain), shown(folder.config)
    yield "# the chain stops now; bring it back with the same data and ports, and see how far it is"
    yield f"cdc-sink chain up --detach --workdir {workdir}"
    yield f"cdc-sink status {config}"
    yield f"cdc-sink verify {config}"
    yield f"cdc-sink chain down --workdir {workdir}"


def _kept(closing: Closing) -> Iterator[str]:
    config, shop = shown(closing.folder.config), closing.shop
    address = f"host={shop.host} port={shop.port} user={shop.user} dbname={shop.database}"
    yield "# change the shop, see how far the tables are, compare again"
    yield f'python -c \'import psycopg; psycopg.connect("{address}", autocommit=True).execute('
    yield f'  "{SHOP_CHANGE}")\''
    yield f"cdc-sink status {config}"
    yield f"cdc-sink verify --wait-s 60 {config}"
    yield ""
    yield "Chain and pipeline go on until you press Ctrl-C."
