"""How a table follows its source: (table columns, wanted columns) → changes, or a refusal.

Rules owned here (the additive policy):
- A new source column is added at the end, optional. A dropped one stays and turns null.
- A type grows as Iceberg allows: int → long, float → double, decimal with more digits and the same
  scale; a list's elements as well. A narrower writer is no change: its values are widened on the
  way in.
- A required column that the source no longer fills becomes optional; a key column never does.
- Everything else is refused before anything is written.
- Planning is idempotent: a plan applied and planned again is empty, so a crash between two
  statements is repaired by running the rest.

Source: Iceberg spec v3, Schema Evolution. bucket() of an int and of the same long agree, and so do
those of a decimal with more digits and the same scale; a widened key keeps its bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cdc_sink.change.avro_schema import MAX_DECIMAL_DIGITS
from cdc_sink.change.avro_types import decimal_parts, decimal_type, list_element
from cdc_sink.change.quoting import quote
from cdc_sink.errors import SchemaError
from cdc_sink.table.columns import CDC_COLUMN, Column, ddl_type, require_distinct

_NEW_NAME = "give the column a new name at the source, or rebuild the table from its topic"


@dataclass(frozen=True)
class AddColumn:
    """A column the table does not have yet; optional, at the end."""

    column: Column

    def sql(self, table: str) -> str:
        """Render the statement; `table` is the quoted full name."""
        name, kind = quote(self.column.name), ddl_type(self.column.type)
        return f"ALTER TABLE {table} ADD COLUMN {name} {kind}"


@dataclass(frozen=True)
class WidenColumn:
    """A column whose type grows; every value stored before stays what it was."""

    name: str
    old_type: str
    new_type: str

    def sql(self, table: str) -> str:
        """Render the statement; `table` is the quoted full name."""
        name, grown = quote(self.name), self.new_type
        while element := list_element(grown):
            name, grown = f"{name}.element", element
        return f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {ddl_type(grown)}"


@dataclass(frozen=True)
class RelaxColumn:
    """A required column that may be null from now on."""

    name: str

    def sql(self, table: str) -> str:
        """Render the statement; `table` is the quoted full name."""
        return f"ALTER TABLE {table} ALTER COLUMN {quote(self.name)} DROP NOT NULL"


SchemaChange = AddColumn | WidenColumn | RelaxColumn


def plan_evolution(
    current: Sequence[Column], wanted: Sequence[Column], key_columns: Sequence[str]
) -> tuple[SchemaChange, ...]:
    """Decide how a table's columns become fit for a writer schema.

    In:     current, the table's columns (`_cdc` is passed over); wanted, those of the writer.
    Out:    changes in the order to run them; empty when the writer fits already.
    Raises: SchemaError naming the column, both types and the remedy; ConfigError for `_cdc`.
    """
    held = {column.name: column for column in current if column.name != CDC_COLUMN}
    require_distinct([column.name for column in wanted])
    require_distinct([*held, *(column.name for column in wanted if column.name not in held)])
    _require_same_key(held, wanted, key_columns)
    changes: list[SchemaChange] = []
    for column in wanted:
        if column.name not in held:
            changes.append(AddColumn(replace(column, required=False)))
        else:
            changes.extend(_growth(held[column.name], column))
    return (*_relaxations(held.values(), wanted, key_columns), *changes)


def merge_columns(
    current: Sequence[Column], wanted: Sequence[Column], key_columns: Sequence[str] = ()
) -> tuple[Column, ...]:
    """Return the table's columns as they are after `plan_evolution`.

    Out:    current columns in their order, then the added ones; `_cdc` stays where it is.
    Raises: as `plan_evolution`.
    """
    merged = {column.name: column for column in current}
    for change in plan_evolution(current, wanted, key_columns):
        match change:
            case AddColumn(column):
                merged[column.name] = column
            case WidenColumn(name, _, new_type):
                merged[name] = replace(merged[name], type=new_type)
            case RelaxColumn(name):
                merged[name] = replace(merged[name], required=False)
    return tuple(merged.values())


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


def _growth(held: Column, column: Column) -> Iterable[SchemaChange]:
    grown = promoted(held.type, column.type)
    if grown is None:
        raise SchemaError(
            f"column {column.name}",
            f"the table holds {held.type}, the writer sends {column.type}, and the one can't "
            "become the other without loss",
            remedy=_NEW_NAME,
        )
    return [WidenColumn(held.name, held.type, grown)] if grown != held.type else []


def _relaxations(
    held: Iterable[Column], wanted: Sequence[Column], key_columns: Sequence[str]
) -> list[SchemaChange]:
    filled = {column.name for column in wanted if column.required} | set(key_columns)
    return [
        RelaxColumn(column.name) for column in held if column.required and column.name not in filled
    ]


def _require_same_key(
    held: dict[str, Column], wanted: Sequence[Column], key_columns: Sequence[str]
) -> None:
    names = {column.name for column in wanted}
    for name in key_columns:
        if name not in names:
            raise SchemaError(
                f"key column {name}",
                "the record key has a column that the row does not have",
                remedy="set message.key.columns to columns of the table, and remove transforms "
                "that add to the key",
            )
        if held and name not in held:
            raise SchemaError(
                f"key column {name}",
                "the key changed: the table has no such column, so its rows have no such key",
                remedy="rebuild the table from its topic",
            )
