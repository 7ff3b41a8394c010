"""The first bytes of a record's key or value: which writer schema, and where the Avro body begins.

Rules owned here:
- A framed value is one zero byte, a 4-byte big-endian schema id, the Avro body.
- A null value is a tombstone: it carries no change.
- Apicurio's 8-byte ids read as id 0 followed by shifted data; id 0 with room for eight bytes is
  therefore a fault, never a schema id.
- A record that spark/read/converters.py can't rewrite into this framing carries a fault mark in its place:
  bytes that are no frame, and that say which fault it is.
- Faults have a fixed order and the same names in Python and in SQL: they are reason codes of dead
  letters.

Source: Confluent wire format (magic 0); Apicurio 2.6 `as-confluent=true`, `use-id=contentId`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

MAGIC: Final = 0
PREFIX_BYTES: Final = 5
_EIGHT_BYTE_PREFIX: Final = 9
_MAX_SCHEMA_ID: Final = (1 << 32) - 1

SHORT_VALUE: Final = "short_value"
WRONG_MAGIC: Final = "wrong_magic"
EIGHT_BYTE_ID: Final = "eight_byte_id"
SHORT_LONG_ID: Final = "short_long_id"
ID_OUT_OF_RANGE: Final = "id_out_of_range"
NO_ID_HEADER: Final = "no_id_header"
BAD_ID_HEADER: Final = "bad_id_header"

# What can be wrong with a record that should be JSON.
NO_JSON: Final = "no_json"
NO_SCHEMA: Final = "no_schema"
JSON_LAYOUT: Final = "json_layout"
JSON_SCHEMA: Final = "json_schema"
JSON_PAYLOAD: Final = "json_payload"
JSON_FAULTS: Final = (NO_JSON, NO_SCHEMA, JSON_LAYOUT, JSON_SCHEMA, JSON_PAYLOAD)

# The job that fails tells the first nine bytes of what it failed at: a mark is no longer than that.
_MARK: Final = b"\xffcdcsink"
_MARKED: Final = (SHORT_LONG_ID, ID_OUT_OF_RANGE, NO_ID_HEADER, BAD_ID_HEADER, *JSON_FAULTS)


class Tombstone(Enum):
    """The null value that follows a delete."""

    TOMBSTONE = "tombstone"


TOMBSTONE: Final = Tombstone.TOMBSTONE


@dataclass(frozen=True)
class Frame:
    """A framed value: the writer schema's id and the Avro body."""

    schema_id: int
    payload: bytes


class FramingError(ValueError):
    """The bytes are not framed; `code` is the reason code of a dead letter."""

    def __init__(self, code: str, saw: str) -> None:
        super().__init__(f"{code}: {saw}")
        self.code = code
        self.saw = saw


def fault_mark(code: str) -> bytes:
    """The bytes that stand for a key or value that can't be rewritten into a frame."""
    return _MARK + bytes([_MARKED.index(code)])


def marked_fault(value: bytes) -> str | None:
    """The code that a fault mark stands for; None for any other bytes."""
    return next((code for code in _MARKED if value == fault_mark(code)), None)


def parse_frame(value: bytes | None) -> Frame | Tombstone:
    """Split a record's value into schema id and Avro body, or recognise a tombstone.

    Raises: FramingError with code short_value, wrong_magic, eight_byte_id or that of a fault mark.
    """
    if value is None:
        return TOMBSTONE
    if len(value) < PREFIX_BYTES:
        raise FramingError(SHORT_VALUE, f"{len(value)} bytes, fewer than {PREFIX_BYTES}")
    if (code := marked_fault(value)) is not None:
        raise FramingError(code, "a fault mark")
    if value[0] != MAGIC:
        raise FramingError(WRONG_MAGIC, f"first byte {value[0]:#04x}, expected 0x00")
    schema_id = int.from_bytes(value[1:PREFIX_BYTES], "big")
    if schema_id == 0 and len(value) >= _EIGHT_BYTE_PREFIX:
        raise FramingError(EIGHT_BYTE_ID, "schema id 0, as 8-byte ids look")
    return Frame(schema_id, value[PREFIX_BYTES:])


def frame_prefix(schema_id: int) -> bytes:
    """Write the five bytes that begin every value of one writer schema."""
    if not 0 <= schema_id <= _MAX_SCHEMA_ID:
        raise ValueError(f"schema id {schema_id} does not fit four bytes")
    return bytes([MAGIC]) + schema_id.to_bytes(4, "big")


def framing_fault_sql(value_sql: str) -> str:
    """Render `parse_frame`'s faults as an SQL expression: the code, or NULL for a sound value.

    In: value_sql, a binary column; NULL (a tombstone) is sound.
    """
    id_is_zero = f"substring({value_sql}, 2, 4) = X'00000000'"
    marks = " ".join(f"WHEN X'{fault_mark(code).hex()}' THEN '{code}'" for code in _MARKED)
    return (
        f"(CASE WHEN {value_sql} IS NULL THEN NULL"
        f" WHEN length({value_sql}) < {PREFIX_BYTES} THEN '{SHORT_VALUE}'"
        f" WHEN substring({value_sql}, 1, 1) <> X'00'"
        f" THEN CASE {value_sql} {marks} ELSE '{WRONG_MAGIC}' END"
        f" WHEN length({value_sql}) >= {_EIGHT_BYTE_PREFIX} AND {id_is_zero}"
        f" THEN '{EIGHT_BYTE_ID}' END)"
    )
