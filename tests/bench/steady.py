"""Figures of a query that runs on: small batches, no batches, many batches."""

from __future__ import annotations

import statistics
import time
from typing import Any

from pyspark.sql import SparkSession

from cdc_sink.config import Target
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.spark.run.table_query import TableQuery
from tests.bench.events import UPDATE, Source
from tests.bench.figures import Figure, progress_of, running, wait_until

IDLE_S = 20
CLEANER_S = 3
TEN_UPDATES = "UPDATE {table} SET visits = visits + 1 WHERE id BETWEEN {first} AND {last}"
MEMORY_BATCHES = 100


def small_batch(spark: SparkSession, target: Target, source: Source, *, rounds: int = 12) -> Figure:
    """Ten updates at a time; the median of the batches after three for warm-up."""
    with running(spark, target, once=False) as query:
        wait_until(
            query, lambda: _is_level(spark, target, source), "the table was not brought up to date"
        )
        before = len(progress_of(query))
        for number in range(rounds):
            _ten_updates(source, query, number)
        batches = progress_of(query)
    seconds = [b["durationMs"]["triggerExecution"] / 1000 for b in batches[before:]][3:]
    value = statistics.median(seconds)
    rows = source.run("SELECT FROM {table}")
    return Figure(
        "batch of 10 records", value, "s", "<= 1.2 s", value <= 1.2,
        f"into {rows:,} rows; {len(seconds)} warm batches, {min(seconds):.2f} to {max(seconds):.2f} s",
    )  # fmt: skip


def _is_level(spark: SparkSession, target: Target, source: Source) -> bool:
    """Whether the table's ledger has reached the end of the topic."""
    table = IcebergTable.load(spark, target)
    ledger = table.ledger() if table else None
    return ledger is not None and sum(ledger.next_offsets.values()) == source.end_offset()


def _ten_updates(source: Source, query: TableQuery, number: int) -> None:
    applied = len(progress_of(query))
    first = 1000 + number * 20
    source.run(TEN_UPDATES, first=first, last=first + 9)
    wait_until(
        query, lambda: len(progress_of(query)) > applied, "a small batch was not applied", 60
    )


def idle_jobs(spark: SparkSession, target: Target, source: Source) -> Figure:
    """Spark jobs that a running query starts while no record arrives."""
    with running(spark, target, once=False) as query:
        _ten_updates(source, query, 100)
        before = _last_job(spark)
        deadline = time.monotonic() + IDLE_S
        wait_until(query, lambda: time.monotonic() > deadline, "idle")
        jobs = _last_job(spark) - before - 1  # the marker's own job
    return Figure(
        "jobs of an idle table", jobs, f"jobs in {IDLE_S} s", "0", jobs == 0, "query running"
    )


def _last_job(spark: SparkSession) -> int:
    """Number of the newest job: made by running one."""
    context: Any = spark.sparkContext._jsc.sc()
    spark.sparkContext.parallelize([1], 1).count()
    return int(context.dagScheduler().nextJobId())


def memory_growth(spark: SparkSession, target: Target, source: Source) -> Figure:
    """Live heap of the driver (everything runs in it) after collection: batch 10 against batch 110."""
    with running(spark, target, once=False) as query:
        used = [_after(source, query, n) for n in range(MEMORY_BATCHES + 10)]
    before, after = used[9], used[-1]
    growth = (after - before) / 2**20
    return Figure(
        "heap growth over 100 batches", growth, "MiB", "<= 32 MiB", growth <= 32,
        f"{before / 2**20:.0f} MiB after batch 10, {after / 2**20:.0f} MiB after batch 110",
    )  # fmt: skip


def _after(source: Source, query: TableQuery, number: int) -> int:
    applied = len(progress_of(query))
    batch_id = query.streaming_query.lastProgress["batchId"] if applied else -1
    source.run(UPDATE, step=4001, rest=number)

    def done() -> bool:
        last = query.streaming_query.lastProgress
        return last is not None and last["batchId"] > batch_id and last["numInputRows"] > 0

    wait_until(query, done, "a batch was not applied", 60)
    if number not in (9, MEMORY_BATCHES + 9):
        return 0
    jvm: Any = query.spark._jvm
    runtime = jvm.java.lang.Runtime.getRuntime()
    jvm.java.lang.System.gc()
    # What Spark frees when it hears of a collection (broadcasts, shuffles) is gone after the next one.
    time.sleep(CLEANER_S)
    jvm.java.lang.System.gc()
    return int(runtime.totalMemory() - runtime.freeMemory())
