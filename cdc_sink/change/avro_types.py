"""Which Iceberg type a source column gets, and the SQL that brings each value there unharmed.

Rules owned here:
- The type comes from `connect.name` (Debezium's semantic type), not from the Avro type alone: four
  different units of time are all Avro longs.
- Each value is converted by the rules of *its own* writer schema. Avro resolution would
  reinterpret a changed decimal scale or time unit without an error.
- A conversion is exact or raises at run time with `cdc-sink|value|<column>|<why>`; the text
  holds no cell value. Nothing is rounded, cut or turned into null, in ANSI mode or out of it.
- A conversion has at most one reason to fail. Rendered with `set_aside` it gives NULL instead of
  raising, and then NULL means exactly: NULL was sent, or the value is bad for that reason.
- No expression depends on the session's time zone or on spark.sql.timestampType.
- Dates and timestamps are accepted from year 0001 to 9999, Spark's documented range, which every
  reader of the table can print. PostgreSQL's infinity arrives as a number far outside and raises.
- A type without an exact column type is refused for the whole table, with a remedy.

Source: Debezium 3.6 data types pages; Spark SQL data types 4.1; Iceberg spec, primitive types.
"""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cdc_sink.change.avro_schema import Node, decimal_digits
from cdc_sink.change.envelope import AvroField
from cdc_sink.change.quoting import literal, quote
from cdc_sink.errors import SchemaError

__all__ = [
    "UNAVAILABLE",
    "VALUE_FAULT",
    "ColumnType",
    "Fault",
    "column_type",
    "convert_sql",
    "decimal_type",
    "quote",
    "set_aside",
    "unavailable_sql",
    "value_fault_reason",
]

UNAVAILABLE: Final = "__debezium_unavailable_value"
VALUE_FAULT: Final = "cdc-sink|value"

# From the reason why a value is bad to the SQL that takes the value's place.
Fault = Callable[[str], str]

_DECIMAL = "org.apache.kafka.connect.data.Decimal"
_JSON = "io.debezium.data.Json"
_TIMESTAMP_MS = ("io.debezium.time.Timestamp", "org.apache.kafka.connect.data.Timestamp")
_DATE = ("io.debezium.time.Date", "org.apache.kafka.connect.data.Date")
_TIME_MS = ("io.debezium.time.Time", "org.apache.kafka.connect.data.Time")
_ZONED_TIMESTAMP = "io.debezium.time.ZonedTimestamp"

_PLAIN: Final = {
    "boolean": "boolean",
    "int": "int",
    "long": "long",
    "float": "float",
    "double": "double",
    "string": "string",
    "bytes": "binary",
}

# Semantic type → (Avro type it must have, Iceberg type).
# A time of day becomes microseconds in a long: Spark's Iceberg reader throws on Iceberg `time`.
# A uuid stays text: Spark hashes the text in bucket(), Iceberg the sixteen bytes, so a
# storage-partitioned join on an Iceberg uuid would look for rows in the wrong bucket.
_SEMANTIC: Final = {
    **dict.fromkeys(_DATE, ("int", "date")),
    **dict.fromkeys(_TIME_MS, ("int", "long")),
    "io.debezium.time.MicroTime": ("long", "long"),
    "io.debezium.time.NanoTime": ("long", "long"),
    **dict.fromkeys(_TIMESTAMP_MS, ("long", "timestamp")),
    "io.debezium.time.MicroTimestamp": ("long", "timestamp"),
    "io.debezium.time.NanoTimestamp": ("long", "timestamp"),
    _ZONED_TIMESTAMP: ("string", "timestamptz"),
    "io.debezium.time.ZonedTime": ("string", "string"),
    "io.debezium.time.IsoDate": ("string", "string"),
    "io.debezium.time.IsoTime": ("string", "string"),
    "io.debezium.time.IsoTimestamp": ("string", "string"),
    "io.debezium.time.Interval": ("string", "string"),
    "io.debezium.time.MicroDuration": ("long", "long"),
    "io.debezium.time.NanoDuration": ("long", "long"),
    "io.debezium.time.Year": ("int", "int"),
    _JSON: ("string", "string"),
    "io.debezium.data.Xml": ("string", "string"),
    "io.debezium.data.Uuid": ("string", "string"),
    "io.debezium.data.Enum": ("string", "string"),
    "io.debezium.data.EnumSet": ("string", "string"),
    "io.debezium.data.Ltree": ("string", "string"),
    "io.debezium.data.Tsvector": ("string", "string"),
    "io.debezium.data.Bits": ("bytes", "binary"),
}
_NEVER_UNAVAILABLE: Final = frozenset(
    {_ZONED_TIMESTAMP, _DECIMAL, "io.debezium.data.Uuid", "io.debezium.data.Enum"}
)
_OWN_NAMES: Final = ("io.debezium.", "org.apache.kafka.connect.")

