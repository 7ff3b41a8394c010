"""Running a pipeline from a program: what `cdc-sink run` does, as one call."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from pyspark.sql import SparkSession

from cdc_sink.check.at_start import StartCheck
from cdc_sink.config import Pipeline
from cdc_sink.spark.hooks import Hooks, OnBatch, Transform
from cdc_sink.spark.run.pipeline import start
from cdc_sink.spark.run.session import create_session


def run(
    pipeline: Pipeline,
    spark: SparkSession | None = None,
    *,
    once: bool = False,
    transforms: Mapping[str, Transform] | None = None,
    on_batch: OnBatch | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Keep the tables of a pipeline equal to their sources, until `stop` is set or Ctrl-C comes.

    A table that `check` calls wrong is parked. Queries end between two of their batches.
    In:     `spark`, a session of yours; else one is made. `once` applies what is in the topics now and ends.
            `transforms` by table, its target or its topic: see docs/library.md. `on_batch` is called after
            each batch that is committed, from a thread of Spark's.
    Out:    the exit code: 0, or that of the first parked table.
    Raises: ConfigError when the session, the configuration or a transform can't be used; StateError when the
            JVM that runs Spark is gone, or a batch goes on at the end.
    """
    # Asked while the session is made, which takes longer.
    asked = StartCheck(pipeline).begin()
    if spark is None:
        spark = create_session(pipeline, purpose="run")
    hooks = Hooks(transforms or {}, on_batch)
    running = start(pipeline, spark, once=once, refused=asked.refused(), hooks=hooks)
    try:
        return running.run(stop or threading.Event())
    except KeyboardInterrupt:
        running.stop()
        raise
