"""What stands in the way of a table, decided from readings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from iceberg_tables import ledger

from cdc_sink.check.rules.refusals import named, refusals
from cdc_sink.check.rules.table import (
    Finding,
    SchemaReading,
    TargetReading,
    TopicReading,
    WantedTable,
    check_growth,
    check_ledger,
    check_schemas,
    check_target,
    check_topic,
    exit_code,
)
from cdc_sink.table.schema.columns import Column
from cdc_sink.table.schema.policy import TableMode, TablePolicy

SAMPLES = Path(__file__).parent / "samples"
VALUE = (SAMPLES / "postgresql_customers_value.json").read_text()
KEY = (SAMPLES / "postgresql_customers_key.json").read_text()
WISH = WantedTable("shop", "shop.customers", "shop_pg.public.customers")
TOPIC = TopicReading("t1", {0: 0}, {0: 10}, {"retention.ms": "-1"})


def levels(findings: object) -> list[str]:
    return [finding.level for finding in findings]  # type: ignore[attr-defined]


def wish(**changes: object) -> WantedTable:
    return WantedTable(WISH.pipeline, WISH.table, WISH.topic, **changes)  # type: ignore[arg-type]


def with_column(name: str, avro_type: object) -> str:
    """Return the sample's value schema with one more column."""
    schema: dict[str, Any] = json.loads(VALUE)
    before = next(field for field in schema["fields"] if field["name"] == "before")
    before["type"][1]["fields"].append({"name": name, "type": avro_type})
    return json.dumps(schema)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [([], 0), ([0], 0), ([3, 0], 3), ([3, 1], 1), ([1], 1), ([3, 1, 2], 2)],
)
def test_the_exit_code_names_the_configuration_first_and_silence_last(
    codes: list[int], expected: int
) -> None:
    found = [Finding("x", "error" if code else "warning", "y", "z", code) for code in codes]
    assert exit_code(found) == expected


def test_a_topic_that_has_all_it_ever_had_is_fine() -> None:
    assert levels(check_topic(WISH, TOPIC, None)) == ["ok"]


@pytest.mark.parametrize(("policy", "level"), [("wait", "warning"), ("fail", "error")])
def test_a_missing_topic_is_judged_by_the_tables_policy(policy: str, level: str) -> None:
    assert levels(check_topic(wish(missing_topic=policy), None, None)) == [level]


@pytest.mark.parametrize(
    ("applied", "expected"),
    [(None, ["ok", "warning"]), (5, ["ok"]), (4, ["ok", "error"])],
)
def test_deleted_records_are_an_error_once_the_ledger_misses_them(
    applied: int | None, expected: list[str]
) -> None:
    topic = TopicReading("t1", {0: 5}, {0: 10})
    held = None if applied is None else ledger({0: applied})
    assert levels(check_topic(WISH, topic, held)) == expected


def test_the_ledger_of_another_incarnation_does_not_count_as_lost_records() -> None:
    topic = TopicReading("t2", {0: 5}, {0: 10})
    assert levels(check_topic(WISH, topic, ledger({0: 1}))) == ["ok", "warning"]


def test_a_missing_topic_that_the_ledger_knows_is_an_error_and_never_waited_for() -> None:
    held = ledger({0: 4}, cluster_id="c1")
    (same,) = check_topic(WISH, None, held, "c1")
    (other,) = check_topic(WISH, None, held, "c2")
    (unknown,) = check_topic(WISH, None, held)
    assert [(one.level, one.lets_start) for one in (same, other, unknown)] == [("error", False)] * 3
    assert "is gone" in same.saw
    assert "is gone" in unknown.saw
    assert "another cluster: c2" in other.saw


@pytest.mark.parametrize(
    ("asked", "owner", "is_empty", "level"),
    [
        ({}, "shop", False, "error"),
        ({"adopt": True}, "shop", False, "error"),
        # Its creation was cut short: the stream finishes it.
        ({}, "shop", True, "ok"),
        ({}, "other", False, "error"),
        ({"adopt": True}, "other", False, "ok"),
    ],
)
def test_a_table_of_ours_without_a_ledger_is_never_offered_for_adoption(
    asked: dict[str, object], owner: str, is_empty: bool, level: str
) -> None:
    (found,) = check_target(wish(**asked), TargetReading((), (), None, owner, is_empty))
    assert (found.level, found.lets_start) == (level, False)
    assert ("adopt" in found.remedy) is (level == "error" and owner == "other")


