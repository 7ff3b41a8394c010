"""The MERGE statement, as text: the same that `cdc-sink plan` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cdc_sink.sql import literal, quote
from cdc_sink.table.schema.columns import Column
from cdc_sink.table.schema.metadata_columns import metadata_columns
from cdc_sink.table.schema.policy import TableMode


def key_alias(number: int) -> str:
    """Name of the n-th key column in the view: on top, so that a join can be partitioned by it."""
    return f"`key{number}`"


@dataclass(frozen=True)
class StoredValues:
    """Columns of which the stored row may keep its value: where the view's `missing` names them.

    `otherwise` is the SQL that takes the place of the first metadata column in a new row, which has no value
    to keep; and that of a stored NULL, which is older than the value, unless `keeps_nulls`. `only_if`: a
    condition on the two rows without which a stored value is not the one before.
    """

    columns: tuple[str, ...] = ()
    otherwise: str = "NULL"
    keeps_nulls: bool = False
    only_if: str | None = None


@dataclass(frozen=True)
class StoredRowCheck:
    """What else is asked where a stored row is met.

    `guard`: a condition on the metadata columns of `s` and `t` without which it stays as it is. `bare`: the
    SQL that takes the place of its first metadata column where the batch's row has no op.
    """

    guard: str | None = None
    bare: str | None = None


def merge_sql(
    table: str,
    view: str,
    columns: Sequence[Column],
    key_columns: Sequence[str],
    *,
    fill: StoredValues = StoredValues(),
    stored: StoredRowCheck = StoredRowCheck(),
) -> str:
    """Apply one row per key: deletes delete, all else updates or inserts.

    In:     table and view quoted; the view has `key0`, `key1` …, `op`, `after` (all columns) and the
            metadata columns under their names.
    """
    on = " AND ".join(f"t.{quote(name)} = s.{key_alias(i)}" for i, name in enumerate(key_columns))
    names = [c.name for c in columns]

    def new_value(name: str) -> str:
        value = f"s.after.{quote(name)}"
        if name not in fill.columns:
            return value
        kept = f"t.{quote(name)}"
        if not fill.keeps_nulls:
            kept = f"coalesce({kept}, {fill.otherwise})"
        if fill.only_if:
            kept = f"IF({fill.only_if}, {kept}, {fill.otherwise})"
        return f"IF(array_contains(s.missing, {literal(name)}), {kept}, {value})"

    sets = [f"t.{quote(n)} = {new_value(n)}" for n in names if n not in key_columns]
    told, *others = metadata = tuple(metadata_columns(TableMode.MIRROR))
    sets += [f"t.{n} = s.{n}" for n in metadata]
    first = f"IF(size(s.missing) > 0, {fill.otherwise}, s.{told})" if fill.columns else f"s.{told}"
    inserted = ", ".join([*map(quote, names), *metadata])
    values = ", ".join(
        [*(f"s.after.{quote(n)}" for n in names), first, *(f"s.{n}" for n in others)]
    )
    newer = f" AND {stored.guard}" if stored.guard else ""
    stops = ""
    if stored.bare:
        stops = f"WHEN MATCHED AND s.op IS NULL THEN UPDATE SET t.{told} = {stored.bare} "
    return (
        f"MERGE INTO {table} t USING {view} s ON {on} {stops}"
        f"WHEN MATCHED AND s.op = 'd'{newer} THEN DELETE "
        f"WHEN MATCHED{newer} THEN UPDATE SET {', '.join(sets)} "
        f"WHEN NOT MATCHED AND s.op <> 'd' THEN INSERT ({inserted}) VALUES ({values})"
    )
