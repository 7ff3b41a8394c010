"""The backfill job: its own application and its own fresh checkpoint, through the same path as the stream.

It reads from the earliest record (or from given offsets) to the end that the topic had when it began, and
then ends. Where it may write:
    a new table                        the usual case: build it beside the live one, verify, then use it
    a table of an earlier run of it    it goes on where it was killed
    a table whose stream is stopped    it goes on at the ledger, and hands the table back at the end
A table that a stream is writing is refused.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass, replace

import structlog
from pyspark.sql import SparkSession

from cdc_sink.config import Pipeline, Target
from cdc_sink.errors import ConfigError
from cdc_sink.spark.hooks import NO_HOOKS, Hooks
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.spark.run.checkpoint import Files, set_aside
from cdc_sink.spark.run.pipeline import RunningPipeline
from cdc_sink.spark.run.services import Clients, require_no_stream
from cdc_sink.spark.run.session import activate, create_session, require_session
from cdc_sink.spark.run.span import Span
from cdc_sink.spark.run.table_query import TableQuery
from cdc_sink.table.ledger.ledger import LEDGER_KEY, Ledger
from cdc_sink.table.ledger.offsets import Offsets, ahead_of, offsets_from_json, offsets_to_json

log: structlog.stdlib.BoundLogger = structlog.get_logger("cdc_sink.backfill")

SAY_EVERY_S = 5.0


@dataclass(frozen=True)
class BackfillState:
    """What a backfill must remember to go on after a kill; beside its checkpoint."""

    first: dict[str, int]
    end: dict[str, int]
    hand_back_to: str | None
    is_done: bool = False

    @property
    def span(self) -> Span:
        """The offsets to read."""
        return Span(offsets_from_json(self.first), offsets_from_json(self.end))


@dataclass(frozen=True)
class BackfillReport:
    """What a backfill did. Units: records read since it began, seconds of this run."""

    table: str
    records: int
    seconds: float
    exit_code: int


def backfill(
    pipeline: Pipeline,
    table: str,
    *,
    into: str | None = None,
    from_offsets: Offsets | None = None,
    spark: SparkSession | None = None,
    hooks: Hooks = NO_HOOKS,
) -> BackfillReport:
    """Rebuild a table from its topic, up to the end the topic has now.

    In:     `into`: the table to write, default `<target>_backfill`. `hooks`: what the stream is
            given in code, too.
    Raises: StateError when a stream writes that table; ConfigError; UnavailableError.
    """
    if spark is None:
        spark = create_session(pipeline, purpose="backfill")
    require_session(spark, pipeline)
    target = backfill_target(pipeline, table, into)
    require_no_stream(spark, Target(pipeline, target.table))
    services = Clients.of(pipeline)
    state = _begin_or_go_on(spark, services, target, from_offsets)
    started, exit_code = time.monotonic(), 0
    ledger = _ledger(spark, target)
    if ledger is None or not state.span.is_reached(ledger.next_offsets):
        query = TableQuery(spark, target, services, once=True, take_over=True, span=state.span)
        query.hooks = hooks
        exit_code = _run(query, state)
    if exit_code == 0:
        _hand_back(spark, target, state)
        _keep_state(Files(spark), target, replace(state, is_done=True))
    ledger = _ledger(spark, target)
    if ledger is not None and (open_question := ledger.waits_to_decide):
        log.warning("undecided", table=target.name, reason=open_question)
    done = _records_done(spark, target, state)
    return BackfillReport(target.name, done, time.monotonic() - started, exit_code)


def backfill_target(pipeline: Pipeline, table: str, into: str | None) -> Target:
    """The table to write, with a checkpoint apart from the stream's."""
    source = pipeline.table(table)
    name = into or f"{source.name}_backfill"
    apart = pipeline.model_copy(update={"checkpoints": f"{pipeline.checkpoints}/backfill"})
    return Target(apart, source.model_copy(update={"target": name, "missing_topic": "fail"}))


