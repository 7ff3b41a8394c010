from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from cdc_sink.debezium.envelope import (
    AvroField,
    Envelope,
    Op,
    RecordKind,
    parse_key,
    reader_schema,
    record_kind,
    spark_schema,
)
from cdc_sink.errors import SchemaError

SAMPLES = Path(__file__).parent / "samples"


def sample(name: str) -> str:
    return (SAMPLES / f"{name}.json").read_text()


def changed(name: str, old: str, new: str) -> str:
    text = sample(name)
    assert old in text
    return text.replace(old, new)


def fields(schema: dict[str, Any], *path: str) -> list[str]:
    for step in path:
        node = next(field["type"] for field in schema["fields"] if field["name"] == step)
        schema = node[1] if isinstance(node, list) else node
    return [field["name"] for field in schema["fields"]]


def test_ops_are_debezium_letters() -> None:
    assert [op.value for op in Op] == list("rcudtm")


@pytest.mark.parametrize(
    ("name", "connector", "first", "last"),
    [
        ("postgresql_customers_value", "postgresql", "id", "mood"),
        ("mysql_order_lines_value", "mysql", "order_id", "grams_net"),
    ],
)
def test_an_envelope_gives_connector_and_columns_in_table_order(
    name: str, connector: str, first: str, last: str
) -> None:
    envelope = Envelope.parse(sample(name))
    assert envelope.connector == connector
    assert (envelope.columns[0].name, envelope.columns[-1].name) == (first, last)


def test_a_column_carries_all_that_its_writer_schema_says() -> None:
    columns = {c.name: c for c in Envelope.parse(sample("postgresql_customers_value")).columns}
    assert columns["id"] == AvroField("id", "long", nullable=False)
    assert columns["name"] == AvroField("name", "string", nullable=True)
    assert columns["flags"].semantic == "io.debezium.data.Bits"
    assert columns["flags"].parameters == {"length": "12"}
    assert columns["balance"].avro_type["logicalType"] == "decimal"


def test_a_database_default_is_noticed_and_a_null_default_is_not() -> None:
    columns = {c.name: c for c in Envelope.parse(sample("postgresql_customers_value")).columns}
    assert columns["active"].default_given
    assert columns["active"].nullable
    assert not columns["name"].default_given


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("postgresql_customers_value", RecordKind.TABLE_CHANGE),
        ("heartbeat_value", RecordKind.HEARTBEAT),
        ("transaction_value", RecordKind.TRANSACTION),
    ],
)
def test_the_record_name_says_what_a_record_is(name: str, kind: RecordKind) -> None:
    assert record_kind(sample(name)) is kind


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ("io.debezium.connector.mysql.SchemaChangeValue", RecordKind.SCHEMA_CHANGE),
        ("io.debezium.connector.postgresql.MessageValue", RecordKind.MESSAGE),
        ("com.acme.Order", RecordKind.UNKNOWN),
    ],
)
def test_a_record_that_is_no_table_change_is_refused_by_name(record: str, kind: RecordKind) -> None:
    schema = json.dumps({"type": "record", "name": record, "fields": []})
    assert record_kind(schema) is kind
    with pytest.raises(SchemaError, match=kind.value) as caught:
        Envelope.parse(schema)
    assert caught.value.where == record


@pytest.mark.parametrize("text", ["", "not json", "{}", '{"type":"record"}', '["null","a.B"]', "7"])
def test_a_text_that_is_no_avro_schema_is_a_schema_error(text: str) -> None:
    with pytest.raises(SchemaError):
        Envelope.parse(text)


def test_a_schema_without_type_names_is_refused() -> None:
    text = changed("postgresql_customers_value", "connect.name", "other.name")
    with pytest.raises(SchemaError, match=r"connect\.meta\.data=true"):
        Envelope.parse(text)


def test_a_source_block_of_another_program_is_refused() -> None:
    text = changed("postgresql_customers_value", "io.debezium.connector.postgresql", "com.acme")
    with pytest.raises(SchemaError, match=r"com\.acme\.Source"):
        Envelope.parse(text)


def test_the_mongo_connector_is_called_mongodb() -> None:
    text = changed("postgresql_customers_value", "connector.postgresql", "connector.mongo")
    assert Envelope.parse(text).connector == "mongodb"


def test_key_columns_come_in_key_order() -> None:
    names = [field.name for field in parse_key(sample("mysql_order_lines_key"))]
    assert names == ["order_id", "line"]


