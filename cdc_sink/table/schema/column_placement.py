"""Which column of a table takes a column of its source.

Rules owned here:
- A column goes to the column of its name, if that holds its type or can grow to. Growing is what
  Iceberg allows: int → long, float → double, decimal with more digits and the same scale; a list's
  elements as well.
- A hint `renames: {old: new}` makes the old name mean the new one, as soon as the table or any writer
  schema at hand has the new one. Writer schemas of both names then feed one column.
- A type that does not fit is refused (`stop`), or goes by policy to a second column. Each type has
  its own, `name__type`; it is used again whenever that type comes, and null otherwise.
- A key column never moves: its rows would no longer be found.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from cdc_sink.debezium.avro_schema import MAX_DECIMAL_DIGITS
from cdc_sink.debezium.types.mapping import decimal_parts, decimal_type, list_element

_LABEL = re.compile(
    r"boolean|int|long|float|double|string|binary|date|timestamp|timestamptz|decimal_\d+_\d+"
)


@dataclass(frozen=True)
class ColumnPlacement:
    """A column of the table, and the type it needs so as to hold both what it has and what comes."""

    name: str
    type: str


def place(
    name: str,
    kind: str,
    types: Mapping[str, str],
    on_incompatible: Literal["stop", "second_column"],
) -> ColumnPlacement | None:
    """Choose the column that takes values of a type; None when no column may.

    In:  name and Iceberg type of what comes; types of the table's columns by name.
    """
    own = types.get(name)
    if own is None:
        return ColumnPlacement(name, kind)
    grown = promoted(own, kind)
    if grown is not None:
        return ColumnPlacement(name, grown)
    if on_incompatible == "second_column":
        return _second_column(name, kind, types)
    return None


def second_name(name: str, kind: str) -> str:
    """Name the column for values of another type: `price__decimal_12_4`."""
    return f"{name}__{re.sub(r'[^A-Za-z0-9]+', '_', kind).strip('_')}"


def current_name(name: str, names: Collection[str], renames: Mapping[str, str]) -> str:
    """Return what a column is called now, given all names at hand."""
    new = renames.get(name)
    return name if new is None or new not in names else new


def is_second_of(name: str, column: str) -> bool:
    """Say whether a column of this name takes another type of `column`."""
    head, _, label = name.rpartition("__")
    return head == column and _LABEL.fullmatch(label) is not None


def promoted(current: str, wanted: str) -> str | None:
    """Return the type that `current` may become and that holds both, or None.

    In: Iceberg types.
    """
    if current == wanted:
        return current
    if {current, wanted} == {"int", "long"}:
        return "long"
    if {current, wanted} == {"float", "double"}:
        return "double"
    elements = list_element(current), list_element(wanted)
    if elements[0] and elements[1]:
        grown = promoted(elements[0], elements[1])
        return f"list<{grown}>" if grown else None
    held, asked = decimal_parts(current), decimal_parts(wanted)
    if held is None or asked is None or asked[1] > held[1]:
        return None
    digits = max(held[0], asked[0] - asked[1] + held[1])
    return decimal_type(digits, held[1]) if digits <= MAX_DECIMAL_DIGITS else None


def _second_column(name: str, kind: str, types: Mapping[str, str]) -> ColumnPlacement | None:
    """The first second column that fits, in the table's order; else a new one."""
    for other, held in types.items():
        base, _, label = other.rpartition("__")
        grown = promoted(held, kind)
        if base == name and _LABEL.fullmatch(label) and grown is not None:
            return ColumnPlacement(other, grown)
    new = second_name(name, kind)
    if types.get(new, kind) != kind:
        return None
    return ColumnPlacement(new, kind)