_LEAVE_OUT = "leave the column out with column.exclude.list"
_REMEDIES: Final = {
    "io.debezium.data.VariableScaleDecimal": "declare precision and scale at the source, or set "
    "decimal.handling.mode=string on the connector",
    _DECIMAL: "declare at most 38 digits at the source, or set decimal.handling.mode=string on the "
    "connector",
    "map": f"set hstore.handling.mode=json on the connector, or {_LEAVE_OUT}",
}


@dataclass(frozen=True)
class ColumnType:
    """The type of a table column, in Iceberg's words: `long`, `timestamptz`, `decimal(10,2)`."""

    iceberg: str


def column_type(field: AvroField) -> ColumnType:
    """Choose the Iceberg type that holds every value of a source column.

    Raises: SchemaError naming column, type and remedy when there is no such type.
    """
    base = _base(field.avro_type)
    if field.semantic == _DECIMAL or _logical(field.avro_type) == "decimal":
        digits = decimal_digits(field.avro_type)
        if base != "bytes" or digits is None:
            raise _unmapped(field)
        return ColumnType(decimal_type(*digits))
    if field.semantic in _SEMANTIC:
        expected, iceberg = _SEMANTIC[field.semantic]
        if base != expected:
            raise _unmapped(field)
        return ColumnType(iceberg)
    # A foreign converter's name on a plain type: the value is stored as it is sent. A name of
    # Debezium or Connect that is not listed has a meaning we would lose, so it is refused.
    known_stranger = not (field.semantic or "").startswith(_OWN_NAMES)
    if base not in _PLAIN or _logical(field.avro_type) or not known_stranger:
        raise _unmapped(field)
    return ColumnType(_PLAIN[base])


def decimal_type(precision: int, scale: int) -> str:
    """Write a decimal type the way Iceberg and Spark both do."""
    return f"decimal({precision},{scale})"


def decimal_parts(iceberg: str) -> tuple[int, int] | None:
    """Read precision and scale of an Iceberg decimal; None for any other type."""
    if not iceberg.startswith("decimal("):
        return None
    precision, scale = iceberg.removeprefix("decimal(").removesuffix(")").split(",")
    return int(precision), int(scale)


def convert_sql(field: AvroField, sql: str, target: str, *, fault: Fault | None = None) -> str:
    """Render the Spark expression that brings one decoded value to the table's type.

    In:     sql, the value as from_avro gives it under `reader_schema` (times as plain numbers);
            target, the column's Iceberg type, at least as wide as the writer's;
            fault, what becomes of a bad value: `set_aside` gives NULL, by default it raises.
    Out:    the exact value, NULL for NULL, or raise_error('cdc-sink|value|<column>|<why>').
    Raises: SchemaError when the table's type can't hold the writer's.
    """
    bad = fault or (lambda why: f"raise_error({literal(f'{VALUE_FAULT}|{field.name}|{why}')})")
    natural = column_type(field).iceberg
    render = _CONVERSIONS.get(field.semantic or "")
    value = render(bad, sql) if render else sql
    if natural == target:
        return value
    if (natural, target) in _WIDENINGS:
        return f"CAST({value} AS {_WIDENINGS[natural, target]})"
    parts = decimal_parts(target)
    own = decimal_parts(natural)
    if parts and own:
        return _decimal_sql(bad, value, own, parts)
    raise SchemaError(
        f"column {field.name}",
        f"the writer sends {natural}, the table holds {target}",
        remedy="evolve the table before the rows, or rebuild it",
    )


def set_aside(_why: str) -> str:
    """Put NULL in a bad value's place; for `convert_sql`."""
    return "NULL"


def value_fault_reason(field: AvroField, target: str) -> str | None:
    """Say for which reason `convert_sql` of this column can fail; None when it can't.

    Raises: as `convert_sql`.
    """
    reasons: list[str] = []

    def noted(why: str) -> str:
        reasons.append(why)
        return "NULL"

    convert_sql(field, "", target, fault=noted)
    return reasons[0] if reasons else None


def unavailable_sql(field: AvroField, sql: str, placeholder: str = UNAVAILABLE) -> str | None:
    """Render the test for Debezium's placeholder of an unchanged large value.

    Out:    a boolean expression, false for NULL; None for types that never carry a placeholder.
    Source: Debezium 3.6 `unavailable.value.placeholder`; exact match only, as user data may contain
            the text. Binary columns may come as base64 or hex text (`binary.handling.mode`).
    """
    base = _base(field.avro_type)
    if field.semantic in _NEVER_UNAVAILABLE or _logical(field.avro_type) == "decimal":
        return None
    raw = placeholder.encode()
    if base == "bytes":
        return f"coalesce({sql} = X'{raw.hex()}', false)"
    if base != "string":
        return None
    forms = ", ".join(literal(form) for form in _placeholder_texts(field.semantic, placeholder))
    return f"coalesce({sql} IN ({forms}), false)"


def _placeholder_texts(semantic: str | None, placeholder: str) -> list[str]:
    raw = placeholder.encode()
    if semantic == _JSON:  # hstore in json mode: the placeholder as key and as value
        return [placeholder, f'{{"{placeholder}":"{placeholder}"}}']
    if semantic is not None:
        return [placeholder]
    texts = [placeholder, b64encode(raw).decode(), urlsafe_b64encode(raw).decode(), raw.hex()]
    return list(dict.fromkeys(texts))


