"""Key and value of a record as people read them, by the writer schemas of the registry.

Only ever for somebody who asked to see cell values; those of masked columns stay hidden. What can't be
decoded is said in the place of the values.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import fastavro

from cdc_sink import config
from cdc_sink.clients.registry import RegistryClient
from cdc_sink.clients.registry_ids import SchemaLookup
from cdc_sink.errors import SchemaError

_MAGIC = b"\x00"
_ROWS = ("before", "after")
# The first bytes of a framed value: the magic byte and the schema's id.
_ID_BYTES = {"confluent": 4, "apicurio_8_byte": 8}


def decoded(
    record: Mapping[str, Any], pipeline: config.Pipeline, table: config.Table
) -> dict[str, Any]:
    """Return `key` and `value` decoded; null where the record has none, a sentence where they can't be.

    In:     a record or dead letter of this table, with its bytes as `key` and `value`.
    Raises: UnavailableError when the registry doesn't answer.
    """
    found = {name: _decoded(record[name], pipeline, table.wire) for name in ("key", "value")}
    return found | {"value": _masked(found["value"], table.masks)}


def printed(value: object) -> str:
    """What JSON has no form for: bytes as hex, anything else as its text."""
    return value.hex() if isinstance(value, bytes) else str(value)


def _masked(value: Any, masks: Collection[str]) -> Any:
    """Rows of the envelope, or the row of a flattened record, without what is masked."""
    if not isinstance(value, dict) or not masks:
        return value
    return {
        name: "****" if name in masks else _masked(one, masks) if name in _ROWS else one
        for name, one in value.items()
    }


def _decoded(raw: bytes | None, pipeline: config.Pipeline, wire: str) -> Any:
    if raw is None:
        return None
    if wire == "json":
        return _json(raw)
    if wire not in _ID_BYTES:
        return f"not decoded: under `wire: {wire}` the schema's id is in the headers; --bytes shows the bytes"
    end = 1 + _ID_BYTES[wire]
    if raw[:1] != _MAGIC or len(raw) <= end:
        return "can't be decoded: the bytes have no schema id"
    try:
        text = _schemas_of(pipeline, wire)(int.from_bytes(raw[1:end], "big"))
    except SchemaError as unknown:
        return f"can't be decoded: {unknown.saw}"
    try:
        schema = fastavro.parse_schema(json.loads(text))
        return fastavro.schemaless_reader(io.BytesIO(raw[end:]), schema)
    except Exception as foreign:  # whatever bytes may make of a decoder; its text may hold them
        return f"can't be decoded: the bytes don't fit their schema ({type(foreign).__name__})"


def _schemas_of(pipeline: config.Pipeline, wire: str) -> Callable[[int], str]:
    if wire == "confluent":
        return RegistryClient(pipeline.registry).schema
    return SchemaLookup(pipeline.registry).by_global_id


def _json(raw: bytes) -> Any:
    try:
        found = json.loads(raw)
    except ValueError:
        return "can't be decoded: the bytes are no JSON"
    return found["payload"] if isinstance(found, dict) and "payload" in found else found
