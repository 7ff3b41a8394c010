"""For pipelines of your own: changes to start from, and an exactly-once end for `foreachBatch`."""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame, SparkSession

from cdc_sink.config import Target
from cdc_sink.errors import ConfigError, StateError
from cdc_sink.spark.fold.folding import folding_of
from cdc_sink.spark.foreign_errors import JOB_FAILED, caused
from cdc_sink.spark.hooks import NO_HOOKS
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.spark.read.decode import decode
from cdc_sink.spark.read.record_faults import read_fault
from cdc_sink.spark.read.source import read_records
from cdc_sink.spark.run.checkpoint import Files, query_id
from cdc_sink.spark.run.offset_log import log_of_running
from cdc_sink.spark.run.services import Clients, stream_of
from cdc_sink.spark.run.session import require_session
from cdc_sink.spark.transform.masks import whole_transform
from cdc_sink.spark.transform.transforms import transforming_by
from cdc_sink.spark.write.sink import NeedsQuarantine, Sink
from cdc_sink.table.ledger.offsets import including
from cdc_sink.table.schema.writer_schemas import WriterSchemas

_sinks: dict[tuple[str, str], tuple[str, Sink]] = {}


def read_changes(spark: SparkSession, table: Target) -> DataFrame:
    """Stream the changes of one table's topic, decoded, typed and masked; custom pipelines start here.

    Out:    one row per Kafka record: `key` struct, `op` (null for a tombstone, which carries no change; a
            delete with `order: kafka`), `after` struct (null for deletes), `unavailable`, `position`
            struct<hi,lo>, `source_ts`, `snapshot`, `topic`, `partition`, `offset`, `schema_id`.
    Raises: ConfigError when the session lacks a property, the subject has no schema yet, the topic is an
            outbox, or the table's `wire` isn't confluent, whose ids are those of the subject's versions;
            UnavailableError. A schema registered later stops the query; start it again.
    """
    require_session(spark, table.pipeline)
    if table.table.wire != "confluent" or table.table.outbox:
        raise ConfigError(
            table.name,
            f"`read_changes` reads `wire: confluent` without `outbox` only, not {table.table.wire}",
            remedy="let the connector's converters write confluent, or let `cdc-sink run` write the table",
        )
    services, topic = Clients.of(table.pipeline), table.table.topic
    registry = services.registry
    values, keys = registry.versions(f"{topic}-value"), registry.versions(f"{topic}-key")
    schemas = WriterSchemas(values, keys, table.table.policy)
    if not schemas.values or not schemas.has_key:
        raise ConfigError(
            table.name,
            f"the registry has no schema under {topic}-key and {topic}-value yet",
            remedy="start the connector and let it write its first record",
        )
    iceberg = IcebergTable.load(spark, table)
    ledger = iceberg.ledger() if iceberg else None
    applied = None
    if ledger is not None:
        applied = including(ledger.next_offsets, services.cluster.end_offsets(topic))
    held = iceberg.columns() if iceberg else ()
    changes = decode(read_records(spark, table, applied), schemas, schemas.extend(held))
    transforming = transforming_by(whole_transform(NO_HOOKS, table), table)
    return changes if transforming is None else transforming.of(changes, held)


def apply_changes(changes: DataFrame, batch_id: int, table: Target) -> None:
    """Apply one micro-batch of changes exactly once; fits `foreachBatch`.

    In:     changes as `read_changes` gives them, possibly with fewer rows or other columns in `after`.
            Rows that you leave out are not part of the table; key, position, partition and offset must
            stay as they are.
    Raises: CdcSinkError; nothing was committed then.
    """
    sink = _sink_of(changes.sparkSession, table)
    offsets = log_of_running(changes.sparkSession, table.name)
    batch = offsets.range_of(batch_id) if offsets else None
    try:
        stored = IcebergTable.load(sink.spark, table)
        applied = sink.apply(changes, batch_id, stored, batch=batch)
    except JOB_FAILED as failed:
        fault = read_fault(str(failed))
        raise (fault.error() if fault else caused(failed, table.name)) from failed
    if isinstance(applied, NeedsQuarantine):
        raise StateError(
            table.name,
            "the connector left values out that neither the batch nor the table has",
            data="the batch was not applied",
            remedy="set REPLICA IDENTITY FULL on the source table, or let `cdc-sink run` apply the batch: it "
            "can set such keys aside",
        )


def _sink_of(spark: SparkSession, table: Target) -> Sink:
    """One sink per table and query run: Spark gives each run a session of its own."""
    java: Any = spark._jsparkSession
    session = str(java.sessionUUID())
    known = _sinks.get((table.pipeline.name, table.name))
    if known and known[0] == session:
        return known[1]
    own_id = spark.sparkContext.getLocalProperty("sql.streaming.queryId")
    stream, partitions = stream_of(
        Clients.of(table.pipeline).cluster,
        table,
        own_id or query_id(Files(spark), table.checkpoint),
    )
    is_transformed = whole_transform(NO_HOOKS, table) is not None
    sink = Sink(spark, stream, partitions, folding_of(table), is_transformed=is_transformed)
    _sinks[table.pipeline.name, table.name] = (session, sink)
    return sink
