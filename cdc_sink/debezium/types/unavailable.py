"""Debezium's placeholder for a large value that did not change, in every form it takes.

Rules owned here:
- A value counts as unavailable only if it equals one of the forms exactly: user data may contain the
  placeholder's text.
- Types of a fixed size never carry it in PostgreSQL; nor do decimals, which the connector would have
  to write as a number.
- PostgreSQL leaves out only values that it stores outside the row (TOAST). It never stores a NULL there. So
  where the row before has NULL and the new event leaves the value out, the row before is outdated, and nobody
  has the value. Oracle and SQL Server leave out a NULL, too, when it did not change.
- Lists of floats, booleans, decimals, times, int16 and vectors have no placeholder: the connector writes
  NULL for one that did not change, or stops. Seen with Debezium 3.6.1 and PostgreSQL 18.

Source: Debezium 3.6 `UnchangedToastedPlaceholder`, `UnchangedToastedReplicationMessageColumn`;
`unavailable.value.placeholder`, `binary.handling.mode`, `hstore.handling.mode`.
"""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import md5
from typing import Final
from uuid import UUID

from cdc_sink.debezium.avro_schema import base_of, logical_of
from cdc_sink.debezium.envelope import AvroField, array_element
from cdc_sink.sql import literal

LEAVE_OUT_NULLS: Final = frozenset({"oracle", "sqlserver"})  # names of connectors
_HEX: Final = "hex:"
_JSON: Final = "io.debezium.data.Json"
_UUID: Final = "io.debezium.data.Uuid"
_FIXED_SIZE_TEXTS: Final = frozenset(
    {
        _UUID,
        "io.debezium.data.Enum",
        "io.debezium.time.ZonedTimestamp",
        "io.debezium.time.ZonedTime",
        "io.debezium.time.IsoDate",
        "io.debezium.time.IsoTime",
        "io.debezium.time.IsoTimestamp",
        "io.debezium.time.Interval",
    }
)
_SPARSE: Final = "io.debezium.data.SparseDoubleVector"
_ARRAY_DATES: Final = frozenset({"io.debezium.time.Date", "org.apache.kafka.connect.data.Date"})


def unavailable_sql(field: AvroField, sql: str) -> str | None:
    """Render the test for Debezium's placeholder of an unchanged large value.

    In:     sql, the value as it was decoded, before any conversion.
    Out:    a boolean expression, false for NULL; None for types that never carry a placeholder.
    """
    raw = _bytes(field.placeholder)
    match base_of(field.avro_type):
        case "bytes" if logical_of(field.avro_type) != "decimal":
            return f"coalesce({sql} = X'{raw.hex()}', false)"
        case "string" if field.semantic not in _FIXED_SIZE_TEXTS:
            forms = ", ".join(map(literal, _texts(field.semantic, raw)))
            return f"coalesce({sql} IN ({forms}), false)"
        case "array":
            forms = " OR ".join(f"{sql} = array({form})" for form in _arrays(field, raw))
            return f"coalesce({forms}, false)" if forms else None
        case "map":
            text = literal(_text(raw))
            return f"coalesce(size({sql}) = 1 AND element_at({sql}, {text}) = {text}, false)"
    return None


def arrives_as_null(field: AvroField) -> bool:
    """Say whether PostgreSQL's connector has no placeholder for a column that may be large.

    Ranges in lists have none either, but look like texts; numbers and bits of more than 2 kB are left out.
    """
    if field.semantic == _SPARSE:
        return True
    if base_of(field.avro_type) != "array":
        return False
    element = array_element(field).avro_type
    is_short = isinstance(element, dict) and element.get("connect.type") == "int16"
    return is_short or not _arrays(field, b"")


def _bytes(placeholder: str) -> bytes:
    """Read the connector's setting; `hex:` is followed by the bytes themselves."""
    if placeholder.startswith(_HEX):
        return bytes.fromhex(placeholder.removeprefix(_HEX))
    return placeholder.encode()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _texts(semantic: str | None, raw: bytes) -> Sequence[str]:
    text = _text(raw)
    if semantic == _JSON:  # hstore in json mode: the placeholder as key and as value
        return [text, json.dumps({text: text}, separators=(",", ":"), ensure_ascii=False)]
    if semantic is not None:
        return [text]
    return list(dict.fromkeys([text, *_binary_texts(raw)]))


def _binary_texts(raw: bytes) -> Sequence[str]:
    return [b64encode(raw).decode(), urlsafe_b64encode(raw).decode(), raw.hex()]


def _arrays(field: AvroField, raw: bytes) -> Sequence[str]:
    """The elements of an array that stands for an unavailable one, each form as SQL."""
    element = array_element(field)
    base, semantic = base_of(element.avro_type), element.semantic
    signed = [byte - 256 if byte > 127 else byte for byte in raw]
    if base == "bytes" and logical_of(element.avro_type) != "decimal":
        return [f"X'{raw.hex()}'"]
    if semantic == _UUID:
        return [literal(_name_uuid(raw))]
    if base == "string" and semantic not in _FIXED_SIZE_TEXTS:
        return [literal(text) for text in _texts(semantic, raw)]
    if base == "int" and (semantic is None or semantic in _ARRAY_DATES):
        return [", ".join(map(str, signed))]
    if base == "long" and semantic is None:
        return [", ".join(f"{byte}L" for byte in signed)]
    return []


def _name_uuid(raw: bytes) -> str:
    """Return java.util.UUID.nameUUIDFromBytes, which has no namespace, as uuid3 would want one."""
    return str(UUID(bytes=md5(raw, usedforsecurity=False).digest(), version=3))
