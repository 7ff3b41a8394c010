"""Real Iceberg tables in a SQLite catalog, made by pyiceberg, for tests that read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from cdc_sink import config
from cdc_sink.change.position import SourcePosition
from cdc_sink.table.ledger import BATCH_KEY, LEDGER_KEY, Ledger

ROWS = pa.table({"id": pa.array([1, 2], pa.int64())})


def catalog_in(folder: Path) -> config.Catalog:
    return config.Catalog(
        type="jdbc", uri=f"jdbc:sqlite:{folder}/catalog.db", warehouse=f"{folder}/warehouse"
    )


def make_table(folder: Path, target: str = "shop.customers") -> Table:
    uri = f"sqlite:///{folder}/catalog.db"
    catalog = SqlCatalog("lake", uri=uri, warehouse=f"file://{folder}/warehouse")
    catalog.create_namespace_if_not_exists("shop")
    table = catalog.create_table(target, ROWS.schema)
    catalog.engine.dispose()
    return table


def ledger(next_offsets: Mapping[int, int], **changes: object) -> Ledger:
    values: dict[str, object] = {
        "pipeline": "shop",
        "query_id": "q1",
        "cluster_id": "c1",
        "topic": "shop_pg.public.customers",
        "topic_id": "t1",
        "next_offsets": next_offsets,
        "high_water": {0: SourcePosition(5, 1)},
        **changes,
    }
    return Ledger(**values)  # type: ignore[arg-type]


def commit(table: Table, written: Ledger | None, **batch: int) -> None:
    properties = {} if written is None else {LEDGER_KEY: written.to_json()}
    if batch:
        properties[BATCH_KEY] = json.dumps(batch)
    table.append(ROWS, snapshot_properties=properties)
