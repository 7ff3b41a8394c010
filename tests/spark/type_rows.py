"""Numbers, words and nested values as Debezium sends them, at their extremes, and what is stored of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from debezium import decimal, optional, semantic

TIME = "io.debezium.time"
DATA = "io.debezium.data"
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
POINT_VALUE = {"x": 1.5, "y": -2.0, "wkb": b"\x01\x01", "srid": None}
STAMP = semantic("long", f"{TIME}.MicroTimestamp")

NUMBERS: dict[str, Row] = {
    "unsigned_long": Row(
        "long",
        [
            (-1, Decimal(2**64 - 1)),
            (-(2**63), Decimal(2**63)),
            (2**63 - 1, Decimal(2**63 - 1)),
            (0, Decimal(0)),
        ],
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
        # What comes of 2^511 has a length of two bytes, and a zero behind it.
        bad=[unscaled(10**38), unscaled(2**600), unscaled(2**511)],
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
    "fine_text": Row(
        decimal(38, 38),
        [
            (Decimal("1e-38"), "0." + "0" * 37 + "1"),
            (Decimal("-1e-7"), "-0." + "0" * 6 + "1" + "0" * 31),
        ],
        option={"type": "string"},
    ),
    "fewer_digits": Row(
        decimal(12, 4),
        [
            (Decimal("12345678.9000"), Decimal("12345678.90")),
            (Decimal("-0.0100"), Decimal("-0.01")),
        ],
        bad=[Decimal("0.0010"), Decimal("-0.0150")],
        option={"type": "decimal(10,2)"},
    ),
    "more_places": Row(
        decimal(12, 2),
        [(Decimal("99999999.99"), Decimal("99999999.9900"))],
        bad=[Decimal("100000000.00"), Decimal("-9999999999.99")],
        option={"type": "decimal(12,4)"},
    ),
    "more_digits": Row(
        decimal(10, 4),
        [(Decimal("999999.9900"), Decimal("999999.99"))],
        bad=[Decimal("0.0001")],
        option={"type": "decimal(12,2)"},
    ),
    # A common type of both would have six places only.
    "no_places": Row(
        decimal(38, 38),
        [(Decimal(0), Decimal(0))],
        bad=[Decimal("1e-38")],
        option={"type": "decimal(38,0)"},
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
}
WORDS: dict[str, Row] = {
    "bits": Row(semantic("bytes", f"{DATA}.Bits"), same(b"\x01\x02", b"\xaa" * 8 + b"*", b"")),
    "json": Row(semantic("string", f"{DATA}.Json"), same('{"a":1e400}', "null")),
    "xml": Row(semantic("string", f"{DATA}.Xml"), same("<a/>", "")),
    "uuid": Row(semantic("string", f"{DATA}.Uuid"), same("ffffffff-ffff-ffff-ffff-ffffffffffff")),
    "enum": Row(semantic("string", f"{DATA}.Enum"), same("a, b", "")),
    "enum_set": Row(semantic("string", f"{DATA}.EnumSet"), same("x,w", "")),
    "ltree": Row(semantic("string", f"{DATA}.Ltree"), same("a.b.c")),
    "tsvector": Row(semantic("string", f"{DATA}.Tsvector"), same("'a':1 'b':2")),
    "base64": Row("string", same("AP8=", "00ff")),
}
NESTED: dict[str, Row] = {
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
