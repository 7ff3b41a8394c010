"""Debezium's placeholder for an unchanged large value: the SQL that knows each of its forms."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from cdc_sink.debezium.envelope import AvroField
from cdc_sink.debezium.options import UNAVAILABLE
from cdc_sink.debezium.types.mapping import unavailable_sql
from cdc_sink.debezium.types.unavailable import arrives_as_null

TIME = "io.debezium.time."
DATA = "io.debezium.data."
DECIMAL = "org.apache.kafka.connect.data.Decimal"
PLACEHOLDER = "__debezium_unavailable_value"
OPEN_SCALE = {
    "type": "record",
    "name": "V",
    "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
}


def field(avro_type: Any, semantic: str | None = None, placeholder: str = UNAVAILABLE) -> AvroField:
    return AvroField("c", avro_type, True, semantic=semantic, placeholder=placeholder)


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": ["null", items]}


@pytest.mark.parametrize(
    ("column", "is_lost"),
    [
        *((field(array(kind)), True) for kind in ("float", "double", "boolean", decimal(12, 2))),
        (field(array({"type": "int", "connect.type": "int16"})), True),
        (field(array({"type": "long", "connect.name": TIME + "MicroTimestamp"})), True),
        (field(array({"type": "string", "connect.name": TIME + "ZonedTimestamp"})), True),
        (field(array("float"), DATA + "FloatVector"), True),
        (field({"type": "record", "name": "V", "fields": []}, DATA + "SparseDoubleVector"), True),
        *((field(array(kind)), False) for kind in ("int", "long", "string", "bytes")),
        (field(array({"type": "int", "connect.name": TIME + "Date"})), False),
        (field(array({"type": "string", "connect.name": DATA + "Uuid"})), False),
        *((field(kind), False) for kind in ("string", "bytes", "double", OPEN_SCALE)),
    ],
)
def test_a_list_without_a_placeholder_is_known(column: AvroField, is_lost: bool) -> None:
    """As seen of the connector: the others arrived as one of the forms below."""
    assert arrives_as_null(column) is is_lost


def test_the_placeholder_is_matched_exactly_in_every_text_form() -> None:
    sql = unavailable_sql(field("string"), "x")
    assert sql is not None
    forms = re.findall(r"'([^']*)'", sql)
    assert forms == [
        PLACEHOLDER,
        "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==",
        "5f5f646562657a69756d5f756e617661696c61626c655f76616c7565",
    ]
    assert "LIKE" not in sql


def test_a_json_placeholder_may_also_be_an_hstore_of_itself() -> None:
    sql = unavailable_sql(field("string", DATA + "Json"), "x")
    assert sql is not None
    assert json.dumps({PLACEHOLDER: PLACEHOLDER}, separators=(",", ":")) in sql


def test_a_placeholder_of_other_letters_is_known_in_json_as_the_connector_writes_it() -> None:
    column = field("string", DATA + "Json", placeholder="naïve")
    assert (
        unavailable_sql(column, "x") == "coalesce(x IN ('naïve', '{\"naïve\":\"naïve\"}'), false)"
    )


def test_both_alphabets_of_base64_are_known() -> None:
    column = field("string", placeholder="hex:fbff")
    assert unavailable_sql(column, "x") == (
        "coalesce(x IN ('\ufffd\ufffd', '+/8=', '-_8=', 'fbff'), false)"
    )


@pytest.mark.parametrize("name", ["Xml", "Ltree", "Tsvector", "EnumSet"])
def test_a_column_that_is_no_binary_one_holds_the_text_only(name: str) -> None:
    sql = f"coalesce(x IN ('{PLACEHOLDER}'), false)"
    assert unavailable_sql(field("string", DATA + name), "x") == sql


def test_an_hstore_of_more_than_the_placeholder_is_data() -> None:
    assert unavailable_sql(field({"type": "map", "values": "string"}), "x") == (
        f"coalesce(size(x) = 1 AND element_at(x, '{PLACEHOLDER}') = '{PLACEHOLDER}', false)"
    )


def test_a_binary_placeholder_is_compared_as_bytes() -> None:
    column = replace(field("bytes"), placeholder="ab")
    assert unavailable_sql(column, "x") == "coalesce(x = X'6162', false)"


@pytest.mark.parametrize(
    ("avro_type", "semantic"),
    [
        ("int", None),
        ("long", TIME + "MicroTimestamp"),
        *(
            ("string", TIME + name)
            for name in ("ZonedTimestamp", "ZonedTime", "IsoDate", "IsoTime", "IsoTimestamp")
        ),
        ("string", TIME + "Interval"),
        ("string", DATA + "Uuid"),
        ("string", DATA + "Enum"),
        (decimal(10, 2), DECIMAL),
    ],
)
def test_a_value_of_fixed_size_never_holds_the_placeholder(
    avro_type: Any, semantic: str | None
) -> None:
    assert unavailable_sql(field(avro_type, semantic), "x") is None


BYTES = ", ".join(str(byte) for byte in PLACEHOLDER.encode())
BYTES_LONG = ", ".join(f"{byte}L" for byte in PLACEHOLDER.encode())
HEX = PLACEHOLDER.encode().hex()
# java.util.UUID.nameUUIDFromBytes("__debezium_unavailable_value"), as Java 17 prints it
NAME_UUID = "b68a35a7-17ad-35b3-af2a-ae46edb4545a"


@pytest.mark.parametrize(
    ("avro_type", "semantic", "form"),
    [
        (array("string"), None, f"x = array('{PLACEHOLDER}')"),
        (array({"type": "string", "connect.name": DATA + "Json"}), None, f"array('{PLACEHOLDER}')"),
        (array("bytes"), None, f"x = array(X'{HEX}')"),
        (array("int"), None, f"x = array({BYTES})"),
        (array({"type": "int", "connect.name": TIME + "Date"}), None, f"x = array({BYTES})"),
        (
            array({"type": "int", "connect.name": "org.apache.kafka.connect.data.Date"}),
            None,
            f"x = array({BYTES})",
        ),
        (array("long"), None, f"x = array({BYTES_LONG})"),
        ({"type": "map", "values": "string"}, None, f"element_at(x, '{PLACEHOLDER}')"),
        ("string", DATA + "Json", json.dumps({PLACEHOLDER: PLACEHOLDER}, separators=(",", ":"))),
        ("bytes", None, f"x = X'{HEX}'"),
    ],
)
def test_the_placeholder_is_known_in_each_of_its_forms(
    avro_type: Any, semantic: str | None, form: str
) -> None:
    sql = unavailable_sql(field(avro_type, semantic), "x")
    assert sql is not None
    assert form in sql
    assert "LIKE" not in sql


def test_an_array_of_uuids_holds_the_placeholders_name_uuid() -> None:
    uuids = array({"type": "string", "connect.name": DATA + "Uuid"})
    sql = unavailable_sql(field(uuids), "x")
    assert sql is not None
    found = UUID(sql.partition("array('")[2][:36])
    assert str(found) == NAME_UUID


@pytest.mark.parametrize(
    "avro_type",
    [
        array("double"),
        array("boolean"),
        array(decimal(10, 2)),
        array({"type": "long", "connect.name": TIME + "MicroTimestamp"}),
        array({"type": "string", "connect.name": TIME + "ZonedTimestamp"}),
        array({"type": "int", "connect.name": TIME + "Time"}),
        decimal(76, 0),
        OPEN_SCALE,
    ],
)
def test_other_types_never_hold_the_placeholder(avro_type: Any) -> None:
    assert unavailable_sql(field(avro_type), "x") is None


def test_a_placeholder_in_hex_is_its_bytes_and_signed_numbers_in_arrays() -> None:
    own = replace(field("bytes"), placeholder="hex:00ff7f")
    assert unavailable_sql(own, "x") == "coalesce(x = X'00ff7f', false)"
    assert unavailable_sql(replace(own, avro_type=array("int")), "x") == (
        "coalesce(x = array(0, -1, 127), false)"
    )
    assert unavailable_sql(replace(own, avro_type=array("long")), "x") == (
        "coalesce(x = array(0L, -1L, 127L), false)"
    )
