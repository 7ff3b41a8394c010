"""What the configuration may say about a column."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from cdc_sink.config import ColumnSettings
from cdc_sink.debezium.envelope import AvroField, with_options
from cdc_sink.debezium.options import ColumnOption, TableOptions
from cdc_sink.debezium.types.mapping import (
    bad_value_sql,
    column_type,
    convert_sql,
    given_sql,
)
from cdc_sink.errors import SchemaError
from cdc_sink.table.schema.policy import TablePolicy
from cdc_sink.table.schema.writer_schemas import WriterSchemas

TIME = "io.debezium.time."
DATA = "io.debezium.data."
OPEN_SCALE = {
    "type": "record",
    "name": "V",
    "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
}


def field(avro_type: Any, semantic: str | None = None, **option: Any) -> AvroField:
    return AvroField("c", avro_type, True, semantic=semantic, option=ColumnOption(**option))


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": ["null", items]}


@pytest.mark.parametrize(
    ("avro_type", "semantic", "option", "iceberg"),
    [
        (decimal(76, 0), None, {"type": "string"}, "string"),
        (decimal(76, 0), None, {"type": "decimal(38,0)"}, "decimal(38,0)"),
        (decimal(10, 2), None, {"type": "string"}, "string"),
        (OPEN_SCALE, DATA + "VariableScaleDecimal", {}, "string"),
        (OPEN_SCALE, DATA + "VariableScaleDecimal", {"type": "decimal(38,9)"}, "decimal(38,9)"),
        ("string", None, {"type": "decimal(10,2)"}, "decimal(10,2)"),
        ("string", TIME + "ZonedTimestamp", {"type": "string"}, "string"),
        (OPEN_SCALE, DATA + "VariableScaleDecimal", {"type": "string"}, "string"),
        *(
            ("long", TIME + name, {"type": "long"}, "long")
            for name in ("Timestamp", "MicroTimestamp", "NanoTimestamp", "MicroTime", "NanoTime")
        ),
        *(("int", name, {"type": "long"}, "long") for name in (TIME + "Date", TIME + "Time")),
        ("long", None, {"unsigned": True}, "decimal(20,0)"),
        (array(decimal(76, 0)), None, {"type": "string"}, "list<string>"),
        (decimal(64, 2), None, {}, "decimal(19,2)"),
        (decimal(64, 0), None, {}, "decimal(38,0)"),
    ],
)
def test_an_option_chooses_the_type_where_it_has_a_meaning(
    avro_type: Any, semantic: str | None, option: dict[str, Any], iceberg: str
) -> None:
    assert column_type(field(avro_type, semantic, **option)).iceberg == iceberg


@pytest.mark.parametrize(
    ("avro_type", "semantic", "option"),
    [
        ("int", None, {"type": "string"}),
        ("string", DATA + "Json", {"type": "decimal(10,2)"}),
        ("long", None, {"type": "long"}),
        ("int", TIME + "Year", {"type": "long"}),
        ("long", TIME + "MicroDuration", {"type": "long"}),
        ("string", TIME + "IsoTimestamp", {"type": "long"}),
        ("bytes", None, {"type": "string"}),
        ("bytes", None, {"type": "decimal(10,2)"}),
        ({"type": "bytes", "scale": 2}, None, {"type": "decimal(10,2)"}),
        (decimal(50, -2), None, {"type": "decimal(10,2)"}),
        (decimal(50, 39), None, {"type": "decimal(38,38)"}),
        ("int", None, {"unsigned": True}),
        ("long", TIME + "MicroTimestamp", {"unsigned": True}),
        ("string", None, {"on_infinity": "null"}),
        ("double", None, {"on_infinity": "null"}),
    ],
)
def test_an_option_without_a_meaning_is_refused_and_names_the_column(
    avro_type: Any, semantic: str | None, option: dict[str, Any]
) -> None:
    with pytest.raises(SchemaError, match="no meaning") as caught:
        column_type(field(avro_type, semantic, **option))
    assert caught.value.where == "column c"


@pytest.mark.parametrize(
    ("avro_type", "semantic", "kind", "why"),
    [
        (decimal(76, 0), None, "string", "not a number"),
        (decimal(76, 0), None, "decimal(38,0)", "does not fit decimal(38,0) exactly"),
        (decimal(12, 4), None, "decimal(10,2)", "does not fit decimal(10,2) exactly"),
        ("string", None, "decimal(10,2)", "does not fit decimal(10,2) exactly"),
        (OPEN_SCALE, DATA + "VariableScaleDecimal", "decimal(9,2)", "does not fit decimal(9,2)"),
    ],
)
def test_a_value_that_the_asked_type_can_not_hold_raises_and_names_its_column(
    avro_type: Any, semantic: str | None, kind: str, why: str
) -> None:
    sql = convert_sql(field(avro_type, semantic, type=kind), "x", kind)
    assert sql.count("raise_error") == 1
    assert f"raise_error('cdc-sink|value|c|{why}" in sql


def test_a_decimal_that_spark_has_read_is_not_read_from_bytes_again() -> None:
    narrower = field(decimal(12, 4), type="decimal(10,2)")
    assert "from_avro" not in convert_sql(narrower, "x", "decimal(10,2)")
    unread = field(decimal(76, 4), type="decimal(10,2)")
    assert "from_avro" in convert_sql(unread, "x", "decimal(10,2)")


@pytest.mark.parametrize("scale", ["2", True, 2.0, 1001, -1001])
def test_a_scale_that_makes_no_sense_is_not_guessed_for_a_text(scale: Any) -> None:
    odd = {**decimal(50, 2), "scale": scale}
    with pytest.raises(SchemaError, match="has no exact table type"):
        column_type(field(odd, type="string"))


@pytest.mark.parametrize("kind", ["string", "decimal(38,0)"])
@pytest.mark.parametrize(
    "avro_type", ["bytes", {"type": "bytes"}, {"type": "bytes", "precision": 9}]
)
def test_a_decimal_that_declares_no_scale_is_not_taken_for_a_whole_number(
    avro_type: Any, kind: str
) -> None:
    with pytest.raises(SchemaError, match=r"has no (exact table type|meaning)"):
        column_type(field(avro_type, "org.apache.kafka.connect.data.Decimal", type=kind))
    by_avro = {"type": "bytes", "logicalType": "decimal", "precision": 50}
    assert column_type(field(by_avro, type=kind)).iceberg == kind


def test_a_precision_that_was_declared_is_not_taken_for_an_unknown_one() -> None:
    declared = replace(
        field(decimal(64, 2)), parameters={"scale": "2", "connect.decimal.precision": "64"}
    )
    with pytest.raises(SchemaError, match=r"decimal\(64,2\)"):
        column_type(declared)


def test_what_an_option_turns_into_null_is_no_bad_value() -> None:
    column = field("int", TIME + "Date", on_infinity="null")
    given = given_sql(column, "x")
    assert "-2147472692" in given
    assert given in convert_sql(column, "x", "date")
    assert bad_value_sql(column, "x", "date").startswith(f"({given} IS NOT NULL AND ")  # type: ignore[union-attr]
    assert given_sql(field("int", TIME + "Date"), "x") == "x"


def test_an_array_that_needs_no_conversion_has_no_lambda() -> None:
    assert convert_sql(field(array("int")), "x", "list<int>") == "x"
    assert convert_sql(field(array("int")), "x", "list<long>") == (
        "transform(x, x -> CAST(x AS BIGINT))"
    )


def test_a_computed_decimal_for_a_wider_column_has_one_reason_to_fail() -> None:
    sql = convert_sql(field(decimal(64, 2)), "x", "decimal(12,2)")
    assert sql.count("raise_error") == 1
    assert "does not fit decimal(12,2) exactly" in sql


def test_options_reach_the_columns_of_a_writer_schema() -> None:
    options = TableOptions({"c": ColumnOption(type="string")}, placeholder="p")
    (column,) = with_options([AvroField("c", "long", True)], options)
    assert (column.option.type, column.placeholder) == ("string", "p")
    schemas = WriterSchemas({}, {}, TablePolicy(options=options))
    assert schemas.plus({}, {}).policy.options == options


@pytest.mark.parametrize("given", ["variant", "int", "decimal(39,0)", "decimal(2,3)", "decimal"])
def test_a_type_that_no_column_can_get_is_refused_when_the_file_is_read(given: str) -> None:
    with pytest.raises(
        ValidationError, match=r"variant is refused|must be string, long or decimal"
    ):
        ColumnSettings(type=given)


def test_yaml_null_means_that_infinity_becomes_null() -> None:
    assert ColumnSettings.model_validate({"on_infinity": None}).option.on_infinity == "null"
    assert ColumnSettings().option == ColumnOption()
