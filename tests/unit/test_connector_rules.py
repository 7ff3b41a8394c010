"""What a connector does that its tables must know of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cdc_sink.check.rules.connector import check_connectors, check_defaults, check_left_out
from cdc_sink.check.rules.table import SchemaReading, WantedTable, exit_code
from cdc_sink.debezium.connector import ConnectorReading

SAMPLES = Path(__file__).parent / "samples"
VALUE = (SAMPLES / "postgresql_customers_value.json").read_text()
TOPIC = "shop_pg.public.customers"
WISH = WantedTable("shop", "shop.customers", TOPIC)

# The texts of the registries' clients, and a frame above each; Apicurio's as a real chain said it.
CONFLUENT = (
    "org.apache.kafka.connect.errors.DataException: Failed to serialize Avro data from topic x :\n"
    "Caused by: org.apache.kafka.common.errors.InvalidConfigurationException: Schema being registered "
    'is incompatible with an earlier schema for subject "shop_pg.public.customers-value", details: '
    "[secret]; error code: 409"
)
OLD_CONFLUENT = "RestClientException: Incompatible Avro schema; error code: 40901"
TOPIC_ONLY = f"DataException: Failed to serialize Avro data from topic {TOPIC} :\n{OLD_CONFLUENT}"
APICURIO = (
    "org.apache.kafka.connect.errors.ConnectException: Tolerance exceeded in error handler\n"
    "Caused by: io.apicurio.registry.rest.client.exception.RuleViolationException: Incompatible "
    "artifact: shop_pg.public.customers-value [AVRO], num of incompatible diffs: {1}"
)
OTHER = (
    "org.apache.kafka.connect.errors.ConnectException: An exception occurred in the producer\n"
    "Caused by: org.postgresql.util.PSQLException: ERROR: s3cret 409"
)


def connector(
    *, prefix: str = "shop_pg", trace: str | None = None, **settings: str
) -> ConnectorReading:
    given = {"topic.prefix": prefix, **settings}
    return ConnectorReading("pg", given, {} if trace is None else {"task 0": trace})


@pytest.mark.parametrize(
    ("trace", "subject"),
    [
        (CONFLUENT, f"subject {TOPIC}-value, compatibility level BACKWARD"),
        (APICURIO, f"subject {TOPIC}-value, compatibility level BACKWARD"),
        (OLD_CONFLUENT, "its trace does not say which"),
        (TOPIC_ONLY, f"topic {TOPIC}, compatibility level BACKWARD"),
    ],
)
def test_a_task_that_failed_because_the_registry_refused_is_explained(
    trace: str, subject: str
) -> None:
    levels = {f"{TOPIC}-value": "BACKWARD"}
    (found,) = check_connectors([connector(trace=trace)], [TOPIC], levels)
    assert (found.where, found.level) == ("connector pg task 0", "error")
    assert found.saw == (
        f"it FAILED: the registry refused the table's new schema (409), {subject}; the changes wait in "
        "the source's log"
    )
    assert "compatibility to NONE" in found.remedy
    assert "a default at the source" in found.remedy
    assert "with Apicurio of the whole registry" in found.remedy
    assert "POST /connectors/pg/restart?includeTasks=true&onlyFailed=true" in found.remedy
    assert exit_code([found]) == 1


def test_another_failure_is_named_by_its_exception_without_its_text() -> None:
    (found,) = check_connectors([connector(trace=OTHER)], [TOPIC], {})
    assert found.saw == "it FAILED (PSQLException)"
    assert "/connectors/pg/status" in found.remedy
    assert exit_code([found]) == 1


def test_a_connector_that_runs_is_fine_and_a_stranger_is_passed_over() -> None:
    ours, strange = connector(), connector(prefix="shop", trace=CONFLUENT)
    assert [one.level for one in check_connectors([ours, strange], [TOPIC], {})] == ["ok"]


def value_with(*columns: dict[str, Any]) -> str:
    schema: dict[str, Any] = json.loads(VALUE)
    before = next(field for field in schema["fields"] if field["name"] == "before")
    before["type"][1]["fields"].extend(columns)
    return json.dumps(schema)


DEFAULTED = value_with(
    {"name": "grade", "type": ["int", "null"], "default": 3},
    {"name": "must", "type": "int", "default": 3},
    {"name": "may", "type": ["null", "int"], "default": None},
)
IGNORES = {"value.converter.ignore.default.for.nullables": "true"}
APICURIO_CONVERTER = {"value.converter": "io.apicurio.registry.utils.converter.AvroConverter"}
CONFLUENT_CONVERTER = {"value.converter": "io.confluent.connect.avro.AvroConverter"}


@pytest.mark.parametrize(
    ("writer", "said"),
    [
        (None, "unless it is Confluent's"),
        (connector(), "unless it is Confluent's"),
        # Without a converter of its own the connector's setting is not read: the worker's are.
        (connector(**IGNORES), "unless it is Confluent's"),
        (connector(**CONFLUENT_CONVERTER), "the connector's converter writes"),
        (connector(**APICURIO_CONVERTER), "Apicurio's converter writes"),
        (connector(**APICURIO_CONVERTER, **IGNORES), "Apicurio's converter writes"),
    ],
)
def test_a_nullable_column_with_a_default_is_a_warning_by_name(
    writer: ConnectorReading | None, said: str
) -> None:
    found_by_where = {
        one.where: one for one in check_defaults(WISH, SchemaReading(DEFAULTED, None), writer)
    }
    assert not {"table shop.customers column must", "table shop.customers column may"} & set(
        found_by_where
    )
    found = found_by_where["table shop.customers column grade"]
    assert found.level == "warning"
    assert said in found.saw
    assert "an explicit NULL as the column's default" in found.saw
    assert "nothing downstream can tell" in found.saw
    assert "ignore.default.for.nullables=true" in found.remedy
    assert "drop the column's default at the source" in found.remedy


def test_a_converter_that_keeps_nulls_is_fine() -> None:
    writer = connector(**CONFLUENT_CONVERTER, **IGNORES)
    assert list(check_defaults(WISH, SchemaReading(DEFAULTED, None), writer)) == []


def test_a_schema_that_is_missing_or_none_of_a_table_is_left_to_others() -> None:
    heartbeat = (SAMPLES / "heartbeat_value.json").read_text()
    for value in (None, heartbeat):
        assert list(check_defaults(WISH, SchemaReading(value, None), None)) == []


WITH_LISTS = json.loads(VALUE)
_row = next(branch for branch in WITH_LISTS["fields"][0]["type"] if isinstance(branch, dict))
_row["fields"] += [
    {"name": name, "type": ["null", {"type": "array", "items": ["null", kind]}], "default": None}
    for name, kind in (("scores", "double"), ("tags", "string"), ("answers", "boolean"))
]
ON_BAD_VALUE = "event.converting.failure.handling.mode"


@pytest.mark.parametrize(
    ("settings", "said", "asks_for_fail"),
    [
        (None, f"writes NULL in its place, unless its {ON_BAD_VALUE} is fail", True),
        ({}, f"writes NULL in its place, unless its {ON_BAD_VALUE} is fail", True),
        ({ON_BAD_VALUE: "warn"}, "writes NULL in its place", True),
        ({ON_BAD_VALUE: "fail"}, "the connector stops", False),
    ],
)
def test_columns_whose_unchanged_values_arrive_as_null_are_a_warning(
    settings: dict[str, str] | None, said: str, asks_for_fail: bool
) -> None:
    writer = None if settings is None else connector(**settings)
    (found,) = check_left_out(WISH, SchemaReading(json.dumps(WITH_LISTS), None), writer)
    assert found.where.endswith("columns scores, answers")
    assert found.level == "warning"
    assert found.saw.endswith(said)
    assert "REPLICA IDENTITY FULL" in found.remedy
    assert (f"{ON_BAD_VALUE}=fail" in found.remedy) is asks_for_fail


def test_other_columns_and_other_databases_lose_no_unchanged_value() -> None:
    of_mysql = json.dumps(WITH_LISTS).replace("connector.postgresql", "connector.mysql")
    for value in (None, VALUE, of_mysql, (SAMPLES / "heartbeat_value.json").read_text()):
        assert list(check_left_out(WISH, SchemaReading(value, None), None)) == []
