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
from cdc_sink.clients.registry import Registry
from cdc_sink.config import Pipeline, Target
from cdc_sink.errors import CdcSinkError, ConfigError, StateError
from cdc_sink.spark.checkpoint import (
    Files,
    Identity,
    check_identity,
    query_id,
    read_identity,
    require_not_ahead,
    resume_offsets,
    set_unfit_aside,
)
from cdc_sink.spark.events import folding_of
from cdc_sink.spark.failures import caused, stumbled_after_replay
from cdc_sink.spark.iceberg import IcebergTable
from cdc_sink.spark.inputs import input_of
from cdc_sink.spark.leases import judge_lease, renew_lease, take_lease
from cdc_sink.spark.locate import JOB_FAILED
from cdc_sink.spark.offset_log import OffsetLog
from cdc_sink.spark.records import RecordWriter
from cdc_sink.spark.resnapshot import settle
from cdc_sink.spark.sink import Sink
from cdc_sink.spark.source import KafkaTopic, read_records
from cdc_sink.spark.span import Span
from cdc_sink.spark.stopping import goes_on, stop_all
from cdc_sink.table.lease import Verdict
from cdc_sink.table.ledger import LEDGER_KEY, Claim, Ledger
from cdc_sink.table.moving import with_partitions
from cdc_sink.table.one_table import OneTable, require_whole_topic, topic_gone

log: structlog.stdlib.BoundLogger = structlog.get_logger("cdc_sink.query")

RENEW_S = 15
FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 60.0
EMPTY_ON_START = "spark.sql.streaming.verifyCheckpointDirectoryEmptyOnStart"


@dataclass(frozen=True)
class Services:
    """The servers a pipeline talks to besides Spark's own connections."""

    cluster: Cluster
    registry: Registry

    @classmethod
    def of(cls, pipeline: Pipeline) -> Services:
        """Open clients; nothing is asked yet."""
        return cls(Cluster(pipeline.kafka), Registry(pipeline.registry))


def claim_of(cluster: Cluster, target: Target, query_id: str) -> tuple[Claim, tuple[int, ...]]:
    """Who this query is, and the partitions of its topic now.

    Raises: ConfigError when the topic does not exist; UnavailableError.
    """
    topic = cluster.topic(target.table.topic)
    if topic is None:
        raise ConfigError(
            target.where,
            f"topic {target.table.topic} does not exist",
            remedy="start its connector, correct the topic, or set `missing_topic: wait`",
        )
    claim = Claim(
        target.pipeline.name,
        query_id,
        cluster.cluster_id(),
        topic.name,
        topic.topic_id,
        target.table.generation,
    )
    return claim, tuple(range(topic.partitions))


def require_no_stream(spark: SparkSession, target: Target) -> None:
    """Refuse to write a table beside its stream.

    Raises: StateError.
    """
    here = any(query.name == target.where for query in spark.streams.active)
    if here or judge_lease(Files(spark), target) is not Verdict.FREE:
        raise StateError(
            target.where,
            "a stream is writing this table",
            remedy="stop the stream first; a backfill may also write a new table with `--into`",
        )