def test_each_finding_names_its_table() -> None:
    for where, expected in (
        ("column n", "table shop.customers column n"),
        ("record key", "table shop.customers record key"),
        (f"topic {WISH.topic}", f"topic {WISH.topic}"),
        ("kafka b:1", "kafka b:1"),
    ):
        found = named(Finding(where, "error", "x"), WISH.table, WISH.topic)
        assert (found.where, found.table) == (expected, "shop.customers")


def test_only_errors_that_a_stream_would_not_meet_by_itself_refuse_a_start() -> None:
    wrong = Finding("a", "error", "x", "y", 1, table="t1")
    others = [
        Finding("b", "error", "x", "y", 3, table="t2"),
        Finding("c", "error", "x", "y", 1, lets_start=True, table="t3"),
        Finding("d", "warning", "x", "y", 0, table="t4"),
        Finding("e", "error", "x", "y", 2),
    ]
    assert refusals([wrong, replace(wrong, where="later"), *others]) == {"t1": wrong}


def test_schemas_of_a_keyed_table_are_fine() -> None:
    (found,) = check_schemas(WISH, SchemaReading(VALUE, KEY, "BACKWARD"), TOPIC)
    assert found.level == "ok"
    assert found.saw.endswith("key id")


def test_a_table_of_events_needs_no_key() -> None:
    events = wish(policy=TablePolicy(mode=TableMode.APPEND))
    (found,) = check_schemas(events, SchemaReading(VALUE, None, "BACKWARD"), TOPIC)
    assert (found.level, found.saw) == ("ok", "18 columns, a row per event")
    target = TargetReading((Column("id", "long"),), (), None)
    (growth,) = check_growth(events, SchemaReading(VALUE, None), target)
    assert growth.level == "ok"
    assert "add" in growth.saw


def test_a_registry_that_lets_everything_through_is_a_warning() -> None:
    found = check_schemas(WISH, SchemaReading(VALUE, KEY, "NONE"), TOPIC)
    assert levels(found) == ["warning", "ok"]


@pytest.mark.parametrize(
    ("schemas", "where"),
    [
        (SchemaReading(VALUE, None), "subject shop_pg.public.customers-key"),
        (SchemaReading(None, KEY), "subject shop_pg.public.customers-value"),
    ],
)
def test_a_missing_schema_is_an_error_when_the_topic_has_records(
    schemas: SchemaReading, where: str
) -> None:
    (found,) = check_schemas(WISH, schemas, TOPIC)
    assert (found.where, found.level) == (where, "error")


@pytest.mark.parametrize("topic", [None, TopicReading("t1", {0: 0}, {0: 0})])
def test_missing_schemas_before_the_first_record_are_a_warning(topic: TopicReading | None) -> None:
    assert levels(check_schemas(WISH, SchemaReading(None, None), topic)) == ["warning"] * 2


def test_every_column_that_has_no_type_is_reported_by_name() -> None:
    value = with_column("tags", {"type": "map", "values": "int"})
    found = [f for f in check_schemas(WISH, SchemaReading(value, KEY), TOPIC) if f.level == "error"]
    assert len(found) == 1
    assert "tags" in found[0].where + found[0].saw


def test_a_source_column_with_our_name_is_the_configurations_fault() -> None:
    found = list(check_schemas(WISH, SchemaReading(with_column("_CDC_op", "int"), KEY), TOPIC))
    assert exit_code(found) == 2
    assert "_cdc_op" in found[0].saw


def test_a_value_that_is_no_envelope_is_reported() -> None:
    heartbeat = (SAMPLES / "heartbeat_value.json").read_text()
    (found,) = check_schemas(WISH, SchemaReading(heartbeat, KEY), TOPIC)
    assert (found.level, found.exit_code) == ("error", 1)


def test_a_key_that_is_not_among_the_columns_is_an_error() -> None:
    key = KEY.replace('"id"', '"uid"')
    (found,) = check_schemas(WISH, SchemaReading(VALUE, key), TOPIC)
    assert found.level == "error"
    assert "uid" in found.saw


def test_a_bucket_column_outside_the_key_is_the_configurations_fault() -> None:
    for hashed, code in (("name", 2), ("id", 0)):
        asked = wish(policy=TablePolicy(bucket_column=hashed))
        assert exit_code(list(check_schemas(asked, SchemaReading(VALUE, KEY), TOPIC))) == code


