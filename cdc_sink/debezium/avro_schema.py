"""Avro schema JSON as a tree without references, and the tree as JSON that Spark accepts.

Rules owned here:
- A named type may be defined in one place and referred to by name in another (Debezium defines
  the row record inside `before` and names it in `after`). `parse_tree` puts the definition in
  every place; `render_tree` defines it where it comes first.
- What leaves `parse_tree` is sound: every record has a name and a list of fields with names and
  types, every attribute that is read later has its type, no type holds itself, and spelled out
  the tree is no larger or deeper than the bounds below. The rest of the project relies on it.
- Avro 1.12 refuses namespaces with a hyphen, as `topic.prefix=my-shop` makes them. Rendered record
  names hold letters, digits and underscores only. Resolution of Java Avro does not compare record
  names, so the rewritten schema still fits the bytes. Field names are never touched.
- Of the logical types only `decimal` with 1 to 38 digits is rendered. Dates and times stay plain
  numbers: their unit is in `connect.name`, and Spark's own conversion of a logical timestamp would
  go through the session's time zone and calendar rebasing. A wider decimal becomes bytes, because
  one such column would make Spark refuse the whole record.

Source: Avro 1.12 specification; names as Java Avro 1.12 accepts them (`NameValidator.UTF_VALIDATOR`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, NoReturn
from unicodedata import category

from cdc_sink.errors import SchemaError

MAX_DECIMAL_DIGITS = 38

# Bounds on what a registry can ask for. A table of 30,000 columns (the widest that a supported source
# has) lies below all of them; Spark spells references out, so forty small records that each name the
# one before twice would otherwise keep a driver busy for ever.
MAX_SCHEMA_CHARS: Final = 8 << 20
MAX_TYPES: Final = 300_000
MAX_DEPTH: Final = 128
MAX_NAME_CHARS: Final = 2_000

# Attribute of a field whose source's own name Avro refuses.
SOURCE_NAME: Final = "cdc-sink.source-name"

_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "string", "bytes"})
_RECORDS = frozenset({"record", "error"})
_NAMED = _RECORDS | {"enum", "fixed"}
_PLAIN_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_CONTAINERS: Final = {"array": "items", "map": "values"}
_RENDERED: Final = {"enum": ("symbols", "default"), "fixed": ("size",)}
_TEXTS: Final = ("connect.name", "logicalType")

_SCHEMA: Final = "writer schema"
_CONVERTER_REMEDY = "check which converter writes the topic and what the registry holds"
_SIZE_REMEDY = "leave columns out with column.exclude.list, or leave the topic out of the pipeline"
_NAME_REMEDY = "set field.name.adjustment.mode=avro on the connector"

# A node is a primitive's name, a list (union) or a dict; named types carry their full name.
Node = Any


def parse_tree(schema_json: str) -> Node:
    """Read schema JSON into a tree in which every reference is replaced by its definition.

    Raises: SchemaError when the text is no sound Avro schema, or larger than the bounds.
    """
    if len(schema_json) > MAX_SCHEMA_CHARS:
        saw = f"its text has {len(schema_json):,} characters, more than {MAX_SCHEMA_CHARS:,}"
        _refuse(_SchemaPath(), saw, _SIZE_REMEDY)
    try:
        schema = json.loads(schema_json, parse_constant=_no_constant)
    except (ValueError, RecursionError) as cause:
        raise SchemaError(
            _SCHEMA, "the registry's text is not an Avro schema", remedy=_CONVERTER_REMEDY
        ) from cause
    return _Reader().read(schema, _SchemaPath()).node


def render_tree(node: Node) -> str:
    """Write a tree as schema JSON with safe record names, decimals and nothing Spark ignores."""
    return json.dumps(_render(node, _Names()), separators=(",", ":"), ensure_ascii=False)


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
    """Return precision and scale of a decimal that Spark and Iceberg can hold, else None.

    Source: Avro 1.12, Logical Types: with attributes that make no sense it is a plain type.
    """
    if not isinstance(node, dict) or node.get("logicalType") != "decimal":
        return None
    precision, scale = node.get("precision", 0), node.get("scale", 0)
    if type(precision) is not int or type(scale) is not int:
        return None
    if 1 <= precision <= MAX_DECIMAL_DIGITS and 0 <= scale <= precision:
        return precision, scale
    return None


class _SchemaPath(NamedTuple):
    """Where in a schema we are: for names, for messages, and for the depth."""

    where: str = _SCHEMA
    namespace: str = ""
    depth: int = 0

    def within(self) -> _SchemaPath:
        return _SchemaPath(self.where, self.namespace, self.depth + 1)


@dataclass(frozen=True)
class _Sized:
    """A node, and how many types it has and how deep it is with every reference spelled out.

    `is_empty`: its values take no bytes, so any number of them fits into a record.
    """

    node: Node
    types: int = 1
    height: int = 1
    is_empty: bool = False

    @classmethod
    def over(
        cls, node: Node, parts: list[_Sized], place: _SchemaPath, *, is_empty: bool = False
    ) -> _Sized:
        types = 1 + sum(part.types for part in parts)
        height = 1 + max((part.height for part in parts), default=0)
        if types > MAX_TYPES:
            _refuse(place, f"spelled out it has more than {MAX_TYPES:,} types", _SIZE_REMEDY)
        _require_depth(height, place)
        return cls(node, types, height, is_empty)


@dataclass
class _Reader:
    """One reading of one schema: the named types met so far; None while one is being read."""

    known: dict[str, _Sized | None] = field(default_factory=dict)

    def read(self, schema: Any, place: _SchemaPath) -> _Sized:
        """Check one type and put definitions in the place of references."""
        if isinstance(schema, str):
            if schema not in _PRIMITIVES:
                return self._known(schema, place)
            return _Sized(schema, is_empty=schema == "null")
        _require_depth(place.depth, place)
        inner = place.within()
        if isinstance(schema, list):
            return self._union(schema, inner)
        kind = schema.get("type") if isinstance(schema, dict) else None
        if isinstance(kind, list | dict):
            return self.read(kind, inner)
        if not isinstance(kind, str):
            _refuse(place, "it is neither an Avro type nor the name of one")
        _require_attributes(schema, place)
        if kind in _CONTAINERS:
            part = self.read(schema.get(_CONTAINERS[kind]), inner)
            if kind == "array" and part.is_empty:
                saw = "an array of items without bytes: five bytes could hold milliards of them"
                _refuse(place, saw, "leave the column out with column.exclude.list")
            return _Sized.over({**schema, _CONTAINERS[kind]: part.node}, [part], place)
        if kind in _NAMED:
            return self._named(schema, inner)
        if kind in _PRIMITIVES:
            return _Sized(schema if len(schema) > 1 else kind, is_empty=kind == "null")
        return self._known(kind, place)

    def _known(self, name: str, place: _SchemaPath) -> _Sized:
        full = _full_name(name, place.namespace)
        if full not in self.known:
            _refuse(place, f"it refers to {_shown(name)}, which is not defined before")
        found = self.known[full]
        if found is None:
            saw = f"the record {_shown(full)} holds itself, which no column type can"
            _refuse(place, saw, "leave the column out with column.exclude.list")
        return found

    def _union(self, schema: list[Any], place: _SchemaPath) -> _Sized:
        parts = [self.read(branch, place) for branch in schema]
        if any(isinstance(part.node, list) for part in parts):
            _refuse(place, "a union stands directly in a union")
        kinds = [_branch_name(part.node) for part in parts]
        if not kinds or len(set(kinds)) < len(kinds):
            _refuse(place, "a union has no branches, or two of one type")
        return _Sized.over([part.node for part in parts], parts, place)

    def _named(self, schema: dict[str, Any], place: _SchemaPath) -> _Sized:
        full = _declared_name(schema, place)
        if full in self.known:
            _refuse(place, f"{_shown(full)} is defined twice")
        self.known[full] = None
        node = {**schema, "name": full}
        node.pop("namespace", None)
        parts: list[_Sized] = []
        if schema["type"] in _RECORDS:
            own = _SchemaPath(full, full.rpartition(".")[0], place.depth)
            entries = _entries(schema, own)
            parts = [self._field(entry, own) for entry in entries]
            node["fields"] = [
                {**entry, "type": part.node} for entry, part in zip(entries, parts, strict=True)
            ]
        elif schema["type"] == "enum":
            _require_symbols(schema, place)
        elif not _is_count(schema.get("size")):
            _refuse(place, "a fixed type has no size, or one that is not a number")
        is_empty = schema["type"] != "enum" and all(part.is_empty for part in parts)
        is_empty = is_empty and not schema.get("size")
        self.known[full] = sized = _Sized.over(node, parts, place, is_empty=is_empty)
        return sized

    def _field(self, entry: dict[str, Any], record: _SchemaPath) -> _Sized:
        where = f"{record.where}.{entry['name']}"
        return self.read(entry.get("type"), _SchemaPath(where, record.namespace, record.depth))


def _entries(schema: dict[str, Any], record: _SchemaPath) -> list[dict[str, Any]]:
    entries = schema.get("fields")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        _refuse(record, "a record has no list of fields")
    seen: set[str] = set()
    for entry in entries:
        name = entry.get("name")
        _require_simple_name(name, record)
        if name in seen:
            _refuse(record, f"two fields are called {_shown(name)}")
        if not _is_text(entry.get(SOURCE_NAME, name)):
            _refuse(record, f"the source's name of {_shown(name)} is not a printable text")
        seen.add(name)
    return entries


def _require_symbols(schema: dict[str, Any], place: _SchemaPath) -> None:
    symbols = schema.get("symbols")
    if not isinstance(symbols, list):
        _refuse(place, "an enum has no list of symbols")
    for symbol in symbols:
        _require_simple_name(symbol, place)
    if len(set(symbols)) < len(symbols) or schema.get("default", *symbols[:1]) not in symbols:
        _refuse(place, "an enum has a symbol twice, or a default that is none of its symbols")


def _require_attributes(schema: dict[str, Any], place: _SchemaPath) -> None:
    for name in _TEXTS:
        if name in schema and not _is_text(schema[name]):
            _refuse(place, f"the attribute {name} is not a printable text")
    parameters = schema.get("connect.parameters", {})
    if not isinstance(parameters, dict) or not all(
        isinstance(value, str) for value in parameters.values()
    ):
        _refuse(place, "the attribute connect.parameters is not an object of texts")


def _require_depth(depth: int, place: _SchemaPath) -> None:
    if depth > MAX_DEPTH:
        _refuse(place, f"its types are nested more than {MAX_DEPTH} deep", _SIZE_REMEDY)


def _declared_name(schema: dict[str, Any], place: _SchemaPath) -> str:
    name, namespace = schema.get("name"), schema.get("namespace")
    namespace = place.namespace if namespace is None else namespace
    if not _is_text(name) or not (namespace == "" or _is_text(namespace)):
        _refuse(place, f"a type of kind {schema['type']} has no printable name")
    return _full_name(str(name), str(namespace))


def _require_simple_name(name: Any, place: _SchemaPath) -> None:
    if not is_avro_name(name):
        _refuse(place, f"{_shown(name)} is not a name that Avro accepts", _NAME_REMEDY)


def is_avro_name(name: Any) -> bool:
    """Say whether Java Avro takes it for a field.

    It counts in UTF-16 units, so a letter beyond the first 65,536 characters is none.
    """
    return _is_text(name) and bool(_PLAIN_NAME.fullmatch(name) or _is_letters_and_digits(name))


def _is_letters_and_digits(name: str) -> bool:
    kinds = ["L" if char == "_" else category(char) for char in name]
    return (
        kinds[0] != "Nd" and max(name) <= "\uffff" and all(k[0] == "L" or k == "Nd" for k in kinds)
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARS and value.isprintable()


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _branch_name(node: Node) -> str:
    if not isinstance(node, dict):
        return str(node)
    return str(node["name"] if node["type"] in _NAMED else node["type"])


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, str) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse(place: _SchemaPath, saw: str, remedy: str = _CONVERTER_REMEDY) -> NoReturn:
    raise SchemaError(place.where, saw, remedy=remedy)


@dataclass
class _Names:
    """Plain Avro names for full names; two full names never share one."""

    safe: dict[str, str] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)

    def give(self, full_name: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", full_name)
        plain = f"_{plain}" if plain[0].isdigit() or plain in _PRIMITIVES | _NAMED else plain
        name = plain
        # Counting on, instead of looking for the first free name, keeps thousands of them cheap.
        while name in self.uses:
            self.uses[plain] += 1
            name = f"{plain}_{self.uses[plain]}"
        self.uses[name] = 1
        self.safe[full_name] = name
        return name


def _render(node: Node, names: _Names) -> Any:
    if isinstance(node, str):
        return node
    if isinstance(node, list):
        return [_render(branch, names) for branch in node]
    kind = node["type"]
    if kind in _NAMED:
        return _render_named(node, names)
    if kind in _CONTAINERS:
        part = _CONTAINERS[kind]
        return {"type": kind, part: _render(node[part], names)}
    digits = decimal_digits(node)
    if kind != "bytes" or digits is None:
        return kind
    return {"type": "bytes", "logicalType": "decimal", "precision": digits[0], "scale": digits[1]}


def _render_named(node: Node, names: _Names) -> Any:
    if node["name"] in names.safe:
        return names.safe[node["name"]]
    rendered: dict[str, Any] = {"type": node["type"], "name": names.give(node["name"])}
    for attribute in _RENDERED.get(node["type"], ()):
        if attribute in node:
            rendered[attribute] = node[attribute]
    if node["type"] in _RECORDS:
        rendered["fields"] = [
            {"name": entry["name"], "type": _render(entry["type"], names)}
            for entry in node["fields"]
        ]
    return rendered
