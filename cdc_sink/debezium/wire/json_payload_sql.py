"""The Spark SQL that reads a JsonConverter payload exactly, or says that it does not fit its schema.

Rules owned here:
- `from_json` is strict with numbers, booleans and bytes (base64), and says so in a column of its own; with
  texts it is not: a number becomes its text. So texts are read as `variant`, which keeps what they were;
  as binary a variant gives a text's bytes, and NULL for anything else.
- A null where the schema is not optional, a number beyond its type, a number so large that it would be read
  as infinite: all are misfits. A field that is optional and not there is null, as JsonConverter reads it.
- Numbers of decimals (`decimal.format=NUMERIC`) are misfits too: nothing in a schema tells the formats apart.
- `value_sql` has the fields' order and names of `encoder_schema`; required fields are never NULL in it, so
  it means something only where `misfit_sql` is false.

Source: Kafka 4.3 `JsonConverter`; Spark 4.1 `JacksonParser`, `VariantGet`.
"""

from __future__ import annotations

from typing import Any, Final

from cdc_sink.debezium.avro_schema import (
    SOURCE_NAME,
    Node,
    base_of,
    non_null,
    parse_tree,
    render_tree,
)
from cdc_sink.sql import quote

_TYPES: Final = {
    "boolean": "boolean",
    "int": "int",
    "long": "bigint",
    "float": "float",
    "double": "double",
    "bytes": "binary",
    # Checked on the way to text.
    "string": "variant",
}
_ZEROS: Final = {
    "boolean": "false",
    "int": "0",
    "long": "0L",
    "float": "0F",
    "double": "0D",
    "bytes": "X''",
    "string": "''",
}
_RANGES: Final = {"int8": "-128 AND 127", "int16": "-32768 AND 32767"}

# A half of a surrogate pair alone: no text, and Spark would put a question mark in its place. JsonConverter
# writes pairs as two escapes; a backslash before a backslash is a text of the user's.
LONE_SURROGATE: Final = (
    r"(?<!\\)(?:\\\\)*+(?:\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F])"
)


def read_type(node: Node) -> str:
    """Name the Spark type that `from_json` reads a payload with."""
    node, _ = non_null(node)
    match base_of(node):
        case "record":
            fields = (f"{quote(_own(f))}: {read_type(f['type'])}" for f in node["fields"])
            return f"struct<{', '.join(fields)}>"
        case "array":
            return f"array<{read_type(node['items'])}>"
        case "map":
            return f"map<string, {read_type(node['values'])}>"
        case base:
            return _TYPES[base]


def value_sql(node: Node, sql: str, depth: int = 0) -> str:
    """Render the value as `to_avro` takes it."""
    node, nullable = non_null(node)
    base = base_of(node)
    if base == "record":
        parts = ", ".join(
            f"'{entry['name']}', {value_sql(entry['type'], _member(sql, entry), depth)}"
            for entry in node["fields"]
        )
        struct = f"named_struct({parts})"
        return f"CASE WHEN {sql} IS NOT NULL THEN {struct} END" if nullable else struct
    if base in ("array", "map"):
        x = f"x{depth}"
        part = value_sql(node["items" if base == "array" else "values"], x, depth + 1)
        if part == x:
            return sql
        # A map's keys are texts to from_json already.
        return (
            f"transform({sql}, {x} -> {part})"
            if base == "array"
            else f"transform_values({sql}, (k{depth}, {x}) -> {part})"
        )
    value = _text(sql) if base == "string" else sql
    return value if nullable else f"coalesce({value}, {_ZEROS[base]})"


def misfit_sql(node: Node, sql: str, value: str | None, payload: str, depth: int = 0) -> str | None:
    """Render whether a value breaks its schema in a way that `from_json` lets pass; None: it can't.

    In:  sql, the value as it was read; value, the same by `value_sql`; payload, the JSON text of it all.
    Out: a boolean that is never NULL.
    """
    node, nullable = non_null(node)
    base = base_of(node)
    found: list[str] = [] if nullable or base == "string" else [f"{sql} IS NULL"]
    inner: list[str | None] = []
    if base == "record":
        inner = [
            misfit_sql(
                entry["type"],
                _member(sql, entry),
                None if value is None else f"{value}.{quote(entry['name'])}",
                payload,
                depth,
            )
            for entry in node["fields"]
        ]
    elif base in ("array", "map"):
        x = f"x{depth}"
        part = misfit_sql(
            node["items" if base == "array" else "values"], x, None, payload, depth + 1
        )
        all_of_them = sql if base == "array" else f"map_values({sql})"
        inner = [part and f"coalesce(exists({all_of_them}, {x} -> {part}), false)"]
    elif base == "string":
        found.append(_text_misfit(sql, value, nullable=nullable))
    else:
        found += _number_misfits(node, base, sql, payload)
    known = [one for one in inner if one]
    if known:
        found.append(f"({sql} IS NOT NULL AND ({' OR '.join(known)}))")
    return f"({' OR '.join(found)})" if found else None


def encoder_schema(writer_json: str) -> str:
    """Write the schema that `to_avro` encodes with: the writer schema, in which a decimal is its bytes."""
    return render_tree(_plain_bytes(parse_tree(writer_json)))


def _own(entry: Node) -> str:
    return str(entry.get(SOURCE_NAME, entry["name"]))


def _member(sql: str, entry: Node) -> str:
    return f"{sql}.{quote(_own(entry))}"


def _text(sql: str) -> str:
    return f"CAST(try_variant_get({sql}, '$', 'binary') AS STRING)"


def _text_misfit(sql: str, value: str | None, *, nullable: bool) -> str:
    """Look twice only where the text is NULL or the stand-in for it."""
    given = f"try_variant_get({sql}, '$', 'binary')"
    if not nullable:
        seen = f"{value} = '' AND " if value else ""
        return f"({seen}{given} IS NULL)"
    seen = f"{value} IS NULL AND " if value else f"{given} IS NULL AND "
    return f"({seen}{sql} IS NOT NULL AND NOT is_variant_null({sql}))"


def _number_misfits(node: Node, base: str, sql: str, payload: str) -> list[str]:
    if base in ("float", "double"):
        named = f"contains({payload}, 'Infinity\"')"
        return [f"coalesce(abs({sql}) = CAST('Infinity' AS DOUBLE) AND NOT {named}, false)"]
    limits = _RANGES.get(node.get("connect.type", "")) if isinstance(node, dict) else None
    return [f"coalesce({sql} NOT BETWEEN {limits}, false)"] if limits else []


def _plain_bytes(node: Node) -> Any:
    if isinstance(node, list):
        return [_plain_bytes(branch) for branch in node]
    if not isinstance(node, dict):
        return node
    if node["type"] == "record":
        fields = [{**f, "type": _plain_bytes(f["type"])} for f in node["fields"]]
        return {**node, "fields": fields}
    if node["type"] in ("array", "map"):
        part = "items" if node["type"] == "array" else "values"
        return {**node, part: _plain_bytes(node[part])}
    return node["type"]
