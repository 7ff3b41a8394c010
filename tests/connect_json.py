"""Connect's JSON for Avro schemas and values of the tests, written as JsonConverter does: the oracle."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

TYPES = {"int": "int32", "long": "int64"}
KEPT = ("name", "version", "doc", "parameters")


def connect_of(avro: Any, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Undo what an Avro converter does to a Connect schema."""
    known = {} if known is None else known
    if isinstance(avro, list):
        (inner,) = [connect_of(one, known) for one in avro if one != "null"]
        return {**inner, "optional": True}
    node = known.get(avro, {"type": avro}) if isinstance(avro, str) else avro
    if isinstance(node["type"], dict):
        return connect_of(node["type"], known)
    kind = node.get("connect.type", TYPES.get(node["type"], node["type"]))
    found: dict[str, Any] = {"type": kind, "optional": False}
    if kind == "record":
        known[node["name"]] = node
        found["type"] = "struct"
        found["fields"] = [
            {**connect_of(entry["type"], known), "field": entry["name"]} for entry in node["fields"]
        ]
    if kind == "array":
        found["items"] = connect_of(node["items"], known)
    if kind == "map":
        found["keys"] = {"type": "string", "optional": False}
        found["values"] = connect_of(node["values"], known)
    found |= {name: node[f"connect.{name}"] for name in KEPT if f"connect.{name}" in node}
    if "scale" in node and "parameters" not in found:
        digits = {"scale": node["scale"], "connect.decimal.precision": node["precision"]}
        found["parameters"] = {name: str(value) for name, value in digits.items()}
    if "connect.default" in node:
        found["default"] = node["connect.default"]
    return found


def payload_of(schema: Mapping[str, Any], value: Any) -> Any:
    """A value as JSON holds it; bytes are base64."""
    if value is None:
        return None
    match schema["type"]:
        case "struct":
            return {f["field"]: payload_of(f, value.get(f["field"])) for f in schema["fields"]}
        case "array":
            return [payload_of(schema["items"], one) for one in value]
        case "map":
            return {name: payload_of(schema["values"], one) for name, one in value.items()}
        case "bytes" if not isinstance(value, bytes):
            unscaled = int(value.scaleb(int(schema["parameters"]["scale"])))
            size = (unscaled if unscaled >= 0 else ~unscaled).bit_length() // 8 + 1
            return b64encode(unscaled.to_bytes(size, "big", signed=True)).decode()
        case "bytes":
            return b64encode(value).decode()
    return value


def written(schema: Any, payload: Any) -> bytes:
    """One key or value as the converter writes it."""
    body = {"schema": schema, "payload": payload}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