@pytest.mark.parametrize("schema", ['"string"', '["null","long"]', '{"type":"bytes"}'])
def test_a_key_that_is_no_record_is_refused_with_the_remedy(schema: str) -> None:
    with pytest.raises(SchemaError, match=r"message\.key\.columns"):
        parse_key(schema)


def test_the_reader_schema_holds_only_what_is_read() -> None:
    text = reader_schema(sample("postgresql_customers_value"), ["id", "email", "gone"])
    schema = json.loads(text)
    assert fields(schema) == ["after", "op", "source"]
    assert fields(schema, "after") == ["id", "email"]
    assert fields(schema, "source") == [
        "name",
        "ts_ms",
        "snapshot",
        "db",
        "sequence",
        "ts_us",
        "schema",
        "table",
    ]
    assert "connect." not in text


def test_the_mysql_reader_schema_holds_the_log_place() -> None:
    schema = json.loads(reader_schema(sample("mysql_order_lines_value"), ["sku"]))
    assert fields(schema, "source") == [
        "name",
        "ts_ms",
        "snapshot",
        "db",
        "ts_us",
        "table",
        "file",
        "pos",
    ]


def test_a_source_block_without_position_is_refused() -> None:
    text = changed("postgresql_customers_value", '"sequence"', '"sequel"')
    with pytest.raises(SchemaError, match="no field sequence"):
        reader_schema(text, ["id"])


def test_an_older_source_block_without_microseconds_is_read() -> None:
    text = changed("postgresql_customers_value", '"ts_us"', '"ts_old"')
    assert "ts_us" not in reader_schema(text, ["id"])


CUSTOMER: dict[str, Any] = {
    "id": 5,
    "email": "a@b",
    "active": None,
    "visits": 3,
    "seen": 1710037800123456,
    "created": None,
    "flags": b"\x01",
}
CHANGE: dict[str, Any] = {
    "before": None,
    "after": CUSTOMER,
    "op": "u",
    "source": {
        **{"version": "3", "connector": "postgresql", "name": "shop", "ts_ms": 1, "db": "shop"},
        **{"schema": "public", "table": "customers", "sequence": '["1","22"]', "snapshot": None},
    },
}


def decoded(payload: bytes, writer: str, reader: str | None) -> dict[str, Any]:
    record = fastavro.schemaless_reader(
        io.BytesIO(payload), json.loads(writer), json.loads(reader) if reader else None
    )
    assert isinstance(record, dict)
    return record


def encoded(writer: str, record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, json.loads(writer), record)
    return out.getvalue()


def test_bytes_of_the_original_schema_are_read_through_the_rewritten_ones() -> None:
    original = sample("postgresql_customers_value")
    columns = ["email", "visits", "seen", "flags", "active"]
    record = decoded(
        encoded(original, CHANGE), spark_schema(original), reader_schema(original, columns)
    )
    assert record["after"] == {name: CUSTOMER[name] for name in columns}
    assert record["op"] == "u"
    assert record["source"]["sequence"] == '["1","22"]'


def test_hyphens_and_digits_of_a_topic_prefix_do_not_reach_a_record_name() -> None:
    text = changed("postgresql_customers_value", "shop_pg.public", "1my-shop.public")
    for rewritten in (spark_schema(text), reader_schema(text, ["id"])):
        assert "-" not in rewritten
        assert json.loads(rewritten)["name"] == "_1my_shop_public_customers_Envelope"


def test_two_record_names_stay_two_after_rewriting() -> None:
    inner = [
        {"name": "a", "type": {"type": "record", "name": "x-y.R", "fields": []}},
        {"name": "b", "type": {"type": "record", "name": "x_y.R", "fields": []}},
        {"name": "c", "type": "x-y.R"},
    ]
    schema = json.loads(spark_schema(json.dumps({"type": "record", "name": "T", "fields": inner})))
    a, b, c = (field["type"] for field in schema["fields"])
    assert a["name"] != b["name"]
    assert c == a["name"]


def test_dates_and_times_are_rendered_as_plain_numbers_and_decimals_stay() -> None:
    column = {"type": "long", "logicalType": "timestamp-millis"}
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    wide = {"type": "bytes", "logicalType": "decimal", "precision": 64, "scale": 2}
    inner = [
        {"name": "a", "type": ["null", column]},
        {"name": "b", "type": decimal},
        {"name": "c", "type": wide},
    ]
    schema = json.loads(spark_schema(json.dumps({"type": "record", "name": "T", "fields": inner})))
    assert [field["type"] for field in schema["fields"]] == [["null", "long"], decimal, "bytes"]
