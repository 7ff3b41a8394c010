"""A connector whose converters don't write what the table reads is found before the first record."""

from __future__ import annotations

import pytest

from cdc_sink.check.rules.connect_json import JSON_CONVERTER, check_json
from cdc_sink.check.rules.table import exit_code
from cdc_sink.debezium.connector import ConnectorReading

AVRO = "io.confluent.connect.avro.AvroConverter"
KEEPS = {"value.converter.replace.null.with.default": "false"}
BOTH = {"key.converter": JSON_CONVERTER, "value.converter": JSON_CONVERTER, **KEEPS}


def found(wire: str, settings: dict[str, str]) -> list[tuple[str, str, str]]:
    all_of_them = list(check_json("shop.items", wire, ConnectorReading("pg", settings, {})))
    assert {one.where for one in all_of_them} <= {"table shop.items"}
    assert exit_code(all_of_them) == (2 if any(o.level == "error" for o in all_of_them) else 0)
    return [(one.level, one.saw, one.remedy) for one in all_of_them]


@pytest.mark.parametrize(
    ("wire", "settings"),
    [
        ("json", BOTH),
        ("json", {}),
        ("json", {"value.converter": AVRO, "value.converter.schemas.enable": "false"}),
        ("confluent", {**BOTH, "value.converter.schemas.enable": "false"}),
    ],
)
def test_what_fits_or_is_not_known_is_passed_over(wire: str, settings: dict[str, str]) -> None:
    assert found(wire, settings) == []


def test_a_table_without_a_known_connector_is_passed_over() -> None:
    assert list(check_json("shop.items", "json", None)) == []


@pytest.mark.parametrize("side", ["key", "value"])
@pytest.mark.parametrize(
    ("setting", "bad", "good"),
    [("schemas.enable", "false", "true"), ("decimal.format", "numeric", "BASE64")],
)
def test_a_format_that_cannot_be_read_is_an_error(
    side: str, setting: str, bad: str, good: str
) -> None:
    name = f"{side}.converter.{setting}"
    assert found("json", {**BOTH, name: good}) == []
    ((level, saw, remedy),) = found("json", {**BOTH, name: bad})
    assert (level, remedy) == ("error", f"set {name}={good}")
    assert f"{side}.converter writes" in saw


def test_a_converter_that_puts_defaults_in_the_place_of_null_is_a_warning() -> None:
    settings = {name: value for name, value in BOTH.items() if name not in KEEPS}
    ((level, _, remedy),) = found("json", settings)
    assert (level, remedy) == ("warning", "set value.converter.replace.null.with.default=false")
