"""What the registered schema versions will do to a table once records of them are written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cdc_sink.table.schema.columns import Column
from cdc_sink.table.schema.evolution import SchemaChange, plan_evolution, require_key
from cdc_sink.table.schema.policy import TablePolicy
from cdc_sink.table.schema.writer_schemas import WriterSchemas


@dataclass(frozen=True)
class Versions:
    """The schemas of a topic's two subjects by id, oldest version first; and the ids written so far."""

    values: Mapping[int, str]
    keys: Mapping[int, str]
    written: Collection[int] = ()

    def coming(self) -> tuple[int, ...]:
        """The versions behind the last one that was written; else the newest alone."""
        ids = list(self.values)
        seen = [number for number, schema_id in enumerate(ids) if schema_id in self.written]
        return tuple(ids[seen[-1] + 1 :] if seen else ids[-1:])

    def to_apply(self, policy: TablePolicy) -> WriterSchemas:
        """The versions to come, or the newest when all were written; with the newest key, if any."""
        ids = self.coming() or tuple(self.values)[-1:]
        key = list(self.keys)[-1:]
        return WriterSchemas(
            {i: self.values[i] for i in ids}, {i: self.keys[i] for i in key}, policy
        )


@dataclass(frozen=True)
class Preview:
    """The table as it will be, and how it gets there; `unfilled` are null in rows of the newest version."""

    columns: tuple[Column, ...]
    key_columns: tuple[str, ...]
    changes: tuple[SchemaChange, ...]
    coming: tuple[int, ...]
    unfilled: tuple[str, ...]


def preview(
    current: Sequence[Column], identifier: Sequence[str], versions: Versions, policy: TablePolicy
) -> Preview:
    """Plan what a table's columns have to become; for a table that isn't there, `current` is empty.

    Raises: SchemaError or ConfigError, as the pipeline would when it meets such a record.
    """
    schemas = versions.to_apply(policy)
    columns = schemas.extend(current)
    keys = schemas.key_names(columns)
    require_key(identifier, keys, policy)
    filled = {*schemas.sources(list(schemas.values)[-1], columns), *schemas.source_columns}
    return Preview(
        columns,
        keys,
        plan_evolution(current, columns, keys, policy, in_place=True) if current else (),
        versions.coming(),
        tuple(column.name for column in columns if column.name not in filled),
    )
