"""The pipeline's driver inside this process: started, stopped between batches, or killed inside of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from cdc_sink.config import Pipeline
from cdc_sink.errors import StateError
from cdc_sink.spark.run.pipeline import TICK_S, RunningPipeline, start
from cdc_sink.spark.run.session import activate
from cdc_sink.spark.run.table_query import TableQuery

_STOP_S = 600.0


def _stop(stop: Callable[[], None]) -> None:
    """Stop a table; a batch that goes on nevertheless is waited for, since this process goes on, too."""
    until = time.monotonic() + _STOP_S
    while True:
        try:
            stop()
        except (StateError, Py4JJavaError):
            if time.monotonic() > until:
                raise
        else:
            return


class Driver:
    """One driver at a time; the next one goes on where the last one ended."""

    def __init__(self, spark: SparkSession) -> None:
        self.spark = spark
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self.running: RunningPipeline | None = None

    def start(self, pipeline: Pipeline, *, take_over: bool = False) -> None:
        """Start every table and supervise them in a thread."""
        self._halt = threading.Event()
        self.running = start(pipeline, self.spark, take_over=take_over)
        self._thread = threading.Thread(
            target=self._supervise, args=(self.running, self._halt), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop every table between two of its batches, as SIGTERM does, but all at once: it is quicker."""
        self._leave()
        if self.queries:
            with ThreadPoolExecutor(len(self.queries)) as pool:
                list(pool.map(_stop, [one.stop for one in self.queries]))
        self.running = None

    def kill(self) -> None:
        """End every table wherever its batch is, and forget the driver without a word of it."""
        self._leave()
        streams = [one.streaming_query for one in self.queries if one.streaming_query is not None]
        if streams:
            with ThreadPoolExecutor(len(streams)) as pool:
                list(pool.map(_stop, [stream.stop for stream in streams]))
        self.running = None

    @property
    def queries(self) -> tuple[TableQuery, ...]:
        """The tables' queries; none while no driver runs."""
        return self.running.queries if self.running else ()

    @property
    def parked(self) -> tuple[TableQuery, ...]:
        """The tables that stopped by name."""
        return tuple(one for one in self.queries if one.state == "parked")

    def _leave(self) -> None:
        self._halt.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None

    @staticmethod
    def _supervise(running: RunningPipeline, halt: threading.Event) -> None:
        """Do as `RunningPipeline.run` does, but leave the queries alone at the end: a kill is rude."""
        for query in running.queries:
            activate(query.spark)
        while not halt.is_set():
            for query in running.queries:
                query.tick(time.monotonic())
            halt.wait(TICK_S)
