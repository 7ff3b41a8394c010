"""`verify` on lists, maps, structs and texts that stand for something: equal exactly when the value is."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.verification.canonical.database_text import interval_us, parse_array, parse_hstore
from cdc_sink.verification.canonical.nested import is_comparable, of_source, of_table
from cdc_sink.verification.canonical.values import CheckedColumn, Kind, row_bytes

POINT = pa.struct(
    [("x", pa.float64()), ("y", pa.float64()), ("wkb", pa.binary()), ("srid", pa.int32())]
)
PLACE = pa.struct([("wkb", pa.binary()), ("srid", pa.int32())])
PAIRS = pa.list_(pa.struct([("key", pa.int32()), ("value", pa.float64())]))
SPARSE = pa.struct([("dimensions", pa.int32()), ("vector", PAIRS)])
PG_POINT = struct.pack("<BIdd", 1, 1, 1.5, -2.0)
EWKB = "0101000020E6100000" + "00" * 16
STRUCT = "struct<wkb:binary,srid:int>"

# Iceberg type, kind, printed by the source, held by the table (Arrow type, value)
EQUAL: list[tuple[str, Kind, Any, Any, Any]] = [
    ("list<int>", "plain", "{1,NULL,-3}", pa.list_(pa.int32()), [1, None, -3]),
    ("list<int>", "plain", "{}", pa.list_(pa.int32()), []),
    (
        "list<string>",
        "plain",
        '{"a\\"b",NULL,"NULL",""}',
        pa.list_(pa.string()),
        ['a"b', None, "NULL", ""],
    ),
    ("list<long>", "time", "{10:00:00.5}", pa.list_(pa.int64()), [36_000_500_000]),
    ("list<boolean>", "plain", "{t,NULL}", pa.list_(pa.bool_()), [True, None]),
    ("list<string>", "number", "{1.50}", pa.list_(pa.string()), ["1.5"]),
    ("list<string>", "json", '{"{\\"a\\": 1}"}', pa.list_(pa.string()), ['{"a":1.0}']),
    ("list<binary>", "bytes", '{"\\\\x00ff"}', pa.list_(pa.binary()), [b"\x00\xff"]),
    ("list<string>", "hex", '{"\\\\x00ff"}', pa.list_(pa.string()), ["00ff"]),
    ("list<double>", "plain", "[1,0.1]", pa.list_(pa.float64()), [1.0, 0.1]),
    (
        "map<string,string>",
        "hstore",
        '"b"=>NULL, "a"=>"1"',
        pa.map_(pa.string(), pa.string()),
        [("a", "1"), ("b", None)],
    ),
    ("string", "hstore", '"b"=>NULL, "a"=>"1"', pa.string(), '{"a":"1","b":null}'),
    (
        "struct<x:double>",
        "point",
        "(1.5,-2)",
        POINT,
        {"x": 1.5, "y": -2.0, "wkb": PG_POINT, "srid": None},
    ),
    (STRUCT, "wkb", b"\x00" * 4 + b"\x01\x02", PLACE, {"wkb": b"\x01\x02", "srid": None}),
    (STRUCT, "ewkb", EWKB, PLACE, {"wkb": bytes.fromhex(EWKB), "srid": 4326}),
    (
        "struct<dimensions:int>",
        "sparse",
        "{1:1.5,3:2}/5",
        SPARSE,
        {"dimensions": 5, "vector": [{"key": 3, "value": 2.0}, {"key": 1, "value": 1.5}]},
    ),
    ("string", "number", "1.50", pa.string(), "1.5"),
    ("string", "number", "NaN", pa.string(), "NAN"),
    ("string", "number", "Infinity", pa.string(), "POSITIVE_INFINITY"),
    (
        "decimal(19,2)",
        "money",
        "-$92,233,720,368,547,758.08",
        pa.decimal128(19, 2),
        "-92233720368547758.08",
    ),
    ("string", "money", "$1.50", pa.string(), "1.50"),
    ("long", "interval", "P1Y2M3DT4H5M6.789012S", pa.int64(), 37_091_106_789_012),
    ("long", "interval", "P-178000000Y", pa.int64(), -(2**63)),
    ("string", "interval", "P-1Y1DT-1.5S", pa.string(), "P-1Y0M1DT0H0M-1.5S"),
    ("string", "clock", "23:59:59.999999-15:59", pa.string(), "15:58:59.999999Z"),
    ("string", "time", "12:34:56.7", pa.string(), "12:34:56.7Z"),
    ("string", "zoned", "2020-01-01 00:00:00+00", pa.string(), "2020-01-01T00:00:00.000000Z"),
    ("string", "zoned", "0044-03-15 00:00:00+00 BC", pa.string(), "-0043-03-15T00:00:00.000000Z"),
    ("string", "stamp", "infinity", pa.string(), "infinity"),
    ("string", "base64", b"\x00\xff", pa.string(), "AP8="),
    ("string", "base64-url-safe", b"\xfb\xff", pa.string(), "-_8="),
    ("string", "hex", b"\x00\xff", pa.string(), "00ff"),
    ("binary", "bits", "101", pa.binary(), b"\x05"),
    ("binary", "bits", "", pa.binary(), b""),
    ("binary", "bits", "0000000010", pa.binary(), b"\x02"),
    ("binary", "bits", "0000000010", pa.binary(), b"\x02\x00"),
    ("binary", "bits", "0", pa.binary(), b""),
]


def bytes_of(column: CheckedColumn, printed: Any, held: pa.Array) -> tuple[bytes, bytes]:
    (source,) = row_bytes([of_source([printed], column)])
    (table,) = row_bytes([of_table(held, column)])
    return source, table


def arrow(kind: Any, value: Any) -> pa.Array:
    if pa.types.is_decimal(kind):
        return pa.array([value]).cast(kind)
    return pa.array([value], kind)


@pytest.mark.parametrize(("iceberg", "kind", "printed", "type_", "held"), EQUAL)
def test_one_value_is_equal_however_its_database_prints_it(
    iceberg: str, kind: Kind, printed: Any, type_: Any, held: Any
) -> None:
    column = CheckedColumn("c", iceberg, kind)
    assert is_comparable(column)
    source, table = bytes_of(column, printed, arrow(type_, held))
    assert source == table
    nulls = bytes_of(column, None, arrow(type_, None))
    assert nulls[0] == nulls[1] != source


@pytest.mark.parametrize(
    ("iceberg", "kind", "printed", "type_", "held"),
    [
        ("list<int>", "plain", "{1,2}", pa.list_(pa.int32()), [2, 1]),
        ("list<int>", "plain", "{NULL}", pa.list_(pa.int32()), []),
        ("list<int>", "plain", "{{1},{2}}", pa.list_(pa.int32()), [None, None]),
        ("list<string>", "plain", "{a,b}", pa.list_(pa.string()), ["a,b"]),
        ("list<date>", "stamp", "{infinity}", pa.list_(pa.date32()), [None]),
        ("map<string,string>", "hstore", '"a"=>NULL', pa.map_(pa.string(), pa.string()), []),
        (STRUCT, "wkb", struct.pack("<i", 4326) + b"\x01", PLACE, {"wkb": b"\x01", "srid": None}),
        ("struct<x:double>", "point", "(1,2)", POINT, {"x": 1.0, "y": 2.5, "wkb": b"", "srid": 0}),
        ("string", "number", "1.5", pa.string(), "-1.5"),
        ("string", "number", "10", pa.string(), "1"),
        ("string", "interval", "P1M", pa.string(), "P30D"),
        ("string", "clock", "10:00:00+00", pa.string(), "not a time"),
        ("string", "base64", b"\x00\xff", pa.string(), "00ff"),
    ],
)
def test_two_values_that_differ_are_never_equal(
    iceberg: str, kind: Kind, printed: Any, type_: Any, held: Any
) -> None:
    source, table = bytes_of(CheckedColumn("c", iceberg, kind), printed, arrow(type_, held))
    assert source != table


def test_an_infinite_time_is_null_only_where_the_table_says_so() -> None:
    column = CheckedColumn("c", "timestamptz", "zoned", infinity_is_null=True)
    source, table = bytes_of(column, "infinity", pa.array([None], pa.timestamp("us", "UTC")))
    assert source == table
    strict = CheckedColumn("c", "timestamptz", "zoned")
    source, table = bytes_of(strict, "infinity", pa.array([None], pa.timestamp("us", "UTC")))
    assert source != table
    days = CheckedColumn("c", "list<date>", "stamp", infinity_is_null=True)
    source, table = bytes_of(days, "{infinity}", pa.array([[None]], pa.list_(pa.date32())))
    assert source == table


@pytest.mark.parametrize(
    ("iceberg", "kind"),
    [
        ("variant", "plain"),
        ("struct<a:int>", "plain"),
        ("list<time_ns>", "plain"),
        ("long", "stamp"),
    ],
)
def test_what_has_no_canonical_form_is_said_to_have_none(iceberg: str, kind: Kind) -> None:
    assert not is_comparable(CheckedColumn("c", iceberg, kind))


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@given(st.lists(st.one_of(st.none(), st.text())))
def test_every_array_of_texts_reads_back(texts: list[str | None]) -> None:
    printed = ",".join("NULL" if text is None else quoted(text) for text in texts)
    assert parse_array("{" + printed + "}") == texts


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.text())))
def test_every_hstore_reads_back(entries: dict[str, str | None]) -> None:
    pairs = (f"{quoted(k)}=>{'NULL' if v is None else quoted(v)}" for k, v in entries.items())
    assert parse_hstore(", ".join(pairs)) == entries


@pytest.mark.parametrize("text", ["P", "PT", "", "1 day", "P1"])
def test_what_is_no_interval_is_unreadable(text: str) -> None:
    with pytest.raises(ValueError, match="not an ISO interval"):
        interval_us(text)
