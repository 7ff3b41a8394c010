"""The SQL that brings one decoded value to its column type; `avro_types` says which rule is whose.

Rules owned here:
- Every expression gives NULL for NULL, the exact value, or what `fault` puts in a bad value's place;
  one expression has at most one reason for a fault.
- No expression depends on the session's time zone, ANSI mode or spark.sql.timestampType.
- A number of any size goes from its bytes to text through java.math.BigInteger, by `reflect` on a
  class that is on Spark's own class path; a decimal of up to 38 digits through spark-avro itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from cdc_sink.sql import literal

# From the reason why a value is bad to the SQL that takes the value's place.
Fault = Callable[[str], str]
# (fault, the value's SQL) → the SQL of the column's value.
Render = Callable[[Fault, str], str]

MAX_DIGITS: Final = 38


def decimal_type(precision: int, scale: int) -> str:
    """Write a decimal type the way Iceberg and Spark both do."""
    return f"decimal({precision},{scale})"


# --- dates and times -----------------------------------------------------------------------------

_DAYS: Final = (-719162, 2932896)  # 0001-01-01 and 9999-12-31 from 1970-01-01
_MS: Final = (-62135596800000, 253402300799999)
_US: Final = (-62135596800000000, 253402300799999999)
_EPOCH: Final = "TIMESTAMP_NTZ'1970-01-01 00:00:00'"

# How PostgreSQL's infinity and -infinity arrive, seen with Debezium 3.6.1 on PostgreSQL 18. Dates of
# a source snapshot (and of arrays) are other numbers than dates of the stream. None of these is a
# date or time that the database could hold.
INFINITE_DAYS: Final = ("-2147472692", "-2147472691", "-622191234", "-625821272")
INFINITE_MS: Final = ("9223372036825200L", "-9223372036832400L")
INFINITE_US: Final = ("9223372036825200000L", "-9223372036832400000L")
# Literals of 64 bits: Spark reads the smallest one as a decimal unless it is computed.
INFINITE_NS: Final = ("9223372036854775807L", "(-9223372036854775807L - 1L)")
INFINITE_TEXTS: Final = ("'infinity'", "'-infinity'")
INFINITE_ISO_DATES: Final = (
    *("'-5877611-06-21Z'", "'-5877611-06-22Z'"),
    *("'+292278994-08-16Z'", "'+292269055-12-02Z'"),
)
INFINITE_ISO_TIMESTAMPS: Final = ("'+294247-01-10T04:00:25.2Z'", "'-290308-12-21T19:59:27.6Z'")


def _within(fault: Fault, sql: str, bounds: tuple[int, int], value: str) -> str:
    low, high = bounds
    bad = fault("outside the years 0001 to 9999")
    return f"(CASE WHEN {sql} < {low} OR {sql} > {high} THEN {bad} ELSE {value} END)"


def date_sql(fault: Fault, sql: str) -> str:
    """Days since 1970 to a date."""
    return _within(fault, sql, _DAYS, f"date_from_unix_date({sql})")


def timestamp_ms_sql(fault: Fault, sql: str) -> str:
    """Milliseconds since 1970 to a timestamp without zone."""
    return _within(fault, sql, _MS, f"timestampadd(MILLISECOND, {sql}, {_EPOCH})")


def timestamp_us_sql(fault: Fault, sql: str) -> str:
    """Microseconds since 1970 to a timestamp without zone."""
    return _within(fault, sql, _US, f"timestampadd(MICROSECOND, {sql}, {_EPOCH})")


def timestamp_ns_sql(fault: Fault, sql: str) -> str:
    """Nanoseconds since 1970 to a timestamp without zone, if they are whole microseconds."""
    # A 64-bit count of nanoseconds spans the years 1677 to 2262; no bounds to check.
    return _whole_us(fault, sql, f"timestampadd(MICROSECOND, {sql} div 1000, {_EPOCH})")


def time_ms_sql(_fault: Fault, sql: str) -> str:
    """Milliseconds to microseconds."""
    return f"(CAST({sql} AS BIGINT) * 1000L)"


def time_ns_sql(fault: Fault, sql: str) -> str:
    """Nanoseconds to microseconds, if they are whole ones."""
    return _whole_us(fault, sql, f"{sql} div 1000")


def _whole_us(fault: Fault, sql: str, value: str) -> str:
    bad = fault("finer than a microsecond")
    return f"(CASE WHEN {sql} % 1000 <> 0 THEN {bad} ELSE {value} END)"


# Spark's cast would take a text without offset as session time, cut a seventh digit, and quote the
# value in its own error; so the form is checked first and the cast can only say yes or no.
_ISO_DATE: Final = r"^(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO_TIME: Final = r"T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.][0-9]{1,6}0{0,3})?"


def zoned_timestamp_sql(fault: Fault, sql: str) -> str:
    """ISO text with an offset to a timestamp with zone."""
    form = rf"{_ISO_DATE}{_ISO_TIME}(?:Z|[+-][0-9]{{2}}:[0-9]{{2}})\z"
    bad = fault("not an ISO time with offset, in microseconds, years 0001 to 9999")
    return _parsed(sql, form, f"try_cast({sql} AS TIMESTAMP_LTZ)", bad)


def iso_date_sql(fault: Fault, sql: str) -> str:
    """ISO text, which Debezium ends with a Z, to a date."""
    bad = fault("not an ISO date, years 0001 to 9999")
    return _parsed(sql, rf"{_ISO_DATE}Z?\z", f"try_cast(left({sql}, 10) AS DATE)", bad)


def iso_timestamp_sql(fault: Fault, sql: str) -> str:
    """ISO text, the Z of which stands for no zone, to a timestamp without zone."""
    bad = fault("not an ISO time in microseconds, years 0001 to 9999")
    value = f"try_cast(trim(TRAILING 'Z' FROM {sql}) AS TIMESTAMP_NTZ)"
    return _parsed(sql, rf"{_ISO_DATE}{_ISO_TIME}Z?\z", value, bad)


def _parsed(sql: str, form: str, value: str, bad: str) -> str:
    parsed = f"CASE WHEN {sql} RLIKE {literal(form)} THEN {value} END"
    return f"(CASE WHEN {sql} IS NOT NULL THEN coalesce({parsed}, {bad}) END)"


# --- numbers -------------------------------------------------------------------------------------

_NO_NUMBER: Final = "not a number"
_TO_BIG_INTEGER: Final = "'org.apache.commons.lang3.math.NumberUtils', 'createBigInteger'"


def unsigned_sql(_fault: Fault, sql: str) -> str:
    """A long whose sign bit is its 64th digit to the number it stands for."""
    number = f"CAST({sql} AS decimal(20,0))"
    return f"(CASE WHEN {sql} < 0 THEN {number} + 18446744073709551616BD ELSE {number} END)"


def narrowed_sql(fault: Fault, sql: str, own: tuple[int, int], target: tuple[int, int]) -> str:
    """Bring a decimal to another decimal type; digits that would be lost are a fault."""
    wide, back = decimal_type(*target), decimal_type(*own)
    if target[1] >= own[1] and target[0] - target[1] >= own[0] - own[1]:
        return f"CAST({sql} AS {wide})"
    # Compared in the writer's own type: a common type of both could itself lose digits.
    there = f"try_cast({sql} AS {wide})"
    bad = fault(f"does not fit {wide} exactly")
    exact = f"try_cast({there} AS {back}) = {sql}"
    return f"(CASE WHEN {sql} IS NULL OR {exact} THEN {there} ELSE {bad} END)"


def bytes_to_decimal_sql(fault: Fault, sql: str, scale: int, target: tuple[int, int]) -> str:
    """Read a big-endian two's complement number, `scale` digits of it behind the point, as a decimal.

    In: scale from 0 to 38.
    """
    wide = decimal_type(*target)
    schema = {"type": "bytes", "logicalType": "decimal", "precision": MAX_DIGITS, "scale": scale}
    # Avro's bytes begin with their length, as a zig-zag number; 38 digits never take two bytes of it.
    framed = f"concat(unhex(lpad(hex(length({sql}) * 2), 2, '0')), {sql})"
    read = f"from_avro({framed}, {literal(json.dumps(schema))}, map('mode', 'PERMISSIVE'))"
    value = f"try_cast({read} AS {wide})"
    if target[1] < scale:
        value = (
            f"if(try_cast({value} AS {decimal_type(MAX_DIGITS, scale)}) = {read}, {value}, NULL)"
        )
    bad = fault(f"does not fit {wide} exactly")
    return f"(CASE WHEN {sql} IS NOT NULL THEN coalesce(if(length({sql}) < 64, {value}, NULL), {bad}) END)"


def bytes_to_text_sql(fault: Fault, sql: str, scale: str) -> str:
    """Write a big-endian two's complement number of any size in plain digits.

    In: scale, SQL for the number of digits behind the point; below zero it adds zeros.
    """
    bad = fault(_NO_NUMBER)
    return f"(CASE WHEN {sql} IS NOT NULL THEN coalesce({_plain_digits(sql, scale)}, {bad}) END)"


def _plain_digits(sql: str, scale: str) -> str:
    whole = f"hex({sql})"
    inverted = f"translate({whole}, '0123456789ABCDEF', 'FEDCBA9876543210')"
    # Minus a number is its inverse plus one: the zeros that carry are the F's at the inverse's end.
    kept = f"trim(TRAILING 'F' FROM {inverted})"
    raised = f"translate(right({kept}, 1), '0123456789ABCDE', '123456789ABCDEF')"
    zeros = f"repeat('0', length({inverted}) - length({kept}))"
    minus = f"concat(left({kept}, length({kept}) - 1), {raised}, {zeros})"
    size = f"if({whole} >= '8', {minus}, {whole})"
    digits = f"reflect({_TO_BIG_INTEGER}, concat('0x', {size}))"
    # From behind, so that no pattern has to look back: numbers may have thousands of digits.
    backwards = f"reverse(concat(repeat('0', {scale}), {digits}))"
    pointed = f"regexp_replace({backwards}, concat('^[0-9]{{', {scale}, '}}'), '$0.')"
    point = f"regexp_replace(reverse({pointed}), '^0+(?=[0-9])', '')"
    zeros_behind = f"regexp_replace(concat({digits}, repeat('0', -({scale}))), '^0+$', '0')"
    return (
        f"CASE WHEN length({sql}) > 0 THEN concat(if({whole} >= '8', '-', ''), "
        f"if({scale} > 0, {point}, {zeros_behind})) END"
    )


def open_scale_text_sql(fault: Fault, sql: str) -> str:
    """Write Debezium's VariableScaleDecimal, a struct of scale and bytes, in plain digits."""
    return bytes_to_text_sql(fault, f"{sql}.value", f"{sql}.scale")


