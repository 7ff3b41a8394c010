"""Which values have one exact text, and the SQL that writes it; tests/spark reads the texts themselves."""

from __future__ import annotations

from typing import Any

import pytest

from cdc_sink.debezium.envelope import AvroField
from cdc_sink.debezium.types.as_text import has_text, text_fault_reason, text_sql
from cdc_sink.debezium.types.mapping import null_if_bad

TIME = "io.debezium.time."
DATE = {"type": "int", "connect.name": f"{TIME}Date"}
ZONED = {"type": "string", "connect.name": f"{TIME}ZonedTimestamp"}


def field(avro_type: Any) -> AvroField:
    semantic = avro_type.get("connect.name") if isinstance(avro_type, dict) else None
    return AvroField("c", avro_type, nullable=True, semantic=semantic)


def decimal(precision: int, scale: int) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


@pytest.mark.parametrize(
    "iceberg",
    [
        *("boolean", "int", "long", "float", "double", "string"),
        *("date", "timestamp", "timestamptz", "decimal(38,38)"),
    ],
)
def test_a_scalar_has_a_text(iceberg: str) -> None:
    assert has_text(iceberg)


@pytest.mark.parametrize("iceberg", ["binary", "list<int>", "map<string,string>", "struct<a:int>"])
def test_bytes_and_nested_values_have_no_text(iceberg: str) -> None:
    assert not has_text(iceberg)


@pytest.mark.parametrize(
    ("avro_type", "sql"),
    [
        ("string", "x"),
        (ZONED, "x"),
        ("int", "CAST(x AS STRING)"),
        (decimal(9, 6), "CAST(x AS STRING)"),
        (decimal(9, 7), "replace(to_char(x, 'MI990D0000000'), ' ', '')"),
        (decimal(38, 38), f"replace(to_char(x, 'MI0D{'0' * 38}'), ' ', '')"),
    ],
)
def test_a_text_is_that_of_the_value_as_its_column_would_hold_it(avro_type: Any, sql: str) -> None:
    assert text_sql(field(avro_type), "x") == sql


def test_a_value_is_converted_before_it_is_written() -> None:
    quiet = text_sql(field(DATE), "x", fault=null_if_bad)
    assert quiet.startswith("CAST((CASE WHEN x < -719162")
    assert "THEN NULL ELSE date_from_unix_date(x)" in quiet
    assert "raise_error('cdc-sink|value|c|outside" in text_sql(field(DATE), "x")


@pytest.mark.parametrize(
    ("avro_type", "reason"),
    [
        (DATE, "outside the years 0001 to 9999"),
        # As the source wrote it: any text is a text, infinity too.
        (ZONED, None),
        ("string", None),
        ("long", None),
    ],
)
def test_a_text_can_fail_for_the_reason_of_its_value_only(
    avro_type: Any, reason: str | None
) -> None:
    assert text_fault_reason(field(avro_type)) == reason
