"""One value, one sequence of bytes, whichever side it was read from.

The rule this file owns: two values have the same bytes exactly if `verify` calls them equal. By
Iceberg type:

    boolean                  one byte
    int, long                as 64 bits: a widened column stays equal
    float, double            the bits; -0.0 is not 0.0, and every NaN is the same NaN
    decimal(p,s)             exact at scale s; 1.5 is 1.50; more digits than s are unreadable
    date                     days since 1970-01-01, proleptic Gregorian
    timestamp, timestamptz   microseconds since 1970-01-01, the second one in UTC
    long of a TIME column    microseconds of the day; MySQL may go below 0 and beyond 24 h
    string, binary, fixed    the bytes
    binary of a bits column  the number they make, little-endian: PostgreSQL's connector leaves out the
                             zero bytes at its high end, MySQL's pads them to the column's width
    string of a json column  the parsed document: order of members, blanks and 1 = 1.0 = 1e0 don't
                             count; what is no JSON is compared as text. MySQL's numbers are doubles:
                             Debezium writes their exact digits, MySQL the shortest that lead back
    binary of bits           the number they are; leading zeros don't count
    string of a number       the number: 1.50 is 1.5
    string of a time         the moment, whichever form it is written in
    string of a binary       the bytes as the connector writes them: base64 or hex
    string, long of an       months, days and microseconds; as a number, Debezium's own count
      interval
    string of an hstore      the entries
    uuid                     16 bytes

Lists, maps and structs are nested.py's.
NULL has no bytes and equals only NULL. What a database prints and the type can't hold (infinity as
a timestamp, 0000-00-00 as a date, NaN as a decimal) is *unreadable*: it equals nothing that a table
can store, so it shows up as a difference instead of stopping the comparison.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from cdc_sink.verification.canonical.database_text import (
    DAY_US,
    days_from_civil,
    interval_us,
    parse_time,
    strip_money,
)
from cdc_sink.verification.canonical.texts import SOURCE_TEXTS, TABLE_TEXTS

Kind = Literal[
    "plain",
    "json",
    "json_doubles",
    "time",
    "bits",
    "real",
    "zoned",
    "stamp",
    "clock",
    "number",
    "money",
    "interval",
    "bytes",
    "base64",
    "base64-url-safe",
    "hex",
    "hstore",
    "point",
    "wkb",
    "wkb_point",
    "ewkb",
    "sparse",
]
BINARY_TEXTS = ("base64", "base64-url-safe", "hex")
Printed = str | bytes | None  # a value as its database prints it; bytes for binary columns

_INTEGERS = ("int", "long")
_TIMES = ("timestamp", "timestamptz")
_ARROW = {
    "boolean": pa.uint8(),
    "int": pa.int64(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.int32(),
    "time": pa.int64(),
    "timestamp": pa.int64(),
    "timestamptz": pa.int64(),
    "string": pa.large_binary(),
    "binary": pa.large_binary(),
    "uuid": pa.large_binary(),
}
_TRUE, _FALSE = ("t", "true", "1"), ("f", "false", "0")
_FAR_DATE = re.compile(r"(\d{4,})-(\d\d)-(\d\d)(?: ([\d:.]+))?(?:\+00)?( BC)?")


@dataclass(frozen=True)
class CheckedColumn:
    """One column that is compared: its name, Iceberg type, and how its database prints it."""

    name: str
    type: str  # Iceberg type text
    kind: Kind = "plain"
    infinity_is_null: bool = False  # as the table's `on_infinity` says


@dataclass(frozen=True)
class Canonical:
    """The values of one column in one batch, ready to become bytes."""

    values: pa.Array
    unreadable: pa.Array | None = None  # booleans; None: all were read


def is_comparable(iceberg_type: str, kind: Kind = "plain") -> bool:
    """Tell whether values of this Iceberg type can be compared at all."""
    if iceberg_type in _INTEGERS and kind in ("stamp", "zoned"):
        return False  # a count in a unit that only the writer schema knows
    return iceberg_type in _ARROW or iceberg_type.startswith(("decimal(", "fixed["))


def _arrow_type(iceberg_type: str) -> pa.DataType:
    if iceberg_type.startswith("decimal("):
        precision, scale = iceberg_type[len("decimal(") : -1].split(",")
        return pa.decimal128(int(precision), int(scale))
    return pa.large_binary() if iceberg_type.startswith("fixed[") else _ARROW[iceberg_type]


# --- the table's side -----------------------------------------------------------------------------


def of_table(values: pa.Array, column: CheckedColumn) -> Canonical:
    """Bring one Arrow column of the Iceberg table into canonical form."""
    if isinstance(values, pa.ExtensionArray):  # uuid
        values = values.storage
    if column.kind in TABLE_TEXTS and column.type == "string":
        read = TABLE_TEXTS[column.kind]
        documents = [None if text is None else read(text) for text in values.to_pylist()]
        return Canonical(pa.array(documents, pa.large_binary()))
    if column.kind == "bits" and column.type == "binary":
        numbers = [None if bits is None else bits.rstrip(b"\0") for bits in values.to_pylist()]
        return Canonical(pa.array(numbers, pa.large_binary()))
    if column.type in _TIMES:
        values = values.cast(pa.timestamp("us", values.type.tz))
    return Canonical(_one_nan(values.cast(_arrow_type(column.type))))


def _one_nan(values: pa.Array) -> pa.Array:
    if not pa.types.is_floating(values.type):
        return values
    return pc.if_else(pc.is_nan(values), pa.scalar(float("nan"), values.type), values)


# --- the source's side ----------------------------------------------------------------------------


def of_source(printed: Sequence[Printed], column: CheckedColumn) -> Canonical:
    """Bring one column of source rows into canonical form.

    Whole columns are parsed at once; a batch with an unusual value is parsed value by value.
    """
    parse_one = _python_parser(column)
    if parse_one is not None:
        return _parse_each(printed, column, parse_one)
    try:
        return Canonical(_parse_all(printed, column))
    except pa.ArrowInvalid:
        return _parse_each(printed, column, lambda text: _parse_unusual(text, column))


def _parse_all(printed: Sequence[Printed], column: CheckedColumn) -> pa.Array:
    wanted = _arrow_type(column.type)
    if pa.types.is_large_binary(wanted):
        return pa.array(printed, wanted)
    if column.kind == "money":
        printed = [None if text is None else strip_money(str(text)) for text in printed]
    texts = pa.array(printed, pa.string())
    if column.type == "boolean":
        return _parse_booleans(texts)
    if column.type == "date":
        return texts.cast(pa.date32()).cast(wanted)
    if column.type in _TIMES:
        zone = "UTC" if column.kind == "zoned" else None
        return texts.cast(pa.timestamp("us", zone)).cast(wanted)
    if column.kind == "real":  # printed with the digits of 32 bits, so read with 32 bits first
        texts = texts.cast(pa.float32())
    return _one_nan(texts.cast(wanted))


def _parse_booleans(texts: pa.StringArray) -> pa.Array:
    known = pc.is_in(texts, pa.array([*_TRUE, *_FALSE, None], pa.string()))
    if not pc.all(known).as_py() and len(texts):
        raise pa.ArrowInvalid("not a boolean")
    truth = pc.is_in(texts, pa.array(_TRUE, pa.string())).cast(pa.uint8())
    return pc.if_else(texts.is_valid(), truth, pa.scalar(None, pa.uint8()))


def _python_parser(column: CheckedColumn) -> Callable[[str], object] | None:
    if column.type == "string":
        return SOURCE_TEXTS.get(column.kind)
    if column.kind == "interval" and column.type == "long":
        return interval_us
    if column.kind == "time" and column.type in (*_INTEGERS, "time"):
        return parse_time
    if column.kind == "bits":
        return lambda text: _parse_bits(text, column)
    return _parse_uuid if column.type == "uuid" else None


def _parse_each(
    printed: Sequence[Printed], column: CheckedColumn, parse_one: Callable[[str], object]
) -> Canonical:
    values: list[object] = []
    unreadable: list[bool] = []
    for given in printed:
        try:
            raw = column.kind in BINARY_TEXTS
            text: Any = given.decode() if isinstance(given, bytes) and not raw else given
            values.append(None if text is None else parse_one(text))
            unreadable.append(False)
        except ValueError:  # pa.ArrowInvalid is one too
            values.append(None)
            unreadable.append(True)
    canonical = _one_nan(pa.array(values, _arrow_type(column.type)))
    return Canonical(canonical, pa.array(unreadable) if any(unreadable) else None)


def _parse_unusual(text: str, column: CheckedColumn) -> object:
    if column.type == "date" or column.type in _TIMES:
        return _parse_far_date(text, with_time=column.type != "date")
    return _parse_all([text], column)[0].as_py()


def _parse_far_date(text: str, *, with_time: bool) -> int:
    """Read dates before year 1 and after 9999, which Arrow's parser leaves out."""
    found = _FAR_DATE.fullmatch(text)
    if found is None or found[2] == "00" or found[3] == "00":
        raise ValueError("not a date")
    year = 1 - int(found[1]) if found[5] else int(found[1])
    days = days_from_civil(year, int(found[2]), int(found[3]))
    if not with_time:
        return days
    return days * DAY_US + (parse_time(found[4]) if found[4] else 0)


