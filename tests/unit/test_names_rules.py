"""A connector that escapes names is found before a table has escaped columns."""

from __future__ import annotations

import pytest

from cdc_sink.check.rules.names import SETTINGS, check_names
from cdc_sink.debezium.connector import ConnectorReading
from cdc_sink.debezium.options import FieldNames


@pytest.mark.parametrize(
    ("mode", "field_names", "levels"),
    [
        ("avro_unicode", "as_sent", ["warning"]),
        ("avro_unicode", "source", []),
        ("avro", "as_sent", []),
        (None, "as_sent", []),
    ],
)
def test_escaped_names_that_nothing_undoes_are_a_warning(
    mode: str | None, field_names: FieldNames, levels: list[str]
) -> None:
    settings = {} if mode is None else {SETTINGS[0]: mode}
    found = list(check_names("shop.items", field_names, ConnectorReading("pg", settings, {})))
    assert [one.level for one in found] == levels
    assert all("`field_names: source`" in one.remedy for one in found)


def test_a_table_without_a_known_connector_is_passed_over() -> None:
    assert list(check_names("shop.items", "as_sent", None)) == []
