"""Kafka records in, changes out: the one place where Avro becomes columns.

Every writer schema that occurs is decoded by itself, once per record, and converted to the table's types by
the rules of that writer schema. One column per schema id, projected afterwards: a `from_avro` inside a
projection of its fields would run once per field. A flattened row is brought to the shape of an envelope by
one projection more, which other topics don't have.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro
from pyspark.sql.types import ArrayType, BinaryType, MapType, StringType, StructType

from cdc_sink.debezium.envelope import reader_schema, spark_schema
from cdc_sink.debezium.wire.confluent import PREFIX_BYTES, frame_prefix, framing_fault_sql
from cdc_sink.spark.read.change_sql import Projection
from cdc_sink.spark.read.record_faults import FRAME, KEY, fault_sql
from cdc_sink.table.schema.columns import Column, iceberg_type
from cdc_sink.table.schema.writer_schemas import WriterSchemas

# Each writer schema is a branch of the decoding projection. Up to so many it costs less to plan them all than
# to look which of them a batch holds.
FEW_SCHEMAS = 8
# Types of unlimited size: the connector may leave a value out that did not change.
LARGE = (StringType, BinaryType, ArrayType, MapType)
_RAW = "named_struct('key', key, 'value', value, 'timestamp', timestamp, 'headers', headers)"


def with_raw(records: DataFrame) -> DataFrame:
    """Keep each record as it is now in `raw`, for the dead letters, before an input rewrites it.

    Records that have `raw` already keep it; those without `timestamp` and `headers` are not set aside.
    """
    if "raw" in records.columns or not {"timestamp", "headers"} <= set(records.columns):
        return records
    return records.withColumn("raw", F.expr(_RAW))


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


def require_framed(records: DataFrame, *, keyless: bool = False) -> None:
    """Fail with a fault at a record with a key or value that carries no schema id, or, unless `keyless`,
    without a key."""
    key, frame = fault_sql(f"'{KEY}'", "key"), fault_sql(f"'{FRAME}'", "value")
    no_key = "false" if keyless else "key IS NULL"
    checks = [
        f"CASE WHEN {no_key} OR {framing_fault_sql('key')} IS NOT NULL THEN {key} END AS key",
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
    Out: one row per record: `key` struct, `op` (null for a tombstone, which carries no change; a delete with
         `order: kafka`), `after` struct of `columns` (null for deletes), `unavailable` (names of columns that
         hold Debezium's placeholder), `position` struct<hi,lo> (null where none can be read, and with
         `order: kafka`), `source_ts`, `snapshot`, `topic`, `partition`, `offset`, `schema_id`, `origin`
         (which table of which source, one text; see debezium/origin.py).
         For a table of events `key` is null, and `after` of a delete has the key's columns; without a key,
         the row before.
         With `sets_aside` (slower, and `records` need `timestamp` and `headers`; `raw` where they were
         rewritten) a bad record is a change
         without op, a truncate a change of op `t` without key, and there are three columns more: `fault`,
         reason code and detail, null for a good record; `raw`, the record as it was; `old_key`, for the
         second half of a key update.
    Raises: at run time, a fault (see record_faults.py) for a record that can't be read; with `sets_aside`
            only for one whose key can't be read or whose schema is not among `schemas`.
    """
    projected = Projection(schemas, tuple(columns), sets_aside)
    decoded = _decoded(records, projected)
    if sets_aside:
        decoded = decoded.withColumn("fault", F.expr(projected.fault()))
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
        f"{projected.origin()} AS origin",
        *(("fault", "raw", f"{projected.old_key()} AS old_key") if sets_aside else ()),
    )


def log_names(
    records: DataFrame,
    schemas: WriterSchemas,
    columns: Sequence[Column],
    *,
    sets_aside: bool = False,
) -> list[str]:
    """Names of the logs that the records' positions number the files of, the newest last; one job."""
    projected = Projection(schemas, tuple(columns), sets_aside)
    named = _decoded(records, projected).selectExpr("offset", f"{projected.log()} AS log")
    last = named.where("log IS NOT NULL").groupBy("log").agg(F.max("offset").alias("last"))
    return [str(row["log"]) for row in last.orderBy("last").collect()]


def _decoded(records: DataFrame, projected: Projection) -> DataFrame:
    """The records, with a column per writer schema that holds what it decoded."""
    schemas, columns, sets_aside = projected.schemas, projected.columns, projected.sets_aside
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
                    "avroSchema": reader_schema(
                        text,
                        _known(schemas, i, columns),
                        schemas.policy.order,
                        with_before=schemas.policy.mode.keeps_events,
                    ),
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
    carried: tuple[str, ...] = ("key", "value", "topic", "partition", "offset")
    if sets_aside:
        records, carried = with_raw(records), (*carried, "headers", "raw")
    return _shaped(records.select(*carried, *values, *keys), projected)


def _shaped(decoded: DataFrame, projected: Projection) -> DataFrame:
    """Bring flattened rows to the shape of envelopes, in a projection of its own: see the module."""
    rows = {f"v{i}": F.expr(sql) for i, sql in projected.flattened().items()}
    return decoded.withColumns(rows) if rows else decoded


def _known(schemas: WriterSchemas, schema_id: int, columns: Sequence[Column]) -> list[str]:
    return [source.field.decoded_name for source in schemas.sources(schema_id, columns).values()]


def key_names(changes: DataFrame) -> tuple[str, ...]:
    """Names of the key columns of changes; those of a table of events have none."""
    kind = changes.schema["key"].dataType
    return tuple(kind.names) if isinstance(kind, StructType) else ()


def struct_columns(
    changes: DataFrame, name: str, key_columns: tuple[str, ...]
) -> tuple[Column, ...]:
    """The table columns that a struct column of changes asks for."""
    return tuple(
        Column(f.name, iceberg_type(f.dataType.simpleString()), required=f.name in key_columns)
        for f in struct_type(changes.schema, name).fields
    )


def struct_type(schema: StructType, name: str) -> StructType:
    """The type of a column that is a struct."""
    kind = schema[name].dataType
    assert isinstance(kind, StructType)
    return kind
