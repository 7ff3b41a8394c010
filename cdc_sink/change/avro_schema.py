"""Avro schema JSON as a tree without references, and the tree as JSON that Spark accepts.

Rules owned here:
- A named type may be defined in one place and referred to by name in another (Debezium defines
  the row record inside `before` and names it in `after`). `parse_tree` puts the definition in
  every place; `render_tree` defines it where it comes first.
- Avro 1.12 refuses namespaces with a hyphen, as `topic.prefix=my-shop` makes them. Rendered record
  names hold letters, digits and underscores only. Resolution of Java Avro does not compare record
  names, so the rewritten schema still fits the bytes. Field names are never touched.
- Of the logical types only `decimal` with 1 to 38 digits is rendered. Dates and times stay plain
  numbers: their unit is in `connect.name`, and Spark's own conversion of a logical timestamp would
  go through the session's time zone and calendar rebasing. A wider decimal becomes bytes, because
  one such column would make Spark refuse the whole record.
"""

from __future__ import annotations

import json
import re
from typing import Any

from cdc_sink.errors import SchemaError

MAX_DECIMAL_DIGITS = 38
_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "string", "bytes"})
_NAMED = frozenset({"record", "error", "enum", "fixed"})

# A node is a primitive's name, a list (union) or a dict; named types carry their full name.
Node = Any


def parse_tree(schema_json: str) -> Node:
    """Read schema JSON into a tree in which every reference is replaced by its definition.

    Raises: SchemaError when the text is no Avro schema.
    """
    try:
        return _resolve(json.loads(schema_json), "", {})
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise SchemaError(
            "writer schema",
            "the registry's text is not an Avro schema",
            remedy="check which converter writes the topic and what the registry holds",
        ) from cause


def render_tree(node: Node) -> str:
    """Write a tree as schema JSON with safe record names, decimals and nothing Spark ignores."""
    return json.dumps(_render(node, {}), separators=(",", ":"), ensure_ascii=False)


def non_null(node: Node) -> tuple[Node, bool]:
    """Split a type into its non-null branch and whether null is allowed."""
    if not isinstance(node, list):
        return node, False
    branches = [branch for branch in node if branch != "null"]
    return (branches[0] if len(branches) == 1 else branches), len(branches) < len(node)


def base_of(node: Node) -> str:
    """Name a type without its attributes: `long`, `record`, `union`."""
    if isinstance(node, str):
        return node
    return str(node["type"]) if isinstance(node, dict) else "union"


def logical_of(node: Node) -> str | None:
    """Return Avro's own logical type, if there is one."""
    return node.get("logicalType") if isinstance(node, dict) else None


def decimal_digits(node: Node) -> tuple[int, int] | None:
    """Return precision and scale of a decimal that Spark and Iceberg can hold, else None."""
    if not isinstance(node, dict) or node.get("logicalType") != "decimal":
        return None
    precision, scale = int(node.get("precision", 0)), int(node.get("scale", 0))
    if 1 <= precision <= MAX_DECIMAL_DIGITS and 0 <= scale <= precision:
        return precision, scale
    return None


def _resolve(schema: Any, namespace: str, known: dict[str, Node]) -> Node:
    if isinstance(schema, list):
        return [_resolve(branch, namespace, known) for branch in schema]
    if isinstance(schema, str):
        return schema if schema in _PRIMITIVES else known[_full_name(schema, namespace)]
    kind = schema["type"]
    if isinstance(kind, list) or (isinstance(kind, str) and kind not in _PRIMITIVES | _NAMED):
        return _resolve_container(schema, kind, namespace, known)
    if isinstance(kind, dict):
        return _resolve(kind, namespace, known)
    if kind in _NAMED:
        return _resolve_named(schema, namespace, known)
    return schema if len(schema) > 1 else kind


def _resolve_container(schema: Any, kind: Any, namespace: str, known: dict[str, Node]) -> Node:
    if kind == "array":
        return {**schema, "items": _resolve(schema["items"], namespace, known)}
    if kind == "map":
        return {**schema, "values": _resolve(schema["values"], namespace, known)}
    return _resolve(kind, namespace, known)


def _resolve_named(schema: Any, namespace: str, known: dict[str, Node]) -> Node:
    full = _full_name(schema["name"], schema.get("namespace", namespace))
    node = {**schema, "name": full}
    node.pop("namespace", None)
    known[full] = node
    if "fields" in schema:
        inner = full.rpartition(".")[0]
        node["fields"] = [
            {**field, "type": _resolve(field["type"], inner, known)} for field in schema["fields"]
        ]
    return node


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _render(node: Node, named: dict[str, str]) -> Any:
    if isinstance(node, str):
        return node
    if isinstance(node, list):
        return [_render(branch, named) for branch in node]
    kind = node["type"]
    if kind in _NAMED:
        return _render_named(node, named)
    if kind == "array":
        return {"type": "array", "items": _render(node["items"], named)}
    if kind == "map":
        return {"type": "map", "values": _render(node["values"], named)}
    digits = decimal_digits(node)
    if kind != "bytes" or digits is None:
        return kind
    return {"type": "bytes", "logicalType": "decimal", "precision": digits[0], "scale": digits[1]}


def _render_named(node: Node, named: dict[str, str]) -> Any:
    if node["name"] in named:
        return named[node["name"]]
    safe = _safe_name(node["name"], set(named.values()))
    named[node["name"]] = safe
    rendered: dict[str, Any] = {"type": node["type"], "name": safe}
    for attribute in ("symbols", "size", "default"):
        if attribute in node:
            rendered[attribute] = node[attribute]
    if "fields" in node:
        rendered["fields"] = [
            {"name": field["name"], "type": _render(field["type"], named)}
            for field in node["fields"]
        ]
    return rendered


def _safe_name(full_name: str, taken: set[str]) -> str:
    """Turn a full name into a plain Avro name; two full names never share one."""
    safe = re.sub(r"[^A-Za-z0-9_]", "_", full_name)
    safe = f"_{safe}" if safe[0].isdigit() or safe in _PRIMITIVES | _NAMED else safe
    while safe in taken:
        safe += "_"
    return safe
