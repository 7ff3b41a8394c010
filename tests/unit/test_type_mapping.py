from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.debezium.envelope import AvroField
from cdc_sink.debezium.types.mapping import (
    column_type,
    convert_sql,
    decimal_parts,
    decimal_type,
    null_if_bad,
    quote,
    value_fault_reason,
)
from cdc_sink.errors import SchemaError
from cdc_sink.sql import literal

TIME = "io.debezium.time."
DATA = "io.debezium.data."
CONNECT = "org.apache.kafka.connect.data."


def field(avro_type: Any, semantic: str | None = None, name: str = "c") -> AvroField:
    return AvroField(name, avro_type, nullable=True, semantic=semantic)


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def record(*fields: str) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "R",
        "fields": [{"name": name, "type": "int"} for name in fields],
    }


@pytest.mark.parametrize(
    ("avro_type", "semantic", "iceberg"),
    [
        ("boolean", None, "boolean"),
        ("int", None, "int"),
        ({"type": "int", "connect.type": "int16"}, None, "int"),
        ("long", None, "long"),
        ("float", None, "float"),
        ("double", None, "double"),
        ("string", None, "string"),
        ("bytes", None, "binary"),
        (decimal(10, 2), CONNECT + "Decimal", "decimal(10,2)"),
        (decimal(38, 38), None, "decimal(38,38)"),
        ("int", TIME + "Date", "date"),
        ({"type": "int", "logicalType": "date"}, CONNECT + "Date", "date"),
        ("int", TIME + "Time", "long"),
        ("long", TIME + "MicroTime", "long"),
        ("long", TIME + "NanoTime", "long"),
        ({"type": "int", "logicalType": "time-millis"}, CONNECT + "Time", "long"),
        ("long", TIME + "Timestamp", "timestamp"),
        ("long", TIME + "MicroTimestamp", "timestamp"),
        ("long", TIME + "NanoTimestamp", "timestamp"),
        ({"type": "long", "logicalType": "timestamp-millis"}, CONNECT + "Timestamp", "timestamp"),
        ("string", TIME + "ZonedTimestamp", "timestamptz"),
        ("string", TIME + "ZonedTime", "string"),
        ("int", TIME + "Year", "int"),
        ("long", TIME + "MicroDuration", "long"),
        ("string", DATA + "Json", "string"),
        ("string", DATA + "Uuid", "string"),
        ("string", DATA + "Enum", "string"),
        ("bytes", DATA + "Bits", "binary"),
        ("string", "com.acme.Isbn", "string"),
        ("string", TIME + "IsoDate", "date"),
        ("string", TIME + "IsoTime", "string"),
        ("string", TIME + "IsoTimestamp", "timestamp"),
        ("string", TIME + "Interval", "string"),
        ("long", TIME + "NanoDuration", "long"),
        ("string", DATA + "Xml", "string"),
        ("string", DATA + "EnumSet", "string"),
        ("string", DATA + "Ltree", "string"),
        ("string", DATA + "Tsvector", "string"),
        (record("scale", "value"), DATA + "VariableScaleDecimal", "string"),
        (
            record("x", "y", "wkb", "srid"),
            DATA + "geometry.Point",
            "struct<x:double,y:double,wkb:binary,srid:int>",
        ),
        (record("wkb", "srid"), DATA + "geometry.Geometry", "struct<wkb:binary,srid:int>"),
        (record("wkb", "srid"), DATA + "geometry.Geography", "struct<wkb:binary,srid:int>"),
        ({"type": "array", "items": "float"}, DATA + "FloatVector", "list<float>"),
        ({"type": "array", "items": "double"}, DATA + "DoubleVector", "list<double>"),
        (
            record("dimensions", "vector"),
            DATA + "SparseDoubleVector",
            "struct<dimensions:int,vector:list<struct<key:int,value:double>>>",
        ),
        ({"type": "map", "values": ["null", "string"]}, None, "map<string,string>"),
        ({"type": "array", "items": ["null", "int"]}, None, "list<int>"),
        ({"type": "array", "items": ["null", decimal(10, 2)]}, None, "list<decimal(10,2)>"),
        (
            {"type": "array", "items": ["null", {"type": "int", "connect.name": TIME + "Date"}]},
            None,
            "list<date>",
        ),
        (decimal(64, 2), CONNECT + "Decimal", "decimal(19,2)"),
        (decimal(64, 4), CONNECT + "Decimal", "decimal(38,4)"),
        ({"type": "bytes", "precision": 64, "scale": 2}, CONNECT + "Decimal", "decimal(19,2)"),
    ],
)
def test_each_source_type_has_its_column_type(
    avro_type: Any, semantic: str | None, iceberg: str
) -> None:
    assert column_type(field(avro_type, semantic)).iceberg == iceberg


