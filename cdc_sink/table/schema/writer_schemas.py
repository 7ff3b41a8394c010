"""The writer schemas of one topic, as the table sees them: which columns they ask for, which key, and
which of their fields fills which column.

A column has one name here, the newest that the table or a schema knows (`renames`), whatever name a
schema has for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cdc_sink.debezium.envelope import AvroField, Envelope, parse_key, record_name, with_options
from cdc_sink.debezium.position import has_log_files, positions_tie
from cdc_sink.debezium.types.defaults import default_sql, is_unknown
from cdc_sink.debezium.types.mapping import (
    Fault,
    column_type,
    convert_sql,
    given_sql,
    null_if_bad,
    value_fault_reason,
)
from cdc_sink.debezium.types.unavailable import LEAVE_OUT_NULLS
from cdc_sink.errors import SchemaError
from cdc_sink.sql import quote
from cdc_sink.table.ledger.many_sources import SOURCE_COLUMN
from cdc_sink.table.ledger.one_source import OTHER_SOURCE_REMEDY, fingerprint
from cdc_sink.table.schema.column_placement import current_name, place
from cdc_sink.table.schema.columns import AddedColumn, Column, spark_type
from cdc_sink.table.schema.computed_columns import LACK_COMPUTED, SentColumns
from cdc_sink.table.schema.evolution import merge_columns
from cdc_sink.table.schema.field_names import require_one_name
from cdc_sink.table.schema.policy import DEFAULT_POLICY, TablePolicy


@dataclass(frozen=True)
class FieldMapping:
    """The field of a writer schema that fills one column of the table."""

    field: AvroField

    def sql(self, value: str, target: str, *, fault: Fault | None = None) -> str:
        """Render the conversion of a decoded value to the column's Iceberg type.

        In:     fault, as for `convert_sql`.
        Raises: as `convert_sql`.
        """
        return convert_sql(self.field, value, target, fault=fault)

    def given(self, value: str) -> str:
        """Render the value as its conversion sees it: NULL where an option says so."""
        return given_sql(self.field, value)

    def fault_reason(self, target: str) -> str | None:
        """Say for which reason the conversion can fail; None when it can't."""
        return value_fault_reason(self.field, target)