def _parse_bits(text: str, column: CheckedColumn) -> object:
    value = int(text or "0", 2)  # PostgreSQL has bits without any
    if column.type == "boolean":
        return int(value != 0)
    return value.to_bytes((value.bit_length() + 7) // 8, "little")


def _parse_uuid(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


# --- bytes ----------------------------------------------------------------------------------------


def row_bytes(columns: Sequence[Canonical]) -> list[bytes]:
    """Write each row as bytes that no other row has.

    In:  columns of equal length, in the order both sides agreed on.
    Out: one value per row: two bits per column (value, NULL, unreadable), fixed-width values,
         lengths of the others, then their bytes.
    """
    fixed = [
        column.values for column in columns if not pa.types.is_large_binary(column.values.type)
    ]
    texts = [column.values for column in columns if pa.types.is_large_binary(column.values.type)]
    lengths = [pc.fill_null(pc.binary_length(text), 0) for text in texts]
    lanes = [_as_bytes(lane) for lane in (*_flags(columns), *fixed, *lengths)] + texts
    empty = pa.scalar(b"", pa.large_binary())
    joined = pc.binary_join_element_wise(
        *lanes, empty, null_handling="replace", null_replacement=b""
    )
    rows: list[bytes] = joined.to_pylist()
    return rows


def _as_bytes(values: pa.Array) -> pa.Array:
    return values.view(pa.binary(values.type.bit_width // 8)).cast(pa.large_binary())


def _flags(columns: Sequence[Canonical]) -> list[pa.Array]:
    """Two bits per column, 32 columns to a word; without NULLs a word costs nothing."""
    words = []
    for start in range(0, len(columns), 32):
        word = pa.repeat(pa.scalar(0, pa.uint64()), len(columns[0].values))
        for index, column in enumerate(columns[start : start + 32]):
            if column.values.null_count:
                flag = pc.if_else(column.values.is_null(), 1, 0).cast(pa.uint64())
                if column.unreadable is not None:
                    flag = pc.add(flag, column.unreadable.cast(pa.uint64()))
                word = pc.bit_wise_or(
                    word, pc.multiply(flag, pa.scalar(1 << 2 * index, pa.uint64()))
                )
        words.append(word)
    return words
