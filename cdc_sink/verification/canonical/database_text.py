"""What databases print for values that are no plain scalar, read into what both sides can be compared by.

Rules owned here: a text that is not of the expected form raises ValueError, which makes the value
unreadable; nothing here knows tables or Arrow.

Source: PostgreSQL 18, array, hstore, interval (iso_8601) and geometric output; pgvector 0.8; PostGIS
EWKB; MySQL 8 internal geometry format (four bytes of SRID, then WKB); Debezium 3.6 MicroDuration.
"""

from __future__ import annotations

import json
import re
import struct
from decimal import Decimal, InvalidOperation

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_ELEMENT = re.compile(rf'{_QUOTED}|([^",{{}}\s][^",{{}}]*)', re.DOTALL)
_PAIR = re.compile(rf"{_QUOTED}=>(?:{_QUOTED}|(NULL))", re.DOTALL)
_INTERVAL = re.compile(
    r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)D)?"
    r"(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?\d+(?:\.\d+)?)S)?)?"
)
_CLOCK = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d(?::\d\d){0,2})?")
_SPECIAL = {
    **{"nan": "nan", "infinity": "infinity", "-infinity": "-infinity"},
    **{"positive_infinity": "infinity", "negative_infinity": "-infinity"},
}
_DAYS_A_MONTH = 365.25 / 12
_LONG = 2**63
DAY_US = 86_400_000_000
_SRID_FLAG = 0x20000000
_TIME = re.compile(r"(-?)(\d{1,3}):(\d\d):(\d\d)(?:\.(\d{1,6}))?")


def parse_array(text: str) -> list[str | None]:
    """Read `{a,"b c",NULL}` or a vector's `[1,2]`; more than one dimension is refused."""
    if text[:1] + text[-1:] == "[]":
        return [*text[1:-1].split(",")] if text != "[]" else []
    if text[:1] + text[-1:] != "{}":
        raise ValueError("not an array of one dimension")
    found: list[str | None] = []
    at = 1
    while at < len(text) - 1:
        match = _ELEMENT.match(text, at)
        if match is None or text[match.end()] not in ",}":
            raise ValueError("not an array of one dimension")
        quoted, bare = match.groups()
        found.append((None if bare == "NULL" else bare) if quoted is None else _unescaped(quoted))
        at = match.end() + 1
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def parse_hstore(text: str) -> dict[str, str | None]:
    """Read `"a"=>"1", "b"=>NULL`."""
    found: dict[str, str | None] = {}
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None or text[match.end() :][:2] not in ("", ", "):
            raise ValueError("not an hstore")
        key, value, null = match.groups()
        found[_unescaped(key)] = None if null else _unescaped(value)
        at = match.end() + 2
    return found


def map_document(entries: dict[str, str | None]) -> bytes:
    """Write a map as bytes that only an equal one has."""
    return json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()


def number_document(text: str) -> bytes:
    """Write a number, or what a connector calls none, as bytes that only an equal one has."""
    special = _SPECIAL.get(text.lower())
    if special is not None:
        return special.encode()
    try:
        sign, digits, exponent = Decimal(text).as_tuple()
    except InvalidOperation as cause:
        raise ValueError("not a number") from cause
    whole = "".join(map(str, digits)).lstrip("0").rstrip("0")
    if not whole:
        return b"0"
    shift = int(exponent) + len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return f"{'-' * sign}{whole}e{shift}".encode()


def strip_money(text: str) -> str:
    """Take the currency sign and the thousands' commas out of what the C locale prints."""
    return text.replace("$", "").replace(",", "")


def interval_document(text: str) -> bytes:
    """Write an ISO 8601 interval as months, days and microseconds."""
    years, months, days, us = _interval(text)
    return f"{years * 12 + months}m{days}d{us}us".encode()


def interval_us(text: str) -> int:
    """Count an interval's microseconds as Debezium does: months of 365.25/12 days, in doubles."""
    years, months, days, us = _interval(text)
    whole, rest = divmod(abs(us), 60_000_000)
    sign = -1 if us < 0 else 1
    minutes, seconds = sign * whole, sign * (rest / 1_000_000)
    days_in_all = (years * 12 + months) * _DAYS_A_MONTH + days
    counted = (days_in_all * 24 * 60 + minutes) * 60 + seconds
    return max(-_LONG, min(_LONG - 1, int(counted * 1_000_000)))


