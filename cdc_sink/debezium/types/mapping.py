"""Which Iceberg type a source column gets, and the SQL that brings each value there unharmed.

Rules owned here:
- The type comes from `connect.name` (Debezium's semantic type), not from the Avro type alone: four
  different units of time are all Avro longs.
- Each value is converted by the rules of *its own* writer schema. Avro resolution would
  reinterpret a changed decimal scale or time unit without an error.
- A conversion is exact or raises at run time with `cdc-sink|value|<column>|<why>`; the text
  holds no cell value. Nothing is rounded, cut or turned into null, in ANSI mode or out of it.
- A conversion has at most one reason to fail. With `null_if_bad` the expression gives NULL instead of
  raising. To tell a bad value from a NULL that was sent, compare with `given_sql`, which applies options
  such as `on_infinity: null` first.
- Dates and timestamps are accepted from year 0001 to 9999, Spark's documented range, which every
  reader of the table can print. PostgreSQL's infinity arrives as a number far outside and raises.
- A bad element makes its whole array bad.
- A type without an exact column type is refused for the whole table, with a remedy.

Source: Debezium 3.6 data types pages; Spark SQL data types 4.1; Iceberg spec, primitive types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cdc_sink.debezium.avro_schema import base_of
from cdc_sink.debezium.envelope import AvroField, array_element
from cdc_sink.debezium.options import UNAVAILABLE
from cdc_sink.debezium.types.conversions import (
    SEMANTIC,
    Conversion,
    decimal_parts,
    decimal_rule,
    list_element,
    rule_of,
)
from cdc_sink.debezium.types.unavailable import unavailable_sql
from cdc_sink.debezium.types.value_sql import Fault, decimal_type, narrowed_sql
from cdc_sink.errors import SchemaError
from cdc_sink.sql import literal, quote

__all__ = [
    "UNAVAILABLE",
    "VALUE_FAULT",
    "ColumnType",
    "Fault",
    "bad_value_sql",
    "column_type",
    "convert_sql",
    "decimal_parts",
    "decimal_type",
    "given_sql",
    "list_element",
    "null_if_bad",
    "quote",
    "unavailable_sql",
    "value_fault_reason",
]

VALUE_FAULT: Final = "cdc-sink|value"


@dataclass(frozen=True)
class ColumnType:
    """The type of a table column, in Iceberg's words: `long`, `timestamptz`, `decimal(10,2)`."""

    iceberg: str


# --- which type ----------------------------------------------------------------------------------


def column_type(field: AvroField) -> ColumnType:
    """Choose the Iceberg type that holds every value of a source column.

    Raises: SchemaError naming column, type and remedy when there is no such type.
    """
    return ColumnType(rule_of(field).iceberg)


# --- values --------------------------------------------------------------------------------------


def convert_sql(field: AvroField, sql: str, target: str, *, fault: Fault | None = None) -> str:
    """Render the Spark expression that brings one decoded value to the table's type.

    In:     sql, the value as from_avro gives it under `reader_schema` (times as plain numbers);
            target, the column's Iceberg type, at least as wide as the writer's;
            fault, what becomes of a bad value: `null_if_bad` gives NULL, by default it raises.
    Out:    the exact value, NULL for NULL, or raise_error('cdc-sink|value|<column>|<why>').
    Raises: SchemaError when the table's type can't hold the writer's.
    """
    bad = fault or (lambda why: f"raise_error({literal(f'{VALUE_FAULT}|{field.name}|{why}')})")
    return _converted(field, given_sql(field, sql), target, bad)


def _converted(field: AvroField, sql: str, target: str, fault: Fault) -> str:
    rule = rule_of(field)
    element = list_element(target)
    if rule.avro == "array" and element and field.semantic not in SEMANTIC:
        return _list_sql(array_element(field), sql, element, fault)
    parts, own = decimal_parts(target), decimal_parts(rule.iceberg)
    if rule.iceberg != target and parts and own and rule.render is not None:
        return _recast(field, sql, rule, parts, fault)
    value = rule.render(fault, sql) if rule.render else sql
    if rule.iceberg == target:
        return value
    if (rule.iceberg, target) in _WIDENINGS:
        return f"CAST({value} AS {_WIDENINGS[rule.iceberg, target]})"
    if parts and own:
        return narrowed_sql(fault, value, own, parts)
    raise SchemaError(
        f"column {field.name}",
        f"the writer sends {rule.iceberg}, the table holds {target}",
        remedy="evolve the table before the rows, or rebuild it",
    )


def _recast(
    field: AvroField, sql: str, rule: Conversion, target: tuple[int, int], fault: Fault
) -> str:
    """Render a decimal that is computed, for a table of another decimal type: one fault, not two."""
    again = decimal_rule(field, base_of(field.avro_type), target)
    if again is not None and again.render is not None:
        return again.render(fault, sql)
    assert rule.render is not None
    own = decimal_parts(rule.iceberg)
    assert own is not None
    return narrowed_sql(fault, rule.render(fault, sql), own, target)


def _list_sql(element: AvroField, sql: str, target: str, fault: Fault) -> str:
    """Convert an array; what needs no conversion stays free of lambdas, which are slow."""
    reasons: list[str] = []

    def noted(why: str) -> str:
        reasons.append(why)
        return "NULL"

    given = given_sql(element, "x")
    one = _converted(element, given, target, noted)
    if one == "x":
        return sql
    array = f"transform({sql}, x -> {one})"
    if not reasons:
        return array
    bad = f"exists({sql}, x -> ({given}) IS NOT NULL AND ({one}) IS NULL)"
    return f"(CASE WHEN {bad} THEN {fault(reasons[0])} ELSE {array} END)"


def given_sql(field: AvroField, sql: str) -> str:
    """Render the value as its conversion sees it: NULL where an option says so.

    Where this is not NULL and `convert_sql` with `null_if_bad` is, the value is bad.
    """
    if field.option.on_infinity == "fault" or base_of(field.avro_type) == "array":
        return sql
    return f"(CASE WHEN {sql} NOT IN ({', '.join(rule_of(field).infinite)}) THEN {sql} END)"


def bad_value_sql(field: AvroField, sql: str, target: str) -> str | None:
    """Render whether a value can't be converted, as a boolean that is never NULL; None: all can.

    Raises: as `convert_sql`.
    """
    if value_fault_reason(field, target) is None:
        return None
    quiet = convert_sql(field, sql, target, fault=null_if_bad)
    return f"({given_sql(field, sql)} IS NOT NULL AND {quiet} IS NULL)"


def null_if_bad(_why: str) -> str:
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

    convert_sql(field, "x", target, fault=noted)
    return reasons[0] if reasons else None


_WIDENINGS: Final = {("int", "long"): "BIGINT", ("float", "double"): "DOUBLE"}
