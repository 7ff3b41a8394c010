"""Which column type each source type gets, and how a value gets there: the table of all types.

Rules owned here:
- The type comes from `connect.name` (Debezium's semantic type), not from the Avro type alone: four
  different units of time are all Avro longs.
- A type without an exact column type is refused for the whole table, with a remedy.
- An option (options.py) that has no meaning for the column's type is refused too.

Source: Debezium 3.6 data types pages; Spark SQL data types 4.1; Iceberg spec, primitive types.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cdc_sink.debezium.avro_schema import (
    MAX_DECIMAL_DIGITS,
    Node,
    base_of,
    decimal_digits,
    logical_of,
    non_null,
)
from cdc_sink.debezium.envelope import AvroField, array_element
from cdc_sink.debezium.types.value_sql import (
    INFINITE_DAYS,
    INFINITE_ISO_DATES,
    INFINITE_ISO_TIMESTAMPS,
    INFINITE_MS,
    INFINITE_NS,
    INFINITE_TEXTS,
    INFINITE_US,
    Fault,
    Render,
    bytes_to_decimal_sql,
    bytes_to_text_sql,
    date_sql,
    decimal_to_text_sql,
    decimal_type,
    iso_date_sql,
    iso_timestamp_sql,
    narrowed_sql,
    open_scale_decimal_sql,
    open_scale_text_sql,
    text_to_decimal_sql,
    time_ms_sql,
    time_ns_sql,
    timestamp_ms_sql,
    timestamp_ns_sql,
    timestamp_us_sql,
    unsigned_sql,
    zoned_timestamp_sql,
)
from cdc_sink.errors import SchemaError

_TIME = "io.debezium.time."
_DATA = "io.debezium.data."
_CONNECT = "org.apache.kafka.connect.data."
_DECIMAL = f"{_CONNECT}Decimal"
_MOST_SCALE: Final = 1_000
OPEN_SCALE = f"{_DATA}VariableScaleDecimal"
_UNKNOWN_PRECISION = 64  # what converters write when a Decimal has no precision parameter
_MONEY = (19, 2)  # PostgreSQL's money: a 64-bit number of cents


@dataclass(frozen=True)
class Conversion:
    """How values of one source type are stored.

    The Avro type they must have, the column's Iceberg type, how a value gets there (None: as it is
    sent), and which values are infinite.
    """

    avro: str
    iceberg: str
    render: Render | None = None
    infinite: Sequence[str] = ()


_PLAIN: Final = {
    "boolean": "boolean",
    "int": "int",
    "long": "long",
    "float": "float",
    "double": "double",
    "string": "string",
    "bytes": "binary",
}

_DAYS = Conversion("int", "date", date_sql, INFINITE_DAYS)
_CLOCK_MS = Conversion("int", "long", time_ms_sql)
_STAMP_MS = Conversion("long", "timestamp", timestamp_ms_sql, INFINITE_MS)
_GEOMETRY = Conversion("record", "struct<wkb:binary,srid:int>")

# Semantic type → its rule.
# A time of day becomes microseconds in a long: Spark's Iceberg reader throws on Iceberg `time`.
# A uuid stays text: Spark hashes the text in bucket(), Iceberg the sixteen bytes, so a
# storage-partitioned join on an Iceberg uuid would look for rows in the wrong bucket.
# A json document stays text: `variant` would round its numbers to doubles, and pyiceberg 0.12 can't
# open a table that has such a column.
SEMANTIC: Final = {
    f"{_TIME}Date": _DAYS,
    f"{_CONNECT}Date": _DAYS,
    f"{_TIME}Time": _CLOCK_MS,
    f"{_CONNECT}Time": _CLOCK_MS,
    f"{_TIME}MicroTime": Conversion("long", "long"),
    f"{_TIME}NanoTime": Conversion("long", "long", time_ns_sql),
    f"{_TIME}Timestamp": _STAMP_MS,
    f"{_CONNECT}Timestamp": _STAMP_MS,
    f"{_TIME}MicroTimestamp": Conversion("long", "timestamp", timestamp_us_sql, INFINITE_US),
    f"{_TIME}NanoTimestamp": Conversion("long", "timestamp", timestamp_ns_sql, INFINITE_NS),
    f"{_TIME}ZonedTimestamp": Conversion(
        "string", "timestamptz", zoned_timestamp_sql, INFINITE_TEXTS
    ),
    f"{_TIME}ZonedTime": Conversion("string", "string"),
    f"{_TIME}IsoDate": Conversion("string", "date", iso_date_sql, INFINITE_ISO_DATES),
    f"{_TIME}IsoTime": Conversion("string", "string"),
    f"{_TIME}IsoTimestamp": Conversion(
        "string", "timestamp", iso_timestamp_sql, INFINITE_ISO_TIMESTAMPS
    ),
    f"{_TIME}Interval": Conversion("string", "string"),
    f"{_TIME}MicroDuration": Conversion("long", "long"),
    f"{_TIME}NanoDuration": Conversion("long", "long"),
    f"{_TIME}Year": Conversion("int", "int"),
    f"{_DATA}Json": Conversion("string", "string"),
    f"{_DATA}Xml": Conversion("string", "string"),
    f"{_DATA}Uuid": Conversion("string", "string"),
    f"{_DATA}Enum": Conversion("string", "string"),
    f"{_DATA}EnumSet": Conversion("string", "string"),
    f"{_DATA}Ltree": Conversion("string", "string"),
    f"{_DATA}Tsvector": Conversion("string", "string"),
    f"{_DATA}Bits": Conversion("bytes", "binary"),
    OPEN_SCALE: Conversion("record", "string", open_scale_text_sql),
    f"{_DATA}geometry.Point": Conversion("record", "struct<x:double,y:double,wkb:binary,srid:int>"),
    f"{_DATA}geometry.Geometry": _GEOMETRY,
    f"{_DATA}geometry.Geography": _GEOMETRY,
    f"{_DATA}FloatVector": Conversion("array", "list<float>"),
    f"{_DATA}DoubleVector": Conversion("array", "list<double>"),
    f"{_DATA}SparseDoubleVector": Conversion(
        "record", "struct<dimensions:int,vector:list<struct<key:int,value:double>>>"
    ),
}
_OWN_NAMES: Final = ("io.debezium.", "org.apache.kafka.connect.")
# Numbers that stand for a time, and so may be kept as numbers.
_COUNTED_TIMES: Final = frozenset(
    name
    for name, rule in SEMANTIC.items()
    if rule.iceberg in ("date", "timestamp") or name.endswith("Time")
)

_LEAVE_OUT = "leave the column out with column.exclude.list"
_DECIMAL_REMEDY = (
    "set `columns: {<column>: {type: string}}` for the table, or a `decimal(38,s)` that holds every "
    "value, or decimal.handling.mode=string on the connector"
)


def rule_of(field: AvroField) -> Conversion:
    """Choose how a source column is stored.

    Raises: SchemaError naming column, type and remedy when there is no exact way.
    """
    base = base_of(field.avro_type)
    if base == "array" and field.semantic is None:
        return Conversion("array", f"list<{rule_of(array_element(field)).iceberg}>")
    if field.option.unsigned:
        return _unsigned(field, base)
    if field.option.type is not None:
        return _asked(field, base, field.option.type)
    if _is_decimal(field):
        return _decimal(field, base)
    rule = _usual(field, base)
    if field.option.on_infinity == "null" and not rule.infinite:
        raise _meaningless(field, "on_infinity")
    return rule


def _usual(field: AvroField, base: str) -> Conversion:
    if field.semantic in SEMANTIC:
        rule = SEMANTIC[field.semantic]
        if base != rule.avro or not _has_fields(field.avro_type, rule):
            raise _unmapped(field)
        return rule
    # A foreign converter's name on a plain type: the value is stored as it is sent. A name of
    # Debezium or Connect that is not listed has a meaning we would lose, so it is refused.
    known_stranger = not (field.semantic or "").startswith(_OWN_NAMES)
    if (
        base == "map"
        and field.semantic is None
        and non_null(field.avro_type["values"])[0] == "string"
    ):
        return Conversion("map", "map<string,string>")
    if base not in _PLAIN or logical_of(field.avro_type) or not known_stranger:
        raise _unmapped(field)
    return Conversion(base, _PLAIN[base])


def _has_fields(node: Node, rule: Conversion) -> bool:
    """A struct's fields have the names that its semantic type promises, a vector its elements."""
    if rule.avro == "array":
        return rule.iceberg == f"list<{base_of(non_null(node['items'])[0])}>"
    if rule.avro != "record":
        return True
    names = {entry["name"] for entry in node.get("fields", ())}
    if rule.iceberg == "string":
        return names == {"scale", "value"}
    return all(f"{name}:" in rule.iceberg for name in names) and bool(names)