def _base(node: Node) -> str:
    if isinstance(node, str):
        return node
    return str(node["type"]) if isinstance(node, dict) else "union"


def _logical(node: Node) -> str | None:
    return node.get("logicalType") if isinstance(node, dict) else None


def _unmapped(field: AvroField) -> SchemaError:
    base = _base(field.avro_type)
    return SchemaError(
        f"column {field.name}",
        f"type {_shown(field)} has no exact table type",
        remedy=_REMEDIES.get(field.semantic or base, _LEAVE_OUT),
    )


def _shown(field: AvroField) -> str:
    node, base = field.avro_type, _base(field.avro_type)
    if _logical(node) == "decimal":
        return f"decimal({node.get('precision')},{node.get('scale', 0)})"
    return f"{field.semantic} ({base})" if field.semantic else (_logical(node) or base)


def _within(fault: Fault, sql: str, bounds: tuple[int, int], value: str) -> str:
    low, high = bounds
    bad = fault("outside the years 0001 to 9999")
    return f"(CASE WHEN {sql} < {low} OR {sql} > {high} THEN {bad} ELSE {value} END)"


_DAYS: Final = (-719162, 2932896)  # 0001-01-01 and 9999-12-31 from 1970-01-01
_MS: Final = (-62135596800000, 253402300799999)
_US: Final = (-62135596800000000, 253402300799999999)
_EPOCH: Final = "TIMESTAMP_NTZ'1970-01-01 00:00:00'"


def _date_sql(fault: Fault, sql: str) -> str:
    return _within(fault, sql, _DAYS, f"date_from_unix_date({sql})")


def _timestamp_ms_sql(fault: Fault, sql: str) -> str:
    return _within(fault, sql, _MS, f"timestampadd(MILLISECOND, {sql}, {_EPOCH})")


def _timestamp_us_sql(fault: Fault, sql: str) -> str:
    return _within(fault, sql, _US, f"timestampadd(MICROSECOND, {sql}, {_EPOCH})")


def _timestamp_ns_sql(fault: Fault, sql: str) -> str:
    # A 64-bit count of nanoseconds spans the years 1677 to 2262; no bounds to check.
    return _whole_us(fault, sql, f"timestampadd(MICROSECOND, {sql} div 1000, {_EPOCH})")


def _time_ms_sql(_fault: Fault, sql: str) -> str:
    return f"(CAST({sql} AS BIGINT) * 1000L)"


def _time_ns_sql(fault: Fault, sql: str) -> str:
    return _whole_us(fault, sql, f"{sql} div 1000")


def _whole_us(fault: Fault, sql: str, value: str) -> str:
    bad = fault("finer than a microsecond")
    return f"(CASE WHEN {sql} % 1000 <> 0 THEN {bad} ELSE {value} END)"


# Spark's cast would take a text without offset as session time, cut a seventh digit, and quote the
# value in its own error; so the form is checked first and the cast can only say yes or no.
_ISO_OFFSET: Final = (
    r"^(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.][0-9]{1,6}0{0,3})?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})\z"
)


def _zoned_timestamp_sql(fault: Fault, sql: str) -> str:
    bad = fault("not an ISO time with offset, in microseconds, years 0001 to 9999")
    parsed = (
        f"CASE WHEN {sql} RLIKE {literal(_ISO_OFFSET)} THEN try_cast({sql} AS TIMESTAMP_LTZ) END"
    )
    return f"(CASE WHEN {sql} IS NOT NULL THEN coalesce({parsed}, {bad}) END)"


def _decimal_sql(fault: Fault, sql: str, own: tuple[int, int], target: tuple[int, int]) -> str:
    wide, back = decimal_type(*target), decimal_type(*own)
    if target[1] >= own[1] and target[0] - target[1] >= own[0] - own[1]:
        return f"CAST({sql} AS {wide})"
    # Compared in the writer's own type: a common type of both could itself lose digits.
    there = f"try_cast({sql} AS {wide})"
    bad = fault(f"does not fit {wide} exactly")
    exact = f"try_cast({there} AS {back}) = {sql}"
    return f"(CASE WHEN {sql} IS NULL OR {exact} THEN {there} ELSE {bad} END)"


_CONVERSIONS: Final[dict[str, Callable[[Fault, str], str]]] = {
    **dict.fromkeys(_DATE, _date_sql),
    **dict.fromkeys(_TIME_MS, _time_ms_sql),
    "io.debezium.time.NanoTime": _time_ns_sql,
    **dict.fromkeys(_TIMESTAMP_MS, _timestamp_ms_sql),
    "io.debezium.time.MicroTimestamp": _timestamp_us_sql,
    "io.debezium.time.NanoTimestamp": _timestamp_ns_sql,
    _ZONED_TIMESTAMP: _zoned_timestamp_sql,
}
_WIDENINGS: Final = {("int", "long"): "BIGINT", ("float", "double"): "DOUBLE"}
