"""One catalog for two engines: what is rendered, and what is read from a real SQLite catalog."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest
from iceberg_tables import catalog_in, commit, ledger, make_table

from cdc_sink import config
from cdc_sink.clients.catalog import (
    EXTENSIONS,
    load_table,
    open_catalog,
    open_files,
    pyiceberg_properties,
    read_text,
    spark_properties,
)
from cdc_sink.errors import ConfigError, StateError, UnavailableError
from cdc_sink.observe.table_facts import read_ledger

SPARK_CATALOG = "org.apache.iceberg.spark.SparkCatalog"


def test_a_sqlite_catalog_is_one_file_under_one_name_for_both() -> None:
    catalog = config.Catalog(type="jdbc", uri="jdbc:sqlite:/lake/c.db", warehouse="/lake/w")
    assert spark_properties(catalog) == {
        "spark.sql.extensions": EXTENSIONS,
        "spark.sql.catalog.lake": SPARK_CATALOG,
        "spark.sql.catalog.lake.type": "jdbc",
        "spark.sql.catalog.lake.uri": "jdbc:sqlite:/lake/c.db?busy_timeout=30000",
        "spark.sql.catalog.lake.warehouse": "file:///lake/w",
        "spark.sql.catalog.lake.jdbc.schema-version": "V1",
    }
    assert pyiceberg_properties(catalog) == {
        "type": "sql",
        "uri": "sqlite:////lake/c.db?timeout=30",
        "warehouse": "file:///lake/w",
        "init_catalog_tables": "false",
    }


def test_a_postgresql_catalog_gets_its_user_and_password_escaped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CATALOG_PASSWORD_OF_A_TEST", "p@ss/word")
    catalog = config.Catalog(
        type="jdbc",
        uri="jdbc:postgresql://h:5432/iceberg?sslmode=require",
        warehouse="s3://b/w",
        properties={
            "jdbc.user": "ice",
            "jdbc.password": config.Secret(env="CATALOG_PASSWORD_OF_A_TEST"),
        },
    )
    assert pyiceberg_properties(catalog)["uri"] == (
        "postgresql+psycopg://ice:p%40ss%2Fword@h:5432/iceberg?connect_timeout=10&sslmode=require"
    )
    assert "jdbc.password" not in pyiceberg_properties(catalog)
    spark = spark_properties(catalog)
    assert spark["spark.sql.catalog.lake.uri"] == str(catalog.uri)
    assert spark["spark.sql.catalog.lake.jdbc.password"] == "p@ss/word"


def test_a_rest_catalog_keeps_its_properties_for_both() -> None:
    catalog = config.Catalog(
        name="prod",
        type="rest",
        uri="https://c",
        warehouse="lake",
        properties={"credential": "a:b"},
    )
    assert pyiceberg_properties(catalog) == {
        "type": "rest",
        "uri": "https://c",
        "warehouse": "lake",
        "credential": "a:b",
    }
    assert spark_properties(catalog)["spark.sql.catalog.prod.credential"] == "a:b"


def test_a_catalog_that_is_not_there_yet_has_no_tables_and_is_not_made(tmp_path: Path) -> None:
    assert load_table(catalog_in(tmp_path), "shop.customers") is None
    with pytest.raises(UnavailableError, match="isn't there yet"):
        open_catalog(catalog_in(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_the_catalogs_tables_has_none_and_stays_so(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "catalog.db").close()
    (tmp_path / "catalog.db").touch()
    assert load_table(catalog_in(tmp_path), "shop.customers") is None
    assert (tmp_path / "catalog.db").stat().st_size == 0


def test_a_table_is_found_and_an_unknown_one_is_none(tmp_path: Path) -> None:
    make_table(tmp_path)
    found = load_table(catalog_in(tmp_path), "shop.customers")
    assert found is not None
    assert [field.name for field in found.schema().fields] == ["id"]
    assert load_table(catalog_in(tmp_path), "shop.nothing") is None
    assert load_table(catalog_in(tmp_path), "nowhere.customers") is None


def test_a_locked_catalog_is_unavailable(tmp_path: Path) -> None:
    make_table(tmp_path)
    catalog = config.Catalog(
        type="jdbc",
        uri=f"jdbc:sqlite:{tmp_path}/catalog.db",
        warehouse=str(tmp_path),
        properties={"uri": f"sqlite:///{tmp_path}/catalog.db?timeout=0.05"},
    )
    other = sqlite3.connect(tmp_path / "catalog.db")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UnavailableError, match="is locked"):
        load_table(catalog, "shop.customers")
    other.close()


def test_a_metadata_file_that_is_gone_is_a_state_error(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    Path(table.metadata_location.removeprefix("file://")).unlink()
    with pytest.raises(StateError, match="metadata file isn't there"):
        load_table(catalog_in(tmp_path), "shop.customers")


def test_a_missing_rest_catalog_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: the port refuses
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UnavailableError, match="doesn't answer"):
            load_table(config.Catalog(type="rest", uri=uri), "shop.customers")


def test_a_hadoop_table_is_read_past_a_hint_that_lags_behind(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    commit(table, ledger({0: 3}))
    folder = tmp_path / "hadoop" / "shop" / "customers" / "metadata"
    folder.mkdir(parents=True)
    newest = Path(table.metadata_location.removeprefix("file://"))
    for version in (1, 2):
        (folder / f"v{version}.metadata.json").write_bytes(newest.read_bytes())
    (folder / "version-hint.text").write_text("1")
    catalog = config.Catalog(type="hadoop", warehouse=f"{tmp_path}/hadoop")
    found = load_table(catalog, "shop.customers")
    assert found is not None
    assert found.metadata_location.endswith("/v2.metadata.json")
    assert read_ledger(found) is not None
    assert load_table(catalog, "shop.nothing") is None
    with pytest.raises(ConfigError, match="nothing to open"):
        open_catalog(catalog)


def test_a_text_is_read_or_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("ä")
    location = f"file://{tmp_path}"
    files = open_files(catalog_in(tmp_path), location)
    assert read_text(files, f"{location}/a") == "ä"
    assert read_text(files, f"{location}/b") is None


def test_the_newest_ledger_is_found_behind_snapshots_that_have_none(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    assert read_ledger(table) is None
    commit(table, None)
    assert read_ledger(table) is None
    commit(table, ledger({0: 3}), batch_id=1)
    commit(table, ledger({0: 7, 1: 2}), batch_id=2, committed_at_ms=99)
    commit(table, None)
    found = read_ledger(table)
    assert found is not None
    assert found[0] == ledger({0: 7, 1: 2})
    assert found[1] == {"batch_id": 2, "committed_at_ms": 99}


def test_a_ledger_off_the_main_branch_is_not_read(tmp_path: Path) -> None:
    table = make_table(tmp_path)
    commit(table, ledger({0: 3}))
    first = table.current_snapshot()
    assert first is not None
    commit(table, ledger({0: 7}))
    table.manage_snapshots().set_current_snapshot(first.snapshot_id).commit()
    found = read_ledger(table)
    assert found is not None
    assert found[0].next_offsets == {0: 3}