@pytest.mark.parametrize(
    ("target", "asked", "code"),
    [
        (None, {}, 0),
        (TargetReading((), (), None), {}, 2),
        (TargetReading((), (), None), {"adopt": True}, 0),
        (TargetReading((), (), ledger({0: 1})), {}, 0),
        (TargetReading((), (), ledger({0: 1}, generation=1)), {}, 2),
        (TargetReading((), (), ledger({0: 1}, generation=1)), {"generation": 1}, 0),
    ],
)
def test_only_our_own_or_an_adopted_table_may_be_written(
    target: TargetReading | None, asked: dict[str, object], code: int
) -> None:
    assert exit_code(check_target(wish(**asked), target)) == code


@pytest.mark.parametrize(
    ("changes", "cluster_id", "topic_id", "said"),
    [
        ({}, "c1", "t1", None),
        ({}, "c2", "t1", "cluster id"),
        ({}, "c1", "t2", "topic id"),
        ({"pipeline": "other"}, "c1", "t1", "pipeline"),
        ({"topic": "other"}, "c1", "t1", "topic"),
    ],
)
def test_a_ledger_that_tells_of_something_else_is_an_error(
    changes: dict[str, object], cluster_id: str, topic_id: str, said: str | None
) -> None:
    held = ledger({0: 1}, **changes)
    found = list(check_ledger(WISH, held, cluster_id, TopicReading(topic_id, {}, {})))
    assert [said in finding.saw for finding in found if said] == ([True] if said else [])
    assert bool(found) == (said is not None)


@pytest.mark.parametrize(
    ("changes", "cluster_id", "topic_id"),
    [({}, "c1", "t1"), ({}, "c2", "t2"), ({"topic": "older"}, "c1", "t2")],
)
def test_a_raised_generation_opens_another_cluster_or_topic(
    changes: dict[str, object], cluster_id: str, topic_id: str
) -> None:
    asked, topic = wish(generation=1), TopicReading(topic_id, {}, {})
    (found,) = check_ledger(asked, ledger({0: 1}, **changes), cluster_id, topic)
    assert found.level == "ok"


@pytest.mark.parametrize(("held", "expected"), [("long", []), ("date", ["error"])])
def test_a_writer_schema_that_does_not_fit_the_table_is_an_error(
    held: str, expected: list[str]
) -> None:
    value = with_column("points", ["null", "long"])
    target = TargetReading([Column("id", "int", True), Column("points", held)], ["id"], None)
    found = list(check_growth(WISH, SchemaReading(value, KEY), target))
    assert [f.level for f in found if "points" in f.where + f.saw] == expected


def test_the_newest_schema_is_judged_by_the_tables_own_policy() -> None:
    value = with_column("points", ["null", "long"])
    held = [Column("id", "long", True), Column("points", "date")]
    target = TargetReading(held, ["id"], None)
    two = wish(policy=TablePolicy(on_incompatible="second_column"))
    (found,) = check_growth(two, SchemaReading(value, KEY), target)
    assert found.level == "ok"
    assert "add points__long long" in found.saw


def test_a_bucket_column_may_have_the_name_it_had_before_its_rename() -> None:
    asked = wish(policy=TablePolicy(bucket_column="uid", renames={"uid": "id"}))
    assert exit_code(check_schemas(asked, SchemaReading(VALUE, KEY), TOPIC)) == 0


def routed_key() -> str:
    """The sample's key with the field that Debezium's router adds."""
    schema: dict[str, Any] = json.loads(KEY)
    schema["fields"].append({"name": "__dbz__physicalTableIdentifier", "type": "string"})
    return json.dumps(schema)


def test_a_routers_key_field_is_a_column_where_many_sources_are_meant() -> None:
    schemas = SchemaReading(value=VALUE, key=routed_key())
    (refused,) = (f for f in check_schemas(WISH, schemas, TOPIC) if f.level == "error")
    assert "set `sources: many`" in refused.remedy
    many = wish(policy=TablePolicy(sources="many", bucket_column="_cdc_source"))
    assert levels(check_schemas(many, SchemaReading(value=VALUE, key=KEY), TOPIC)) == ["ok"]
    routed = wish(policy=TablePolicy(sources="many"))
    (fine,) = check_schemas(routed, schemas, TOPIC)
    assert (fine.level, fine.saw.endswith("__dbz__physicalTableIdentifier")) == ("ok", True)
