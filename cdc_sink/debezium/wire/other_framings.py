"""Other framings, rewritten into the usual one (confluent.py): the same rule in Python and as SQL.

Rules owned here:
- Null stays null: a tombstone, or a record without key, is that in every framing.
- What can't be rewritten becomes a fault mark, which no decoder takes for a frame; nothing is cut silently.
- Apicurio's converter names schemas by global id or by content id, two spaces of numbers. In headers both
  may occur in one topic: behind the zero byte stands 0x00 for a global id and 0x40 for a content id, then
  the id's last three bytes, so the two never share a number. An id that needs more is a fault.
- Of several headers of one name the last counts, as for the converters' own readers.
- A GUID that isn't known yet gets `UNKNOWN_ID`, which no registry gives: the decoder asks for it.

Source: Apicurio 2.6.13, DefaultIdHandler and DefaultHeadersHandler; Confluent 8, HeaderSchemaIdSerializer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cdc_sink.debezium.wire.confluent import (
    BAD_ID_HEADER,
    ID_OUT_OF_RANGE,
    NO_ID_HEADER,
    SHORT_LONG_ID,
    fault_mark,
    frame_prefix,
)

HEADER_WIRES: Final = frozenset({"apicurio_headers", "confluent_headers"})
SIDES: Final = ("key", "value")
UNKNOWN_ID: Final = (1 << 32) - 1

_LONG_PREFIX: Final = 9
_GUID_HEADER: Final = 17
_CONTENT_KIND: Final = 0x40
_CONTENT_IDS: Final = _CONTENT_KIND << 24

Headers = Sequence[tuple[str, bytes | None]]


def content_id_of(schema_id: int) -> int | None:
    """The content id behind a number of `with_apicurio_id`; None when it stands for a global id."""
    return schema_id - _CONTENT_IDS if schema_id >= _CONTENT_IDS else None


def with_long_id(body: bytes | None) -> bytes | None:
    """Rewrite zero byte, 8-byte id, Avro body. Another first byte is left for the decoder to name."""
    if body is None or body[:1] != b"\x00":
        return body
    if len(body) < _LONG_PREFIX:
        return fault_mark(SHORT_LONG_ID)
    if any(body[1:5]) or not any(body[5:9]):
        return fault_mark(ID_OUT_OF_RANGE)
    return body[:1] + body[5:]


def with_long_id_sql(body: str) -> str:
    """Render `with_long_id`."""
    return (
        f"CASE WHEN {body} IS NULL OR substring({body}, 1, 1) <> X'00' THEN {body}"
        f" WHEN length({body}) < {_LONG_PREFIX} THEN {_mark_sql(SHORT_LONG_ID)}"
        f" WHEN substring({body}, 2, 4) <> X'00000000' OR substring({body}, 6, 4) = X'00000000'"
        f" THEN {_mark_sql(ID_OUT_OF_RANGE)}"
        f" ELSE concat(X'00', substring({body}, 6)) END"
    )


def apicurio_id(side: str, headers: Headers) -> bytes | None:
    """The kind of id, one byte, and what the header says; None without such a header."""
    global_id = _last(headers, f"apicurio.{side}.globalId")
    if global_id is not None:
        return b"\x00" + global_id
    content_id = _last(headers, f"apicurio.{side}.contentId")
    return None if content_id is None else bytes([_CONTENT_KIND]) + content_id


def apicurio_id_sql(side: str) -> str:
    """Render `apicurio_id`, over a column `headers`."""
    global_id = _last_sql(f"apicurio.{side}.globalId")
    content_id = _last_sql(f"apicurio.{side}.contentId")
    return f"coalesce(concat(X'00', {global_id}), concat(X'{_CONTENT_KIND:02X}', {content_id}))"


def with_apicurio_id(body: bytes | None, given: bytes | None) -> bytes | None:
    """Frame an Avro body; `given` as from `apicurio_id`."""
    if body is None:
        return None
    if given is None:
        return fault_mark(NO_ID_HEADER)
    if len(given) != _LONG_PREFIX:
        return fault_mark(BAD_ID_HEADER)
    if any(given[1:6]) or not any(given[6:]):
        return fault_mark(ID_OUT_OF_RANGE)
    return b"\x00" + given[:1] + given[6:] + body


def with_apicurio_id_sql(body: str, given: str) -> str:
    """Render `with_apicurio_id`."""
    return (
        f"CASE WHEN {body} IS NULL THEN NULL"
        f" WHEN {given} IS NULL THEN {_mark_sql(NO_ID_HEADER)}"
        f" WHEN length({given}) <> {_LONG_PREFIX} THEN {_mark_sql(BAD_ID_HEADER)}"
        f" WHEN substring({given}, 2, 5) <> X'0000000000' OR substring({given}, 7, 3) = X'000000'"
        f" THEN {_mark_sql(ID_OUT_OF_RANGE)}"
        f" ELSE concat(X'00', substring({given}, 1, 1), substring({given}, 7, 3), {body}) END"
    )


def guid_header(side: str, headers: Headers) -> bytes | None:
    """What the header with the schema's GUID says: 0x01 and 16 bytes, when it is right."""
    return _last(headers, f"__{side}_schema_id")


def guid_header_sql(side: str) -> str:
    """Render `guid_header`, over a column `headers`."""
    return _last_sql(f"__{side}_schema_id")


def is_guid_sql(given: str) -> str:
    """Render whether a header has the right layout; NULL without a header."""
    return f"(length({given}) = {_GUID_HEADER} AND substring({given}, 1, 1) = X'01')"


def with_guid(body: bytes | None, given: bytes | None, ids: Mapping[bytes, int]) -> bytes | None:
    """Frame an Avro body with the id of its schema's GUID, as far as it is known."""
    if body is None:
        return None
    if given is None:
        return fault_mark(NO_ID_HEADER)
    if len(given) != _GUID_HEADER or given[0] != 1:
        return fault_mark(BAD_ID_HEADER)
    return frame_prefix(ids.get(given[1:], UNKNOWN_ID)) + body


def with_guid_sql(body: str, given: str, ids: Mapping[bytes, int]) -> str:
    """Render `with_guid`."""
    unknown = _literal(frame_prefix(UNKNOWN_ID))
    whens = " ".join(
        f"WHEN {_literal(guid)} THEN {_literal(frame_prefix(i))}" for guid, i in ids.items()
    )
    prefix = f"CASE substring({given}, 2) {whens} ELSE {unknown} END" if whens else unknown
    return (
        f"CASE WHEN {body} IS NULL THEN NULL"
        f" WHEN {given} IS NULL THEN {_mark_sql(NO_ID_HEADER)}"
        f" WHEN NOT {is_guid_sql(given)} THEN {_mark_sql(BAD_ID_HEADER)}"
        f" ELSE concat({prefix}, {body}) END"
    )


def _last(headers: Headers, name: str) -> bytes | None:
    return next((value for key, value in reversed(headers) if key == name), None)


def _last_sql(name: str) -> str:
    return f"try_element_at(filter(headers, h -> h.key = '{name}'), -1).value"


def _mark_sql(code: str) -> str:
    return _literal(fault_mark(code))


def _literal(value: bytes) -> str:
    return f"X'{value.hex().upper()}'"
