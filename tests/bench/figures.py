"""What is measured, each figure by itself. Rates are per core of the session's local[N]."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from cdc_sink.clients.registry import RegistryClient
from cdc_sink.config import Target
from cdc_sink.spark.read.decode import decode, schema_ids
from cdc_sink.spark.read.source import RECORDS_PER_TASK, reader_options
from cdc_sink.spark.run.services import Clients
from cdc_sink.spark.run.table_query import TableQuery
from cdc_sink.spark.write.engines.merge import prepare_session
from cdc_sink.table.schema.writer_schemas import WriterSchemas

DECODED = 400_000  # records that decoding is measured on: they stay in memory


@dataclass(frozen=True)
class Figure:
    """One line of the report; `goal` as the project states it, `met` by this run."""

    name: str
    value: float
    unit: str
    goal: str
    met: bool
    detail: str = ""


def cores(spark: SparkSession) -> int:
    """Tasks that run at once."""
    return spark.sparkContext.defaultParallelism


def records_of(spark: SparkSession, target: Target) -> DataFrame:
    """The first records of the topic, read as one batch."""
    reader = spark.read.format("kafka").options(**reader_options(target))
    reader = reader.option("subscribe", target.table.topic)
    reader = reader.option("maxRecordsPerPartition", str(RECORDS_PER_TASK))
    records = reader.load().select("key", "value", "topic", "partition", "offset", "timestamp")
    return records.where(f"offset < {DECODED}")


def decode_rate(spark: SparkSession, target: Target, *, runs: int = 7, warm_up: int = 15) -> Figure:
    """Kafka bytes in memory → changes, every column of every record used; median of warm runs."""
    prepare_session(spark)
    records = records_of(spark, target).persist()
    count = records.count()
    values, keys = schema_ids(records)
    registry = RegistryClient(target.pipeline.registry)
    schemas = WriterSchemas(
        {i: registry.schema(i) for i in values}, {i: registry.schema(i) for i in keys}
    )
    changes = decode(records, schemas, schemas.extend(()))
    seconds = [_timed(lambda: _drain(changes)) for _ in range(warm_up + runs)][warm_up:]
    records.unpersist(blocking=True)
    rate = count / statistics.median(seconds) / cores(spark)
    return Figure(
        "decode", rate, "records/s/core", ">= 200,000", rate >= 200_000,
        f"{count:,} records, {len(values)} value schemas, median of {runs} runs after {warm_up}",
    )  # fmt: skip


def _drain(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()


def _timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def progress_of(query: TableQuery) -> list[dict[str, Any]]:
    """Spark's own account of the query's batches that held records."""
    found = [dict(p) for p in query.streaming_query.recentProgress]
    return [p for p in found if p["numInputRows"] > 0]


@contextmanager
def running(spark: SparkSession, target: Target, *, once: bool) -> Iterator[TableQuery]:
    """The table's query, started as the supervisor starts it."""
    query = TableQuery(spark, target, Clients.of(target.pipeline), once=once)
    query.tick(time.monotonic())
    if query.error is not None:
        raise query.error
    try:
        yield query
    finally:
        query.stop()


def wait_until(query: TableQuery, done: Any, what: str, limit_s: float = 600) -> None:
    """Drive the query until `done()`; an error of the table ends the benchmark."""
    deadline = time.monotonic() + limit_s
    while not done():
        query.tick(time.monotonic())
        if query.error is not None:
            raise query.error
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


def apply_rate(spark: SparkSession, target: Target) -> Figure:
    """Kafka → committed mirror table, full batches only, the first one dropped as warm-up."""
    with running(spark, target, once=True) as query:
        wait_until(query, lambda: query.is_over, "the topic was not applied")
        batches = progress_of(query)
    full = [b for b in batches if b["numInputRows"] >= target.table.max_records_per_batch]
    seconds = [b["durationMs"]["triggerExecution"] / 1000 for b in full]
    size = target.table.max_records_per_batch
    warm = seconds[1:]
    rate = size / statistics.median(warm) / cores(spark)
    listed = " ".join(f"{s:.1f}" for s in seconds)
    return Figure(
        "Kafka to committed table", rate, "events/s/core", ">= 12,000", rate >= 12_000,
        f"batches of {size:,}: {listed} s (trigger to commit log)",
    )  # fmt: skip
