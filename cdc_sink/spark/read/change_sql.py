"""The SQL that turns decoded records into changes: one expression per output column.

Each is a choice by writer schema, every branch with the rules of its own. They stand over what `decode`
selects first: the record's own columns, and a decoded struct per writer schema, `v<id>` of values and
`k<id>` of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from cdc_sink.debezium.flattened import envelope_sql
from cdc_sink.debezium.origin import BETWEEN, origin_sql, source_text_sql
from cdc_sink.debezium.position import has_log_files, log_sql, of_log_sql, position_sql
from cdc_sink.debezium.types.conversions import sent_type
from cdc_sink.debezium.types.mapping import null_if_bad, unavailable_sql
from cdc_sink.debezium.wire.confluent import framing_fault_sql
from cdc_sink.spark.read.record_faults import FRAME, KEY, fault_sql
from cdc_sink.sql import literal, quote
from cdc_sink.table import faults
from cdc_sink.table.schema.columns import Column, spark_type
from cdc_sink.table.schema.writer_schemas import FieldMapping, WriterSchemas

OLD_KEY = "__debezium.oldkey"
NO_POSITION = "CAST(NULL AS STRUCT<hi: BIGINT, lo: BIGINT>)"
JSON_OPTIONS = "map('allowUnquotedControlChars', 'true')"


@dataclass(frozen=True)
class Projection:
    """The SQL of each output column, for these writer schemas and these columns of the table."""

    schemas: WriterSchemas
    columns: tuple[Column, ...]
    sets_aside: bool = False

    @cached_property
    def types(self) -> dict[str, str]:
        """The table's column types by name."""
        return {c.name: c.type for c in self.columns}

    def flattened(self) -> dict[int, str]:
        """Each flattened row as an envelope, by schema id."""
        found = {}
        for i, envelope in self.schemas.envelopes.items():
            if envelope.added is not None:
                fields = [source.field for source in self.schemas.sources(i, self.columns).values()]
                # A field that is never null tells by itself that nothing could be decoded.
                names = [f.decoded_name for f in fields]
                sure = [f.decoded_name for f in fields if not f.nullable][:1] or names
                order = self.schemas.policy.order
                found[i] = envelope_sql(
                    f"v{i}", envelope.added, order, sure, with_before=self.of_events
                )
        return found

    @property
    def takes_any(self) -> bool:
        """Kafka order alone places the changes: positions are not read, and a tombstone is a delete."""
        return self.schemas.policy.order == "kafka"

    @property
    def tombstone(self) -> str:
        """The op of a tombstone: none, since it carries no change of its own."""
        return "'d'" if self.takes_any else "CAST(NULL AS STRING)"

    def per_schema(self, branch: Callable[[int], str], otherwise: str = "NULL") -> str:
        """`CASE` over the value's writer schemas."""
        whens = [f"WHEN v{i} IS NOT NULL THEN {branch(i)}" for i in sorted(self.schemas.values)]
        return f"CASE {' '.join(whens)} ELSE {otherwise} END" if whens else otherwise

    @property
    def of_events(self) -> bool:
        """The table holds every event, not the rows of keys."""
        return self.schemas.policy.mode.keeps_events

    def key(self) -> str:
        """The key struct; a record without a readable key stops the table."""
        if self.of_events:
            return "CAST(NULL AS STRING)"
        whens = []
        struct = ", ".join(
            f"{quote(name)}: {spark_type(self.types[name])}"
            for name in self.schemas.key_names(self.columns)
        )
        if self.schemas.own_source_column is not None:
            # Later records of its key could not be told from those of other sources.
            fault = fault_sql(f"'{faults.SOURCE}'", "value")
            unnamed = f"value IS NOT NULL AND ({self.source_text()}) IS NULL"
            whens.append(f"WHEN {unnamed} THEN CAST({fault} AS STRUCT<{struct}>)")
        for i, fields in self.schemas.key_fields.items():
            for f in fields:
                if f.nullable:
                    fault = fault_sql(
                        f"'{faults.NULL_KEY}'", "key", literal(f.name.replace("|", " "))
                    )
                    empty = f"k{i} IS NOT NULL AND k{i}.{quote(f.decoded_name)} IS NULL"
                    whens.append(f"WHEN {empty} THEN CAST({fault} AS STRUCT<{struct}>)")
            values = {**self.key_values(i), **self.own_source()}
            parts = [f"{literal(name)}, {sql}" for name, sql in values.items()]
            whens.append(f"WHEN k{i} IS NOT NULL THEN named_struct({', '.join(parts)})")
        is_truncate = f"(key IS NULL AND ({self.per_schema(lambda i: f'v{i}.op')}) = 't')"
        fault = fault_sql(
            f"IF({is_truncate}, '{faults.OP}', '{KEY}')", "key", f"IF({is_truncate}, 't', NULL)"
        )
        if self.sets_aside:
            whens.append(f"WHEN {is_truncate} THEN NULL")  # it concerns all keys
            fault = fault_sql(f"'{KEY}'", "key")
        return f"CASE {' '.join(whens)} ELSE CAST({fault} AS STRUCT<{struct}>) END"

    def old_key(self) -> str:
        """The key that a key update changed, from Debezium's header; null for any other record."""
        if self.of_events:
            return "CAST(NULL AS STRING)"
        sources = self.schemas.key_sources(max(self.schemas.key_fields), self.columns)
        # The connector writes the header, and a router the field after it: a row does not change its source.
        routed = {name: self.router_value(name) for name in self.router_names()}
        sources = {name: source for name, source in sources.items() if name not in routed}
        header = f"get(filter(headers, h -> h.key = '{OLD_KEY}'), 0).value"
        sent = ", ".join(f"{quote(s.field.name)} {sent_type(s.field)}" for s in sources.values())
        # Connect writes texts as they are, line ends included.
        read = f"from_json(CAST({header} AS STRING), {literal(sent)}, {JSON_OPTIONS})"
        values = {
            name: source.sql(f"{read}.{quote(source.field.name)}", self.types[name])
            for name, source in sources.items()
        }
        values |= {**routed, **self.own_source()}
        names = self.schemas.key_names(self.columns)
        parts = [f"{literal(name)}, {values[name]}" for name in names]
        return f"CASE WHEN {header} IS NOT NULL THEN named_struct({', '.join(parts)}) END"

    def router_names(self) -> tuple[str, ...]:
        """The key's columns that no row has."""
        return tuple(f.name for f in self.schemas.router_fields)

    def router_value(self, name: str) -> str:
        """What the record's key says in one of them."""
        whens = [
            f"WHEN k{k} IS NOT NULL THEN {self.key_values(k)[name]}"
            for k in self.schemas.key_fields
        ]
        return f"CASE {' '.join(whens)} END"

    def own_source(self) -> dict[str, str]:
        """The SQL of the column that names a row's source, where the table has it."""
        own = self.schemas.own_source_column
        return {} if own is None else {own: self.source_text()}

    def source_text(self) -> str:
        """The source of the change; null for a tombstone."""

        def told(i: int) -> str:
            return source_text_sql(f"v{i}.source", self.schemas.envelopes[i].source_fields)

        return self.per_schema(told, "CAST(NULL AS STRING)")

    def schema_id(self) -> str:
        """The writer schema id; null for a tombstone."""
        return self.per_schema(str, "CAST(NULL AS INT)")

    def op(self) -> str:
        """`c`, `u`, `d` or `r`; anything else, an undecoded value or a missing row is a fault."""
        op = self.per_schema(lambda i: f"v{i}.op")
        if self.sets_aside:
            op = f"IF(value IS NULL, {self.tombstone}, {op})" if self.takes_any else op
            return f"IF(fault IS NULL, {op}, NULL)"
        has_row = self.per_schema(lambda i: f"v{i}.after IS NOT NULL", "false")
        undecoded = self.undecoded()
        fault = fault_sql(f"if({undecoded}, '{FRAME}', '{faults.OP}')", "value", op)
        return (
            f"CASE WHEN value IS NULL THEN {self.tombstone} "
            f"WHEN ({op}) = 'd' OR ({op}) IN ('c', 'u', 'r') AND ({has_row}) THEN {op} "
            f"ELSE CAST({fault} AS STRING) END"
        )

    def undecoded(self) -> str:
        """True for a value that no schema was found for."""
        return " AND ".join(f"v{i} IS NULL" for i in sorted(self.schemas.values)) or "true"

    def fault(self) -> str:
        """Why a record must be set aside, as `code|detail`; null for a good one."""
        framing, op = framing_fault_sql("value"), self.per_schema(lambda i: f"v{i}.op")
        has_row = self.per_schema(lambda i: f"v{i}.after IS NOT NULL", "false")
        unknown = fault_sql(f"'{FRAME}'", "value")
        return (
            f"CASE WHEN value IS NULL THEN CAST(NULL AS STRING) "
            f"WHEN {framing} IS NOT NULL THEN concat({framing}, '|') "
            f"WHEN {self.undecoded()} THEN CAST({unknown} AS STRING) "
            f"WHEN ({op}) IS NULL THEN '{faults.MALFORMED}|' "
            f"WHEN ({op}) = 'd' THEN {self.per_schema(self.delete_fault)} "
            f"WHEN ({op}) = 't' THEN CAST(NULL AS STRING) "
            f"WHEN ({op}) IN ('c', 'u', 'r') AND ({has_row}) THEN {self.per_schema(self.value_fault)} "
            f"WHEN ({op}) IN ('c', 'u', 'r') THEN concat('{faults.NO_ROW}|', {op}) "
            f"ELSE concat('{faults.OP}|', left({op}, 8)) END"
        )

    def delete_fault(self, i: int) -> str:
        """As `value_fault`, for a delete: only where it has to bring the row before."""
        if not self.of_events:
            return "CAST(NULL AS STRING)"
        return f"IF(key IS NULL, {self.value_fault(i, 'before')}, NULL)"

    def value_fault(self, i: int, row: str = "after") -> str:
        """The first value of a row that the table can't hold, as `value|column: reason`."""
        sources, found = self.schemas.sources(i, self.columns), []
        for c in self.columns:
            source = sources.get(c.name)
            reason = source.fault_reason(c.type) if source else None
            if source is not None and reason is not None:
                value = f"v{i}.{row}.{quote(source.field.decoded_name)}"
                bad = f"({source.sql(value, c.type, fault=null_if_bad)}) IS NULL"
                text = literal(f"{faults.VALUE}|{c.name}: {reason}")
                given = source.given(value)
                found.append(f"CASE WHEN {given} IS NOT NULL AND {bad} THEN {text} END")
        return f"coalesce({', '.join([*found, 'CAST(NULL AS STRING)'])})"

    def after(self) -> str:
        """The row after the change, in the table's types; missing columns are null."""

        def image(i: int) -> str:
            deleted = ""
            if self.of_events:
                deleted = f" WHEN v{i}.op = 'd' THEN {self.deleted(i)}"
            return f"CASE WHEN v{i}.after IS NOT NULL THEN {self.row(i, 'after')}{deleted} END"

        nothing = f"CAST(NULL AS {self.row_type()})"
        if self.of_events and self.takes_any:
            nothing = f"IF(value IS NULL, {self.deleted()}, {nothing})"
        return self.per_schema(image, nothing)

    def row(self, i: int, name: str) -> str:
        """A row image of the envelope."""
        sources = self.schemas.sources(i, self.columns)
        if self.schemas.envelopes[i].added is None and self.is_as_sent(sources):
            return f"v{i}.{name}"
        fault = null_if_bad if self.sets_aside else None
        return self.filled(
            self.older(i)
            | self.own_source()
            | {routed: self.router_value(routed) for routed in self.router_names()}
            | {
                column: source.sql(
                    f"v{i}.{name}.{quote(source.field.decoded_name)}",
                    self.types[column],
                    fault=fault,
                )
                for column, source in sources.items()
            }
        )

    def is_as_sent(self, sources: Mapping[str, FieldMapping]) -> bool:
        """The decoded row has the table's columns, in their order and of their types: nothing is to be made.

        Made anew, each column is a hundred bytes of the decoding stage, which is not compiled above a size.
        """
        sent = [(name, source.field.decoded_name) for name, source in sources.items()]
        return sent == [(c.name, c.name) for c in self.columns] and all(
            source.sql("sent", self.types[name]) == "sent" for name, source in sources.items()
        )

    def older(self, i: int) -> dict[str, str]:
        """What a row holds in columns that were added after its writer schema, where it is not NULL."""
        found = {c.name: c.added.value(i) for c in self.columns if c.added is not None}
        return {name: value for name, value in found.items() if value is not None}

    def deleted(self, i: int | None = None) -> str:
        """What is known of a deleted row: its key; the whole row where there is no key to go by.

        In: the value's schema id, None for a tombstone.
        """
        whens = [
            f"WHEN k{k} IS NOT NULL THEN {self.filled(self.key_values(k) | self.own_source())}"
            for k in self.schemas.key_fields
        ]
        if i is not None:
            whens.append(
                f"WHEN key IS NULL AND v{i}.before IS NOT NULL THEN {self.row(i, 'before')}"
            )
        fault = fault_sql(f"'{KEY}'", "key")
        return f"CASE {' '.join(whens)} ELSE CAST({fault} AS {self.row_type()}) END"

    def key_values(self, k: int) -> dict[str, str]:
        """The SQL of each key column, by name; a table of events has no column for a router's field."""
        return {
            name: source.sql(f"k{k}.{quote(source.field.decoded_name)}", self.types[name])
            for name, source in self.schemas.key_sources(k, self.columns).items()
            if name in self.types
        }

    def filled(self, values: Mapping[str, str]) -> str:
        """A row of all columns from the SQL of some."""
        parts = [
            f"{literal(c.name)}, CAST({values.get(c.name, 'NULL')} AS {spark_type(c.type)})"
            for c in self.columns
        ]
        return f"named_struct({', '.join(parts)})"

    def row_type(self) -> str:
        """The type of a row, in Spark's words."""
        columns = ", ".join(f"{quote(c.name)}: {spark_type(c.type)}" for c in self.columns)
        return f"STRUCT<{columns}>"

    def unavailable(self) -> str:
        """Names of the columns that hold Debezium's placeholder instead of a value.

        A text first: each test stands in the generated code once then.
        """

        def names(i: int) -> str:
            tests = {
                name: unavailable_sql(
                    source.field, f"v{i}.after.{quote(source.field.decoded_name)}"
                )
                for name, source in self.schemas.sources(i, self.columns).items()
            }
            found = {name: sql for name, sql in tests.items() if sql}
            if not found or self.schemas.envelopes[i].connector in ("mysql", "mariadb"):
                return "''"
            listed = ", ".join(f"IF({sql}, {literal(n)}, NULL)" for n, sql in found.items())
            named = f"concat_ws({literal(BETWEEN)}, {listed})"
            return f"IF({self.whole(i)}, '', {named})"

        text = self.per_schema(names, "CAST(NULL AS STRING)")
        return f"array_remove(split({text}, {literal(BETWEEN)}), '')"  # no name is empty

    def whole(self, i: int) -> str:
        """True for a change that no value can be left out of: what looks like the placeholder is data.

        PostgreSQL's connector reads rows whole, and so is an inserted row in the log; only the second half of
        a changed key, a `c` too, lacks what an update lacks, and a header tells it.
        """
        envelope = self.schemas.envelopes[i]
        if envelope.connector != "postgresql":
            return "false"
        read = f"v{i}.op = 'r'"
        if envelope.added is not None or not self.sets_aside:
            return read
        return f"{read} OR v{i}.op = 'c' AND NOT exists(headers, h -> h.key = '{OLD_KEY}')"

    def position(self) -> str:
        """The source position; null where the source block has none."""
        if self.takes_any:
            return NO_POSITION

        def place(i: int) -> str:
            envelope = self.schemas.envelopes[i]
            sql = position_sql(envelope.connector, f"v{i}.source", envelope.source_fields)
            log = self.schemas.log if has_log_files(envelope.connector) else None
            return sql if log is None else of_log_sql(f"v{i}.source", log, sql)

        return self.per_schema(place, NO_POSITION)

    def log(self) -> str:
        """The name of the log whose files the position numbers; null where there is none."""

        def name(i: int) -> str:
            is_log = has_log_files(self.schemas.envelopes[i].connector)
            return log_sql(f"v{i}.source") if is_log else "NULL"

        return self.per_schema(name, "CAST(NULL AS STRING)")

    def snapshot(self) -> str:
        """Debezium's word for the kind of read; null for a tombstone."""
        return self.per_schema(lambda i: f"v{i}.source.snapshot", "CAST(NULL AS STRING)")

    def origin(self) -> str:
        """Which table of which source the change comes from; null for a tombstone."""

        def told(i: int) -> str:
            envelope = self.schemas.envelopes[i]
            fields = envelope.source_fields
            return origin_sql(envelope.name, envelope.connector, f"v{i}.source", fields)

        return self.per_schema(told, "CAST(NULL AS STRING)")

    def source_ts(self) -> str:
        """When the source says the change happened: for freshness only, never an order."""

        def stamp(i: int) -> str:
            fields = self.schemas.envelopes[i].source_fields
            micros = f"v{i}.source.ts_ms * 1000"
            if "ts_us" in fields:
                micros = f"coalesce(v{i}.source.ts_us, {micros})"
            return f"timestamp_micros({micros})"

        return self.per_schema(stamp, "CAST(NULL AS TIMESTAMP_LTZ)")