@dataclass(frozen=True)
class WriterSchemas:
    """The writer schemas that a batch may hold, by registry id: Avro JSON of values and of keys.

    `log`: the name of the one log that positions may be of, where they number its files; None for any.
    `ids_rise`: a later schema has a greater id.
    """

    values: Mapping[int, str]
    keys: Mapping[int, str]
    policy: TablePolicy = DEFAULT_POLICY
    log: str | None = None
    ids_rise: bool = True

    @cached_property
    def envelopes(self) -> dict[int, Envelope]:
        """The change-event envelopes, flattened ones too, by id. Raises SchemaError for anything else."""
        return {i: self._envelope(text) for i, text in sorted(self.values.items())}

    @cached_property
    def key_fields(self) -> dict[int, tuple[AvroField, ...]]:
        """The key columns, by id of the key schema."""
        return {
            i: with_options(parse_key(text), self.policy.options)
            for i, text in sorted(self.keys.items())
        }

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Names of the key columns, as far as the schemas themselves tell."""
        return self.key_names(())

    def key_names(self, columns: Iterable[Column]) -> tuple[str, ...]:
        """Names of the key columns in a table of these columns; a table of events has none.

        Raises: SchemaError when two key schemas disagree.
        """
        if self.policy.mode.keeps_events:
            return ()
        names = self._names(columns)
        own = () if self.own_source_column is None else (self.own_source_column,)
        seen = {
            i: (*(self._now(f.name, names) for f in key), *own)
            for i, key in self.key_fields.items()
        }
        if len(set(seen.values())) != 1:
            raise self._two_keys(seen)
        return next(iter(seen.values()))

    def _two_keys(self, seen: Mapping[int, tuple[str, ...]]) -> SchemaError:
        called = {i: record_name(self.keys[i]) for i in seen}
        told = ", ".join(f"{i} {called[i]} ({', '.join(key)})" for i, key in sorted(seen.items()))
        saw = f"key schemas name different columns: {told}"
        if len(set(called.values())) > 1:
            return SchemaError("key schema", saw, remedy=OTHER_SOURCE_REMEDY)
        return SchemaError(
            "key schema",
            saw,
            remedy="if a key column was renamed, say so in `renames`; else the primary key changed: "
            "build a new table from a new source snapshot in a new topic",
        )

    def columns(self, schema_id: int, table: Iterable[Column] = ()) -> tuple[Column, ...]:
        """The columns that one writer schema asks of a table; key columns are required.

        Raises: SchemaError when the table has one of them under the other name that it may have.
        """
        table = tuple(table)
        held = {column.name for column in table}
        require_one_name(self.envelopes[schema_id].columns, held, self.policy.renames)
        names, keys = self._names(table), self.key_names(table)
        return (
            *(
                Column(
                    name,
                    column_type(f).iceberg,
                    required=name in keys,
                    added=None if name in keys else self._added(schema_id, f),
                )
                for name, f in self._named_fields(schema_id, names)
            ),
            *self._source_columns(),
        )

    @cached_property
    def router_fields(self) -> tuple[AvroField, ...]:
        """Fields that keys have and rows don't: a router put them there to tell the sources apart."""
        if self.policy.sources == "one" or self.policy.mode.keeps_events or not self.keys:
            return ()
        of_rows = {f.name for e in self.envelopes.values() for f in e.columns}
        newest = self.key_fields[max(self.key_fields)]
        return tuple(f for f in newest if f.name not in of_rows)

    @property
    def own_source_column(self) -> str | None:
        """The column that names a row's source, where no field of its key does."""
        is_told = self.policy.sources == "one" or self.router_fields
        return None if is_told else SOURCE_COLUMN

    @property
    def source_columns(self) -> tuple[str, ...]:
        """Columns that tell a row's source, and that no row of the source has."""
        return tuple(column.name for column in self._source_columns())

    def router_key_sql(self) -> str:
        """What a `key` says in the router's fields."""
        parts = [f"CAST(key.{quote(f.name)} AS STRING)" for f in self.router_fields]
        return f"concat_ws('|', {', '.join(parts)})" if parts else "CAST(NULL AS STRING)"

    def _source_columns(self) -> tuple[Column, ...]:
        fields = [Column(f.name, column_type(f).iceberg, required=True) for f in self.router_fields]
        own = self.own_source_column
        if own is None:
            return tuple(fields)
        if any(f.name.lower() == own for e in self.envelopes.values() for f in e.columns):
            raise SchemaError(
                "table columns",
                f"the source has a column {own}, which is the name that `sources: many` needs",
                remedy="rename it by a transform, or let the router put its field into the key "
                "(key.enforce.uniqueness)",
            )
        return (Column(own, "string", required=not self.policy.mode.keeps_events),)

    def _added(self, schema_id: int, field: AvroField) -> AddedColumn | None:
        """What rows of older schemas hold in a column; events of before hold nothing in it."""
        if self.policy.mode.keeps_events:
            return None
        connector = self.envelopes[schema_id].connector
        since = schema_id if self.ids_rise else None
        given = default_sql(field, connector)
        if given is None:
            return AddedColumn(None, is_unknown(field, connector), since)
        kind = column_type(field).iceberg
        value = convert_sql(field, given, kind, fault=null_if_bad)
        return AddedColumn(f"CAST({value} AS {spark_type(kind)})", False, since)

    def sources(self, schema_id: int, columns: Sequence[Column]) -> dict[str, FieldMapping]:
        """Which field of a writer schema fills which column; a column left out gets null.

        In: the table's columns, extended by this schema.
        """
        types = {column.name: column.type for column in columns}
        found: dict[str, FieldMapping] = {}
        for name, field in self._named_fields(schema_id, self._names(columns)):
            if name not in types:
                continue
            at = place(name, column_type(field).iceberg, types, self.policy.on_incompatible)
            # A type that has no place is refused by the conversion, which names both.
            found[at.name if at else name] = FieldMapping(field)
        return found

    def key_sources(self, key_id: int, columns: Sequence[Column]) -> dict[str, FieldMapping]:
        """Which field of a key schema fills which key column, in the key's order."""
        names = self._names(columns)
        return {self._now(f.name, names): FieldMapping(f) for f in self.key_fields[key_id]}

    def sent_columns(self, columns: Iterable[Column]) -> SentColumns:
        """What the schemas of connectors have that don't send all columns in their log."""
        names = self._names(columns)
        some = {i for i, e in self.envelopes.items() if e.connector in LACK_COMPUTED}
        of = {i: frozenset(name for name, _ in self._named_fields(i, names)) for i in some}
        options = self.policy.options.columns
        dropped = frozenset(name for name, option in options.items() if option.dropped)
        renamed = {old: self._now(old, names) for old in self.policy.renames}
        return SentColumns(of, dropped, self.ids_rise, renamed)

    @cached_property
    def fingerprints(self) -> dict[int, str]:
        """The fingerprint of each schema, of values and of keys, by id."""
        return {i: fingerprint(text) for i, text in {**self.keys, **self.values}.items()}

    def plus(self, values: Mapping[int, str], keys: Mapping[int, str]) -> WriterSchemas:
        """The same with more schemas."""
        return replace(self, values={**self.values, **values}, keys={**self.keys, **keys})

    @property
    def has_key(self) -> bool:
        """The key's columns are known, or not asked for: a table of events needs none."""
        return bool(self.keys) or self.policy.mode.keeps_events

    @property
    def leave_out_nulls(self) -> bool:
        """The connector that writes these schemas leaves NULLs out as it does other values."""
        return any(e.connector in LEAVE_OUT_NULLS for e in self.envelopes.values())

    @property
    def positions_tie(self) -> bool:
        """Different changes of a key may share a position."""
        return any(positions_tie(e.connector) for e in self.envelopes.values())

    @property
    def have_log(self) -> bool:
        """Positions number the files of one log, which has a name."""
        if self.policy.order != "source" or self.policy.sources == "many":
            return False
        return any(has_log_files(e.connector) for e in self.envelopes.values())

    def only(self, values: Collection[int], keys: Collection[int]) -> WriterSchemas:
        """Those of these ids; all keys if none is among them, because the key's columns must be known."""
        found = {i: text for i, text in self.keys.items() if i in keys}
        some = {i: text for i, text in self.values.items() if i in values}
        return replace(self, values=some, keys=found or self.keys)

    def _envelope(self, text: str) -> Envelope:
        envelope = Envelope.parse(text, self.policy.order)
        return replace(envelope, columns=with_options(envelope.columns, self.policy.options))

    def extend(self, columns: Sequence[Column]) -> tuple[Column, ...]:
        """A table's columns, extended by what these schemas add, older ids first.

        Raises: SchemaError when a writer schema does not fit.
        """
        for schema_id in sorted(self.values):
            wanted = self.columns(schema_id, columns)
            columns = merge_columns(columns, wanted, self.key_names(columns), self.policy)
        return tuple(columns)

    def _names(self, columns: Iterable[Column]) -> frozenset[str]:
        """Every name at hand: the table's and those of all schemas, so that none depends on an order."""
        fields = [f for e in self.envelopes.values() for f in e.columns]
        fields += [f for key in self.key_fields.values() for f in key]
        return frozenset({column.name for column in columns} | {f.name for f in fields})

    def _now(self, name: str, names: Collection[str]) -> str:
        return current_name(name, names, self.policy.renames)

    def _named_fields(self, schema_id: int, names: Collection[str]) -> list[tuple[str, AvroField]]:
        fields = self.envelopes[schema_id].columns
        own = {f.name for f in fields}
        # A schema with both names means two columns; the plan refuses it.
        return [
            (f.name if self.policy.renames.get(f.name) in own else self._now(f.name, names), f)
            for f in fields
        ]
