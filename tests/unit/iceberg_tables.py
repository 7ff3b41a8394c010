"""Real Iceberg tables in a SQLite catalog, made by pyiceberg, for tests that read them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from cdc_sink import config
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.table.ledger.ledger import BATCH_KEY, LEDGER_KEY, Ledger
from cdc_sink.table.ledger.stream_identity import StreamIdentity

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


STREAM = StreamIdentity("shop", "q1", "c1", "shop_pg.public.customers", "t1")


def ledger(next_offsets: Mapping[int, int], **changes: object) -> Ledger:
    """A ledger of that stream; fields of the stream may be changed, too."""
    names = {field.name for field in dataclasses.fields(STREAM)}
    stream = {name: value for name, value in changes.items() if name in names}
    own: dict[str, object] = {"high_water": {0: SourcePosition(5, 1)}, **changes}
    kept = {name: value for name, value in own.items() if name not in names}
    return Ledger(dataclasses.replace(STREAM, **stream), next_offsets, **kept)  # type: ignore[arg-type]


def commit(table: Table, written: Ledger | None, **batch: int) -> None:
    properties = {} if written is None else {LEDGER_KEY: written.to_json()}
    if batch:
        properties[BATCH_KEY] = json.dumps(batch)
    table.append(ROWS, snapshot_properties=properties)
