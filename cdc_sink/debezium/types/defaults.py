"""What the rows that a column was added to hold in it, as far as its writer schema tells.

Rules owned here:
- ADD COLUMN … DEFAULT gives the default to every row that is there, without a change event. The writer
  schema carries it, so the table can too.
- A connector that can't evaluate a default writes the type's zero instead: such a default may be made up,
  and counts as unknown. MySQL's and MariaDB's connector do so for dates and times only.
- A column that is never NULL and has no default in the schema had one that the connector could not read, or
  the database's own: unknown.
- The option `constant_default` says that the schema's default is the source's own.

Source: seen with Debezium 3.6.1 and PostgreSQL 18 (`nextval`, `now`, `gen_random_uuid`, `upper` arrive as 0,
1970-01-01, the zero uuid and an empty text); Avro 1.12, Complex Types: defaults of bytes are text, one
character a byte.
"""

from __future__ import annotations

from decimal import Context
from typing import Any, Final

from cdc_sink.debezium.avro_schema import base_of, decimal_digits, logical_of
from cdc_sink.debezium.envelope import AvroField
from cdc_sink.sql import literal

_PARSES_DDL: Final = frozenset({"mysql", "mariadb"})
_TIME: Final = ("io.debezium.time.", "org.apache.kafka.connect.data.")
_ZERO_TEXTS: Final = frozenset({"", "{}", "00000000-0000-0000-0000-000000000000"})
_ZERO_TIMES: Final = ("1970-01-01", "00:00:00", "PT0", "P0")
_NUMBERS: Final = {"int": "INT", "long": "BIGINT", "float": "FLOAT", "double": "DOUBLE"}


def default_sql(field: AvroField, connector: str) -> str | None:
    """Render a column's default as a value that was decoded; None where there is none, or none is known.

    In: connector, the one that wrote the schema; empty if nothing tells.
    """
    value = field.default
    if value is None or is_unknown(field, connector):
        return None
    return raw_sql(field, value)


def is_unknown(field: AvroField, connector: str) -> bool:
    """Say whether the source's older rows hold what no schema tells."""
    if field.default is None:
        return not field.nullable
    if raw_sql(field, field.default) is None:
        return True
    return not field.option.constant_default and _may_be_made_up(field, connector)


def raw_sql(field: AvroField, value: Any) -> str | None:
    """Render a default as the schema has it; None for one that has no plain form."""
    base = base_of(field.avro_type)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if base == "boolean" and isinstance(value, bool):
        return str(value).lower()
    if base in _NUMBERS and is_number:
        return f"CAST('{value!r}' AS {_NUMBERS[base]})"
    if base == "string" and isinstance(value, str):
        return literal(value)
    if base == "bytes" and isinstance(value, str):
        return _bytes_sql(field, value)
    return None


def _bytes_sql(field: AvroField, value: str) -> str | None:
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        return None
    digits = decimal_digits(field.avro_type)
    if digits is None:
        return f"X'{raw.hex()}'"
    number = Context(prec=100).create_decimal(int.from_bytes(raw, "big", signed=True))
    return f"CAST('{number.scaleb(-digits[1]):f}' AS DECIMAL({digits[0]},{digits[1]}))"


def _may_be_made_up(field: AvroField, connector: str) -> bool:
    is_time = (field.semantic or "").startswith(_TIME) and logical_of(field.avro_type) != "decimal"
    if connector in _PARSES_DDL and not is_time:
        return False
    value = field.default
    if not isinstance(value, str):
        return not value
    if is_time:
        return value.startswith(_ZERO_TIMES)
    return value in _ZERO_TEXTS or not value.strip("\0")
