"""Whether a connector's converters write what a table's `wire` says, as far as its own settings tell.

Rules this file owns: only what is said is judged, as converters may be set on the worker, where nobody is
told of them; Apicurio's converter has one class name and other defaults in 2.x than in 3.x.

Source: Apicurio 2.6.13, SerdeConfig (headers.enabled=true, use-id=globalId by default); 3.x, headers off and
content ids in four bytes; Confluent 8, HeaderSchemaIdSerializer; Kafka Connect's JsonConverter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cdc_sink.check.rules.table import Finding
from cdc_sink.debezium.connector import ConnectorReading

_SIDES: Final = ("key", "value")
_APICURIO: Final = "converter.apicurio.registry."
_HEADERS, _AS_CONFLUENT, _USE_ID = "headers.enabled", "as-confluent", "use-id"
WIRE_SETTINGS: Final = tuple(
    f"{side}.{name}"
    for side in _SIDES
    for name in (
        "converter",
        *(f"{_APICURIO}{setting}" for setting in (_HEADERS, _AS_CONFLUENT, _USE_ID)),
        f"converter.{side}.schema.id.serializer",
    )
)


def check_wire(table: str, wire: str, connector: ConnectorReading | None) -> Iterator[Finding]:
    """Compare a table's `wire` with the converters of the connector that writes its topic.

    In: connector, None when it isn't known.
    """
    for side in _SIDES:
        settings = {} if connector is None else connector.settings
        written = written_wires(settings, side)
        if written and wire not in written:
            yield Finding(
                f"table {table}",
                "error",
                f"connector {connector.name if connector else ''}'s {side}.converter writes "
                f"{' or '.join(written)}, and the table's `wire` is {wire}",
                f"set `wire: {written[0]}` for this table, or correct the settings of {side}.converter; "
                "records that are in the topic already stay as they were written",
                1,
            )
        elif (expected := _other_ids(settings, side, wire)) is not None:
            yield Finding(
                f"table {table}",
                "error",
                f"connector {connector.name if connector else ''}'s {side}.converter does not write "
                f"{expected}s, and `wire: {wire}` reads them: an id would name another schema",
                f"set {side}.{_APICURIO}{_USE_ID}={expected} on the connector"
                + (
                    ", or headers.enabled=true and `wire: apicurio_headers`"
                    if wire != "confluent"
                    else ""
                ),
                1,
            )


def written_wires(settings: Mapping[str, str], side: str) -> tuple[str, ...]:
    """The values of `wire` that a converter may write, the likeliest first; none when it can't be told."""
    converter = settings.get(f"{side}.converter", "")
    if converter.endswith(".json.JsonConverter"):
        return ("json",)
    if not converter.endswith(".AvroConverter"):
        return ()
    if converter.startswith("io.confluent."):
        serializer = settings.get(f"{side}.converter.{side}.schema.id.serializer", "")
        return ("confluent_headers",) if "HeaderSchemaId" in serializer else ("confluent",)
    if "apicurio" not in converter:
        return ()
    headers = _said(settings, side, _HEADERS)
    as_confluent = _said(settings, side, _AS_CONFLUENT)
    if headers == "true":
        return ("apicurio_headers",)
    long_or_not = {"true": ("confluent",), "false": ("apicurio_8_byte",)}
    prefixed = long_or_not.get(as_confluent, ("apicurio_8_byte", "confluent"))
    return prefixed if headers == "false" else ("apicurio_headers", *prefixed)


def _other_ids(settings: Mapping[str, str], side: str, wire: str) -> str | None:
    """Which kind of id the `wire` needs, where an Apicurio converter is told to write the other."""
    if "apicurio" not in settings.get(f"{side}.converter", ""):
        return None
    use_id = _said(settings, side, _USE_ID)
    if wire == "apicurio_8_byte" and use_id == "contentid":
        return "globalId"
    # 3.x, which writes content ids by default, has no such setting as as-confluent.
    is_2 = _said(settings, side, _AS_CONFLUENT) == "true"
    if wire == "confluent" and (use_id == "globalid" or (is_2 and not use_id)):
        return "contentId"
    return None


def _said(settings: Mapping[str, str], side: str, name: str) -> str:
    return settings.get(f"{side}.{_APICURIO}{name}", "").strip().lower()
