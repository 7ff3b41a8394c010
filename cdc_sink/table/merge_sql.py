"""The MERGE statement, as text: the same that `cdc-sink plan` prints."""

from __future__ import annotations

from collections.abc import Sequence

from cdc_sink.change.quoting import quote
from cdc_sink.table.columns import CDC_COLUMN, Column


def key_alias(number: int) -> str:
    """Name of the n-th key column in the view: on top, so that a join can be partitioned by it."""
    return f"`key{number}`"


def merge_sql(table: str, view: str, columns: Sequence[Column], key_columns: Sequence[str]) -> str:
    """Apply one row per key: deletes delete, all else updates or inserts.

    In:     table and view quoted; the view has `key0`, `key1` …, `op`, `after` (all columns) and `cdc`.
    """
    on = " AND ".join(f"t.{quote(name)} = s.{key_alias(i)}" for i, name in enumerate(key_columns))
    names = [c.name for c in columns]
    sets = [f"t.{quote(n)} = s.after.{quote(n)}" for n in names if n not in key_columns]
    cdc = quote(CDC_COLUMN)
    inserted = ", ".join(map(quote, [*names, CDC_COLUMN]))
    values = ", ".join([*(f"s.after.{quote(n)}" for n in names), "s.cdc"])
    return (
        f"MERGE INTO {table} t USING {view} s ON {on} "
        "WHEN MATCHED AND s.op = 'd' THEN DELETE "
        f"WHEN MATCHED THEN UPDATE SET {', '.join([*sets, f't.{cdc} = s.cdc'])} "
        f"WHEN NOT MATCHED AND s.op <> 'd' THEN INSERT ({inserted}) VALUES ({values})"
    )
