"""Dead letters applied after all: by the same path, under the guard, while no stream writes the table.

    1 recover   letters that a crash left `replaying`: the ledger says on which side of the commit it was
    2 apply     letters of the chosen keys, in Kafka order; those that still fail stay where they are
    3 mark      `replayed`
A crash anywhere is repaired by the next replay; replaying twice changes nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from pyspark.sql import SparkSession

from cdc_sink.config import Pipeline, Target
from cdc_sink.errors import ConfigError, StateError
from cdc_sink.spark.fold.folding import folding_of
from cdc_sink.spark.hooks import NO_HOOKS, Hooks
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.spark.micro_batch import MicroBatchWriter
from cdc_sink.spark.read.converters import converter_of
from cdc_sink.spark.read.source import KafkaTopic
from cdc_sink.spark.run.checkpoint import Files
from cdc_sink.spark.run.lease_file import renew_lease, take_lease
from cdc_sink.spark.run.services import Clients, require_no_stream, stream_of
from cdc_sink.spark.run.session import create_session, require_session
from cdc_sink.spark.transform.masks import whole_transform
from cdc_sink.spark.write.dead_letter_table import DeadLetters, count_of, digest_of
from cdc_sink.spark.write.sink import Sink
from cdc_sink.table.dead_letter import State, purge_sql
from cdc_sink.table.lease import QueryState
from cdc_sink.table.ledger.ledger import Ledger


@dataclass(frozen=True)
class ReplayReport:
    """What a replay did. Unit: records."""

    table: str
    replayed: int
    waiting: int


def replay(
    pipeline: Pipeline,
    table: str,
    *,
    record: tuple[int, int] | None = None,
    spark: SparkSession | None = None,
    hooks: Hooks = NO_HOOKS,
) -> ReplayReport:
    """Apply a table's waiting dead letters.

    In:     record, partition and offset of one letter: only those of its key; default all. `hooks`: what the
            stream is given in code, too.
    Raises: StateError when a stream writes the table; ConfigError; UnavailableError.
    """
    spark = spark or create_session(pipeline, purpose="replay")
    require_session(spark, pipeline)
    target = pipeline.target(table)
    require_no_stream(spark, target)
    ledger = _ledger(spark, target)
    transform = whole_transform(hooks, target)
    services = Clients.of(pipeline)
    stream, partitions = stream_of(services.cluster, target, ledger.stream.query_id)
    files = Files(spark)
    waiting_for = take_lease(files, target, QueryState.RUNNING)
    if waiting_for is not None:
        raise StateError(
            target.name, f"a replay waits for {waiting_for}", remedy="try again in a minute"
        )
    try:
        topic = KafkaTopic(spark, target, services.cluster)
        writer = MicroBatchWriter(
            Sink(
                spark, stream, partitions, folding_of(target), is_transformed=transform is not None
            ),
            converter_of(target, services.registry),
            topic,
            transform=transform,
        )
        return replay_letters(writer, ledger, record)
    finally:
        with suppress(StateError):  # another one has it by now: there is nothing to give back
            renew_lease(files, target, QueryState.STOPPED)


def replay_letters(
    writer: MicroBatchWriter, ledger: Ledger, record: tuple[int, int] | None = None
) -> ReplayReport:
    """Apply the letters of a table that nobody else writes."""
    sink = writer.sink
    store = DeadLetters(sink.spark, sink.target, ledger.stream.topic_id)
    recover(store, ledger)
    waiting = store.waiting()
    if waiting is None or waiting.isEmpty():
        return ReplayReport(sink.target.name, 0, 0)
    chosen = waiting if record is None else store.of_key(*record)
    replayed = writer.replay(chosen, store)
    return ReplayReport(sink.target.name, replayed, count_of(store.waiting()))


def release(
    pipeline: Pipeline, table: str, *, record: tuple[int, int] | None, spark: SparkSession
) -> int:
    """Give up waiting letters: of one key, or all of a table; the stream may run meanwhile.

    Out: how many. The rows of their keys may differ from the source until it changes them again.
    """
    target = pipeline.target(table)
    store = DeadLetters(spark, target, _ledger(spark, target).stream.topic_id)
    waiting = store.waiting()
    if waiting is None:
        return 0
    chosen = (waiting if record is None else store.of_key(*record)).localCheckpoint(eager=True)
    store.mark(chosen, State.RELEASED)
    return count_of(chosen)


def purge(pipeline: Pipeline, older_than_days: int, *, spark: SparkSession) -> int:
    """Remove the letters of all tables that were replayed or released so long ago; how many."""
    letters = pipeline.target(pipeline.tables[0].name).dead_letters
    if not spark.catalog.tableExists(letters):
        return 0
    before = spark.table(letters).count()
    spark.sql(purge_sql(letters, older_than_days))
    return before - spark.table(letters).count()


def recover(store: DeadLetters, ledger: Ledger) -> None:
    """Settle letters that a crash left between two states."""
    waiting = store.waiting()
    left = None if waiting is None else waiting.where(f"state = '{State.REPLAYING}'")
    if left is not None and not left.isEmpty():
        was_committed = digest_of(left) == ledger.replay
        store.mark(left, State.REPLAYED if was_committed else State.QUARANTINED)


def _ledger(spark: SparkSession, target: Target) -> Ledger:
    table = IcebergTable.load(spark, target)
    ledger = table.ledger() if table else None
    if ledger is None:
        raise ConfigError(
            target.name,
            "there is no such table, or no ledger in it",
            remedy="name a table that the pipeline has written",
        )
    return ledger