@pytest.mark.parametrize(
    ("avro_type", "semantic", "seen"),
    [
        (decimal(39, 2), CONNECT + "Decimal", "decimal(39,2)"),
        (decimal(64, 39), CONNECT + "Decimal", "decimal(64,39)"),
        (decimal(10, -2), CONNECT + "Decimal", "decimal(10,-2)"),
        (decimal(64, -2), CONNECT + "Decimal", "decimal(64,-2)"),
        ({**decimal(10, 2), "type": "fixed", "name": "F", "size": 5}, None, "decimal(10,2)"),
        (decimal(2, 3), None, "decimal(2,3)"),
        ("bytes", CONNECT + "Decimal", "Decimal"),
        ({"type": "record", "name": "V", "fields": []}, DATA + "VariableScaleDecimal", "Variable"),
        ({"type": "array", "items": decimal(50, 2)}, None, "decimal(50,2)"),
        ({"type": "array", "items": "double"}, DATA + "FloatVector", "FloatVector"),
        ({"type": "array", "items": "double"}, DATA + "HalfVector", "HalfVector"),
        ({"type": "map", "values": "int"}, None, "map"),
        ({"type": "record", "name": "P", "fields": []}, None, "record"),
        ({"type": "record", "name": "P", "fields": []}, DATA + "geometry.Point", "Point"),
        (record("x", "y", "z"), DATA + "geometry.Point", "Point"),
        (record("wkb", "srid", "box"), DATA + "geometry.Geometry", "Geometry"),
        ({"type": "map", "values": "string"}, "com.acme.Tags", "Tags"),
        (["int", "string"], None, "union"),
        ("int", TIME + "MicroTimestamp", "MicroTimestamp"),
        ("long", TIME + "PicoTimestamp", "PicoTimestamp"),
        ("long", CONNECT + "Moment", "Moment"),
        ({"type": "long", "logicalType": "timestamp-micros"}, None, "timestamp-micros"),
    ],
)
def test_a_type_without_an_exact_column_type_is_refused_with_a_remedy(
    avro_type: Any, semantic: str | None, seen: str
) -> None:
    with pytest.raises(SchemaError) as caught:
        column_type(field(avro_type, semantic, "price"))
    assert caught.value.where == "column price"
    assert seen in caught.value.saw
    assert caught.value.remedy


def test_a_number_of_too_many_digits_is_told_the_ways_out() -> None:
    with pytest.raises(SchemaError, match=r"type: string.*decimal\.handling\.mode=string"):
        column_type(field(decimal(50, 2), CONNECT + "Decimal"))


@given(st.integers(1, 38), st.data())
def test_decimal_types_round_trip(precision: int, data: st.DataObject) -> None:
    scale = data.draw(st.integers(0, precision))
    assert decimal_parts(decimal_type(precision, scale)) == (precision, scale)


def test_a_value_that_needs_no_conversion_is_taken_as_it_is() -> None:
    assert convert_sql(field("string"), "d1.`c`", "string") == "d1.`c`"
    assert convert_sql(field("long", TIME + "MicroTime"), "d1.`c`", "long") == "d1.`c`"


@pytest.mark.parametrize(
    ("avro_type", "semantic", "target", "expected"),
    [
        ("int", None, "long", "CAST(x AS BIGINT)"),
        ("float", None, "double", "CAST(x AS DOUBLE)"),
        ("int", TIME + "Time", "long", "(CAST(x AS BIGINT) * 1000L)"),
        (decimal(10, 2), None, "decimal(12,4)", "CAST(x AS decimal(12,4))"),
        (decimal(10, 2), None, "decimal(20,2)", "CAST(x AS decimal(20,2))"),
    ],
)
def test_a_wider_table_type_takes_every_value(
    avro_type: Any, semantic: str | None, target: str, expected: str
) -> None:
    assert convert_sql(field(avro_type, semantic), "x", target) == expected


BAD_VALUES: list[tuple[Any, str | None, str, str]] = [
    ("int", TIME + "Date", "date", "outside the years 0001 to 9999"),
    ("long", TIME + "Timestamp", "timestamp", "outside the years 0001 to 9999"),
    ("long", TIME + "MicroTimestamp", "timestamp", "outside the years 0001 to 9999"),
    ("long", TIME + "NanoTimestamp", "timestamp", "finer than a microsecond"),
    ("long", TIME + "NanoTime", "long", "finer than a microsecond"),
    ("string", TIME + "ZonedTimestamp", "timestamptz", "not an ISO time with offset"),
    ("string", TIME + "IsoDate", "date", "not an ISO date"),
    ("string", TIME + "IsoTimestamp", "timestamp", "not an ISO time in microseconds"),
    (decimal(64, 2), None, "decimal(19,2)", "does not fit decimal(19,2) exactly"),
    (record("scale", "value"), DATA + "VariableScaleDecimal", "string", "not a number"),
    (
        {"type": "array", "items": {"type": "int", "connect.name": TIME + "Date"}},
        None,
        "list<date>",
        "outside the years 0001 to 9999",
    ),
    (decimal(12, 4), None, "decimal(10,2)", "does not fit decimal(10,2) exactly"),
    (decimal(12, 2), None, "decimal(12,4)", "does not fit decimal(12,4) exactly"),
]