def _is_decimal(field: AvroField) -> bool:
    return field.semantic == _DECIMAL or logical_of(field.avro_type) == "decimal"


def _decimal(field: AvroField, base: str) -> Conversion:
    digits = decimal_digits(field.avro_type)
    if base != "bytes":
        raise _unmapped(field)
    if digits is not None:
        return Conversion("bytes", decimal_type(*digits))
    scale = _scale_of_unknown_precision(field)
    if scale is None:
        raise _unmapped(field)
    chosen = _MONEY if scale == _MONEY[1] else (MAX_DECIMAL_DIGITS, scale)
    return _read_decimal(scale, chosen)


def _read_decimal(scale: int, target: tuple[int, int]) -> Conversion:
    def render(fault: Fault, sql: str) -> str:
        return bytes_to_decimal_sql(fault, sql, scale, target)

    return Conversion("bytes", decimal_type(*target), render)


def _scale_of_unknown_precision(field: AvroField) -> int | None:
    node = field.avro_type
    if not isinstance(node, dict) or "connect.decimal.precision" in field.parameters:
        return None
    scale = _scale(field)
    if scale is None or node.get("precision") != _UNKNOWN_PRECISION:
        return None
    return scale if 0 <= scale <= MAX_DECIMAL_DIGITS else None


