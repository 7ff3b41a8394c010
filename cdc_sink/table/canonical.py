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
    uuid                     16 bytes

NULL has no bytes and equals only NULL. What a database prints and the type can't hold (infinity as
a timestamp, 0000-00-00 as a date, NaN as a decimal) is *unreadable*: it equals nothing that a table
can store, so it shows up as a difference instead of stopping the comparison.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["plain", "json", "json_doubles", "time", "bits", "real", "zoned"]
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
_TIME = re.compile(r"(-?)(\d{1,3}):(\d\d):(\d\d)(?:\.(\d{1,6}))?")
_DAY_US = 86_400_000_000
_JSON_ZEROS = 400  # integral numbers with fewer zeros at their end are written out


@dataclass(frozen=True)
class CheckedColumn:
    """One column that is compared: its name, Iceberg type, and how its database prints it."""

    name: str
    type: str  # Iceberg type text
    kind: Kind = "plain"


@dataclass(frozen=True)
class Canonical:
    """The values of one column in one batch, ready to become bytes."""

    values: pa.Array
    unreadable: pa.Array | None = None  # booleans; None: all were read


def is_comparable(iceberg_type: str) -> bool:
    """Tell whether values of this Iceberg type can be compared at all."""
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
    if column.kind in _JSON and column.type == "string":
        documents = [_JSON[column.kind](text) for text in values.to_pylist()]
        return Canonical(pa.array(documents, pa.large_binary()))
    if column.kind == "bits" and column.type == "binary":
        numbers = [None if value is None else value.rstrip(b"\0") for value in values.to_pylist()]
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
        return _JSON.get(column.kind)
    if column.kind == "time" and column.type in (*_INTEGERS, "time"):
        return _parse_time
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
            text = given.decode() if isinstance(given, bytes) else given
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
    days = _days_from_civil(year, int(found[2]), int(found[3]))
    if not with_time:
        return days
    return days * _DAY_US + (_parse_time(found[4]) if found[4] else 0)


def _days_from_civil(year: int, month: int, day: int) -> int:
    """Count days since 1970-01-01.

    Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    """
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468


def _parse_time(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("not a time of day")
    sign, hours, minutes, seconds, fraction = found.groups()
    whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
    us = whole * 1_000_000 + int((fraction or "").ljust(6, "0"))
    return -us if sign else us


def _parse_bits(text: str, column: CheckedColumn) -> object:
    value = int(text or "0", 2)  # PostgreSQL has bits without any
    if column.type == "boolean":
        return int(value != 0)
    return value.to_bytes((value.bit_length() + 7) // 8, "little")


def _parse_uuid(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


# --- json -----------------------------------------------------------------------------------------


def _canonical_json(text: str | None) -> bytes | None:
    return _canonical(text, _read_json)


def _canonical_json_doubles(text: str | None) -> bytes | None:
    return _canonical(text, _read_json_doubles)


def _canonical(text: str | None, read: Callable[[str], object]) -> bytes | None:
    if text is None:
        return None
    try:
        return _write_json(read(text)).encode()
    except (ValueError, RecursionError):  # no JSON, or beyond what Python reads
        return text.encode()


def _json_number(text: str) -> int | dict[str, str]:
    """Write a number with a point or an exponent as an integer, or exactly as digits and exponent.

    Out: a document of its own for what JSON can't write; no database lets a name begin with NUL.
    """
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).rstrip("0")
    number = int(digits) if digits not in ("", "-") else 0
    power = int(exponent or 0) + len(whole) - len(digits)
    if number == 0 or 0 <= power < _JSON_ZEROS:
        return number * 10 ** max(power, 0) if number else 0
    return {"\0number": f"{number}e{power}"}


def _json_double(text: str) -> int | dict[str, str]:
    """Write a number as the double that it is, whichever digits lead to it."""
    return _json_number(repr(float(text)))


def _json_integer(text: str) -> int | dict[str, str]:
    number = int(text)
    return number if -(2**63) <= number < 2**64 else _json_double(text)


# Made once: json.loads and json.dumps with arguments make new ones for each document.
_read_json = json.JSONDecoder(parse_float=_json_number).decode
_read_json_doubles = json.JSONDecoder(parse_float=_json_double, parse_int=_json_integer).decode
_write_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_JSON: dict[str, Callable[[str | None], bytes | None]] = {
    "json": _canonical_json,
    "json_doubles": _canonical_json_doubles,
}


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
