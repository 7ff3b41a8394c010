"""The schema in a JsonConverter record, as the Avro writer schema an Avro converter would make of it.

Rules owned here:
- What leaves `avro_of` is what Confluent's and Apicurio's `AvroData` write for the same Connect
  schema, so that envelope.py and all type rules read it unchanged.
- A text that is no Connect schema is the record's own fault (`NotConnect`); a sound one that no table can
  be made of is a SchemaError, as with a registry.
- Avro restricts field names, JSON does not: a name that Avro refuses is replaced by one it takes, and the
  source's own stands beside it (`SOURCE_NAME`); two fields never share one.
- An id is the first 31 bits of the text's SHA-256: the same in every run, and an Iceberg int. Two texts of
  one id are for the caller to refuse.

Source: Kafka 4.3 `JsonConverter.asJsonSchema`; Confluent 8 and Apicurio 2.6 `AvroData.fromConnectSchema`.
"""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from cdc_sink.debezium.avro_schema import (
    MAX_DEPTH,
    MAX_SCHEMA_CHARS,
    SOURCE_NAME,
    Node,
    is_avro_name,
    non_null,
    parse_tree,
)
from cdc_sink.debezium.envelope import reader_schema
from cdc_sink.errors import SchemaError

_DATA: Final = "org.apache.kafka.connect.data."
_DECIMAL: Final = f"{_DATA}Decimal"
_UNKNOWN_PRECISION: Final = 64
_LOGICAL: Final = {
    f"{_DATA}Date": ("int32", "date"),
    f"{_DATA}Time": ("int32", "time-millis"),
    f"{_DATA}Timestamp": ("int64", "timestamp-millis"),
}
_PLAIN: Final = {
    "boolean": "boolean",
    "int8": "int",
    "int16": "int",
    "int32": "int",
    "int64": "long",
    "float": "float",
    "double": "double",
    "string": "string",
    "bytes": "bytes",
}
_SHORT: Final = ("int8", "int16")
_UNNAMED: Final = "ConnectDefault"


class NotConnect(ValueError):
    """The text is no schema that JsonConverter writes."""


def schema_id_of(text: str) -> int:
    """Number a schema by its text, from 1 to 2^31 - 1; `schema_id_sql` gives the same."""
    return max(1, int(sha256(text.encode()).hexdigest()[:8], 16) & 0x7FFFFFFF)


def schema_id_sql(text_sql: str) -> str:
    """Render `schema_id_of` as a Spark SQL expression."""
    head = f"conv(substring(sha2({text_sql}, 256), 1, 8), 16, 10)"
    return f"greatest(1, CAST({head} AS BIGINT) & 2147483647)"


def avro_of(text: str) -> Node:
    """Read a Connect schema's JSON into an Avro tree without references.

    Raises: NotConnect; SchemaError for a type that no column can hold.
    """
    if len(text) > MAX_SCHEMA_CHARS:
        raise NotConnect(f"{len(text):,} characters, more than {MAX_SCHEMA_CHARS:,}")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as cause:
        raise NotConnect("no JSON") from cause
    return _typed(schema, "value", 0)


def what_is_read(tree: Node) -> Node:
    """Cut an envelope to what decoding reads: the row after the change, op, position and times.

    Out: the tree as it is where it is no envelope that can be read; who decodes it says why.
    """
    try:
        names = [entry["name"] for entry in _row_fields(tree)]
        reader = json.loads(reader_schema(writer_json(tree), names))
    except SchemaError:
        return tree
    kept = {entry["name"]: non_null(entry["type"])[0] for entry in reader["fields"]}
    fields = [entry for entry in tree["fields"] if entry["name"] in kept]
    return {**tree, "fields": [_cut_source(entry, kept) for entry in fields]}


def writer_json(tree: Node) -> str:
    """Write a tree as Avro JSON in which a record is defined where it comes first.

    Raises: SchemaError when Avro knows no such schema.
    """
    text = json.dumps(_Records().once(tree), ensure_ascii=False, separators=(",", ":"))
    parse_tree(text)
    return text


def _row_fields(tree: Node) -> list[Node]:
    fields = tree.get("fields", ()) if isinstance(tree, dict) else ()
    rows = [non_null(entry["type"])[0] for entry in fields if entry["name"] == "after"]
    return rows[0].get("fields", []) if rows and isinstance(rows[0], dict) else []


def _cut_source(entry: Node, kept: dict[str, Node]) -> Node:
    if entry["name"] != "source":
        return entry
    wanted = {one["name"] for one in kept["source"]["fields"]}
    node, nullable = non_null(entry["type"])
    node = {**node, "fields": [one for one in node["fields"] if one["name"] in wanted]}
    return {**entry, "type": ["null", node] if nullable else node}


# --- one type ------------------------------------------------------------------------------------