@dataclass
class TableQuery:
    """The streaming query of one table: started, watched, started again."""

    spark: SparkSession
    target: Target
    services: Services
    once: bool = False
    take_over: bool = False
    span: Span = field(default_factory=Span)
    state: str = "waiting"
    error: CdcSinkError | None = None
    refused: CdcSinkError | None = None  # why it must not be started
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
        return self.state in ("parked", "stopped")

    def tick(self, now: float) -> None:
        """Move one step: start what is due, notice what ended, renew the lease."""
        if self.state in ("waiting", "backing_off") and now >= self.due_at:
            self._try_start(now)
        elif self.state == "running" and self._is_done:
            self.stop()
        elif self.state == "running" and not self._query.isActive:
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
                    return goes_on(self.target.where)
        if not self.is_over:
            self._enter("stopped", time.monotonic())
        return None

    def _try_start(self, now: float) -> None:
        try:
            waiting_for = self._start()
        except CdcSinkError as error:
            self._failed(error, now)
        except JOB_FAILED as failed:
            self._failed(caused(failed, self.target.where), now)
        else:
            if waiting_for is None:
                if not self.is_over:  # without a topic there is nothing to run
                    self._enter("running", now)
                return
            if self.state != "waiting" or self.attempts == 0:
                log.info("waiting", table=self.target.where, waiting_for=waiting_for)
            self.state, self.attempts, self.due_at = "waiting", self.attempts + 1, now + 2

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
                raise topic_gone(self.target.where, topic, ledger.totals.records)
            if self.target.table.missing_topic == "wait":
                if not self.once:
                    return f"topic {topic} to exist"
                log.info("nothing_to_apply", table=self.target.where, missing_topic=topic)
                self._enter("stopped", time.monotonic())
                return None
        if self.take_over:
            self._set_aside(files, cluster, iceberg, ledger)
        claim, partitions = claim_of(cluster, self.target, query_id(files, self.target.checkpoint))
        self._run(files, claim, partitions, iceberg)
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
        if ledger is None and kept is not None and kept.table_uuid is not None:
            topic = self.target.table.topic
            require_whole_topic(self.target.where, topic, cluster.start_offsets(topic))
        if set_unfit_aside(files, self.target, uuid, ledger, now_ms):
            log.info("checkpoint_set_aside", table=self.target.where, suffix=f"aside-{now_ms}")

    def _run(
        self,
        files: Files,
        claim: Claim,
        partitions: tuple[int, ...],
        iceberg: IcebergTable | None,
    ) -> None:
        ledger = self._claim(claim, iceberg, partitions)
        uuid = iceberg.uuid if iceberg else None
        identity = Identity(claim.cluster_id, claim.topic, claim.topic_id, claim.query_id, uuid)
        one_table = check_identity(files, self.target, identity)
        if ledger is not None:
            resumed = resume_offsets(files, self.target.checkpoint)
            require_not_ahead(self.span.within(resumed), ledger, self.target)
            settle(self.spark, self.target)
        offsets = OffsetLog(files, self.target.checkpoint, self.target.where)
        writer = _Batches(self, claim, partitions, one_table, offsets)
        applied = with_partitions(ledger.next_offsets, partitions) if ledger else None
        first = self.span.first or applied
        records = read_records(self.spark, self.target, first)
        stream = (
            records.writeStream.queryName(self.target.where)
            .option("checkpointLocation", self.target.checkpoint)
            .foreachBatch(writer)
        )
        if self.once:
            stream = stream.trigger(availableNow=True)
        else:
            stream = stream.trigger(processingTime=f"{self.target.table.trigger_s} seconds")
        self._failure = None
        # A driver that is killed while Spark writes the very first offsets leaves a file of no offset, and
        # Spark would refuse the folder for ever. Whose checkpoint it is, our own identity file says.
        self.spark.conf.set(EMPTY_ON_START, "false")
        self._query = stream.start()

    def _claim(
        self, claim: Claim, iceberg: IcebergTable | None, partitions: tuple[int, ...]
    ) -> Ledger | None:
        """Compare the table's ledger with this query; take it over when the operator said so."""
        ledger = iceberg.own_ledger() if iceberg else None
        if iceberg is None or ledger is None:
            return ledger
        if ledger.generation < claim.generation:
            ledger = ledger.reopened(claim, partitions)
            iceberg.note({LEDGER_KEY: ledger.to_json()})
        if self.take_over and ledger.query_id != claim.query_id:
            ledger = ledger.handed_to(claim.query_id)
            claim.require_fits(ledger, self.target.where)
            iceberg.note({LEDGER_KEY: ledger.to_json()})
        claim.require_fits(ledger, self.target.where)
        return ledger

    def _ended(self, now: float) -> None:
        error = self._failure
        if error is None:
            failed = self._query.exception()
            if failed is None:
                self._enter("stopped", now)
                return
            if stumbled_after_replay(failed):
                log.info("replayed", table=self.target.where)
                self.state, self.due_at = "waiting", now
                return
            error = caused(failed, self.target.where)
        self._failed(error, now)

    def _failed(self, error: CdcSinkError, now: float) -> None:
        self.error = error
        self.attempts += 1
        if not error.retry or (self.once and self.attempts >= 5):
            log.error("parked", table=self.target.where, error=str(error))
            self._enter("parked", now)
            return
        pause = min(FIRST_BACK_OFF_S * 2 ** (self.attempts - 1), LONGEST_BACK_OFF_S)
        log.warning("backing_off", table=self.target.where, error=str(error), pause_s=pause)
        self.due_at = now + pause
        self._enter("backing_off", now)

    def reached_end(self) -> None:
        """The last batch of the query's span is committed: nothing behind it is read."""
        self._is_done = True

    def applied(self) -> None:
        """A batch went through: the next failure is a first one again."""
        self.attempts, self.error = 0, None

    def failed_with(self, error: CdcSinkError) -> None:
        """Keep the error of a batch as it is; through Spark it would arrive as text."""
        self._failure = error

    def _enter(self, state: str, now: float) -> None:
        changed = self.state != state
        self.state = state
        if changed:
            self._note_state(now)

    def _note_state(self, now: float) -> None:
        """Renew the lease. A query whose lease another has parks; where it can't be written, it backs off."""
        self._renewed_at = now
        if not self._owns_lease:
            return
        message = str(self.error) if self.error and self.state != "running" else None
        try:
            renew_lease(Files(self.spark), self.target, self.state, message)
        except StateError as held:
            self._owns_lease = False
            self._lost(held, now)
        except JOB_FAILED as failed:
            error = caused(failed, self.target.where)
            log.warning("lease_not_written", table=self.target.where, error=str(error))
            self._lost(error, now)

    def _lost(self, error: CdcSinkError, now: float) -> None:
        """Without its lease a query must not go on, and one that does not run has nothing to lose."""
        if self.state == "running":
            self._query.stop()
            self._failed(error, now)


@dataclass
class _Batches:
    """What Spark calls for each micro-batch of one query run."""

    query: TableQuery
    claim: Claim
    partitions: tuple[int, ...]
    one_table: OneTable
    offsets: OffsetLog
    _writer: RecordWriter | None = None

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
        log.info(
            "applied", table=self.query.target.where, batch_id=batch_id, seconds=seconds, **counters
        )

    def _writer_for(self, records: DataFrame) -> RecordWriter:
        # Spark gives each query a session of its own, first seen here.
        if self._writer is None:
            folding = folding_of(self.query.target)
            session = records.sparkSession
            sink = Sink(session, self.claim, self.partitions, folding, self.one_table)
            services = self.query.services
            topic = KafkaTopic(records.sparkSession, self.query.target, services.cluster)
            self._writer = RecordWriter(sink, input_of(self.query.target, services.registry), topic)
        return self._writer