def open_scale_decimal_sql(fault: Fault, sql: str, target: tuple[int, int]) -> str:
    """Read Debezium's VariableScaleDecimal as a decimal."""
    text = _plain_digits(f"{sql}.value", f"{sql}.scale")
    return _text_as_decimal(fault, text, f"{sql}.value IS NOT NULL", target)


def text_to_decimal_sql(fault: Fault, sql: str, target: tuple[int, int]) -> str:
    """Read a number that the connector wrote as text, in plain digits, as a decimal."""
    return _text_as_decimal(fault, sql, f"{sql} IS NOT NULL", target)


def _text_as_decimal(fault: Fault, text: str, given: str, target: tuple[int, int]) -> str:
    # A cast would round: only zeros may stand behind the digits that the type keeps.
    form = rf"^(-?[0-9]++(?:[.][0-9]{{0,{target[1]}}}+)?+)0*+\z"
    wide = decimal_type(*target)
    value = f"try_cast(regexp_extract({text}, {literal(form)}, 1) AS {wide})"
    bad = fault(f"does not fit {wide} exactly")
    return f"(CASE WHEN {given} THEN coalesce({value}, {bad}) END)"


def decimal_to_text_sql(sql: str, scale: int) -> str:
    """Write a decimal in plain digits, all of its scale; a cast's text depends on the ANSI mode."""
    return f"replace(format_number({sql}, {scale}), ',', '')"
