"""The streaming query of one table, as a small state machine that one thread drives:

    waiting → running → (stopped | parked | backing_off → waiting …)

`waiting` is for a topic that does not exist yet or a lease that may still be held. An error that says `retry`
backs off and starts again; any other parks the table until the operator acts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
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
    held_error,
    judge_lease,
    my_lease,
    query_id,
    require_not_ahead,
    resume_offsets,
    write_lease,
)
from cdc_sink.spark.events import folding_of
from cdc_sink.spark.failures import caused, stumbled_after_replay
from cdc_sink.spark.iceberg import IcebergTable
from cdc_sink.spark.inputs import input_of
from cdc_sink.spark.locate import JOB_FAILED
from cdc_sink.spark.records import RecordWriter
from cdc_sink.spark.sink import Sink
from cdc_sink.spark.source import KafkaTopic, read_records
from cdc_sink.table.lease import Verdict
from cdc_sink.table.ledger import LEDGER_KEY, Claim, Ledger
from cdc_sink.table.moving import with_partitions

log: structlog.stdlib.BoundLogger = structlog.get_logger("cdc_sink.query")

RENEW_S = 15
FIRST_BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 60.0
STOP_S = 60


@dataclass(frozen=True)
class Services:
    """The servers a pipeline talks to besides Spark's own connections."""

    cluster: Cluster
    registry: Registry

    @classmethod
    def of(cls, pipeline: Pipeline) -> Services:
        """Open clients; nothing is asked yet."""
        return cls(Cluster(pipeline.kafka), Registry(pipeline.registry))


@dataclass(frozen=True)
class Span:
    """Which offsets a query reads, by partition; None means from the ledger or earliest, and no end."""

    first: Mapping[int, int] | None = None
    end: Mapping[int, int] | None = None

    def cut(self, records: DataFrame) -> DataFrame:
        """Leave out what lies at or behind the end."""
        if self.end is None:
            return records
        below = " OR ".join(f"(partition = {p} AND offset < {o})" for p, o in self.end.items())
        return records.where(below or "false")


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
    span: Span = Span()
    state: str = "waiting"
    error: CdcSinkError | None = None
    attempts: int = 0
    due_at: float = 0.0
    _query: Any = None
    _failure: CdcSinkError | None = None
    _renewed_at: float = 0.0
    _owns_lease: bool = False

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
        elif self.state == "running" and not self._query.isActive:
            self._ended(now)
        if self.state == "running" and now - self._renewed_at > RENEW_S:
            self._note_state(now)
            if not self._owns_lease:
                self._query.stop()
                self._failed(held_error(self.target), now)

    def stop(self) -> None:
        """Stop between two batches; a batch that lasts longer than STOP_S is cut short, harmlessly."""
        deadline = time.monotonic() + STOP_S
        if self._query is not None and self._query.isActive:
            while self._query.status["isTriggerActive"] and time.monotonic() < deadline:
                threading.Event().wait(0.05)
            self._query.stop()
        if not self.is_over:
            self._enter("stopped", time.monotonic())

    def _try_start(self, now: float) -> None:
        try:
            waiting_for = self._start()
        except CdcSinkError as error:
            self._failed(error, now)
        except JOB_FAILED as failed:
            self._failed(caused(failed, self.target.where), now)
        else:
            if waiting_for is None:
                self._enter("running", now)
                return
            if self.state != "waiting" or self.attempts == 0:
                log.info("waiting", table=self.target.where, waiting_for=waiting_for)
            self.state, self.attempts, self.due_at = "waiting", self.attempts + 1, now + 2

    def _start(self) -> str | None:
        """Start the query; or say what it has to wait for."""
        files = Files(self.spark)
        verdict = judge_lease(files, self.target)
        if verdict is Verdict.HELD:
            raise held_error(self.target)
        self._owns_lease = verdict is Verdict.FREE
        if verdict is Verdict.UNSURE:
            return "the lease of a driver on another host to end"
        cluster, topic = self.services.cluster, self.target.table.topic
        if self.target.table.missing_topic == "wait" and not cluster.topic(topic):
            return f"topic {topic} to exist"
        claim, partitions = claim_of(cluster, self.target, query_id(files, self.target.checkpoint))
        self._run(files, claim, partitions)
        return None

    def _run(self, files: Files, claim: Claim, partitions: tuple[int, ...]) -> None:
        iceberg = IcebergTable.load(self.spark, self.target)
        ledger = self._claim(claim, iceberg, partitions)
        uuid = iceberg.uuid if iceberg else None
        identity = Identity(claim.cluster_id, claim.topic, claim.topic_id, claim.query_id, uuid)
        check_identity(files, self.target, identity)
        require_not_ahead(resume_offsets(files, self.target.checkpoint), ledger, self.target)
        write_lease(files, self.target, my_lease("running"))
        writer = _Batches(self, claim, partitions)
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
        self._query = stream.start()

    def _claim(
        self, claim: Claim, iceberg: IcebergTable | None, partitions: tuple[int, ...]
    ) -> Ledger | None:
        """Compare the table's ledger with this query; take it over when the operator said so."""
        ledger = iceberg.ledger() if iceberg else None
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
        self._renewed_at = now
        # Another driver's lease is not ours to write: it would be refused at its next start.
        mine = self._owns_lease and judge_lease(Files(self.spark), self.target) is Verdict.FREE
        self._owns_lease = mine
        if not mine:
            return
        message = str(self.error) if self.error and self.state != "running" else None
        write_lease(Files(self.spark), self.target, my_lease(self.state, message))


@dataclass
class _Batches:
    """What Spark calls for each micro-batch of one query run."""

    query: TableQuery
    claim: Claim
    partitions: tuple[int, ...]
    _writer: RecordWriter | None = None

    def __call__(self, records: DataFrame, batch_id: int) -> None:
        started = time.monotonic()
        try:
            facts = self._writer_for(records).write(self.query.span.cut(records), batch_id)
        except CdcSinkError as error:
            self.query.failed_with(error)
            raise
        self.query.applied()
        counters = facts.counters() if facts else {}
        seconds = round(time.monotonic() - started, 3)
        log.info(
            "applied", table=self.query.target.where, batch_id=batch_id, seconds=seconds, **counters
        )

    def _writer_for(self, records: DataFrame) -> RecordWriter:
        # Spark gives each query a session of its own, first seen here.
        if self._writer is None:
            folding = folding_of(self.query.target)
            sink = Sink(records.sparkSession, self.claim, self.partitions, folding)
            services = self.query.services
            topic = KafkaTopic(records.sparkSession, self.query.target, services.cluster)
            self._writer = RecordWriter(sink, input_of(self.query.target, services.registry), topic)
        return self._writer