def _unsigned(field: AvroField, base: str) -> Conversion:
    if base != "long" or field.semantic is not None:
        raise _meaningless(field, "unsigned")
    return Conversion("long", decimal_type(20, 0), unsigned_sql)


def _asked(field: AvroField, base: str, asked: str) -> Conversion:
    """The rule of a column whose type the configuration names."""
    parts = decimal_parts(asked)
    if parts and (rule := decimal_rule(field, base, parts)):
        return rule
    if asked == "string" and base == "string":
        return Conversion("string", "string")
    if asked == "string" and base == "bytes" and _is_decimal(field):
        return _decimal_text(field)
    if asked == "string" and field.semantic == OPEN_SCALE:
        return SEMANTIC[OPEN_SCALE]
    if asked == "long" and base in ("int", "long") and field.semantic in _COUNTED_TIMES:
        return Conversion(base, "long", lambda _, sql: f"CAST({sql} AS BIGINT)")
    raise _meaningless(field, f"type: {asked}")


def decimal_rule(field: AvroField, base: str, parts: tuple[int, int]) -> Conversion | None:
    """Choose how a number in any form becomes a decimal of this type; None: not at all."""
    wanted = decimal_type(*parts)
    if field.semantic == OPEN_SCALE:
        return Conversion(
            "record", wanted, lambda fault, sql: open_scale_decimal_sql(fault, sql, parts)
        )
    if base == "string" and field.semantic is None:
        return Conversion(
            "string", wanted, lambda fault, sql: text_to_decimal_sql(fault, sql, parts)
        )
    own = decimal_digits(field.avro_type)
    if own is not None and base == "bytes":
        return Conversion("bytes", wanted, lambda fault, sql: narrowed_sql(fault, sql, own, parts))
    scale = _scale(field)
    if scale is None:
        return None
    if base == "bytes" and _is_decimal(field) and 0 <= scale <= MAX_DECIMAL_DIGITS:
        return _read_decimal(scale, parts)
    return None


def _decimal_text(field: AvroField) -> Conversion:
    digits, scale = decimal_digits(field.avro_type), _scale(field)
    if scale is None:
        raise _unmapped(field)
    if digits is not None:
        return Conversion("bytes", "string", lambda _, sql: decimal_to_text_sql(sql, scale))
    return Conversion(
        "bytes", "string", lambda fault, sql: bytes_to_text_sql(fault, sql, str(scale))
    )


def _scale(field: AvroField) -> int | None:
    """The scale a decimal declares; None for one that declares none, or that makes no sense."""
    node = field.avro_type
    if not isinstance(node, dict):
        return None
    # Only Avro's own type has one by default.
    scale = node.get("scale", 0 if logical_of(node) == "decimal" else None)
    return scale if type(scale) is int and abs(scale) <= _MOST_SCALE else None


def decimal_parts(iceberg: str) -> tuple[int, int] | None:
    """Read precision and scale of an Iceberg decimal; None for any other type."""
    match = re.fullmatch(r"decimal\(([0-9]{1,2}),([0-9]{1,2})\)", iceberg)
    return (int(match[1]), int(match[2])) if match else None


def list_element(iceberg: str) -> str | None:
    """Read the element type of an Iceberg list; None for any other type."""
    return iceberg.removeprefix("list<")[:-1] if iceberg.startswith("list<") else None


# --- refusals ------------------------------------------------------------------------------------


def _meaningless(field: AvroField, option: str) -> SchemaError:
    return SchemaError(
        f"column {field.name}",
        f"the option `{option}` has no meaning for {_shown(field)}",
        remedy="remove it from the table's `columns`; docs/types.md says which types take it",
    )


def _unmapped(field: AvroField) -> SchemaError:
    return SchemaError(
        f"column {field.name}",
        f"type {_shown(field)} has no exact table type",
        remedy=_DECIMAL_REMEDY if _is_decimal(field) else _LEAVE_OUT,
    )


def _shown(field: AvroField) -> str:
    node, base = field.avro_type, base_of(field.avro_type)
    if logical_of(node) == "decimal":
        given = (node.get("precision"), node.get("scale", 0))
        return f"decimal({','.join(ascii(part)[:20] for part in given)})"
    return f"{field.semantic} ({base})" if field.semantic else (logical_of(node) or base)


def sent_type(key_field: AvroField) -> str:
    """The Spark type that from_avro gives a key column, for reading it from a text."""
    digits = decimal_digits(key_field.avro_type)
    if digits is not None:
        return decimal_type(*digits)
    if key_field.semantic == OPEN_SCALE:
        return "struct<scale: int, value: binary>"
    node = key_field.avro_type
    base = node["type"] if isinstance(node, dict) else node
    return {"long": "bigint", "bytes": "binary"}.get(base, str(base))
