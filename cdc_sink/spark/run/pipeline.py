"""A running pipeline: one streaming query per table, kept apart. A table that fails stops no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from py4j.protocol import Py4JNetworkError
from pyspark.sql import SparkSession

from cdc_sink.config import Pipeline, Target
from cdc_sink.errors import CdcSinkError
from cdc_sink.spark.foreign_errors import jvm_gone
from cdc_sink.spark.hooks import NO_HOOKS, Hooks
from cdc_sink.spark.run.services import Clients
from cdc_sink.spark.run.session import activate, create_session, require_session
from cdc_sink.spark.run.stopping import stop_all
from cdc_sink.spark.run.table_query import TableQuery
from cdc_sink.table.lease import QueryState

TICK_S = 0.25
NOTHING: Mapping[str, CdcSinkError] = MappingProxyType({})


@dataclass(frozen=True)
class RunningPipeline:
    """The queries of a pipeline, supervised from the thread that calls `run`."""

    queries: tuple[TableQuery, ...]

    def run(self, stop: threading.Event) -> int:
        """Supervise until `stop` is set or nothing is left to do; then stop between batches.

        Out:    the exit code: 0, or that of the first parked table.
        Raises: StateError when the JVM that runs Spark is gone, or a batch goes on at the end.
        """
        try:
            for query in self.queries:
                activate(query.spark)
            while not stop.is_set() and not all(q.is_over for q in self.queries):
                for query in self.queries:
                    query.tick(time.monotonic())
                stop.wait(TICK_S)
            self.stop()
        except (Py4JNetworkError, ConnectionError) as gone:
            raise jvm_gone("Spark session") from gone
        return self.exit_code

    def stop(self) -> None:
        """Stop every query as `stop_all` says."""
        stop_all(self.queries)

    @property
    def exit_code(self) -> int:
        """0 when no table is parked."""
        parked = (
            q.error.exit_code for q in self.queries if q.state is QueryState.PARKED and q.error
        )
        return next(parked, 0)


def start(
    pipeline: Pipeline,
    spark: SparkSession | None = None,
    *,
    once: bool = False,
    take_over: bool = False,
    refused: Mapping[str, CdcSinkError] = NOTHING,
    hooks: Hooks = NO_HOOKS,
) -> RunningPipeline:
    """Prepare one query per table; `run` on the result starts and supervises them.

    In:     `once` applies what is in the topics now and ends; `take_over` lets a new checkpoint go on at
            the offsets of the tables' ledgers; `refused` has the tables to park instead, and why
            (`cdc_sink.run` parks what `check` calls wrong); `hooks`: what is given in code.
    Raises: ConfigError when the session or the configuration can't be used.
    """
    if spark is None:
        spark = create_session(pipeline, purpose="run")
    require_session(spark, pipeline)
    services = Clients.of(pipeline)
    queries = []
    for table in pipeline.tables:
        query = TableQuery(spark, Target(pipeline, table), services, once=once, take_over=take_over)
        query.refused, query.hooks = refused.get(table.name), hooks
        queries.append(query)
    return RunningPipeline(tuple(queries))
