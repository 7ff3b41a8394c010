"""Events of Debezium's outbox router, as rows: a record without envelope, named by its header `id`.

Rules owned here:
- An event is its id: the same one delivered twice is one row.
- An Avro record is the encodings of its fields, one after the other. So an event becomes a row by writing
  the new fields in front of what the converter wrote, which is not even decoded for it.
- A payload that is a record gives its fields as columns; any other is the column `payload`. An event
  without payload (`route.tombstone.on.empty.payload`) is a row without it.
- The aggregate's id, the record's key, becomes text: topics carry it as whatever its column is.

Source: Debezium 3.6 `EventRouter`; Avro 1.12, binary encoding of records.
"""

from __future__ import annotations

import json
from typing import Final

from cdc_sink.debezium.avro_schema import Node, base_of, non_null, parse_tree
from cdc_sink.errors import SchemaError

ID_HEADER: Final = "id"
EVENT_ID: Final = "event_id"
AGGREGATE_ID: Final = "aggregate_id"
HEADERS: Final = "headers"
PAYLOAD: Final = "payload"

# Beyond what a registry counts to: these schemas are made here. The ledger holds no greater ones.
KEY_ID: Final = (1 << 31) - 1
EMPTY_ID: Final = (1 << 31) - 2

OPTIONAL_TEXT: Final = '["null","string"]'
OPTIONAL_TIME: Final = '["null","long"]'
TEXTS: Final = '{"type":"map","values":"string"}'
# `c` as Avro writes it in the field `__op`: branch 1, one byte, the letter.
CREATED: Final = bytes([2, 2]) + b"c"
_KEYS: Final = ("string", "int", "long")


def key_schema() -> str:
    """The writer schema of an event's key."""
    field = {"name": EVENT_ID, "type": "string"}
    return _record("Key", [field])


def value_schema(payload: str | None) -> str:
    """The writer schema of an event's row.

    In:     payload, the writer schema of the record's value; None for an event without one.
    Raises: SchemaError when it is no sound schema, or has a field called as one of ours.
    """
    ours: list[Node] = [
        {"name": "__op", "type": json.loads(OPTIONAL_TEXT)},
        {"name": "__source_ts_ms", "type": json.loads(OPTIONAL_TIME)},
        {"name": EVENT_ID, "type": "string"},
        {"name": AGGREGATE_ID, "type": json.loads(OPTIONAL_TEXT)},
        {"name": HEADERS, "type": json.loads(TEXTS)},
    ]
    if payload is None:
        return _record("Value", ours)
    tree = parse_tree(payload)
    if base_of(tree) != "record":
        return _record("Value", [*ours, {"name": PAYLOAD, "type": tree}])
    taken = {one["name"] for one in ours} & {one["name"] for one in tree["fields"]}
    if taken:
        raise SchemaError(
            tree["name"],
            f"the payload has fields called {', '.join(sorted(taken))}, as columns of every event are",
            remedy="rename them with table.fields.additional.placement or in the payload",
        )
    return _record("Value", [*ours, *tree["fields"]])


def require_aggregate_id(key_schema_json: str) -> None:
    """Refuse a record key that is no id.

    Raises: SchemaError.
    """
    node, _ = non_null(parse_tree(key_schema_json))
    if base_of(node) not in _KEYS:
        raise SchemaError(
            "record key",
            f"the key is of type {base_of(node)}, expected one of {', '.join(_KEYS)}: the aggregate's id",
            remedy="give the topic of Debezium's outbox router, or set `outbox: false` for this table",
        )


def _record(name: str, fields: list[Node]) -> str:
    full = f"cdc_sink.outbox.{name}"
    return json.dumps({"type": "record", "name": full, "connect.name": full, "fields": fields})
