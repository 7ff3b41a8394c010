"""Texts that stand for something else: documents, numbers, moments, intervals, encoded bytes.

The rule this file owns: on each side a text becomes what it stands for, so that two spellings of one
value are equal; what can't be read in a table stays text, and so differs.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

from cdc_sink.verification.canonical.database_text import (
    DAY_US,
    clock_document,
    days_from_civil,
    interval_document,
    map_document,
    number_document,
    parse_hstore,
    parse_time,
    strip_money,
)

_MOMENT = re.compile(
    r"([+-]?\d{4,})-(\d\d)-(\d\d)(?:[T ](\d\d:\d\d:\d\d(?:\.\d{1,6})?))?"
    r"(Z|[+-]\d\d(?::?\d\d)?)?( BC)?"
)
_JSON_ZEROS = 400  # integral numbers with fewer zeros at their end are written out

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


# --- texts that stand for something -----------------------------------------------------------------


def _moment(text: str) -> bytes:
    """Write a date or time as text, ISO or as a database prints it, as one count."""
    if text.lstrip("+-") == "infinity":
        return text.encode()
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError("not a date or time")
    year, month, day, clock, offset, bc = found.groups()
    days = days_from_civil(1 - int(year) if bc else int(year), int(month), int(day))
    us = days * DAY_US + (parse_time(clock.ljust(8, "0")[:15]) if clock else 0)
    if offset and offset != "Z":
        hours, _, minutes = offset[1:].partition(":")
        shift = (int(hours) * 60 + int(minutes or 0)) * 60_000_000
        us += shift if offset[0] == "-" else -shift
    return str(us).encode()


def _or_as_it_is(read: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """What can't be read in a table is compared as text, and so differs."""

    def lenient(text: str) -> bytes:
        try:
            return read(text)
        except ValueError:
            return b"\0" + text.encode()

    return lenient


def _hstore_json(text: str) -> bytes:
    document = json.loads(text)
    return map_document(document if isinstance(document, dict) else {"\0": text})


SOURCE_TEXTS: dict[str, Callable[[Any], bytes | None]] = {
    **_JSON,
    "number": number_document,
    "money": lambda text: number_document(strip_money(text)),
    "interval": interval_document,
    "time": clock_document,
    "clock": clock_document,
    "stamp": _moment,
    "zoned": _moment,
    "hstore": lambda text: map_document(parse_hstore(text)),
    "base64": b64encode,
    "base64-url-safe": urlsafe_b64encode,
    "hex": lambda raw: raw.hex().encode(),
}
TABLE_TEXTS: dict[str, Callable[[Any], bytes | None]] = {
    **_JSON,
    "number": _or_as_it_is(number_document),
    "money": _or_as_it_is(number_document),
    "interval": _or_as_it_is(interval_document),
    "time": _or_as_it_is(clock_document),
    "clock": _or_as_it_is(clock_document),
    "stamp": _or_as_it_is(_moment),
    "zoned": _or_as_it_is(_moment),
    "hstore": _or_as_it_is(_hstore_json),
}
