"""What check reads from the machine and from real tables."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from http_double import running_double
from iceberg_tables import catalog_in, commit, ledger, make_table
from pyiceberg.catalog.sql import SqlCatalog

from cdc_sink import config
from cdc_sink.check.check import check_folders, check_pipeline, check_secrets, columns_of
from cdc_sink.table.schema.columns import Column

LOST = config.Secret(env="NOT_SET_ANYWHERE")


def pipeline(folder: Path, **changes: object) -> config.Pipeline:
    values: dict[str, object] = {
        "name": "shop",
        "kafka": {"bootstrap_servers": "127.0.0.1:1", "timeout_s": 0.1},
        "registry": {"url": "http://127.0.0.1:1", "timeout_s": 0.1},
        "catalog": catalog_in(folder),
        "checkpoints": f"{folder}/checkpoints",
        "defaults": {"namespace": "shop"},
        "tables": [{"topic": "t", "target": "shop.customers"}],
        **changes,
    }
    return config.Pipeline.model_validate(values)


def test_a_lost_secret_is_an_error_and_one_for_verify_a_warning(tmp_path: Path) -> None:
    kafka = {"bootstrap_servers": "b:1", "properties": {"sasl.password": LOST}}
    base = {"type": "mysql", "host": "h", "database": "d", "user": "u", "password": LOST}
    found = list(check_secrets(pipeline(tmp_path, kafka=kafka, databases={"my": base})))
    assert [(one.level, one.exit_code) for one in found] == [("error", 2), ("warning", 0)]
    assert all("NOT_SET_ANYWHERE" in one.where + one.saw for one in found)


def test_local_folders_are_tried_and_other_storage_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o755)
    levels = {
        one.where: one.level
        for one in check_folders(pipeline(tmp_path, checkpoints=f"{tmp_path}/file/below"))
    }
    assert levels == {"checkpoints": "error", "catalog.warehouse": "ok"}
    found = check_folders(pipeline(tmp_path, checkpoints="s3a://bucket/checkpoints"))
    assert [one.where for one in found] == ["catalog.warehouse"]


def test_columns_are_named_in_our_words_without_our_own(tmp_path: Path) -> None:
    fields = [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("price", pa.decimal128(10, 2)),
        pa.field("seen", pa.timestamp("us")),
        pa.field("at", pa.timestamp("us", "UTC")),
        pa.field("_cdc_op", pa.string()),
    ]
    make_table(tmp_path)
    catalog = SqlCatalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=str(tmp_path))
    table = catalog.create_table("shop.types", pa.schema(fields))
    assert columns_of(table) == (
        Column("id", "long", required=True),
        Column("price", "decimal(10,2)"),
        Column("seen", "timestamp"),
        Column("at", "timestamptz"),
    )
    catalog.engine.dispose()


@pytest.mark.parametrize(("is_ours", "level"), [(True, "ok"), (False, "error")])
def test_an_existing_table_is_judged_though_every_server_is_silent(
    tmp_path: Path, is_ours: bool, level: str
) -> None:
    commit(make_table(tmp_path), ledger({0: 3}) if is_ours else None)
    found = check_pipeline(pipeline(tmp_path))
    assert [one.level for one in found if one.where == "table shop.customers"] == [level]
    silent = [one.where.partition(" ")[0] for one in found if one.exit_code == 3]
    assert silent == ["registry", "kafka"]


def test_global_ids_without_an_apicurio_registry_are_found_before_the_start(tmp_path: Path) -> None:
    tables = [
        {"topic": "t", "target": "shop.customers", "wire": wire}
        for wire in ("apicurio_8_byte", "apicurio_headers", "confluent_headers")
    ]
    for table, found in ((tables[0], 1), (tables[1], 1), (tables[2], 0)):
        said = [one.saw for one in check_pipeline(pipeline(tmp_path, tables=[table]))]
        assert sum("isn't the address of an Apicurio registry" in saw for saw in said) == found


def test_the_connectors_converters_are_compared_with_the_tables_wire(tmp_path: Path) -> None:
    settings = {
        "topic.prefix": "shop",
        "value.converter": "io.apicurio.registry.utils.converter.AvroConverter",
        "value.converter.apicurio.registry.headers.enabled": "true",
    }
    status = {"connector": {"state": "RUNNING"}, "tasks": []}
    with running_double() as double:
        double.answers["/connectors"] = (
            200,
            {"pg": {"info": {"config": settings}, "status": status}},
        )
        tables = [{"topic": "shop.public.customers", "target": "shop.customers"}]
        found = check_pipeline(pipeline(tmp_path, tables=tables, connect={"url": double.url}))
    assert [one.saw for one in found if "value.converter writes" in one.saw] == [
        "connector pg's value.converter writes apicurio_headers, and the table's `wire` is confluent"
    ]


def test_of_a_table_of_many_sources_every_connector_is_judged(tmp_path: Path) -> None:
    def told(name: str) -> dict[str, object]:
        settings = {
            "topic.prefix": "shop",
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "table.include.list": "public.customers",
            "message.key.columns": f"public.customers:{name}",
        }
        status = {"connector": {"state": "RUNNING"}, "tasks": []}
        return {"info": {"config": settings}, "status": status}

    table = {"topic": "shop.public.customers", "target": "shop.customers", "sources": "many"}
    with running_double() as double:
        double.answers["/connectors"] = (200, {"a": told("email"), "b": told("phone")})
        found = check_pipeline(pipeline(tmp_path, tables=[table], connect={"url": double.url}))
    named = [
        one.saw.partition(" its key")[0]
        for one in found
        if "makes " in one.saw and "key.columns" in one.saw
    ]
    assert named == [
        f"connector {n}'s message.key.columns makes {k}"
        for n, k in (("a", "email"), ("b", "phone"))
    ]
