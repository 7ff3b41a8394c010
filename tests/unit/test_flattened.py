"""Which fields a transform added to a row, what they mean, and when a row says too little."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.debezium.envelope import Envelope, RecordKind, reader_schema, record_kind
from cdc_sink.debezium.flattened import AddedFields, envelope_sql
from cdc_sink.errors import SchemaError
from cdc_sink.table.schema.policy import TablePolicy
from cdc_sink.table.schema.writer_schemas import WriterSchemas

TEXT: Any = ["null", "string"]
LONG: Any = ["null", "long"]
ROW = {"id": "long", "name": TEXT}
POSITIONS = {
    "postgresql": {"__source_sequence": TEXT},
    "mysql": {"__source_file": TEXT, "__source_pos": LONG},
    "oracle": {"__source_commit_scn": TEXT, "__source_txSeq": LONG},
    "sqlserver": {"__source_commit_lsn": TEXT},
}
ENOUGH = {"__deleted": TEXT, "__op": TEXT, "__source_ts_ms": LONG}
KEY = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}


def record(fields: dict[str, Any], *, may_be_null: bool = False) -> str:
    row = {
        "type": "record",
        "name": "shop.public.items.Value",
        "connect.name": "shop.public.items.Value",
        "fields": [{"name": name, "type": node} for name, node in fields.items()],
    }
    return json.dumps(["null", row] if may_be_null else row)


def test_a_row_flattened_from_a_recorded_envelope_has_its_columns() -> None:
    samples = Path(__file__).parent / "samples"
    whole = Envelope.parse((samples / "postgresql_customers_value.json").read_text())
    flat = Envelope.parse((samples / "postgresql_flattened_value.json").read_text())
    assert flat.columns == whole.columns
    assert flat.connector == whole.connector
    assert flat.source_fields == ("ts_ms", "snapshot", "sequence")


def columns_of(fields: dict[str, Any]) -> list[str]:
    return [column.name for column in Envelope.parse(record(fields), "kafka").columns]


@pytest.mark.parametrize("connector", POSITIONS)
def test_the_fields_of_a_position_tell_the_connector(connector: str) -> None:
    envelope = Envelope.parse(record(ROW | ENOUGH | POSITIONS[connector]))
    assert envelope.connector == connector
    assert [column.name for column in envelope.columns] == ["id", "name"]
    read = {name.removeprefix("__source_") for name in POSITIONS[connector]} | {"ts_ms"}
    assert set(envelope.source_fields) == read


@pytest.mark.parametrize("connector", POSITIONS)
def test_names_without_their_block_serve_as_well(connector: str) -> None:
    bare = {name.replace("source_", ""): node for name, node in POSITIONS[connector].items()}
    assert Envelope.parse(record(ROW | ENOUGH | bare)).connector == connector


@pytest.mark.parametrize("field", ["snapshot", "txSeq"])
def test_the_name_with_its_block_counts_before_the_one_without(field: str) -> None:
    bare, whole = f"__{field}", f"__source_{field}"
    for names in ((bare, whole), (whole, bare)):
        assert AddedFields.named(names).by_meaning == {f"source.{field}": whole}


def test_a_time_without_its_block_is_the_connectors_and_not_the_sources() -> None:
    late = ENOUGH | {"__ts_ms": LONG} | POSITIONS["postgresql"]
    del late["__source_ts_ms"]
    with pytest.raises(SchemaError, match="without __source_ts_ms: "):
        Envelope.parse(record(ROW | late))


def test_microseconds_of_the_source_serve_as_its_time() -> None:
    fields = ENOUGH | {"__source_ts_us": LONG} | POSITIONS["postgresql"]
    del fields["__source_ts_ms"]
    assert Envelope.parse(record(ROW | fields)).source_fields == ("ts_us", "sequence")


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("__mine", TEXT),
        ("__v", LONG),
        ("__id", TEXT),  # of the transaction, if anybody asks for it
        ("__source_mine", TEXT),
        ("__DELETED", TEXT),
        ("deleted", TEXT),
        ("_op", TEXT),
        ("__op", "string"),  # added fields may be null
        ("__op", ["null", "int"]),
        ("__table", LONG),
        ("__pos", TEXT),
        ("__", TEXT),
    ],
)
def test_a_column_of_the_source_stays_one_whatever_it_begins_with(name: str, node: Any) -> None:
    assert columns_of(ROW | {name: node}) == ["id", "name", name]


@given(st.text(alphabet="_abdelopstu", min_size=1, max_size=9))
def test_only_exact_names_are_taken_for_added(name: str) -> None:
    known = {"__op", "__deleted", "__db", "__pos", "__table"}
    assert (name in columns_of({"id": "long", name: TEXT})) == (name not in known - {"__pos"})


def test_every_name_of_the_documentations_example_is_known() -> None:
    added = {"__op": TEXT, "__table": TEXT, "__lsn": LONG, "__source_ts_ms": LONG, "__db": TEXT}
    assert columns_of(ROW | added | {"__transaction_id": TEXT, "__total_order": LONG}) == [*ROW]


def test_all_that_is_missing_is_named_at_once_with_the_settings() -> None:
    with pytest.raises(SchemaError) as caught:
        Envelope.parse(record(ROW | {"__lsn": LONG}))
    assert caught.value.where == "shop.public.items.Value"
    assert caught.value.saw == (
        "a flattened row without __op, __source_ts_ms, __source_sequence, __deleted: "
        "`order: source` needs it"
    )
    assert caught.value.remedy.startswith(
        "set add.fields=op,source.ts_ms,source.snapshot,source.sequence and "
        "delete.tombstone.handling.mode=rewrite on the ExtractNewRecordState transform"
    )
    assert "`order: kafka`" in caught.value.remedy
    assert "`cdc-sink verify`" in caught.value.remedy


def test_only_what_is_missing_is_asked_for() -> None:
    fields = ENOUGH | POSITIONS["postgresql"]
    del fields["__deleted"]
    with pytest.raises(SchemaError) as caught:
        Envelope.parse(record(ROW | fields))
    assert "without __deleted:" in caught.value.saw
    assert "add.fields" not in caught.value.remedy
    fields = ENOUGH | {"__source_file": TEXT}
    with pytest.raises(SchemaError) as caught:
        Envelope.parse(record(ROW | fields))
    assert "without __source_pos:" in caught.value.saw
    assert "add.fields=op,source.ts_ms,source.snapshot,source.file,source.pos " in (
        caught.value.remedy
    )
    assert "handling.mode" not in caught.value.remedy


def test_where_no_field_tells_the_connector_all_positions_are_named() -> None:
    with pytest.raises(SchemaError) as caught:
        Envelope.parse(record(ROW | ENOUGH))
    assert "without the position in the source's log:" in caught.value.saw
    for one in ("source.sequence", "source.file,source.pos", "source.commit_scn", "commit_lsn"):
        assert one in caught.value.remedy


def test_kafka_order_takes_any_row() -> None:
    envelope = Envelope.parse(record(ROW), "kafka")
    assert (envelope.connector, envelope.source_fields) == ("", ())
    assert [column.name for column in envelope.columns] == ["id", "name"]


def test_a_row_without_type_names_is_refused() -> None:
    text = record(ROW).replace("connect.name", "other")
    with pytest.raises(SchemaError, match=r"connect\.meta\.data=true"):
        Envelope.parse(text, "kafka")


def test_a_row_that_keeps_the_null_it_had_in_the_envelope_is_read() -> None:
    """Without added fields the schema is that of `after`, a union with null."""
    text = record(ROW, may_be_null=True)
    assert record_kind(text) is RecordKind.FLATTENED
    assert [c.name for c in Envelope.parse(text, "kafka").columns] == ["id", "name"]
    assert json.loads(reader_schema(text, ["id"], "kafka"))["fields"] == [
        {"name": "id", "type": "long"}
    ]


def test_an_envelope_in_a_union_is_none() -> None:
    envelope = {"type": "record", "name": "a.Envelope", "fields": []}
    assert record_kind(json.dumps(["null", envelope])) is RecordKind.UNKNOWN


def names_read(order: Any) -> list[str]:
    fields = ROW | ENOUGH | POSITIONS["postgresql"] | {"__table": TEXT, "__ts_ms": LONG}
    schema = json.loads(reader_schema(record(fields), ["name", "__table"], order))
    return [field["name"] for field in schema["fields"]]


def test_only_what_is_needed_is_decoded() -> None:
    assert names_read("source") == [
        "name",
        "__deleted",
        "__op",
        "__source_ts_ms",
        "__source_sequence",
        "__table",
    ]
    assert names_read("kafka") == ["name", "__deleted", "__op", "__source_ts_ms", "__table"]


def test_the_table_gets_the_rows_columns_and_no_others() -> None:
    fields = ROW | ENOUGH | POSITIONS["mysql"]
    schemas = WriterSchemas({1: record(fields)}, {2: json.dumps(KEY)})
    assert [column.name for column in schemas.extend(())] == ["id", "name"]
    assert list(schemas.sources(1, schemas.extend(()))) == ["id", "name"]


def test_the_order_of_the_table_decides_what_a_row_must_say() -> None:
    plain = {1: record(ROW)}
    with pytest.raises(SchemaError, match="flattened row without"):
        WriterSchemas(plain, {2: json.dumps(KEY)}).extend(())
    by_kafka = WriterSchemas(plain, {2: json.dumps(KEY)}, TablePolicy(order="kafka"))
    assert [column.name for column in by_kafka.extend(())] == ["id", "name"]


def test_a_row_is_rendered_with_the_parts_of_an_envelope() -> None:
    added = AddedFields.named(["__deleted", "__op", "__source_sequence", "__source_ts_ms"])
    op = "CASE WHEN v1.`__deleted` = 'true' THEN 'd' ELSE v1.`__op` END"
    assert envelope_sql("v1", added, "source", ["id"]) == (
        f"CASE WHEN v1 IS NOT NULL THEN named_struct('after', CASE WHEN ({op}) <> 'd' THEN v1 END, "
        f"'op', {op}, 'source', named_struct('ts_ms', v1.`__source_ts_ms`, "
        "'snapshot', CAST(NULL AS STRING), 'sequence', v1.`__source_sequence`)) END"
    )
    assert "WHEN v1.`id` IS NULL THEN CAST(NULL AS STRING) ELSE 'u' END" in (
        envelope_sql("v1", AddedFields.named([]), "kafka", ["id"])
    )