def _interval(text: str) -> tuple[int, int, int, int]:
    found = _INTERVAL.fullmatch(text)
    if found is None or text in ("P", "PT"):
        raise ValueError("not an ISO interval")
    years, months, days, hours, minutes = (int(part or 0) for part in found.groups()[:5])
    us = int(Decimal(found[6] or 0) * 1_000_000)
    return years, months, days, ((hours * 60 + minutes) * 60) * 1_000_000 + us


def clock_document(text: str) -> bytes:
    """Write a time of day as microseconds, in UTC where it has an offset."""
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise ValueError("not a time of day")
    hours, minutes, seconds, fraction, offset = found.groups()
    us = ((int(hours) * 60 + int(minutes)) * 60 + int(seconds or 0)) * 1_000_000
    us += int((fraction or "").ljust(6, "0")[:6])
    if offset and offset != "Z":
        parts = [int(part) for part in offset[1:].split(":")] + [0, 0]
        shift = ((parts[0] * 60 + parts[1]) * 60 + parts[2]) * 1_000_000
        us = (us + (shift if offset[0] == "-" else -shift)) % DAY_US
    elif offset:
        us %= DAY_US
    return str(us).encode()


# --- places ---------------------------------------------------------------------------------------


def geometry_document(
    wkb: bytes | None, srid: int | None, x: float | None = None, y: float | None = None
) -> bytes:
    """Write a place as bytes that only an equal one has; a point's x and y are part of it."""
    head = struct.pack("<i?dd", srid or 0, x is not None, x or 0.0, y or 0.0)
    return head + (wkb or b"")


def parse_point(text: str) -> bytes:
    """Read PostgreSQL's own `(x,y)` into what Debezium sends for it."""
    if text[:1] + text[-1:] != "()":
        raise ValueError("not a point")
    x, y = (float(part) for part in text[1:-1].split(","))
    return geometry_document(struct.pack("<BIdd", 1, 1, x, y), None, x, y)


def parse_mysql_geometry(value: bytes, *, is_point: bool) -> bytes:
    """Read MySQL's internal form."""
    srid, wkb = struct.unpack_from("<i", value)[0], value[4:]
    x, y = struct.unpack_from("<dd", wkb, 5) if is_point else (None, None)
    return geometry_document(wkb, srid, x, y)


def parse_ewkb(text: str) -> bytes:
    """Read PostGIS's hex text, which holds the SRID where a flag says so."""
    wkb = bytes.fromhex(text)
    order = "<" if wkb[:1] == b"\x01" else ">"
    kind = struct.unpack_from(f"{order}I", wkb, 1)[0]
    srid = struct.unpack_from(f"{order}i", wkb, 5)[0] if kind & _SRID_FLAG else None
    return geometry_document(wkb, srid)


def sparse_document(dimensions: int, entries: dict[int, float]) -> bytes:
    """Write a sparse vector as bytes that only an equal one has."""
    return json.dumps([dimensions, sorted(entries.items())]).encode()


def parse_sparse(text: str) -> bytes:
    """Read pgvector's `{1:1.5,3:2}/5`."""
    found = re.fullmatch(r"\{(.*)\}/(\d+)", text)
    if found is None:
        raise ValueError("not a sparse vector")
    pairs = [pair.split(":") for pair in found[1].split(",") if pair]
    return sparse_document(int(found[2]), {int(key): float(value) for key, value in pairs})


# --- days and clocks ------------------------------------------------------------------------------


def days_from_civil(year: int, month: int, day: int) -> int:
    """Count days since 1970-01-01.

    Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    """
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468


def parse_time(text: str) -> int:
    """Read a time of day, which in MySQL may be negative or beyond 24 h, as microseconds."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("not a time of day")
    sign, hours, minutes, seconds, fraction = found.groups()
    whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
    us = whole * 1_000_000 + int((fraction or "").ljust(6, "0"))
    return -us if sign else us