@pytest.mark.parametrize(("avro_type", "semantic", "target", "why"), BAD_VALUES)
def test_a_value_that_can_not_be_kept_exactly_raises_and_names_its_column(
    avro_type: Any, semantic: str | None, target: str, why: str
) -> None:
    sql = convert_sql(field(avro_type, semantic, "born"), "x", target)
    assert f"raise_error('cdc-sink|value|born|{why}" in sql


@pytest.mark.parametrize(("avro_type", "semantic", "target", "why"), BAD_VALUES)
def test_a_bad_value_can_be_set_aside_as_null_with_its_one_reason(
    avro_type: Any, semantic: str | None, target: str, why: str
) -> None:
    column = field(avro_type, semantic, "born")
    raising, quiet = (
        convert_sql(column, "x", target),
        convert_sql(column, "x", target, fault=null_if_bad),
    )
    reason = value_fault_reason(column, target)
    assert reason is not None
    assert reason.startswith(why)
    assert raising.replace(f"raise_error('cdc-sink|value|born|{reason}')", "NULL") == quiet
    assert "raise_error" not in quiet


@pytest.mark.parametrize(
    ("avro_type", "semantic", "target"),
    [
        ("string", None, "string"),
        ("int", None, "long"),
        ("int", TIME + "Time", "long"),
        (decimal(10, 2), None, "decimal(12,4)"),
    ],
)
def test_a_conversion_that_takes_every_value_has_no_reason_to_fail(
    avro_type: Any, semantic: str | None, target: str
) -> None:
    column = field(avro_type, semantic)
    assert value_fault_reason(column, target) is None
    assert convert_sql(column, "x", target, fault=null_if_bad) == convert_sql(column, "x", target)


def test_no_expression_goes_through_the_session_time_zone() -> None:
    stamps = [
        convert_sql(field(kind, TIME + name), "x", target)
        for kind, name, target in [
            ("int", "Date", "date"),
            ("long", "Timestamp", "timestamp"),
            ("long", "MicroTimestamp", "timestamp"),
            ("long", "NanoTimestamp", "timestamp"),
            ("string", "ZonedTimestamp", "timestamptz"),
        ]
    ]
    for sql in stamps:
        assert "AS TIMESTAMP)" not in sql
        assert not re.search(r"timestamp_m|from_unixtime|to_timestamp|AS TIMESTAMP_NTZ", sql)


@pytest.mark.parametrize(
    ("avro_type", "semantic", "target"),
    [
        ("long", None, "int"),
        ("int", None, "string"),
        ("double", None, "float"),
        ("int", None, "decimal(10,0)"),
        (decimal(10, 2), None, "double"),
        ("int", TIME + "Date", "timestamp"),
        ("long", TIME + "MicroTimestamp", "long"),
        ({"type": "array", "items": "float"}, DATA + "FloatVector", "list<double>"),
    ],
)
def test_a_table_type_that_can_not_hold_the_writer_is_refused(
    avro_type: Any, semantic: str | None, target: str
) -> None:
    with pytest.raises(SchemaError, match=re.escape(target)):
        convert_sql(field(avro_type, semantic), "x", target)


def spark_unquoted(text: str) -> str:
    """Read a literal or a quoted name back as Spark does: escapes in '…', doubling in `…`."""
    if text.startswith("`"):
        return text[1:-1].replace("``", "`")
    return re.sub(r"(?s)\\(.)", r"\1", text[1:-1])


@given(st.text(min_size=1))
def test_a_quoted_name_ends_where_it_should_and_reads_back(name: str) -> None:
    quoted = quote(name)
    assert re.fullmatch(r"`(?:[^`]|``)*`", quoted, re.DOTALL)
    assert spark_unquoted(quoted) == name


@given(st.text())
def test_a_literal_ends_where_it_should_and_reads_back(text: str) -> None:
    written = literal(text)
    assert re.fullmatch(r"'(?:[^'\\]|\\.)*'", written, re.DOTALL)
    assert spark_unquoted(written) == text


@given(st.text(min_size=1))
def test_a_column_name_stays_inside_the_literal_of_its_fault(name: str) -> None:
    plain = convert_sql(field("int", TIME + "Date", "x"), "v", "date")
    odd = convert_sql(field("int", TIME + "Date", name), "v", "date")
    strings = r"'(?:[^'\\]|\\.)*'"
    assert re.sub(strings, "", odd, flags=re.DOTALL) == re.sub(strings, "", plain)
