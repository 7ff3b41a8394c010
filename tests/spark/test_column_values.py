"""Every type at its extremes: what the source holds is what a reader other than Spark finds."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from debezium import Event, SourceTable, Topic, decimal, optional, semantic
from lake import Lake

TIME = "io.debezium.time"
US = 1_000_000
MAX_US = 253402300799999999  # 9999-12-31T23:59:59.999999
MIN_US = -62135596800000000  # 0001-01-01
DIGITS = "9" * 38  # as text: arithmetic would round to the 28 digits of the default context

# column → its Avro type at the source; per row: value as written, value as read.
COLUMNS: dict[str, tuple[Any, list[tuple[Any, Any]]]] = {
    "small": ("int", [(2**31 - 1,) * 2, (-(2**31),) * 2]),
    "big": ("long", [(2**63 - 1,) * 2, (-(2**63),) * 2]),
    "single": ("float", [(3.4028234663852886e38,) * 2, (1.401298464324817e-45,) * 2]),
    "double": ("double", [(1.7976931348623157e308,) * 2, (math.inf,) * 2]),
    "flag": ("boolean", [(True, True), (False, False)]),
    "money": (decimal(12, 2), [(Decimal("9999999999.99"),) * 2, (Decimal("-0.01"),) * 2]),
    "digits": (decimal(38, 0), [(Decimal(DIGITS),) * 2, (Decimal(f"-{DIGITS}"),) * 2]),
    "fine": (decimal(38, 38), [(Decimal(f"0.{DIGITS}"),) * 2, (Decimal(f"-0.{DIGITS}"),) * 2]),
    "day": (
        semantic("int", f"{TIME}.Date"),
        [(2932896, date(9999, 12, 31)), (-719162, date(1, 1, 1))],
    ),
    "ms": (
        semantic("long", f"{TIME}.Timestamp"),
        [
            (MAX_US // 1000, datetime(9999, 12, 31, 23, 59, 59, 999000)),
            (MIN_US // 1000, datetime(1, 1, 1)),
        ],
    ),
    "us": (
        semantic("long", f"{TIME}.MicroTimestamp"),
        [
            (MAX_US, datetime(9999, 12, 31, 23, 59, 59, 999999)),
            # an hour that New York left out in spring 2021, and one before its first zone rules
            (1615689000 * US + 1, datetime(2021, 3, 14, 2, 30, 0, 1)),
        ],
    ),
    "us2": (
        semantic("long", f"{TIME}.MicroTimestamp"),
        [(MIN_US, datetime(1, 1, 1)), (-1, datetime(1969, 12, 31, 23, 59, 59, 999999))],
    ),
    "ns": (
        semantic("long", f"{TIME}.NanoTimestamp"),
        [
            (-1000, datetime(1969, 12, 31, 23, 59, 59, 999999)),
            (9223372036854775000, datetime(2262, 4, 11, 23, 47, 16, 854775)),
        ],
    ),
    "zoned": (
        semantic("string", f"{TIME}.ZonedTimestamp"),
        [
            ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)),
            ("2021-11-07T01:30:00.5-05:00", datetime(2021, 11, 7, 6, 30, 0, 500000, UTC)),
        ],
    ),
    "zoned2": (
        semantic("string", f"{TIME}.ZonedTimestamp"),
        [
            ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
            ("1883-11-18T17:00:00.123456000Z", datetime(1883, 11, 18, 17, 0, 0, 123456, UTC)),
        ],
    ),
    "clock": (
        semantic("long", f"{TIME}.MicroTime"),
        [(86_399_999_999,) * 2, (0, 0)],
    ),
    "clock_ms": (semantic("int", f"{TIME}.Time"), [(86_399_999, 86_399_999_000), (0, 0)]),
    "uuid": (
        semantic("string", "io.debezium.data.Uuid"),
        [("ffffffff-ffff-ffff-ffff-ffffffffffff",) * 2, ("00000000-0000-0000-0000-000000000000",) * 2],
    ),
    "json": (
        semantic("string", "io.debezium.data.Json"),
        [('{"a": [1, null, "\\u0000"], "b": 1e400}',) * 2, ("null", "null")],
    ),
    "mood": (semantic("string", "io.debezium.data.Enum"), [("happy",) * 2, ("", "")]),
    "bytes": ("bytes", [(bytes(range(256)),) * 2, (b"", b"")]),
    "text": ("string", [("\x00\u20ac\U0001f600 '`\"\\ \r\n\t",) * 2, ("", "")]),
}  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_every_value_lands_exactly_in_any_session_time_zone(
    lake: Lake, name: str, zone: str
) -> None:
    columns = {"id": "int"} | {n: optional(node) for n, (node, _) in COLUMNS.items()}
    topic = Topic(SourceTable(columns))
    pairs = {n: values for n, (_, values) in COLUMNS.items()}
    for key in (0, 1):
        row = {"id": key} | {n: values[key][0] for n, values in pairs.items()}
        topic.send(Event("c", row, (1, key)))
    topic.send(Event("c", {"id": 2} | dict.fromkeys(pairs), (1, 2)))
    writer = lake.writer(name, topic)
    writer.spark.conf.set("spark.sql.session.timeZone", zone)
    writer.write()
    topic.send(Event("u", {"id": 0} | {n: v[1][0] for n, v in pairs.items()}, (2, 1)))
    writer.write(3)
    second = {n: values[1][1] for n, values in pairs.items()}
    first = {n: values[0][1] for n, values in pairs.items()}
    assert writer.rows() == [
        {"id": 0} | second,
        {"id": 1} | second,
        {"id": 2} | dict.fromkeys(pairs),
    ]
    topic.send(Event("u", {"id": 0} | {n: v[0][0] for n, v in pairs.items()}, (3, 1)))
    writer.write(4)
    assert writer.rows()[0] == {"id": 0} | first


def test_a_float_that_is_no_number_stays_one(lake: Lake, name: str) -> None:
    topic = Topic(SourceTable({"id": "int", "x": optional("double"), "y": optional("float")}))
    topic.send(Event("c", {"id": 1, "x": math.nan, "y": -0.0}, (1, 1)))
    writer = lake.writer(name, topic)
    writer.write()
    (row,) = writer.rows()
    assert math.isnan(row["x"])
    assert math.copysign(1, row["y"]) == -1


KEYS: dict[str, tuple[Any, Any]] = {
    "decimal": (decimal(10, 2), Decimal("1.50")),
    "bytes": ("bytes", b"\x00\xff"),
    "date": (semantic("int", f"{TIME}.Date"), 7),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_any_type_is_found_again_in_its_bucket(lake: Lake, name: str, kind: str) -> None:
    node, key = KEYS[kind]
    topic = Topic(SourceTable({"id": node, "name": optional("string")}))
    topic.send(Event("c", {"id": key, "name": "first"}, (1, 1)))
    writer = lake.writer(name, topic, buckets=4)
    writer.write()
    topic.send(Event("u", {"id": key, "name": "second"}, (1, 2)))
    writer.write(1)
    assert [row["name"] for row in writer.rows()] == ["second"]
