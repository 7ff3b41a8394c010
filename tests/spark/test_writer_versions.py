"""Records of several writer schemas side by side: each is converted by its own, kept beside, or refused."""

from __future__ import annotations

import dataclasses
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from debezium import decimal, optional, semantic
from lake import Lake
from schema_versions import Versions, field_ids, table_of, types

from cdc_sink.errors import SchemaError

NOON_MS = 1_577_880_000_123  # 2020-01-01 12:00:00.123
NOON = datetime(2020, 1, 1, 12, 0, 0, 123_000)


def time(base: str, name: str) -> list[Any]:
    return optional(semantic(base, f"io.debezium.time.{name}"))


def test_versions_in_turn_are_each_converted_by_their_own_scale_and_unit(
    lake: Lake, name: str
) -> None:
    both = Versions(
        table_of(
            {
                "price": optional(decimal(12, 4)),
                "seen": time("long", "Timestamp"),
                "born": time("int", "Date"),
                "at": time("int", "Time"),
            }
        ),
        table_of(
            {
                "price": optional(decimal(10, 2)),
                "seen": time("long", "MicroTimestamp"),
                "born": optional(semantic("int", "org.apache.kafka.connect.data.Date")),
                "at": time("long", "MicroTime"),
            }
        ),
    )
    price, day = Decimal("123.45"), 18262
    old = {"price": Decimal("123.4500"), "seen": NOON_MS, "born": day, "at": 1500}
    new = {"price": price, "seen": NOON_MS * 1000 + 7, "born": day, "at": 1_500_007}
    for key, version in enumerate((1, 2, 1, 2), 1):
        both.send(version, "c", id=key, **(old if version == 1 else new))
    writer = lake.writer(name, both.topic)
    writer.write()
    stored = {"price": price, "born": date(2020, 1, 1)}
    expected_old = {**stored, "seen": NOON, "at": 1_500_000}
    expected_new = {**stored, "seen": NOON.replace(microsecond=123_007), "at": 1_500_007}
    assert writer.rows() == [
        {"id": key, **(expected_old if key % 2 else expected_new)} for key in (1, 2, 3, 4)
    ]


def test_a_second_column_takes_the_new_type_and_the_old_one_turns_null(
    lake: Lake, name: str
) -> None:
    both = Versions(
        table_of({"n": optional("int"), "price": optional(decimal(10, 2))}),
        table_of({"n": optional("string"), "price": optional(decimal(12, 4))}),
    )
    both.send(1, "c", id=1, n=1, price=Decimal("1.25"))
    both.send(1, "c", id=2, n=2, price=Decimal("2.25"))
    writer = lake.writer(name, both.topic, on_incompatible="second_column")
    writer.write()
    before = field_ids(writer)
    both.send(1, "u", id=1, n=10, price=Decimal("10.25"))
    both.send(2, "u", id=2, n="two", price=Decimal("2.0001"))
    both.send(1, "c", id=3, n=3, price=Decimal("3.25"))
    both.send(2, "c", id=4, n="four", price=None)
    writer.write(2)
    empty = {"n": None, "price": None, "n__string": None, "price__decimal_12_4": None}
    expected = [
        empty | {"id": 1, "n": 10, "price": Decimal("10.25")},
        empty | {"id": 2, "n__string": "two", "price__decimal_12_4": Decimal("2.0001")},
        empty | {"id": 3, "n": 3, "price": Decimal("3.25")},
        empty | {"id": 4, "n__string": "four"},
    ]
    assert writer.rows() == expected
    assert types(writer) == {
        "id": "long",
        "n": "int",
        "price": "decimal(10, 2)",
        "n__string": "string",
        "price__decimal_12_4": "decimal(12, 4)",
    }
    assert field_ids(writer).items() > before.items()

    # Another driver that sees only the new version, then only the old one, finds the same columns.
    for version, value in ((2, "last"), (1, 9)):
        both.send(version, "u", id=1, n=value, price=None)
        dataclasses.replace(writer).write(both.topic.end() - 1)
        filled = {"n__string": value} if version == 2 else {"n": value}
        assert writer.rows() == [empty | {"id": 1} | filled, *expected[1:]]
    assert len(types(writer)) == 5


def test_a_column_dropped_and_added_again_with_another_type_stops_the_table(
    lake: Lake, name: str
) -> None:
    three = Versions(
        table_of({"n": optional("int")}), table_of({}), table_of({"n": optional("string")})
    )
    three.send(1, "c", id=1, n=1)
    three.send(2, "u", id=1)
    writer = lake.writer(name, three.topic)
    writer.write()
    assert writer.rows() == [{"id": 1, "n": None}]
    three.send(3, "u", id=1, n="text")
    with pytest.raises(SchemaError, match="column n: the table holds int, the writer sends string"):
        dataclasses.replace(writer).write(2)
