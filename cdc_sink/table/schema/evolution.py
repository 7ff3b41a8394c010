"""How a table follows its source: (table columns, wanted columns, policy) → changes, or a refusal.

Rules owned here:
- A new source column is added at the end, optional. A dropped one stays and turns null.
- A type grows as Iceberg allows; a narrower writer is no change: its values are widened on the way
  in. What doesn't fit is refused, or goes to a second column, as column_placement.py says.
- A rename by hint keeps the column, with its field id. A table or writer with both names is refused.
- A required column that the source no longer fills becomes optional; a key column never does.
- A `frozen` table's columns never change. A change of the key is refused under every policy.
- Everything is decided before anything is written.
- Planning is idempotent: a plan applied and planned again is empty, so a crash between two
  statements is repaired by running the rest.

Source: Iceberg spec v3, Schema Evolution. bucket() of an int and of the same long agree, and so do
those of a decimal with more digits and the same scale; a widened key keeps its bucket. Partition and
identifier fields refer to field ids, so a renamed key column stays both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cdc_sink.debezium.envelope import CHOSEN_KEY
from cdc_sink.debezium.types.mapping import list_element
from cdc_sink.errors import SchemaError
from cdc_sink.sql import quote
from cdc_sink.table.schema.column_placement import ColumnPlacement, is_second_of, place, second_name
from cdc_sink.table.schema.columns import AddedColumn, Column, ddl_type, require_distinct
from cdc_sink.table.schema.metadata_columns import is_metadata
from cdc_sink.table.schema.policy import DEFAULT_POLICY, TablePolicy

UNKNOWN = (
    "NULL, but the source's may hold a default that no writer schema tells: update them there, or build "
    "a new table from a new source snapshot"
)
_NEW_TABLE = "build a new table from a new source snapshot in a new topic"
_AT_THE_SOURCE = f"give the column a new name at the source; or {_NEW_TABLE}"


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


@dataclass(frozen=True)
class RenameColumn:
    """A column that the source calls by another name now; every value stored before stays its own."""

    name: str
    new_name: str

    def sql(self, table: str) -> str:
        """Render the statement; `table` is the quoted full name."""
        return f"ALTER TABLE {table} RENAME COLUMN {quote(self.name)} TO {quote(self.new_name)}"


SchemaChange = AddColumn | WidenColumn | RelaxColumn | RenameColumn


def plan_evolution(
    current: Sequence[Column],
    wanted: Sequence[Column],
    key_columns: Sequence[str],
    policy: TablePolicy = DEFAULT_POLICY,
    *,
    in_place: bool = False,
) -> tuple[SchemaChange, ...]:
    """Decide how a table's columns become fit for a writer schema.

    In:     current, the table's columns (metadata columns are passed over); wanted, those of the writer, by
            the names that hold now; in_place, for rows that have the table's shape already: no value may
            go to a column of another name.
    Out:    changes in the order to run them; empty when the writer fits already.
    Raises: SchemaError naming the column, both types and the remedies; ConfigError for the name of a
            metadata column.
    """
    held = {column.name: column for column in current if not is_metadata(column.name)}
    require_distinct([column.name for column in wanted])
    renames = []
    for rename in _renames(held, wanted, policy.renames):
        renames.append(rename)
        held = _renamed(held, rename)
    _require_same_key(held, wanted, key_columns)
    on_incompatible = "stop" if in_place else policy.on_incompatible
    changes: list[SchemaChange] = []
    for column, at in _places(held, wanted, key_columns, policy, on_incompatible):
        if at.name not in held:
            # What goes beside its column, older rows have in the column.
            old = column.added if at.name == column.name else None
            changes.append(AddColumn(Column(at.name, at.type, doc=column.doc, added=old)))
        elif held[at.name].type != at.type:
            changes.append(WidenColumn(at.name, held[at.name].type, at.type))
    added = [change.column.name for change in changes if isinstance(change, AddColumn)]
    require_distinct([*held, *added])
    plan = (*renames, *_relaxations(held.values(), wanted, key_columns), *changes)
    if plan and held and policy.schema_change == "frozen":
        raise _frozen(plan)
    return plan


def merge_columns(
    current: Sequence[Column],
    wanted: Sequence[Column],
    key_columns: Sequence[str] = (),
    policy: TablePolicy = DEFAULT_POLICY,
) -> tuple[Column, ...]:
    """Return the table's columns as they are after `plan_evolution`.

    Out:    current columns in their order, then the added ones; metadata columns stay where they are.
    Raises: as `plan_evolution`.
    """
    merged = {column.name: column for column in current}
    for change in plan_evolution(current, wanted, key_columns, policy):
        match change:
            case AddColumn(column):
                merged[column.name] = column
            case WidenColumn(name, _, new_type):
                merged[name] = replace(merged[name], type=new_type)
            case RelaxColumn(name):
                merged[name] = replace(merged[name], required=False)
            case RenameColumn():
                merged = _renamed(merged, change)
    return tuple(merged.values())


def describe(change: SchemaChange) -> str:
    """Say in words what a change does."""
    match change:
        case AddColumn(column):
            return f"add {column.name} {column.type}"
        case WidenColumn(name, old_type, new_type):
            return f"widen {name} from {old_type} to {new_type}"
        case RelaxColumn(name):
            return f"let {name} be null"
        case RenameColumn(name, new_name):
            return f"rename {name} to {new_name}"


def older_rows(added: AddedColumn, *, given: bool) -> str:
    """Say in words what rows hold in a column that is added to them."""
    if given:
        return "the default of the writer schema"
    return UNKNOWN if added.is_unknown or added.default is not None else "NULL"


def require_key(
    identifier: Sequence[str], key_columns: Sequence[str], policy: TablePolicy = DEFAULT_POLICY
) -> None:
    """Refuse rows by another key than the table's; a table without identifier fields has none to keep.

    In:     identifier, names of the table's identifier fields.
    Raises: SchemaError naming both keys and the remedy.
    """
    named = dict(policy.renames)
    held, asked = ({named.get(name, name) for name in names} for names in (identifier, key_columns))
    if identifier and held != asked:
        raise SchemaError(
            f"key ({', '.join(key_columns)})",
            f"the table's rows have the key ({', '.join(identifier)}), so a change would not find its row",
            remedy=f"set {CHOSEN_KEY} to the old key; or {_NEW_TABLE}",
        )


def _places(
    held: Mapping[str, Column],
    wanted: Sequence[Column],
    key_columns: Sequence[str],
    policy: TablePolicy,
    on_incompatible: Literal["stop", "second_column"],
) -> Iterator[tuple[Column, ColumnPlacement]]:
    types = {name: column.type for name, column in held.items()}
    taken: dict[str, str] = {}
    for column in wanted:
        at = place(column.name, column.type, types, on_incompatible)
        is_key = column.name in key_columns
        if at is None or (is_key and at.name != column.name):
            raise _incompatible(held[column.name].type, column, is_key=is_key, policy=policy)
        if at.name in taken:
            raise SchemaError(
                f"column {column.name}",
                f"its values and those of {taken[at.name]} would both go to the column {at.name}",
                remedy=f"rename one of the two at the source; `on_incompatible` needs {at.name} for itself",
            )
        taken[at.name] = column.name
        types[at.name] = at.type
        yield column, at


def _renames(
    held: Mapping[str, Column], wanted: Sequence[Column], hints: Mapping[str, str]
) -> Iterator[RenameColumn]:
    asked, here = {column.name for column in wanted}, set(held)
    for old, new in hints.items():
        if (old in here and new in here) or (old in asked and new in asked | here):
            raise SchemaError(
                f"column {old}",
                f"`renames` says that it is called {new} now, but both are there: "
                f"{_sides(old, new, here, asked)}",
                remedy=f"remove the hint from `renames`; or, to join the two, {_NEW_TABLE}",
            )
        if old in here and new in asked:
            # The columns of its other types are called after it.
            for name in [old, *sorted(n for n in here - asked if is_second_of(n, old))]:
                renamed = new + name.removeprefix(old)
                here = (here - {name}) | {renamed}
                yield RenameColumn(name, renamed)


def _sides(old: str, new: str, here: Collection[str], asked: Collection[str]) -> str:
    where = (("in the table", here), ("at the source", asked))
    return ", ".join(
        f"{name} {' and '.join(side for side, names in where if name in names)}"
        for name in (old, new)
    )


def _renamed(held: Mapping[str, Column], rename: RenameColumn) -> dict[str, Column]:
    def name(column: Column) -> Column:
        return replace(column, name=rename.new_name) if column.name == rename.name else column

    return {name(column).name: name(column) for column in held.values()}


def _incompatible(held: str, column: Column, *, is_key: bool, policy: TablePolicy) -> SchemaError:
    saw = (
        f"the table holds {held}, the writer sends {column.type}, and the one can't become the other "
        "without loss"
    )
    if is_key:
        return SchemaError(f"key column {column.name}", saw, remedy=_AT_THE_SOURCE)
    thawed = "`schema_change: additive` and " if policy.schema_change == "frozen" else ""
    second = second_name(column.name, column.type)
    way = f"set {thawed}`on_incompatible: second_column` (into {second}) for the table; or "
    # What is set already did not help: the name of its column is taken.
    settings = "" if policy.on_incompatible == "second_column" else way
    return SchemaError(f"column {column.name}", saw, remedy=settings + _AT_THE_SOURCE)


def _frozen(plan: Sequence[SchemaChange]) -> SchemaError:
    first = plan[0]
    name = first.column.name if isinstance(first, AddColumn) else first.name
    return SchemaError(
        f"column {name}",
        f"the table is frozen, and its source asks to {'; '.join(describe(one) for one in plan)}",
        remedy="set `schema_change: additive` for the table, or undo the change at the source",
    )


def _relaxations(
    held: Iterable[Column], wanted: Sequence[Column], key_columns: Sequence[str]
) -> list[SchemaChange]:
    filled = {column.name for column in wanted if column.required} | set(key_columns)
    return [
        RelaxColumn(column.name) for column in held if column.required and column.name not in filled
    ]


def _require_same_key(
    held: Mapping[str, Column], wanted: Sequence[Column], key_columns: Sequence[str]
) -> None:
    names = {column.name for column in wanted}
    for name in key_columns:
        if name not in names:
            raise SchemaError(
                f"key column {name}",
                "the record key has a column that the row does not have",
                remedy="set `sources: many` if a router put it there to tell source tables apart "
                f"(key.enforce.uniqueness); else set {CHOSEN_KEY} to columns of the table, and remove "
                "transforms that add to the key",
            )
        if held and name not in held:
            raise SchemaError(
                f"key column {name}",
                "the key changed: the table has no such column, so its rows have no such key",
                remedy="if the column was renamed at the source, say so in `renames`; else "
                f"{_NEW_TABLE}",
            )
