"""The exact text of a typed value, for columns whose source changed to a type they can't hold.

Rules owned here: the text reads back as the same value; it does not depend on the session's time zone
or ANSI mode; a type without one obvious text (bytes, nested values) has none, and is refused.
"""

from __future__ import annotations

from typing import Final

from cdc_sink.debezium.envelope import AvroField
from cdc_sink.debezium.types.mapping import (
    Fault,
    column_type,
    convert_sql,
    decimal_parts,
    given_sql,
    value_fault_reason,
)

_AS_TEXT: Final = frozenset(
    {"boolean", "int", "long", "float", "double", "string", "date", "timestamp", "timestamptz"}
)
# With more digits behind the point the cast writes 0.0000001 as 1E-7, outside ANSI mode.
_PLAIN_SCALE: Final = 6


def has_text(iceberg: str) -> bool:
    """Say whether every value of an Iceberg type has one exact text."""
    return iceberg in _AS_TEXT or decimal_parts(iceberg) is not None


def text_fault_reason(field: AvroField) -> str | None:
    """Say for which reason `text_sql` of this column can fail; None when it can't."""
    natural = column_type(field).iceberg
    if field.avro_type == "string" or natural == "timestamptz":
        return None
    return value_fault_reason(field, natural)


def text_sql(field: AvroField, sql: str, *, fault: Fault | None = None) -> str:
    """Render the Spark expression for the text of one decoded value.

    In:     sql, the value as from_avro gives it under `reader_schema`; fault, as for `convert_sql`.
    Out:    NULL for NULL; a time with offset as the source wrote it, any other value as its
            column would hold it: `12.50`, `2020-01-31`, `2020-01-31 10:00:00.123456`.
    Raises: SchemaError when the column's type has no table type.
    """
    natural = column_type(field).iceberg
    if field.avro_type == "string" or natural == "timestamptz":
        return given_sql(field, sql)
    value = convert_sql(field, sql, natural, fault=fault)
    digits = decimal_parts(natural)
    if digits is None or digits[1] <= _PLAIN_SCALE:
        return f"CAST({value} AS STRING)"
    whole, fraction = "9" * (digits[0] - digits[1]) + "0", "0" * digits[1]
    return f"replace(to_char({value}, 'MI{whole}D{fraction}'), ' ', '')"
