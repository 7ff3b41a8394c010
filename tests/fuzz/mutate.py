"""Hostile input made from sound input: a recorded sample, changed in a few places that have a meaning."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

NAMES = [
    *("id", "ID", "T", "Value", "Envelope", "a.b", "a-b", "a`b", "a'b", 'a"b', "a\nb", "--", ""),
    *("_cdc", "_", "1a", ";DROP TABLE t", "\u05e9", "\u202eb", "\U0001f600", "\ud800", "n" * 250),
    *("n" * 3_000, ".", "..a", "a.", "\x00", "null", "record", "io.debezium.connector.x.Source"),
]
TYPES = [
    *("null", "boolean", "int", "long", "float", "double", "string", "bytes", "record", "error"),
    *("enum", "fixed", "array", "map", "union", "Value", "Block", "Envelope", "decimal"),
]
JUNK = [
    *(None, True, False, 0, 1, -1, 38, 39, 1 << 31, 1 << 63, 10**400, 1.5, 1e400, -1e400),
    *("", "7", [], {}, [[]], [None], {"type": None}, ["null"], ["null", "null"], [["a", "b"]]),
    *(
        {"a": []},
        {"type": "long"},
        {"type": "array"},
        {"type": "map"},
        {"type": "fixed", "size": 4},
    ),
]
KEYS = [
    *("type", "name", "namespace", "fields", "items", "values", "symbols", "size", "default"),
    *("logicalType", "precision", "scale", "connect.name", "connect.parameters", "connect.version"),
    *("aliases", "doc", "order"),
]
SEMANTICS = [
    *(
        "org.apache.kafka.connect.data.Decimal",
        "io.debezium.time.Date",
        "io.debezium.time.Timestamp",
    ),
    *("io.debezium.time.NanoTimestamp", "io.debezium.time.ZonedTimestamp", "io.debezium.data.Json"),
    *("io.debezium.data.VariableScaleDecimal", "io.debezium.data.geometry.Point", "com.acme.X"),
    *("io.debezium.data.Bits", "io.debezium.data.vector.DoubleVector", "io.debezium.time.Interval"),
]


def mutated_schema(random: Random, samples: list[str]) -> str:
    """Schema text: mostly JSON with a few changed places, sometimes text that is no JSON any more."""
    tree = json.loads(random.choice(samples))
    for _ in range(random.choice((0, 1, 2, 5))):
        _change_a_field(random, tree)
    for _ in range(random.choice((0, 0, 1, 1, 2, 6))):
        tree = _change_somewhere(random, tree)
    text = json.dumps(tree, ensure_ascii=random.random() < 0.5)
    return mutated_text(random, text) if random.random() < 0.1 else text


def mutated_text(random: Random, text: str) -> str:
    """The text with a piece cut out, put in, or repeated."""
    at, length = random.randrange(len(text) + 1), random.choice((1, 1, 2, 10, 100))
    piece = random.choice(
        ("", '"', "{", "[" * 3_000, "NaN", "1e999", "9" * 5_000, "\\ud800", "\x00")
    )
    if random.random() < 0.2:
        piece = text[at : at + length] * random.choice((2, 50))
    return text[:at] + piece + text[at + length :]


def mutated_bytes(random: Random, value: bytes) -> bytes:
    """The bytes with some changed, cut off, put in, or made very many."""
    changed = bytearray(value)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(changed) + 1)
        match random.randrange(4):
            case 0:
                changed[at : at + 1] = random.randbytes(1)
            case 1:
                del changed[at:]
            case 2:
                changed[at:at] = random.choice((bytes(4), bytes(8), b"\xff" * 9, b'{"a":1}'))
            case _:
                changed[at:at] = random.randbytes(random.choice((1, 10, 1_000, 100_000)))
    return bytes(changed)


def mutated_block(random: Random, block: dict[str, Any]) -> dict[str, Any]:
    """A source block with a few values of another kind, or texts that are nearly right."""
    changed = dict(block)
    for _ in range(random.choice((1, 1, 2))):
        name = random.choice(list(changed) or ["file"])
        value = changed.get(name)
        if isinstance(value, str) and random.random() < 0.6:
            changed[name] = mutated_text(random, value)
        elif isinstance(value, int) and random.random() < 0.6:
            changed[name] = value + random.choice((-1, 1, -(1 << 24), 1 << 39, 1 << 62, -(1 << 70)))
        else:
            changed[name] = copy.deepcopy(random.choice(JUNK))
        if random.random() < 0.1:
            del changed[name]
    return changed


def _change_a_field(random: Random, tree: Any) -> None:
    """A change that mostly leaves a sound schema: another column, type or name."""
    lists = [parent[key] for parent, key in _places({"": tree}) if key == "fields"]
    lists = [found for found in lists if found and all(isinstance(f, dict) for f in found)]
    if not lists:
        return
    fields = random.choice(lists)
    match random.randrange(4):
        case 0:
            fields.append({"name": random.choice(NAMES), "type": _type(random, None)})
        case 1:
            fields.append({"name": f"c{random.randrange(50)}", "type": _type(random, None)})
        case 2:
            random.choice(fields)["type"] = ["null", {"type": "long", random.choice(KEYS): "7"}]
        case _:
            random.shuffle(fields)


def _change_somewhere(random: Random, tree: Any) -> Any:
    holder = {"": tree}
    places = _places(holder)
    parent, key = random.choice(places)
    change = random.choice(_CHANGES)
    if change is _other_place:
        other, its_key = random.choice(places)
        parent[key] = copy.deepcopy(other[its_key])
    else:
        parent[key] = change(random, parent[key])
    return holder[""]


def _places(holder: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    todo = [holder]
    while todo:
        node = todo.pop()
        keys = node if isinstance(node, dict) else range(len(node))
        for key in keys:
            found.append((node, key))
            if isinstance(node[key], dict | list):
                todo.append(node[key])
    return found


def _junk(random: Random, _node: Any) -> Any:
    return copy.deepcopy(random.choice((*JUNK, *NAMES, *TYPES)))


def _type(random: Random, _node: Any) -> Any:
    kind = random.choice(TYPES)
    known = {"type": kind, "connect.name": random.choice(SEMANTICS), "connect.version": 1}
    digits = {"logicalType": "decimal", "precision": random.choice((0, 9, 38, 39)), "scale": 2}
    return random.choice((kind, known, {**known, **digits}, ["null", known]))


def _attribute(random: Random, node: Any) -> Any:
    if not isinstance(node, dict):
        return _junk(random, node)
    return {**node, random.choice(KEYS): _junk(random, node)}


def _without(random: Random, node: Any) -> Any:
    if isinstance(node, dict | list) and node:
        node = copy.copy(node)
        del node[random.choice(list(node) if isinstance(node, dict) else range(len(node)))]
    return node


def _repeated(random: Random, node: Any) -> Any:
    if isinstance(node, list) and node:
        return node * random.choice((2, 2, 30))
    return [node, copy.deepcopy(node)]


def _renamed(random: Random, node: Any) -> Any:
    if isinstance(node, dict):
        return {**node, "name": random.choice(NAMES)}
    return random.choice(NAMES)


def _wrapped(random: Random, node: Any) -> Any:
    for level in range(random.choice((1, 1, 2, 40, 130, 300))):
        node = random.choice(
            (
                ["null", node],
                {"type": "array", "items": node},
                {"type": "map", "values": node},
                {"type": node},
                {"type": "record", "name": f"W{level}", "fields": [{"name": "w", "type": node}]},
            )
        )
    return node


def _doubled(random: Random, node: Any) -> Any:
    """A chain of records, each of which holds the one before twice."""
    levels = random.choice((2, 10, 40))
    fields = [{"name": "a", "type": node}]
    chain = [{"type": "record", "name": "D0", "fields": fields}]
    for i in range(levels):
        both = [{"name": "a", "type": f"D{i}"}, {"name": "b", "type": f"D{i}"}]
        chain.append({"type": "record", "name": f"D{i + 1}", "fields": both})
    parts = [{"name": f"d{i}", "type": part} for i, part in enumerate(chain)]
    return {"type": "record", "name": "Doubled", "namespace": "", "fields": parts}


def _wide(random: Random, node: Any) -> Any:
    if isinstance(node, dict) and isinstance(node.get("fields"), list):
        count = random.choice((2, 100, 1_600))
        more = [{"name": f"x{i}", "type": _type(random, None)} for i in range(count)]
        return {**node, "fields": [*node["fields"], *more]}
    return node


def _other_place(_random: Random, node: Any) -> Any:
    return node


_CHANGES: list[Callable[[Random, Any], Any]] = [
    *(_junk, _type, _attribute, _without, _repeated, _renamed, _wrapped, _doubled, _wide),
    *(_other_place, _type, _attribute, _renamed),
]
