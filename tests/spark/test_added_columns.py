"""A column added with a default: rows that were there have it, as they have at the source."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from debezium import SourceTable, decimal, optional, semantic
from lake import Lake, Writer
from schema_versions import Versions
from structlog.testing import capture_logs

from cdc_sink.table.schema.evolution import UNKNOWN
from cdc_sink.table.schema.metadata_columns import metadata_columns
from cdc_sink.table.schema.policy import TableMode

# Column → its Avro type, its default as a schema has it, and as a row does.
CONSTANTS: Mapping[str, tuple[Any, Any, Any]] = {
    "whole": ("int", 11, 11),
    "big": ("long", 2**40, 2**40),
    "less": ("int", -5, -5),
    "flag": ("boolean", True, True),
    "half": ("double", 1.5, 1.5),
    "quarter": ("float", 0.25, 0.25),
    "text": ("string", "it's \\ `new`", "it's \\ `new`"),
    "raw": ("bytes", "\x01ÿ", b"\x01\xff"),
    "price": (decimal(10, 2), "\x04Î", Decimal("12.30")),
    "debt": (decimal(10, 2), "û2", Decimal("-12.30")),
    "day": (semantic("int", "io.debezium.time.Date"), 19724, date(2024, 1, 2)),
    "ms": (
        semantic("long", "io.debezium.time.Timestamp"),
        1704164645123,
        datetime(2024, 1, 2, 3, 4, 5, 123000),
    ),
    "us": (
        semantic("long", "io.debezium.time.MicroTimestamp"),
        -123456,
        datetime(1969, 12, 31, 23, 59, 59, 876544),
    ),
    "zoned": (
        semantic("string", "io.debezium.time.ZonedTimestamp"),
        "2024-01-02T05:04:05.123456+02:00",
        datetime(2024, 1, 2, 3, 4, 5, 123456, tzinfo=UTC),
    ),
    "clock": (semantic("long", "io.debezium.time.MicroTime"), 11045000000, 11045000000),
    "mood": (semantic("string", "io.debezium.data.Enum"), "ok", "ok"),
}
# Zeros that PostgreSQL's connector also writes for expressions.
MADE_UP: Mapping[str, tuple[Any, Any]] = {
    "number": ("int", 0),
    "maybe": ("boolean", False),
    "empty": ("string", ""),
    "uuid": (semantic("string", "io.debezium.data.Uuid"), "00000000-0000-0000-0000-000000000000"),
    "now": (semantic("string", "io.debezium.time.ZonedTimestamp"), "1970-01-01T00:00:00.000000Z"),
    "today": (semantic("int", "io.debezium.time.Date"), 0),
    "sum": (decimal(10, 2), "\0"),
}
OLD = SourceTable({"id": "long", "name": optional("string")})


def grown(columns: Mapping[str, Any], defaults: Mapping[str, Any], **more: Any) -> SourceTable:
    return SourceTable({**OLD.columns, **columns}, defaults=defaults, **more)


def constants(names: Mapping[str, Any] = CONSTANTS) -> SourceTable:
    return grown(
        {n: optional(node) if n != "flag" else node for n, (node, _, _) in CONSTANTS.items()},
        {n: default for n, (_, default, _) in names.items()},
    )


def wired(row: Mapping[str, Any]) -> dict[str, Any]:
    """Times as the connector sends them: the defaults are the only ones here."""
    times = ("day", "ms", "us", "zoned")
    return {n: CONSTANTS[n][1] if n in times and v else v for n, v in row.items()}


FILLED = {name: value for name, (_, _, value) in CONSTANTS.items()}


def restarted(writer: Writer) -> Writer:
    """Another driver, which knows of the schemas what the table and the registry have."""
    return dataclasses.replace(writer)


def spark_rows(writer: Writer) -> list[dict[str, Any]]:
    rows = (
        writer.spark.table(writer.target.identifier)
        .drop(*metadata_columns(TableMode.MIRROR))
        .orderBy("id")
        .collect()
    )
    return [row.asDict() for row in rows]


@pytest.mark.parametrize("at_once", [True, False])
def test_older_rows_have_the_default_of_an_added_column(
    lake: Lake, name: str, at_once: bool
) -> None:
    sent = Versions(OLD, constants())
    writer = lake.writer(name, sent.topic)
    sent.send(1, "c", id=1, name="one")
    sent.send(1, "c", id=2, name="two")
    if not at_once:
        writer.write()
    done = 0 if at_once else 2
    other = {**FILLED, "whole": 22, "text": None, "flag": False, "day": None}
    sent.send(2, "c", id=3, name="three", **wired(other))
    sent.send(1, "c", id=4, name="late in the batch")
    sent.send(2, "u", id=2, name="2", **wired(other))
    writer.write(done)
    expected = [
        {"id": 1, "name": "one", **FILLED},
        {"id": 2, "name": "2", **other},
        {"id": 3, "name": "three", **other},
        {"id": 4, "name": "late in the batch", **FILLED},
    ]
    assert writer.rows() == expected

    writer = restarted(writer)
    sent.send(1, "u", id=3, name="after a restart")
    writer.write(5)
    expected[2] = {"id": 3, "name": "after a restart", **FILLED}
    assert writer.rows() == expected
    naive = [{**row, "zoned": row["zoned"].replace(tzinfo=None)} for row in expected]
    assert [row | {"raw": bytes(row["raw"])} for row in spark_rows(writer)] == naive


def test_what_the_source_does_to_a_default_later_changes_no_older_row(
    lake: Lake, name: str
) -> None:
    sent = Versions(
        OLD,
        grown({"c": optional("int"), "d": optional("int")}, {"c": 11}),
        grown({"c": optional("int"), "d": optional("int")}, {"c": 12, "d": 5}),  # SET DEFAULT
        grown({"d": optional("int")}, {"d": 5}),  # DROP COLUMN c
        grown({"c": optional("long"), "d": optional("int")}, {"c": 13, "d": 5}),  # and added again
    )
    writer = lake.writer(name, sent.topic)
    sent.send(1, "c", id=1)
    writer.write()
    sent.send(2, "c", id=2, c=None, d=1)
    sent.send(3, "c", id=3, c=12, d=5)
    sent.send(1, "c", id=4)
    writer.write(1)
    row = {"name": None}
    expected = [
        {"id": 1, "c": 11, "d": None, **row},
        {"id": 2, "c": None, "d": 1, **row},
        {"id": 3, "c": 12, "d": 5, **row},
        {"id": 4, "c": 11, "d": None, **row},
    ]
    assert writer.rows() == expected
    writer = restarted(writer)
    sent.send(4, "u", id=3, d=6)  # as before: what was dropped turns null
    sent.send(3, "u", id=2, c=2, d=2)
    writer.write(4)
    expected[1:3] = [{"id": 2, "c": 2, "d": 2, **row}, {"id": 3, "c": None, "d": 6, **row}]
    assert writer.rows() == expected
    sent.send(5, "u", id=4, c=2**40, d=7)
    restarted(writer).write(6)
    expected[3] = {"id": 4, "c": 2**40, "d": 7, **row}
    assert writer.rows() == expected


def test_a_default_that_the_connector_may_have_made_up_is_not_believed(
    lake: Lake, name: str
) -> None:
    bare = {"required": "int"}  # never NULL, and the schema tells no default
    table = grown(
        {n: optional(node) for n, (node, _) in MADE_UP.items()} | bare,
        {n: default for n, (_, default) in MADE_UP.items()},
    )
    sent = Versions(OLD, table)
    option = {"constant_default": True}
    writer = lake.writer(name, sent.topic, columns={"maybe": option, "empty": option})
    sent.send(1, "c", id=1)
    writer.write()
    sent.send(2, "c", id=2, required=3, number=4)
    with capture_logs() as logs:
        writer.write(1)
    told = {one["column"]: one["older_rows"] for one in logs if one["event"] == "column_added"}
    believed = {"maybe": False, "empty": ""}
    assert told == {
        n: "the default of the writer schema" if n in believed else UNKNOWN
        for n in [*MADE_UP, *bare]
    }
    nothing = dict.fromkeys([*MADE_UP, *bare])
    assert writer.rows()[0] == {"id": 1, "name": None, **nothing, **believed}


def test_histories_of_many_versions_equal_a_source_replayed_in_python(
    lake: Lake, name: str
) -> None:
    dice = random.Random(7)
    tables, defaults = [OLD], {}
    for number in range(1, 5):
        columns = {f"c{n}": optional("int") for n in range(1, number + 1)}
        defaults[f"c{number}"] = dice.choice([None, 10 * number])
        tables.append(grown(columns, {n: v for n, v in defaults.items() if v is not None}))
    defaults["c1"] = 10
    tables[1:] = [
        dataclasses.replace(one, defaults={**one.defaults, "c1": 10}) for one in tables[1:]
    ]
    sent = Versions(*tables)
    writer = lake.writer(name, sent.topic)
    source: dict[int, dict[str, Any]] = {}
    done = 0
    for version in range(1, 6):
        for row in source.values():  # what the ALTER does
            row.setdefault(f"c{version - 1}", defaults.get(f"c{version - 1}"))
        names = [f"c{n}" for n in range(1, version)]
        for _ in range(6):
            key = dice.randrange(8)
            image = {"id": key, "name": str(dice.random()), **{n: dice.randrange(9) for n in names}}
            sent.send(version, "u" if key in source else "c", **image)
            source[key] = image
        if dice.random() < 0.6:
            writer.write(done)
            done = len(sent.topic.records)
            writer = restarted(writer)
    if done < len(sent.topic.records):
        writer.write(done)
    for row in source.values():
        row.pop("c0", None)
    assert writer.rows() == [source[key] for key in sorted(source)]


def test_events_of_before_hold_nothing_in_a_column_added_later(lake: Lake, name: str) -> None:
    sent = Versions(OLD, constants())
    writer = lake.writer(name, sent.topic, mode="append")
    sent.send(1, "c", id=1)
    writer.write()
    sent.send(2, "c", id=2, **wired(FILLED))
    writer.write(1)
    assert writer.rows()[0] == {"id": 1, "name": None, **dict.fromkeys(FILLED)}


def test_a_value_that_goes_beside_its_column_leaves_older_rows_null(lake: Lake, name: str) -> None:
    sent = Versions(
        grown({"n": optional("int")}, {"n": 11}), grown({"n": optional("string")}, {"n": "x"})
    )
    writer = lake.writer(name, sent.topic, on_incompatible="second_column")
    sent.send(1, "c", id=1, n=3)
    writer.write()
    sent.send(2, "c", id=2, n="y")
    writer.write(1)
    assert [(row["n"], row["n__string"]) for row in writer.rows()] == [(3, None), (None, "y")]