def _begin_or_go_on(
    spark: SparkSession,
    services: Clients,
    target: Target,
    from_offsets: Offsets | None,
) -> BackfillState:
    """The span of a run that was killed, else a new one: from the table's ledger, or the oldest record.

    A finished run leaves a checkpoint that may have passed the run's end: a new span gets a fresh one.
    """
    files = Files(spark)
    text = files.read(_state_file(target))
    state = BackfillState(**json.loads(text)) if text else None
    if state is not None and not state.is_done:
        _require_same_begin(state, target, from_offsets)
        log.info("goes_on", table=target.name, first=state.first, end=state.end)
        return state
    if state is not None:
        set_aside(files, target, time.time_ns() // 1_000_000)
    state = _new_state(services, target, from_offsets, _ledger(spark, target))
    _keep_state(files, target, state)
    log.info("begins", table=target.name, first=state.first, end=state.end)
    return state


def _new_state(
    services: Clients,
    target: Target,
    from_offsets: Offsets | None,
    ledger: Ledger | None,
) -> BackfillState:
    topic = target.table.topic
    end = services.cluster.end_offsets(topic)
    first = dict(from_offsets or services.cluster.start_offsets(topic))
    if ledger is not None:
        _require_no_gap(from_offsets, ledger, target)
        first = {p: max(o, ledger.next_offsets.get(p, 0)) for p, o in first.items()}
    return BackfillState(
        offsets_to_json({p: first.get(p, 0) for p in end}) or {},
        offsets_to_json(end) or {},
        ledger.stream.query_id if ledger else None,
    )


def _require_same_begin(state: BackfillState, target: Target, from_offsets: Offsets | None) -> None:
    if from_offsets is not None and from_offsets != state.span.first:
        raise ConfigError(
            target.name,
            f"a backfill of it from offsets {state.first} to {state.end} is not finished",
            remedy="let it go on without `--from-offsets`, or write another table with `--into`",
        )


def _require_no_gap(from_offsets: Offsets | None, ledger: Ledger, target: Target) -> None:
    gap = ahead_of(from_offsets or {}, ledger.next_offsets)
    if gap:
        raise ConfigError(
            target.name,
            f"`--from-offsets` begins at {gap}, the table's ledger ends at {dict(ledger.next_offsets)}: what "
            "lies between would be lost",
            data="nothing was started",
            remedy="leave `--from-offsets` out, or write another table with `--into`",
        )


def _keep_state(files: Files, target: Target, state: BackfillState) -> None:
    files.write(_state_file(target), json.dumps(asdict(state)))


def _state_file(target: Target) -> str:
    return f"{target.checkpoint}.backfill.json"


def _ledger(spark: SparkSession, target: Target) -> Ledger | None:
    table = IcebergTable.load(spark, target)
    return table.ledger() if table else None


def _run(query: TableQuery, state: BackfillState) -> int:
    stop = threading.Event()
    talker = threading.Thread(target=_talk, args=(query, state, stop), daemon=True)
    talker.start()
    try:
        return RunningPipeline((query,)).run(stop)
    finally:
        stop.set()
        talker.join()


def _talk(query: TableQuery, state: BackfillState, stop: threading.Event) -> None:
    """Say how far it is; the estimate is made from this run alone."""
    activate(query.spark)
    started, before = time.monotonic(), _records_done(query.spark, query.target, state)
    total = sum(state.end.values()) - sum(state.first.values())
    while not stop.wait(SAY_EVERY_S):
        done = _records_done(query.spark, query.target, state)
        rate = (done - before) / (time.monotonic() - started)
        eta_s = round((total - done) / rate) if rate else None
        log.info("progress", table=query.target.name, records=done, of=total, eta_s=eta_s)


def _records_done(spark: SparkSession, target: Target, state: BackfillState) -> int:
    ledger = _ledger(spark, target)
    if ledger is None:
        return 0
    return sum(
        max(0, min(ledger.next_offsets.get(int(p), 0), end) - state.first[p])
        for p, end in state.end.items()
    )


def _hand_back(spark: SparkSession, target: Target, state: BackfillState) -> None:
    """Give a stopped stream its table back; a crash before it leaves a table that `--take-over` opens."""
    table = IcebergTable.load(spark, target)
    ledger = table.own_ledger() if table else None
    if table is not None and ledger is not None and state.hand_back_to is not None:
        table.note({LEDGER_KEY: ledger.handed_to(state.hand_back_to).to_json()})
