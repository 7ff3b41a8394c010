"""A table's `wire` against what its connector's converters are told to write."""

from __future__ import annotations

import pytest

from cdc_sink.check.rules.table import exit_code
from cdc_sink.check.rules.wire import check_wire, written_wires
from cdc_sink.debezium.connector import ConnectorReading

APICURIO = "io.apicurio.registry.utils.converter.AvroConverter"
CONFLUENT = "io.confluent.connect.avro.AvroConverter"
JSON = "org.apache.kafka.connect.json.JsonConverter"
HEADER_IDS = "io.confluent.kafka.serializers.schema.id.HeaderSchemaIdSerializer"


def settings(converter: str, **more: str) -> dict[str, str]:
    """The same for keys and values; names with `_` for `.` or `-`."""
    names = {
        "headers": "apicurio.registry.headers.enabled",
        "as_confluent": "apicurio.registry.as-confluent",
        "use_id": "apicurio.registry.use-id",
    }
    given: dict[str, str] = {}
    for side in ("key", "value"):
        given[f"{side}.converter"] = converter
        given |= {f"{side}.converter.{names[name]}": said for name, said in more.items()}
    return given


def findings(wire: str, given: dict[str, str]) -> list[tuple[str, str]]:
    found = list(check_wire("shop.t", wire, ConnectorReading("pg", given, {})))
    assert all(one.level == "error" and exit_code([one]) == 1 for one in found)
    return [(one.saw, one.remedy) for one in found]


@pytest.mark.parametrize(
    ("given", "wires"),
    [
        (settings(APICURIO, headers="true"), ("apicurio_headers",)),
        (settings(APICURIO, headers="true", as_confluent="true"), ("apicurio_headers",)),
        (settings(APICURIO, headers="false", as_confluent="true"), ("confluent",)),
        (settings(APICURIO, headers="false", as_confluent="false"), ("apicurio_8_byte",)),
        (settings(APICURIO, headers="false"), ("apicurio_8_byte", "confluent")),
        (settings(APICURIO, as_confluent="true"), ("apicurio_headers", "confluent")),
        (settings(APICURIO), ("apicurio_headers", "apicurio_8_byte", "confluent")),
        (settings(CONFLUENT), ("confluent",)),
        (settings(JSON), ("json",)),
        (settings("org.apache.kafka.connect.storage.StringConverter"), ()),
        ({}, ()),
    ],
)
def test_what_a_converter_may_write_follows_from_its_settings(
    given: dict[str, str], wires: tuple[str, ...]
) -> None:
    assert written_wires(given, "key") == written_wires(given, "value") == wires
    assert all(findings(wire, given | USES_CONTENT) == [] for wire in wires if wire == "confluent")


USES_CONTENT = {
    f"{side}.converter.apicurio.registry.use-id": "contentId" for side in ("key", "value")
}


def test_confluents_header_serializer_is_told_from_its_usual_one() -> None:
    given = settings(CONFLUENT) | {"value.converter.value.schema.id.serializer": HEADER_IDS}
    assert written_wires(given, "value") == ("confluent_headers",)
    assert written_wires(given, "key") == ("confluent",)
    ((saw, _),) = findings("confluent_headers", given)
    assert saw == (
        "connector pg's key.converter writes confluent, and the table's `wire` is confluent_headers"
    )


@pytest.mark.parametrize(
    ("wire", "given", "remedy"),
    [
        ("confluent", settings(APICURIO, headers="true"), "set `wire: apicurio_headers`"),
        (
            "apicurio_headers",
            settings(APICURIO, headers="false", as_confluent="true", use_id="contentId"),
            "set `wire: confluent`",
        ),
        (
            "confluent",
            settings(APICURIO, headers="false", as_confluent="false"),
            "set `wire: apicurio_8_byte`",
        ),
        ("json", settings(CONFLUENT), "set `wire: confluent`"),
    ],
)
def test_a_wire_that_the_converters_do_not_write_is_an_error_for_key_and_value(
    wire: str, given: dict[str, str], remedy: str
) -> None:
    found = findings(wire, given)
    assert [saw.split("'s ")[1].split()[0] for saw, _ in found] == [
        "key.converter",
        "value.converter",
    ]
    assert all(told.startswith(remedy) for _, told in found)


@pytest.mark.parametrize(
    ("wire", "given", "needed"),
    [
        (
            "apicurio_8_byte",
            settings(APICURIO, headers="false", as_confluent="false", use_id="contentId"),
            "globalId",
        ),
        ("confluent", settings(APICURIO, headers="false", as_confluent="true"), "contentId"),
        (
            "confluent",
            settings(APICURIO, headers="false", as_confluent="true", use_id="globalId"),
            "contentId",
        ),
    ],
)
def test_ids_of_the_other_space_are_an_error(wire: str, given: dict[str, str], needed: str) -> None:
    found = findings(wire, given)
    assert len(found) == 2
    assert all(f"does not write {needed}s" in saw for saw, _ in found)
    assert f"set key.converter.apicurio.registry.use-id={needed}" in found[0][1]


@pytest.mark.parametrize(
    ("wire", "given"),
    [
        ("confluent", {}),
        ("apicurio_8_byte", settings(APICURIO, headers="false", as_confluent="false")),
        ("apicurio_headers", settings(APICURIO, headers="true", use_id="contentId")),
        ("apicurio_headers", settings(APICURIO)),
        ("confluent", settings(APICURIO, headers="false")),
    ],
)
def test_what_fits_or_is_not_told_is_no_finding(wire: str, given: dict[str, str]) -> None:
    assert findings(wire, given) == []


def test_a_topic_whose_connector_is_not_known_is_no_finding() -> None:
    assert list(check_wire("shop.t", "apicurio_headers", None)) == []
