"""The whole table of types: what each of Debezium's types holds at its extremes is what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from debezium import Event, SourceTable, Topic, decimal, optional, semantic
from lake import Lake
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro

from cdc_sink import config
from cdc_sink.change.avro_types import bad_value_sql, column_type
from cdc_sink.change.envelope import Envelope, reader_schema, spark_schema, with_options
from cdc_sink.errors import RecordError

TIME = "io.debezium.time"
DATA = "io.debezium.data"
US = 1_000_000
INFINITE = {"on_infinity": None}
HUGE = 123456789012345678901234567890123456789012345678901234567890


def array(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


def unscaled(number: int) -> bytes:
    """Java's BigInteger.toByteArray."""
    return number.to_bytes((8 + (number + (number < 0)).bit_length()) // 8, "big", signed=True)


def wide_decimal(precision: int, scale: int, **parameters: str) -> dict[str, Any]:
    """A decimal of more digits than fastavro writes: its bytes without the logical type are the same."""
    name = "org.apache.kafka.connect.data.Decimal"
    return {
        **{"type": "bytes", "connect.name": name, "logicalType": "decimal"},
        **{"precision": precision, "scale": scale, "connect.parameters": parameters},
    }


def record(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": name.rpartition(".")[2],
        "namespace": name.rpartition(".")[0],
        "fields": [{"name": key, "type": node} for key, node in fields.items()],
        "connect.name": name,
    }


OPEN_SCALE = record(f"{DATA}.VariableScaleDecimal", scale="int", value="bytes")
POINT = record(
    f"{DATA}.geometry.Point", x="double", y="double", wkb=optional("bytes"), srid=optional("int")
)
GEOMETRY = record(f"{DATA}.geometry.Geometry", wkb="bytes", srid=optional("int"))
GEOGRAPHY = record(f"{DATA}.geometry.Geography", wkb="bytes", srid=optional("int"))
SPARSE = record(
    f"{DATA}.SparseDoubleVector",
    dimensions="int",
    vector=array(record("io.confluent.connect.avro.MapEntry", key="int", value="double")),
)


@dataclass(frozen=True)
class Row:
    """One row of the table of types: the Avro type, options, (sent, stored) pairs, and bad values."""

    node: Any
    values: list[tuple[Any, Any]]
    bad: list[Any] = field(default_factory=list)
    option: Mapping[str, Any] = field(default_factory=dict)


def same(*values: Any) -> list[tuple[Any, Any]]:
    return [(value, value) for value in values]


def open_scale(number: int, scale: int) -> dict[str, Any]:
    return {"scale": scale, "value": unscaled(number)}


CENTS = wide_decimal(64, 2)
MANY = wide_decimal(76, 0, **{"connect.decimal.precision": "76"})
STAMP = semantic("long", f"{TIME}.MicroTimestamp")
POINT_VALUE = {"x": 1.5, "y": -2.0, "wkb": b"\x01\x01", "srid": None}

ROWS: dict[str, Row] = {
    # numbers
    "unsigned_long": Row(
        "long",
        [(-1, Decimal(2**64 - 1)), (-(2**63), Decimal(2**63)), (2**63 - 1, Decimal(2**63 - 1))],
        option={"unsigned": True},
    ),
    "unsigned_precise": Row(decimal(20, 0), same(Decimal(2**64 - 1), Decimal(0))),
    "money": Row(
        CENTS,
        [
            (unscaled(2**63 - 1), Decimal("92233720368547758.07")),
            (unscaled(-(2**63)), Decimal("-92233720368547758.08")),
            (unscaled(-1), Decimal("-0.01")),
            (unscaled(10**19 - 1), Decimal("99999999999999999.99")),
        ],
        bad=[unscaled(10**19), unscaled(-(10**40)), b""],
    ),
    "no_precision": Row(
        wide_decimal(64, 0),
        [
            (unscaled(10**38 - 1), Decimal("9" * 38)),
            (unscaled(-(10**38) + 1), Decimal("-" + "9" * 38)),
        ],
        bad=[unscaled(10**38), unscaled(2**600)],
    ),
    "many_digits": Row(
        MANY,
        [
            (unscaled(10**76 - 1), "9" * 76),
            (unscaled(-(10**76) + 1), "-" + "9" * 76),
            *((unscaled(n), str(n)) for n in (0, 1, -1, 127, -128, 255, -256, -(2**127), 2**1000)),
        ],
        bad=[b""],
        option={"type": "string"},
    ),
    "many_places": Row(
        wide_decimal(65, 30),
        [
            (unscaled(10**65 - 1), "9" * 35 + "." + "9" * 30),
            (unscaled(-1), "-0." + "0" * 29 + "1"),
            (unscaled(0), "0." + "0" * 30),
        ],
        option={"type": "string"},
    ),
    "few_of_many": Row(
        MANY,
        [(unscaled(10**38 - 1), Decimal("9" * 38)), (unscaled(-5), Decimal(-5))],
        bad=[unscaled(10**38), unscaled(-(2**127))],
        option={"type": "decimal(38,0)"},
    ),
    "fewer_places": Row(
        wide_decimal(50, 4),
        [(unscaled(123400), Decimal("12.34")), (unscaled(-100), Decimal("-0.01"))],
        bad=[unscaled(123401), unscaled(10**14)],
        option={"type": "decimal(10,2)"},
    ),
    "narrow_text": Row(
        decimal(10, 2),
        [(Decimal("0.50"), "0.50"), (Decimal("-12345678.90"), "-12345678.90")],
        option={"type": "string"},
    ),
    "open_scale": Row(
        OPEN_SCALE,
        [
            (open_scale(HUGE * 10**7 + 1234500, 7), f"{HUGE}.1234500"),
            (open_scale(-12, 12), "-0.000000000012"),
            (open_scale(-(HUGE), 0), f"-{HUGE}"),
            (open_scale(0, 3), "0.000"),
            (open_scale(5, -3), "5000"),
            (open_scale(0, -3), "0"),
            (open_scale(10**5, 2), "1000.00"),
            (open_scale(1, 16383), "0." + "0" * 16382 + "1"),
        ],
    ),
    "open_scale_decimal": Row(
        OPEN_SCALE,
        [
            (open_scale(15000, 4), Decimal("1.500000000000000000")),
            (open_scale(-(10**20) + 1, 0), Decimal(-(10**20) + 1).quantize(Decimal(1))),
            (open_scale(10**20, 20), Decimal(1)),
            (open_scale(7, -2), Decimal(700)),
        ],
        bad=[open_scale(1, 19), open_scale(10**20, 0), open_scale(HUGE, 0)],
        option={"type": "decimal(38,18)"},
    ),
    "text_decimal": Row(
        "string",
        [("-99999999.99", Decimal("-99999999.99")), ("1.500", Decimal("1.50")), ("0", Decimal(0))],
        bad=["NAN", "1.501", "100000000", "1e2", "", "1\n"],
        option={"type": "decimal(10,2)"},
    ),
    "text_number": Row("string", same("99999999.99", "NAN", "POSITIVE_INFINITY")),
    "double_number": Row("double", same(99999999.99, float("inf"))),
    # dates and times, each mode's form
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
        [("9999-12-31Z", date(9999, 12, 31)), ("0001-01-01Z", date(1, 1, 1))],
        bad=["+10000-01-01Z", "0000-12-31Z", "-5877611-06-21Z", "2021-02-29Z", "2021-01-01ZZ", ""],
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
        bad=[1, -1001],
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
        bad=[253402300800000000, 9223372036825200000],
    ),
    "stamp_us_or_null": Row(
        STAMP,
        [
            (9223372036825200000, None),
            (-9223372036832400000, None),
            (1, datetime(1970, 1, 1, 0, 0, 0, 1)),
        ],
        bad=[9223372036825200001],
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
        ],
        bad=[
            "+294247-01-10T04:00:25.2Z",
            "0000-12-31T00:00:00Z",
            "2021-02-30T00:00:00Z",
            "2021-01-01T00:00:00+01:00",
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
        ],
        bad=[
            "infinity",
            "-infinity",
            "+294276-12-31T23:59:59.999999Z",
            "-4712-01-01T00:00:00.000000Z",
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
    "year": Row(semantic("int", f"{TIME}.Year"), same(1901, 2155)),
    "interval": Row(semantic("string", f"{TIME}.Interval"), same("P-1Y0M1DT0H0M-1.5S")),
    "duration": Row(semantic("long", f"{TIME}.MicroDuration"), same(2**63 - 1, -(2**63))),
    "duration_ns": Row(semantic("long", f"{TIME}.NanoDuration"), same(2**63 - 1)),
    # documents, words, bits
    "bits": Row(semantic("bytes", f"{DATA}.Bits"), same(b"\x01\x02", b"\xaa" * 8 + b"*", b"")),
    "json": Row(semantic("string", f"{DATA}.Json"), same('{"a":1e400}', "null")),
    "xml": Row(semantic("string", f"{DATA}.Xml"), same("<a/>")),
    "uuid": Row(semantic("string", f"{DATA}.Uuid"), same("ffffffff-ffff-ffff-ffff-ffffffffffff")),
    "enum_set": Row(semantic("string", f"{DATA}.EnumSet"), same("x,w", "")),
    "ltree": Row(semantic("string", f"{DATA}.Ltree"), same("a.b.c")),
    "tsvector": Row(semantic("string", f"{DATA}.Tsvector"), same("'a':1 'b':2")),
    "base64": Row("string", same("AP8=", "00ff")),
    # nested
    "ints": Row(array(optional("int")), same([2**31 - 1, None, -(2**31)], [])),
    "texts": Row(array(optional("string")), same(['a"b', None, "NULL", ""])),
    "decimals": Row(array(optional(decimal(10, 2))), same([Decimal("1.50"), None])),
    "moneys": Row(
        array(optional(CENTS)),
        [([unscaled(-1), None], [Decimal("-0.01"), None]), ([], [])],
        bad=[[unscaled(1), unscaled(10**19)]],
    ),
    "open_scales": Row(
        array(optional(OPEN_SCALE)),
        [([open_scale(15, 1), None, open_scale(HUGE, 0)], ["1.5", None, str(HUGE)])],
    ),
    "many_digit_list": Row(
        array(optional(MANY)),
        [([unscaled(10**60), None], [str(10**60), None])],
        option={"type": "string"},
    ),
    "dates": Row(
        array(optional(semantic("int", f"{TIME}.Date"))),
        [([18262, None], [date(2020, 1, 1), None])],
        bad=[[0, 2932897]],
    ),
    "dates_or_null": Row(
        array(optional(semantic("int", f"{TIME}.Date"))),
        [([18262, None, -622191234], [date(2020, 1, 1), None, None])],
        bad=[[-622191234, 2932897]],
        option=INFINITE,
    ),
    "stamps": Row(
        array(optional(STAMP)),
        [([1577836800123456, None], [datetime(2020, 1, 1, 0, 0, 0, 123456), None])],
        bad=[[None, 9223372036825200000]],
    ),
    "zoneds": Row(
        array(optional(semantic("string", f"{TIME}.ZonedTimestamp"))),
        [(["2020-01-01T00:00:00.1Z", None], [datetime(2020, 1, 1, 0, 0, 0, 100000, UTC), None])],
        bad=[["+292269055-12-02T23:00:00.000000Z"]],
    ),
    "uuids": Row(
        array(optional(semantic("string", f"{DATA}.Uuid"))),
        same(["ffffffff-ffff-ffff-ffff-ffffffffffff", None]),
    ),
    "blobs": Row(array(optional("bytes")), same([b"\x00\xff", None])),
    "floats": Row(array("float", **{"connect.name": f"{DATA}.FloatVector"}), same([1.0, 3.5])),
    "doubles": Row(array("double", **{"connect.name": f"{DATA}.DoubleVector"}), same([1.0, 0.1])),
    "sparse": Row(
        SPARSE,
        same({"dimensions": 5, "vector": [{"key": 1, "value": 1.5}, {"key": 3, "value": 2.0}]}),
    ),
    "hstore": Row(
        {"type": "map", "values": optional("string")},
        [({"a": "1", "b": None}, [("a", "1"), ("b", None)]), ({}, [])],
    ),
    "point": Row(POINT, same(POINT_VALUE, POINT_VALUE | {"wkb": None, "srid": 4326})),
    "geometry": Row(GEOMETRY, same({"wkb": b"\x01\x02", "srid": 4326})),
    "geography": Row(GEOGRAPHY, same({"wkb": b"\x01\x02", "srid": None})),
}


@pytest.mark.parametrize("ansi", ["true", "false"])
def test_every_type_of_the_table_is_stored_exactly(lake: Lake, name: str, ansi: str) -> None:
    topic = Topic(SourceTable({"id": "int"} | {n: optional(r.node) for n, r in ROWS.items()}))
    longest = max(len(row.values) for row in ROWS.values())
    for key in range(longest + 1):
        sent = {n: r.values[key][0] if key < len(r.values) else None for n, r in ROWS.items()}
        topic.send(Event("c", {"id": key} | sent, (1, key)))
    options = {n: r.option for n, r in ROWS.items() if r.option}
    writer = lake.writer(name, topic, columns=options)
    writer.spark.conf.set("spark.sql.ansi.enabled", ansi)
    writer.write()
    # The second batch goes through MERGE into columns that hold something.
    topic.send(Event("u", {"id": longest} | {n: r.values[0][0] for n, r in ROWS.items()}, (2, 1)))
    writer.write(longest + 1)
    stored = writer.rows()
    for column, row in ROWS.items():
        wanted = [pair[1] for pair in row.values] + [None] * (longest - len(row.values))
        assert [line[column] for line in stored] == [*wanted, row.values[0][1]], column


def test_a_bad_value_is_told_from_every_good_one_and_from_null(lake: Lake, name: str) -> None:
    topic = Topic(SourceTable({"id": "int"} | {n: optional(r.node) for n, r in ROWS.items()}))
    sent = {n: [*(pair[0] for pair in r.values), *r.bad, None] for n, r in ROWS.items()}
    longest = max(map(len, sent.values()))
    for key in range(longest):
        row = {n: values[key] if key < len(values) else None for n, values in sent.items()}
        topic.send(Event("c", {"id": key} | row, (1, key)))
    options = config.Table(
        topic="t", target="a.b", columns={n: dict(r.option) for n, r in ROWS.items() if r.option}
    ).options
    text = topic.registry.texts[topic.value_id]
    fields = with_options(Envelope.parse(text).columns, options)
    tests = {
        f.name: bad_value_sql(f, f"v.after.`{f.name}`", column_type(f).iceberg) for f in fields
    }
    records = topic.batch(lake.spark.newSession()).select(
        "offset",
        from_avro(
            F.substring("value", 6, 2**31 - 1),
            spark_schema(text),
            {"avroSchema": reader_schema(text, list(ROWS))},
        ).alias("v"),
    )
    judged = [f"{sql or 'false'} AS `{column}`" for column, sql in tests.items()]
    found = records.selectExpr("offset", *judged).orderBy("offset").collect()
    for column, row in ROWS.items():
        wanted = [False] * len(row.values) + [True] * len(row.bad)
        assert [line[column] for line in found] == wanted + [False] * (longest - len(wanted)), (
            column
        )


@pytest.mark.parametrize("column", ["money", "stamps"])
def test_what_a_column_can_not_hold_stops_the_table_and_names_the_column(
    lake: Lake, name: str, column: str
) -> None:
    row = ROWS[column]
    topic = Topic(SourceTable({"id": "int", column: optional(row.node)}))
    writer = lake.writer(name, topic, bad_record="stop")
    topic.send(Event("c", {"id": 1, column: row.bad[0]}, (1, 1)))
    with pytest.raises(RecordError) as caught:
        writer.write()
    assert "@0" in caught.value.where
    assert caught.value.saw.startswith(f"column {column}: ")
    assert not writer.exists or writer.rows() == []
