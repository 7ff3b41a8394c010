"""The streaming query of one table, as a small state machine that one thread drives:

    waiting → running → (stopped | parked | backing_off → waiting …)

`waiting` is for a topic that does not exist yet or a lease that may still be held. An error that says `retry`
backs off and starts again; any other parks the table until the operator acts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import structlog
from pyspark.sql import DataFrame, SparkSession

from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import Target
from cdc_sink.errors import CdcSinkError, StateError
from cdc_sink.spark.fold.folding import folding_of
from cdc_sink.spark.foreign_errors import JOB_FAILED, caused, stumbled_after_replay
from cdc_sink.spark.hooks import AppliedBatch, Hooks
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.spark.micro_batch import MicroBatchWriter
from cdc_sink.spark.read.converters import converter_of
from cdc_sink.spark.read.source import KafkaTopic, read_records
from cdc_sink.spark.run.checkpoint import (
    Files,
    check_identity,
    query_id,
    read_identity,
    require_not_ahead,
    resume_offsets,
    set_unfit_aside,
)
from cdc_sink.spark.run.lease_file import renew_lease, take_lease
from cdc_sink.spark.run.offset_log import OffsetLog
from cdc_sink.spark.run.services import Clients, stream_of
from cdc_sink.spark.run.span import Span
from cdc_sink.spark.run.stopping import goes_on, stop_all
from cdc_sink.spark.transform.masks import whole_transform
from cdc_sink.spark.write.left_over_rows import settle
from cdc_sink.spark.write.sink import Sink
from cdc_sink.table.lease import QueryState
from cdc_sink.table.ledger.ledger import LEDGER_KEY, Ledger
from cdc_sink.table.ledger.offsets import including
from cdc_sink.table.ledger.one_table import OneTable, require_whole_topic, topic_gone
from cdc_sink.table.ledger.stream_identity import StreamIdentity

log: structlog.stdlib.BoundLogger = structlog.get_logger("cdc_sink.query")

RENEW_S = 15
FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 60.0
EMPTY_ON_START = "spark.sql.streaming.verifyCheckpointDirectoryEmptyOnStart"


@dataclass
class TableQuery:
    """The streaming query of one table: started, watched, started again."""

    spark: SparkSession
    target: Target
    services: Clients
    once: bool = False
    take_over: bool = False
    span: Span = field(default_factory=Span)
    state: QueryState = QueryState.WAITING
    error: CdcSinkError | None = None
    refused: CdcSinkError | None = None  # why it must not be started
    hooks: Hooks = field(default_factory=Hooks)
    attempts: int = 0
    due_at: float = 0.0
    _query: Any = None
    _failure: CdcSinkError | None = None
    _renewed_at: float = 0.0
    _owns_lease: bool = False
    _is_done: bool = False

    @property
    def streaming_query(self) -> Any:
        """Spark's own query, once it was started."""
        return self._query

    @property
    def is_over(self) -> bool:
        """Nothing more will happen by itself."""
        return self.state.is_over

    def tick(self, now: float) -> None:
        """Move one step: start what is due, notice what ended, renew the lease."""
        if self.state in (QueryState.WAITING, QueryState.BACKING_OFF) and now >= self.due_at:
            self._try_start(now)
        elif self.state is QueryState.RUNNING and self._is_done:
            self.stop()
        elif self.state is QueryState.RUNNING and not self._query.isActive:
            self._ended(now)
        if self._owns_lease and not self.is_over and now - self._renewed_at > RENEW_S:
            self._note_state(now)

    @property
    def is_in_batch(self) -> bool:
        """A batch is being applied."""
        running = self._query is not None and self._query.isActive
        return running and bool(self._query.status["isTriggerActive"])

    def stop(self) -> None:
        """Stop as `stop_all` says."""
        stop_all([self])

    def stop_now(self) -> StateError | None:
        """Stop; a batch that is being applied is cut short, harmlessly. The error says that it goes on."""
        if self._query is not None and self._query.isActive:
            try:
                self._query.stop()
            except JOB_FAILED:
                if self._query.isActive:  # else it ended a moment after Spark had looked
                    return goes_on(self.target.name)
        if not self.is_over:
            self._enter(QueryState.STOPPED, time.monotonic())
        return None

    def _try_start(self, now: float) -> None:
        try:
            waiting_for = self._start()
        except CdcSinkError as error:
            self._failed(error, now)
        except JOB_FAILED as failed:
            self._failed(caused(failed, self.target.name), now)
        else:
            if waiting_for is None:
                if not self.is_over:  # without a topic there is nothing to run
                    self._enter(QueryState.RUNNING, now)
                return
            if self.state is not QueryState.WAITING or self.attempts == 0:
                log.info("waiting", table=self.target.name, waiting_for=waiting_for)
            self.state, self.attempts, self.due_at = QueryState.WAITING, self.attempts + 1, now + 2

    def _start(self) -> str | None:
        """Start the query; or say what it has to wait for."""
        files = Files(self.spark)
        self._owns_lease = False
        waiting_for = take_lease(files, self.target)
        self._owns_lease = waiting_for is None
        if self.refused is not None:
            raise self.refused
        if waiting_for is not None:
            return waiting_for
        cluster, topic = self.services.cluster, self.target.table.topic
        iceberg = IcebergTable.load(self.spark, self.target)
        ledger = iceberg.ledger() if iceberg else None
        if not cluster.topic(topic):
            if ledger is not None:
                raise topic_gone(self.target.name, topic, ledger.totals.records)
            if self.target.table.missing_topic == "wait":
                if not self.once:
                    return f"topic {topic} to exist"
                log.info("nothing_to_apply", table=self.target.name, missing_topic=topic)
                self._enter(QueryState.STOPPED, time.monotonic())
                return None
        if self.take_over:
            self._set_aside(files, cluster, iceberg, ledger)
        stream, partitions = stream_of(
            cluster, self.target, query_id(files, self.target.checkpoint)
        )
        self._run(files, stream, partitions, iceberg)
        return None

    def _set_aside(
        self,
        files: Files,
        cluster: Cluster,
        iceberg: IcebergTable | None,
        ledger: Ledger | None,
    ) -> None:
        """Make room for a new checkpoint where the old one does not fit the table any more."""
        uuid, now_ms = iceberg.uuid if iceberg else None, time.time_ns() // 1_000_000
        kept = read_identity(files, self.target)
        if ledger is None and kept is not None and kept.get("table_uuid") is not None:
            topic = self.target.table.topic
            require_whole_topic(self.target.name, topic, cluster.start_offsets(topic))
        if set_unfit_aside(files, self.target, uuid, ledger, now_ms):
            log.info("checkpoint_set_aside", table=self.target.name, suffix=f"aside-{now_ms}")

    def _run(
        self,
        files: Files,
        stream: StreamIdentity,
        partitions: tuple[int, ...],
        iceberg: IcebergTable | None,
    ) -> None:
        ledger = self._own_ledger(stream, iceberg, partitions)
        uuid = iceberg.uuid if iceberg else None
        one_table = check_identity(files, self.target, stream, uuid)
        if ledger is not None:
            resumed = resume_offsets(files, self.target.checkpoint)
            require_not_ahead(self.span.within(resumed), ledger, self.target)
            settle(self.spark, self.target)
        offsets = OffsetLog(files, self.target.checkpoint, self.target.name)
        writer = _Batches(self, stream, partitions, one_table, offsets)
        applied = including(ledger.next_offsets, partitions) if ledger else None
        first = self.span.first or applied
        records = read_records(self.spark, self.target, first)
        writing = (
            records.writeStream.queryName(self.target.name)
            .option("checkpointLocation", self.target.checkpoint)
            .foreachBatch(writer)
        )
        if self.once:
            writing = writing.trigger(availableNow=True)
        else:
            writing = writing.trigger(processingTime=f"{self.target.table.trigger_s} seconds")
        self._failure = None
        # A driver that is killed while Spark writes the very first offsets leaves a file of no offset, and
        # Spark would refuse the folder for ever. Whose checkpoint it is, our own identity file says.
        self.spark.conf.set(EMPTY_ON_START, "false")
        self._query = writing.start()

    def _own_ledger(
        self, stream: StreamIdentity, iceberg: IcebergTable | None, partitions: tuple[int, ...]
    ) -> Ledger | None:
        """Compare the table's ledger with this query; take it over when the operator said so."""
        ledger = iceberg.own_ledger() if iceberg else None
        if iceberg is None or ledger is None:
            return ledger
        if ledger.stream.generation < stream.generation:
            ledger = ledger.reopened(stream, partitions)
            iceberg.note({LEDGER_KEY: ledger.to_json()})
        if self.take_over and ledger.stream.query_id != stream.query_id:
            ledger = ledger.handed_to(stream.query_id)
            ledger.require_of(stream, self.target.name)
            iceberg.note({LEDGER_KEY: ledger.to_json()})
        ledger.require_of(stream, self.target.name)
        return ledger

    def _ended(self, now: float) -> None:
        error = self._failure
        if error is None:
            failed = self._query.exception()
            if failed is None:
                self._enter(QueryState.STOPPED, now)
                return
            if stumbled_after_replay(failed):
                log.info("replayed", table=self.target.name)
                self.state, self.due_at = QueryState.WAITING, now
                return
            error = caused(failed, self.target.name)
        self._failed(error, now)

    def _failed(self, error: CdcSinkError, now: float) -> None:
        self.error = error
        self.attempts += 1
        if not error.retry or (self.once and self.attempts >= 5):
            log.error("parked", table=self.target.name, error=str(error))
            self._enter(QueryState.PARKED, now)
            return
        pause = min(FIRST_BACK_OFF_S * 2 ** (self.attempts - 1), LONGEST_BACK_OFF_S)
        log.warning("backing_off", table=self.target.name, error=str(error), pause_s=pause)
        self.due_at = now + pause
        self._enter(QueryState.BACKING_OFF, now)

    def reached_end(self) -> None:
        """The last batch of the query's span is committed: nothing behind it is read."""
        self._is_done = True

    def applied(self) -> None:
        """A batch went through: the next failure is a first one again."""
        self.attempts, self.error = 0, None

    def failed_with(self, error: CdcSinkError) -> None:
        """Keep the error of a batch as it is; through Spark it would arrive as text."""
        self._failure = error

    def _enter(self, state: QueryState, now: float) -> None:
        changed = self.state is not state
        self.state = state
        if changed:
            self._note_state(now)

    def _note_state(self, now: float) -> None:
        """Renew the lease. A query whose lease another has parks; where it can't be written, it backs off."""
        self._renewed_at = now
        if not self._owns_lease:
            return
        message = str(self.error) if self.error and self.state is not QueryState.RUNNING else None
        try:
            renew_lease(Files(self.spark), self.target, self.state, message)
        except StateError as held:
            self._owns_lease = False
            self._lost(held, now)
        except JOB_FAILED as failed:
            error = caused(failed, self.target.name)
            log.warning("lease_not_written", table=self.target.name, error=str(error))
            self._lost(error, now)

    def _lost(self, error: CdcSinkError, now: float) -> None:
        """Without its lease a query must not go on, and one that does not run has nothing to lose."""
        if self.state is QueryState.RUNNING:
            self._query.stop()
            self._failed(error, now)


