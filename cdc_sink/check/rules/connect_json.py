"""Whether a connector's JsonConverter writes what `wire: json` reads.

Rules this file owns: only converters that the connector names itself are judged; without them the worker's
hold, which Connect does not tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cdc_sink.check.rules.table import Finding
from cdc_sink.debezium.connector import ConnectorReading

JSON_CONVERTER = "org.apache.kafka.connect.json.JsonConverter"
_SIDES = ("key", "value")
_KEEPS_NULL = "value.converter.replace.null.with.default"
SETTINGS = (
    *(
        f"{side}.converter{more}"
        for side in _SIDES
        for more in ("", ".schemas.enable", ".decimal.format")
    ),
    _KEEPS_NULL,
)
_CONFIG = 2


def check_json(table: str, wire: str, connector: ConnectorReading | None) -> Iterator[Finding]:
    """Judge the converters of the connector that writes a table's topic; None when it isn't known.

    Source: Kafka 4.3 `JsonConverterConfig`.
    """
    settings = {} if connector is None else connector.settings
    json_sides = [side for side in _SIDES if settings.get(f"{side}.converter") == JSON_CONVERTER]
    if wire != "json":
        return
    for side in json_sides:
        yield from _check_format(table, f"{side}.converter", settings)
    if "value" in json_sides and settings.get(_KEEPS_NULL, "true").lower() != "false":
        yield Finding(
            f"table {table}",
            "warning",
            "the connector's converter writes an explicit NULL as the column's default; nothing "
            "downstream can tell the two",
            f"set {_KEEPS_NULL}=false",
        )


def _check_format(table: str, name: str, settings: Mapping[str, str]) -> Iterator[Finding]:
    where = f"table {table}"
    if settings.get(f"{name}.schemas.enable", "true").lower() != "true":
        saw = f"the connector's {name} writes no schemas, so nothing tells what its values are"
        yield Finding(where, "error", saw, f"set {name}.schemas.enable=true", _CONFIG)
    if settings.get(f"{name}.decimal.format", "BASE64").upper() != "BASE64":
        saw = f"the connector's {name} writes decimals as numbers, and their records are set aside"
        yield Finding(where, "error", saw, f"set {name}.decimal.format=BASE64", _CONFIG)
