"""Kafka records in, changes out: the one place where Avro becomes columns.

Every writer schema that occurs is decoded by itself, once per record, and converted to the table's types by
the rules of that writer schema. One column per schema id, projected afterwards: a `from_avro` inside a
projection of its fields would run once per field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro

from cdc_sink.change.avro_schema import decimal_digits
from cdc_sink.change.avro_types import decimal_type, set_aside, unavailable_sql
from cdc_sink.change.envelope import AvroField, reader_schema, spark_schema
from cdc_sink.change.position import position_sql
from cdc_sink.change.quoting import literal, quote
from cdc_sink.change.wire import frame_prefix, framing_fault_sql
from cdc_sink.spark.faults import fault_sql
from cdc_sink.table.columns import Column, spark_type
from cdc_sink.table.writer_schemas import WriterSchemas

PREFIX_BYTES = 5
OLD_KEY = "__debezium.oldkey"
JSON_OPTIONS = "map('allowUnquotedControlChars', 'true')"
RAW = "named_struct('key', key, 'value', value, 'timestamp', timestamp, 'headers', headers)"


def schema_ids(records: DataFrame) -> tuple[set[int], set[int]]:
    """The writer schema ids that occur in a batch: of values, of keys. One cheap job, nothing decoded.

    Values that carry no readable id are left to `decode`, which names the record.
    """

    def ids(name: str) -> SparkColumn:
        number = F.conv(F.hex(F.substring(name, 2, 4)), 16, 10).cast("bigint")
        framed = F.expr(f"{framing_fault_sql(name)} IS NULL") & F.col(name).isNotNull()
        return F.collect_set(F.when(framed, number))

    seen = records.agg(ids("value").alias("values"), ids("key").alias("keys")).first()
    assert seen is not None
    return set(seen["values"]), set(seen["keys"])


def require_framed(records: DataFrame) -> None:
    """Fail with a fault at a record without a key, or with a key or value that carries no schema id."""
    key, frame = fault_sql("'key'", "key"), fault_sql("'frame'", "value")
    checks = [
        f"CASE WHEN key IS NULL OR {framing_fault_sql('key')} IS NOT NULL THEN {key} END AS key",
        f"CASE WHEN {framing_fault_sql('value')} IS NOT NULL THEN {frame} END AS value",
    ]
    records.selectExpr(*checks).write.format("noop").mode("overwrite").save()


def decode(
    records: DataFrame,
    schemas: WriterSchemas,
    columns: Sequence[Column],
    *,
    sets_aside: bool = False,
) -> DataFrame:
    """Turn Kafka records into changes.

    In:  one row per Kafka record: key, value, topic, partition, offset, as Spark's Kafka source gives them.
    Out: one row per record: `key` struct, `op` (null for a tombstone, which carries no change), `after`
         struct of `columns` (null for deletes), `unavailable` (names of columns that hold Debezium's
         placeholder), `position` struct<hi,lo> (null where none can be read), `source_ts`, `snapshot`,
         `topic`, `partition`, `offset`, `schema_id`.
         With `sets_aside` (slower, and `records` need `timestamp` and `headers`; `raw` where they were
         rewritten) a bad record is a change
         without op, a truncate a change of op `t` without key, and there are three columns more: `fault`,
         reason code and detail, null for a good record; `raw`, the record as it was; `old_key`, for the
         second half of a key update.
    Raises: at run time, a fault (see faults.py) for a record that can't be read; with `sets_aside` only for
            one whose key can't be read or whose schema is not among `schemas`.
    """
    # Any expression that is not deterministic does: Spark would else move a filter on the changes below
    # this projection, and decode each record once more per column that the filter asks for.
    stays = F.spark_partition_id() >= 0
    values = [
        F.when(
            (F.substring("value", 1, PREFIX_BYTES) == F.lit(frame_prefix(i))) & stays,
            from_avro(
                F.substring("value", PREFIX_BYTES + 1, 2**31 - 1),
                spark_schema(text),
                {
                    "avroSchema": reader_schema(text, _known(schemas, i, columns)),
                    "mode": "PERMISSIVE" if sets_aside else "FAILFAST",
                },
            ),
        ).alias(f"v{i}")
        for i, text in sorted(schemas.values.items())
    ]
    keys = [
        F.when(
            (F.substring("key", 1, PREFIX_BYTES) == F.lit(frame_prefix(i))) & stays,
            from_avro(F.substring("key", PREFIX_BYTES + 1, 2**31 - 1), spark_schema(text)),
        ).alias(f"k{i}")
        for i, text in sorted(schemas.keys.items())
    ]
    carried = ("key", "value", "topic", "partition", "offset")
    projected = _Projection(schemas, tuple(columns), sets_aside)
    if sets_aside:
        if "raw" not in records.columns:
            records = records.withColumn("raw", F.expr(RAW))
        decoded = records.select(*carried, "headers", "raw", *values, *keys)
        decoded = decoded.withColumn("fault", F.expr(projected.fault()))
    else:
        decoded = records.select(*carried, *values, *keys)
    return decoded.selectExpr(
        f"{projected.key()} AS key",
        f"{projected.op()} AS op",
        f"{projected.after()} AS after",
        f"{projected.unavailable()} AS unavailable",
        f"{projected.position()} AS position",
        f"{projected.source_ts()} AS source_ts",
        f"{projected.snapshot()} AS snapshot",
        "topic",
        "partition",
        "offset",
        f"{projected.schema_id()} AS schema_id",
        *(("fault", "raw", f"{projected.old_key()} AS old_key") if sets_aside else ()),
    )


def _known(schemas: WriterSchemas, schema_id: int, columns: Sequence[Column]) -> list[str]:
    return [source.field.decoded_name for source in schemas.sources(schema_id, columns).values()]


def _sent_type(key_field: AvroField) -> str:
    """The Spark type that from_avro gives a key column, for reading it from a text."""
    digits = decimal_digits(key_field.avro_type)
    if digits is not None:
        return decimal_type(*digits)
    node = key_field.avro_type
    base = node["type"] if isinstance(node, dict) else node
    return {"long": "bigint", "bytes": "binary"}.get(base, str(base))


@dataclass(frozen=True)
class _Projection:
    """The SQL of each output column: a choice by writer schema, every branch with its own rules."""

    schemas: WriterSchemas
    columns: tuple[Column, ...]
    sets_aside: bool = False

    def per_schema(self, branch: Callable[[int], str], otherwise: str = "NULL") -> str:
        """`CASE` over the value's writer schemas."""
        whens = [f"WHEN v{i} IS NOT NULL THEN {branch(i)}" for i in sorted(self.schemas.values)]
        return f"CASE {' '.join(whens)} ELSE {otherwise} END" if whens else otherwise

    def key(self) -> str:
        """The key struct; a record without a readable key stops the table."""
        types = {c.name: c.type for c in self.columns}
        whens = []
        for i in self.schemas.key_fields:
            parts = [
                f"{literal(name)}, {source.sql(f'k{i}.{quote(source.field.decoded_name)}', types[name])}"
                for name, source in self.schemas.key_sources(i, self.columns).items()
            ]
            whens.append(f"WHEN k{i} IS NOT NULL THEN named_struct({', '.join(parts)})")
        if self.sets_aside:
            # A truncate concerns all keys.
            whens.append(
                f"WHEN key IS NULL AND ({self.per_schema(lambda i: f'v{i}.op')}) = 't' THEN NULL"
            )
        fault = fault_sql("'key'", "key")
        struct = ", ".join(
            f"{quote(name)}: {spark_type(types[name])}"
            for name in self.schemas.key_names(self.columns)
        )
        return f"CASE {' '.join(whens)} ELSE CAST({fault} AS STRUCT<{struct}>) END"

    def old_key(self) -> str:
        """The key that a key update changed, from Debezium's header; null for any other record."""
        types = {c.name: c.type for c in self.columns}
        sources = self.schemas.key_sources(max(self.schemas.key_fields), self.columns)
        header = f"get(filter(headers, h -> h.key = '{OLD_KEY}'), 0).value"
        sent = ", ".join(f"{quote(s.field.name)} {_sent_type(s.field)}" for s in sources.values())
        # Connect writes texts as they are, line ends included.
        read = f"from_json(CAST({header} AS STRING), {literal(sent)}, {JSON_OPTIONS})"
        parts = [
            f"{literal(name)}, {source.sql(f'{read}.{quote(source.field.name)}', types[name])}"
            for name, source in sources.items()
        ]
        return f"CASE WHEN {header} IS NOT NULL THEN named_struct({', '.join(parts)}) END"

    def schema_id(self) -> str:
        """The writer schema id; null for a tombstone."""
        return self.per_schema(str, "CAST(NULL AS INT)")

    def op(self) -> str:
        """`c`, `u`, `d` or `r`; anything else, an undecoded value or a missing row is a fault."""
        op = self.per_schema(lambda i: f"v{i}.op")
        if self.sets_aside:
            return f"IF(fault IS NULL, {op}, NULL)"
        has_row = self.per_schema(lambda i: f"v{i}.after IS NOT NULL", "false")
        undecoded = self.undecoded()
        fault = fault_sql(f"if({undecoded}, 'frame', 'op')", "value", op)
        return (
            f"CASE WHEN value IS NULL THEN CAST(NULL AS STRING) "
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
        unknown = fault_sql("'frame'", "value")
        return (
            f"CASE WHEN value IS NULL THEN CAST(NULL AS STRING) "
            f"WHEN {framing} IS NOT NULL THEN concat({framing}, '|') "
            f"WHEN {self.undecoded()} THEN CAST({unknown} AS STRING) "
            f"WHEN ({op}) IS NULL THEN 'malformed|' "
            f"WHEN ({op}) IN ('d', 't') THEN CAST(NULL AS STRING) "
            f"WHEN ({op}) IN ('c', 'u', 'r') AND ({has_row}) THEN {self.per_schema(self.value_fault)} "
            f"ELSE concat('op|', left({op}, 8)) END"
        )

    def value_fault(self, i: int) -> str:
        """The first value of a row that the table can't hold, as `value|column: reason`."""
        sources, found = self.schemas.sources(i, self.columns), []
        for c in self.columns:
            source = sources.get(c.name)
            reason = source.fault_reason(c.type) if source else None
            if source is not None and reason is not None:
                value = f"v{i}.after.{quote(source.field.decoded_name)}"
                bad = f"({source.sql(value, c.type, fault=set_aside)}) IS NULL"
                text = literal(f"value|{c.name}: {reason}")
                given = source.given(value)
                found.append(f"CASE WHEN {given} IS NOT NULL AND {bad} THEN {text} END")
        return f"coalesce({', '.join([*found, 'CAST(NULL AS STRING)'])})"

    def after(self) -> str:
        """The row after the change, in the table's types; missing columns are null."""

        def image(i: int) -> str:
            sources = self.schemas.sources(i, self.columns)
            fault = set_aside if self.sets_aside else None
            parts = []
            for c in self.columns:
                source, sql = sources.get(c.name), "NULL"
                if source is not None:
                    sql = source.sql(
                        f"v{i}.after.{quote(source.field.decoded_name)}", c.type, fault=fault
                    )
                parts.append(f"{literal(c.name)}, CAST({sql} AS {spark_type(c.type)})")
            return f"CASE WHEN v{i}.after IS NOT NULL THEN named_struct({', '.join(parts)}) END"

        columns = ", ".join(f"{quote(c.name)}: {spark_type(c.type)}" for c in self.columns)
        return self.per_schema(image, f"CAST(NULL AS STRUCT<{columns}>)")

    def unavailable(self) -> str:
        """Names of the columns that hold Debezium's placeholder instead of a value."""

        def names(i: int) -> str:
            tests = {
                name: unavailable_sql(
                    source.field, f"v{i}.after.{quote(source.field.decoded_name)}"
                )
                for name, source in self.schemas.sources(i, self.columns).items()
            }
            found = {name: sql for name, sql in tests.items() if sql}
            if not found or self.schemas.envelopes[i].connector in ("mysql", "mariadb"):
                return "CAST(array() AS ARRAY<STRING>)"
            listed = ", ".join(f"CASE WHEN {sql} THEN {literal(n)} END" for n, sql in found.items())
            return (
                f"CASE WHEN {' OR '.join(found.values())} THEN array_except(array({listed}), array(NULL)) "
                "ELSE CAST(array() AS ARRAY<STRING>) END"
            )

        return self.per_schema(names, "CAST(NULL AS ARRAY<STRING>)")

    def position(self) -> str:
        """The source position; null where the source block has none."""

        def place(i: int) -> str:
            envelope = self.schemas.envelopes[i]
            return position_sql(envelope.connector, f"v{i}.source", envelope.source_fields)

        return self.per_schema(place, "CAST(NULL AS STRUCT<hi: BIGINT, lo: BIGINT>)")

    def snapshot(self) -> str:
        """Debezium's word for the kind of read; null for a tombstone."""
        return self.per_schema(lambda i: f"v{i}.source.snapshot", "CAST(NULL AS STRING)")

    def source_ts(self) -> str:
        """When the source says the change happened: for freshness only, never an order."""

        def stamp(i: int) -> str:
            fields = self.schemas.envelopes[i].source_fields
            micros = f"v{i}.source.ts_ms * 1000"
            if "ts_us" in fields:
                micros = f"coalesce(v{i}.source.ts_us, {micros})"
            return f"timestamp_micros({micros})"

        return self.per_schema(stamp, "CAST(NULL AS TIMESTAMP_LTZ)")