@dataclass
class _Batches:
    """What Spark calls for each micro-batch of one query run."""

    query: TableQuery
    stream: StreamIdentity
    partitions: tuple[int, ...]
    one_table: OneTable
    offsets: OffsetLog
    _writer: MicroBatchWriter | None = None

    def __call__(self, records: DataFrame, batch_id: int) -> None:
        started = time.monotonic()
        span = self.query.span
        try:
            batch = self.offsets.range_of(batch_id)
            if span.is_reached(batch.first):
                self.query.reached_end()
                return
            cut = batch.up_to(span.end)
            facts = self._writer_for(records).write(span.cut(records), batch_id, cut)
        except CdcSinkError as error:
            self.query.failed_with(error)
            raise
        self.query.applied()
        if span.is_reached(cut.end):
            self.query.reached_end()
        counters = facts.counters() if facts else {}
        seconds = round(time.monotonic() - started, 3)
        name = self.query.target.name
        log.info("applied", table=name, batch_id=batch_id, seconds=seconds, **counters)
        try:
            self.query.hooks.tell(AppliedBatch(name, batch_id, seconds, counters))
        except CdcSinkError as error:
            self.query.failed_with(error)
            raise

    def _writer_for(self, records: DataFrame) -> MicroBatchWriter:
        # Spark gives each query a session of its own, first seen here.
        if self._writer is None:
            folding = folding_of(self.query.target)
            session = records.sparkSession
            transform = whole_transform(self.query.hooks, self.query.target)
            sink = Sink(
                session,
                self.stream,
                self.partitions,
                folding,
                self.one_table,
                is_transformed=transform is not None,
            )
            services = self.query.services
            topic = KafkaTopic(records.sparkSession, self.query.target, services.cluster)
            self._writer = MicroBatchWriter(
                sink,
                converter_of(self.query.target, services.registry),
                topic,
                transform=transform,
            )
        return self._writer