def _typed(schema: Any, where: str, depth: int) -> Node:
    """The type without its `optional`."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        raise NotConnect("a schema that is no object, or too deep")
    kind, attributes = schema.get("type"), _attributes(schema)
    if kind == "struct":
        return {**_record(schema, depth), **attributes}
    if kind == "array":
        items = _optional(schema.get("items"), where, depth)
        return {"type": "array", "items": items, **attributes}
    if kind == "map":
        return {"type": "map", "values": _map_values(schema, where, depth), **attributes}
    if not isinstance(kind, str) or kind not in _PLAIN:
        raise NotConnect("a type that Connect does not have")
    if kind in _SHORT:
        attributes["connect.type"] = kind
    attributes |= _logical(schema, kind)
    return {"type": _PLAIN[kind], **attributes} if attributes else _PLAIN[kind]


def _optional(schema: Any, where: str, depth: int) -> Node:
    """The type, as a union with null where it is optional."""
    node = _typed(schema, where, depth + 1)
    if schema.get("optional") is not True:
        return node
    return [node, "null"] if schema.get("default") is not None else ["null", node]


def _attributes(schema: dict[str, Any]) -> dict[str, Any]:
    """What a converter keeps of a Connect schema besides its type."""
    kinds = {"name": str, "version": int, "doc": str, "parameters": dict}
    found: dict[str, Any] = {}
    for name, kind in kinds.items():
        value = schema.get(name)
        if value is None:
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            raise NotConnect(f"{name} is no {kind.__name__}")
        found[f"connect.{name}"] = value
    parameters = found.get("connect.parameters", {})
    if not all(isinstance(value, str) for value in parameters.values()):
        raise NotConnect("parameters that are no texts")
    if schema.get("default") is not None:
        found["connect.default"] = _default(schema)
    return found


def _default(schema: dict[str, Any]) -> Any:
    """A default as Avro writes it: bytes are text of one character each."""
    value = schema["default"]
    if schema.get("type") != "bytes" or not isinstance(value, str):
        return value
    try:
        return b64decode(value, validate=True).decode("latin-1")
    except ValueError as cause:
        raise NotConnect("a default of bytes that is no base64") from cause


def _logical(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    name = schema.get("name")
    if name == _DECIMAL and kind == "bytes":
        parameters = schema.get("parameters") or {}
        try:
            scale = int(parameters.get("scale", ""))
            precision = int(parameters.get("connect.decimal.precision", _UNKNOWN_PRECISION))
        except ValueError as cause:
            raise NotConnect("a decimal without a scale") from cause
        return {"logicalType": "decimal", "precision": precision, "scale": scale}
    base, logical = _LOGICAL.get(str(name), ("", ""))
    return {"logicalType": logical} if base == kind else {}


def _map_values(schema: dict[str, Any], where: str, depth: int) -> Node:
    if _optional(schema.get("keys"), where, depth) != "string":
        raise SchemaError(
            f"column {where}",
            "a map whose keys are not plain texts has no exact table type",
            remedy="leave the column out with column.exclude.list",
        )
    return _optional(schema.get("values"), where, depth)


def _record(schema: dict[str, Any], depth: int) -> Node:
    entries, name = schema.get("fields"), schema.get("name") or _UNNAMED
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise NotConnect("a struct without a list of fields")
    fields, taken = [], {str(entry.get("field")) for entry in entries}
    if len(taken) < len(entries):
        raise NotConnect("two fields of one name")
    for entry in entries:
        own = entry.get("field")
        if not isinstance(own, str) or not own:
            raise NotConnect("a field without a name")
        fields.append(_field(entry, own, _avro_name(own, taken), depth))
    # A name without dots would be taken for one of the surrounding record's namespace.
    return {"type": "record", "name": name if "." in name else f"connect.{name}", "fields": fields}


def _field(entry: dict[str, Any], own: str, name: str, depth: int) -> Node:
    found: dict[str, Any] = {"name": name, "type": _optional(entry, own, depth)}
    if name != own:
        found[SOURCE_NAME] = own
    if entry.get("default") is not None:
        found["default"] = _default(entry)
    elif entry.get("optional") is True:
        found["default"] = None
    return found


def _avro_name(own: str, taken: set[str]) -> str:
    """The name itself where Avro takes it, else one that no other field of the record has."""
    if is_avro_name(own):
        return own
    safe = "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"_{ord(c):x}_" for c in own)
    name = safe = f"_{safe}"
    while name in taken:
        name += "_"
    taken.add(name)
    return name


@dataclass
class _Records:
    """The records written so far, by the name they were given."""

    known: dict[str, Node] = field(default_factory=dict)

    def once(self, node: Node) -> Node:
        """Put a name in the place of a record that was defined before."""
        if isinstance(node, list):
            return [self.once(branch) for branch in node]
        if not isinstance(node, dict):
            return node
        if node["type"] == "array":
            return {**node, "items": self.once(node["items"])}
        if node["type"] == "map":
            return {**node, "values": self.once(node["values"])}
        return self._record(node) if node["type"] == "record" else node

    def _record(self, node: Node) -> Node:
        name, number = node["name"], 1
        while name in self.known:
            if self.known[name] == node:
                return name
            number += 1  # of one name, but of other fields: a comment or a default differs
            name = f"{node['name']}_{number}"
        self.known[name] = node
        fields = [{**entry, "type": self.once(entry["type"])} for entry in node["fields"]]
        return {**node, "name": name, "fields": fields}
