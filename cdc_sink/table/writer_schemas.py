"""The writer schemas of one topic, as the table sees them: which columns they ask for, and which key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cdc_sink.change.avro_types import column_type
from cdc_sink.change.column_option import NO_OPTIONS, TableOptions
from cdc_sink.change.envelope import AvroField, Envelope, parse_key, with_options
from cdc_sink.errors import SchemaError
from cdc_sink.table.columns import Column
from cdc_sink.table.evolution import merge_columns


@dataclass(frozen=True)
class WriterSchemas:
    """The writer schemas that a batch may hold, by registry id: Avro JSON of values and of keys."""

    values: Mapping[int, str]
    keys: Mapping[int, str]
    options: TableOptions = NO_OPTIONS

    @cached_property
    def envelopes(self) -> dict[int, Envelope]:
        """The change-event envelopes, by id. Raises SchemaError for anything else."""
        return {i: self._envelope(text) for i, text in sorted(self.values.items())}

    @cached_property
    def key_fields(self) -> dict[int, tuple[AvroField, ...]]:
        """The key columns, by id of the key schema."""
        return {
            i: with_options(parse_key(text), self.options) for i, text in sorted(self.keys.items())
        }

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Names of the key columns. Raises SchemaError when two key schemas disagree."""
        seen = {tuple(f.name for f in fields) for fields in self.key_fields.values()}
        if len(seen) != 1:
            raise SchemaError(
                "key schema",
                f"key schemas {sorted(self.keys)} name different columns: {sorted(seen)}",
                remedy="the primary key changed: rebuild the table with `cdc-sink backfill`",
            )
        return next(iter(seen))

    def columns(self, schema_id: int) -> tuple[Column, ...]:
        """The table columns that one writer schema asks for; key columns are required."""
        keys = self.key_columns
        return tuple(
            Column(f.name, column_type(f).iceberg, required=f.name in keys)
            for f in self.envelopes[schema_id].columns
        )

    def plus(self, values: Mapping[int, str], keys: Mapping[int, str]) -> WriterSchemas:
        """The same with more schemas."""
        return WriterSchemas({**self.values, **values}, {**self.keys, **keys}, self.options)

    def _envelope(self, text: str) -> Envelope:
        envelope = Envelope.parse(text)
        return replace(envelope, columns=with_options(envelope.columns, self.options))

    def extend(self, columns: Sequence[Column]) -> tuple[Column, ...]:
        """A table's columns, extended by what these schemas add, older ids first.

        Raises: SchemaError when a writer schema does not fit.
        """
        for schema_id in sorted(self.values):
            columns = merge_columns(columns, self.columns(schema_id), self.key_columns)
        return tuple(columns)
