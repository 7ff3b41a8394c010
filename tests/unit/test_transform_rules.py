"""What `check` says of a connector whose transform flattens the rows."""

from __future__ import annotations

import json

import pytest

from cdc_sink.check.rules.table import Finding, SchemaReading, WantedTable
from cdc_sink.check.rules.transform import check_transform, is_of_a_transform
from cdc_sink.debezium.connector import ConnectorReading
from cdc_sink.debezium.flattened import Order
from cdc_sink.table.schema.policy import TablePolicy

TOPIC = "shop_pg.public.customers"
NOTHING = SchemaReading(None, None)
ENOUGH = {
    "add.fields": "op,source.ts_ms, source.sequence",
    "delete.tombstone.handling.mode": "rewrite",
}
WHERE = "connector pg transform unwrap"


def found(
    order: Order = "source",
    *,
    connector: str = "postgresql.PostgresConnector",
    schemas: SchemaReading = NOTHING,
    **settings: str,
) -> list[Finding]:
    own = {"type": "io.debezium.transforms.ExtractNewRecordState"} | {
        name.replace("_", "."): value for name, value in settings.items()
    }
    given = {
        "topic.prefix": "shop_pg",
        "connector.class": f"io.debezium.connector.{connector}",
        "transforms": "route, unwrap",
        "transforms.route.type": "io.debezium.transforms.ByLogicalTableRouter",
        **{f"transforms.unwrap.{name}": value for name, value in own.items()},
    }
    wish = WantedTable("shop", "shop.customers", TOPIC, policy=TablePolicy(order=order))
    return list(check_transform(wish, schemas, ConnectorReading("pg", given, {})))


def enough(**changes: str) -> dict[str, str]:
    return {name.replace(".", "_"): value for name, value in ENOUGH.items()} | changes


def test_a_connector_without_the_transform_is_passed_over() -> None:
    wish = WantedTable("shop", "shop.customers", TOPIC)
    assert list(check_transform(wish, NOTHING, None)) == []
    plain = ConnectorReading("pg", {"topic.prefix": "shop_pg"}, {})
    assert list(check_transform(wish, NOTHING, plain)) == []


@pytest.mark.parametrize("mode", ["rewrite", "rewrite-with-tombstone"])
def test_a_transform_that_gives_all_is_fine(mode: str) -> None:
    (fine,) = found(**enough(delete_tombstone_handling_mode=mode))
    assert (fine.where, fine.level) == (WHERE, "ok")
    assert "enough for `order: source`" in fine.saw


def test_what_is_missing_is_one_error_with_the_settings() -> None:
    (error,) = found(add_fields="op")
    assert (error.where, error.level, error.exit_code) == (WHERE, "error", 1)
    assert error.saw == (
        "its rows lack source.ts_ms, source.sequence, delete.tombstone.handling.mode=rewrite, which "
        "`order: source` of shop.customers needs"
    )
    assert error.remedy.startswith(
        "set add.fields=op,source.ts_ms,source.snapshot,source.sequence and "
        "delete.tombstone.handling.mode=rewrite"
    )


@pytest.mark.parametrize(
    ("connector", "fields"),
    [
        ("mysql.MySqlConnector", "source.file, source.pos"),
        ("mariadb.MariaDbConnector", "source.file, source.pos"),
        ("oracle.OracleConnector", "source.commit_scn"),
        ("sqlserver.SqlServerConnector", "source.commit_lsn"),
        ("db2.Db2Connector", "position"),
    ],
)
def test_the_position_is_that_of_the_connector(connector: str, fields: str) -> None:
    (error,) = found(connector=connector, **enough(add_fields="op,source.ts_ms"))
    assert f"its rows lack {fields}, which" in error.saw


@pytest.mark.parametrize("mode", [None, "tombstone", "delete-to-tombstone", "rewrite"])
def test_kafka_order_asks_for_nothing(mode: str | None) -> None:
    settings = {} if mode is None else {"delete_tombstone_handling_mode": mode}
    assert [one.level for one in found("kafka", **settings)] == ["ok"]


@pytest.mark.parametrize("order", ["source", "kafka"])
def test_deletes_that_are_dropped_are_an_error_in_either_order(order: Order) -> None:
    (error,) = found(order, **enough(delete_tombstone_handling_mode="drop"))
    assert (error.level, error.exit_code) == ("error", 1)
    assert "a deleted row never leaves shop.customers" in error.saw
    assert "delete.tombstone.handling.mode=rewrite" in error.remedy


def test_added_fields_with_names_of_their_own_are_not_found() -> None:
    assert found(**enough(add_fields="op:op,source.ts_ms:source_ts_ms,sequence"))[0].level == "ok"
    (error,) = found(**enough(add_fields="op:what,source.ts_ms,sequence"))
    assert "its rows lack op, which" in error.saw


def test_another_prefix_makes_columns_of_the_added_fields() -> None:
    (warning,) = found("kafka", **enough(add_fields_prefix="dbz_"))
    assert warning.level == "warning"
    assert "add.fields.prefix=dbz_" in warning.saw
    assert [one.level for one in found(**enough(add_fields_prefix="dbz_"))] == ["warning", "error"]
    assert [one.level for one in found("kafka", add_fields_prefix="dbz_")] == ["ok"]


def test_settings_that_debezium_gave_up_are_named() -> None:
    settings = {"drop_tombstones": "false", "delete_handling_mode": "rewrite"}
    (warning,) = found(**settings, add_fields=ENOUGH["add.fields"])
    assert warning.level == "warning"
    assert warning.saw.startswith("delete.handling.mode and drop.tombstones: Debezium takes no")
    assert [one.level for one in found(**settings, **enough())] == ["ok"]


def test_nulls_that_the_transform_turns_into_defaults_are_a_warning() -> None:
    entry = {"name": "grade", "type": ["int", "null"], "default": 3}
    row = {"type": "record", "name": "a.Value", "connect.name": "a.Value", "fields": [entry]}
    schemas = SchemaReading(json.dumps(row), None)
    (warning,) = found("kafka", schemas=schemas)
    assert (warning.level, warning.remedy) == ("warning", "set replace.null.with.default=false")
    assert "shop.customers grade" in warning.saw
    (fine,) = found("kafka", schemas=schemas, replace_null_with_default="false")
    assert fine.level == "ok"


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ("transforms", True),
        ("connector.class", True),
        ("transforms.unwrap.type", True),
        ("transforms.unwrap.add.fields", True),
        ("transforms.unwrap.delete.tombstone.handling.mode", True),
        ("transforms.unwrap.password", False),
        ("transforms.encrypt.key", False),
        ("database.password", False),
        ("type", False),
    ],
)
def test_of_all_settings_only_those_that_are_judged_are_kept(setting: str, kept: bool) -> None:
    assert is_of_a_transform(setting) is kept
