"""Dates and times in the form of each mode, at their extremes, and what is stored of each."""

from __future__ import annotations

from datetime import UTC, date, datetime

from debezium import semantic
from type_rows import INFINITE, STAMP, TIME, Row, same

US = 1_000_000

TIMES: dict[str, Row] = {
    "date": Row(
        semantic("int", f"{TIME}.Date"),
        [(2932896, date(9999, 12, 31)), (-719162, date(1, 1, 1))],
        bad=[2932897, -719163, -2147472692, -622191234],
    ),
    "date_connect": Row(
        semantic("int", "org.apache.kafka.connect.data.Date", logicalType="date"),
        [(date(9999, 12, 31),) * 2, (date(1, 1, 1),) * 2],
    ),
    "date_iso": Row(
        semantic("string", f"{TIME}.IsoDate"),
        [
            ("9999-12-31Z", date(9999, 12, 31)),
            ("0001-01-01Z", date(1, 1, 1)),
            ("2021-01-01", date(2021, 1, 1)),
        ],
        bad=[
            *("+10000-01-01Z", "0000-12-31Z", "-5877611-06-21Z", "2021-02-29Z"),
            *("2021-01-01ZZ", "2021-01-01Z\n", "2021-1-1Z", ""),
        ],
    ),
    "date_iso_or_null": Row(
        semantic("string", f"{TIME}.IsoDate"),
        [
            *((text, None) for text in ("-5877611-06-21Z", "-5877611-06-22Z")),
            *((text, None) for text in ("+292278994-08-16Z", "+292269055-12-02Z")),
        ],
        bad=["-5877611-06-23Z"],
        option=INFINITE,
    ),
    "date_iso_text": Row(
        semantic("string", f"{TIME}.IsoDate"), same("-5877611-06-21Z"), option={"type": "string"}
    ),
    "date_number": Row(
        semantic("int", f"{TIME}.Date"), same(2145042905, -2440550), option={"type": "long"}
    ),
    "date_or_null": Row(
        semantic("int", f"{TIME}.Date"),
        [
            *((n, None) for n in (-2147472692, -2147472691, -622191234, -625821272)),
            (0, date(1970, 1, 1)),
        ],
        bad=[-2147472693, 2932897],
        option=INFINITE,
    ),
    "time_ms": Row(semantic("int", f"{TIME}.Time"), [(86_400_000, 86_400 * US), (0, 0)]),
    "time_us": Row(
        semantic("long", f"{TIME}.MicroTime"),
        same(3_020_399 * US, -3_020_399 * US, -1, 86_400 * US),
    ),
    "time_ns": Row(
        semantic("long", f"{TIME}.NanoTime"),
        [(3_020_398_999_999_000, 3_020_398_999_999), (-1000, -1)],
        bad=[1, -1, -1001],
    ),
    "time_iso": Row(semantic("string", f"{TIME}.IsoTime"), same("23:59:59.999999Z", "00:00:00Z")),
    "time_zoned": Row(semantic("string", f"{TIME}.ZonedTime"), same("15:59:00Z", "08:01:00.5Z")),
    "stamp_ms": Row(
        semantic("long", f"{TIME}.Timestamp"),
        [
            (253402300799999, datetime(9999, 12, 31, 23, 59, 59, 999000)),
            (-1, datetime(1969, 12, 31, 23, 59, 59, 999000)),
        ],
        bad=[253402300800000, -62135596800001, 9223372036825200],
    ),
    "stamp_connect": Row(
        semantic("long", "org.apache.kafka.connect.data.Timestamp"),
        [
            (253402300799999, datetime(9999, 12, 31, 23, 59, 59, 999000)),
            (-62135596800000, datetime(1, 1, 1)),
        ],
        bad=[9223372036825200],
    ),
    "stamp_ms_or_null": Row(
        semantic("long", f"{TIME}.Timestamp"),
        [(9223372036825200, None), (-9223372036832400, None), (0, datetime(1970, 1, 1))],
        bad=[9223372036825201],
        option=INFINITE,
    ),
    "stamp_us": Row(
        STAMP,
        [
            (253402300799999999, datetime(9999, 12, 31, 23, 59, 59, 999999)),
            (-62135596800000000, datetime(1, 1, 1)),
        ],
        bad=[253402300800000000, -62135596800000001, 9223372036825200000],
    ),
    "stamp_us_or_null": Row(
        STAMP,
        [
            (9223372036825200000, None),
            (-9223372036832400000, None),
            (1, datetime(1970, 1, 1, 0, 0, 0, 1)),
        ],
        bad=[9223372036825200001, -9223372036832400001],
        option=INFINITE,
    ),
    "stamp_ns": Row(
        semantic("long", f"{TIME}.NanoTimestamp"),
        [
            (9223372036854775000, datetime(2262, 4, 11, 23, 47, 16, 854775)),
            (-9223372036854775000, datetime(1677, 9, 21, 0, 12, 43, 145225)),
        ],
        bad=[1, 2**63 - 1, -(2**63)],
    ),
    "stamp_ns_or_null": Row(
        semantic("long", f"{TIME}.NanoTimestamp"),
        [(2**63 - 1, None), (-(2**63), None), (0, datetime(1970, 1, 1))],
        bad=[2**63 - 2],
        option=INFINITE,
    ),
    "stamp_ns_number": Row(
        semantic("long", f"{TIME}.NanoTimestamp"), same(1, 2**63 - 1), option={"type": "long"}
    ),
    "stamp_iso": Row(
        semantic("string", f"{TIME}.IsoTimestamp"),
        [
            ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999)),
            ("0001-01-01T00:00:00Z", datetime(1, 1, 1)),
            ("2021-03-14T02:30:00.1Z", datetime(2021, 3, 14, 2, 30, 0, 100000)),
            ("2021-03-14T02:30:00.123456000", datetime(2021, 3, 14, 2, 30, 0, 123456)),
        ],
        bad=[
            "+294247-01-10T04:00:25.2Z",
            "0000-12-31T00:00:00Z",
            "2021-02-30T00:00:00Z",
            "2021-01-01T00:00:00+01:00",
            "2021-01-01T00:00:00.1234567Z",
            "2021-01-01T00:00:00Z\n",
            " 2021-01-01T00:00:00Z",
        ],
    ),
    "stamp_iso_or_null": Row(
        semantic("string", f"{TIME}.IsoTimestamp"),
        [("+294247-01-10T04:00:25.2Z", None), ("-290308-12-21T19:59:27.6Z", None)],
        bad=["+294247-01-10T04:00:25.3Z"],
        option=INFINITE,
    ),
    "zoned": Row(
        semantic("string", f"{TIME}.ZonedTimestamp"),
        [
            ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)),
            ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
            ("2021-11-07T01:30:00.5-05:00", datetime(2021, 11, 7, 6, 30, 0, 500000, UTC)),
            ("2021-11-07T01:30:00.123456000Z", datetime(2021, 11, 7, 1, 30, 0, 123456, UTC)),
        ],
        bad=[
            "infinity",
            "-infinity",
            "+294276-12-31T23:59:59.999999Z",
            "-4712-01-01T00:00:00.000000Z",
            "0000-12-31T23:59:59Z",
            "2021-01-01T00:00:00",
            "2021-01-01T00:00:00.0000001Z",
            "2021-02-29T00:00:00Z",
            "2021-01-01T00:00:00Z\n",
            "2021-01-01",
        ],
    ),
    "zoned_or_null": Row(
        semantic("string", f"{TIME}.ZonedTimestamp"),
        [
            ("infinity", None),
            ("-infinity", None),
            ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ],
        bad=["Infinity"],
        option=INFINITE,
    ),
    "zoned_text": Row(
        semantic("string", f"{TIME}.ZonedTimestamp"),
        same("infinity", "-4712-01-01T00:00:00.000000Z"),
        option={"type": "string"},
    ),
    "stamp_number": Row(STAMP, same(9223372036825200000, -1), option={"type": "long"}),
    "stamp_ms_number": Row(
        semantic("long", f"{TIME}.Timestamp"), same(9223372036825200, -1), option={"type": "long"}
    ),
    "time_ms_number": Row(
        semantic("int", f"{TIME}.Time"), same(86_400_000), option={"type": "long"}
    ),
    "time_ns_number": Row(
        semantic("long", f"{TIME}.NanoTime"), same(-1, 1), option={"type": "long"}
    ),
    "year": Row(semantic("int", f"{TIME}.Year"), same(1901, 2155)),
    "interval": Row(semantic("string", f"{TIME}.Interval"), same("P-1Y0M1DT0H0M-1.5S")),
    "duration": Row(semantic("long", f"{TIME}.MicroDuration"), same(2**63 - 1, -(2**63))),
    "duration_ns": Row(semantic("long", f"{TIME}.NanoDuration"), same(2**63 - 1)),
}
