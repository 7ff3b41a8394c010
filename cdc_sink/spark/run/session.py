"""The Spark session: what a pipeline needs of it, and a quiet one for the command line."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from cdc_sink.clients.catalog import session_properties
from cdc_sink.config import Pipeline
from cdc_sink.config.models import revealed
from cdc_sink.errors import ConfigError
from cdc_sink.jars.java import require_java
from cdc_sink.spark.foreign_errors import JOB_FAILED, innermost
from cdc_sink.spark.run.session_jars import (
    jar_properties,
    log_since,
    require_classes,
    unresolved,
)

LOG4J = Path(__file__).with_name("log4j2.properties")
# Avro sets memory aside for the length that a text or a binary value claims, before it looks whether
# that many bytes follow: without a bound, one damaged record of thirty bytes ends the process.
# Source: Avro 1.12, SystemLimitException.
MOST_VALUE_BYTES = 256 << 20
AVRO_LIMITS = " ".join(
    f"-Dorg.apache.avro.limits.{kind}.maxLength={MOST_VALUE_BYTES}" for kind in ("string", "bytes")
)


def create_session(
    pipeline: Pipeline, *, purpose: str, log_file: Path | None = None
) -> SparkSession:
    """Start Spark, or join the one that spark-submit started.

    Raises: ConfigError when Java is missing, too old or too new, a jar can't be trusted, or Spark does not
            start as it is configured.
    """
    java = require_java()
    os.environ.setdefault("JAVA_HOME", str(java.parent.parent))
    builder = SparkSession.builder.appName(f"cdc-sink {purpose} {pipeline.name}")
    builder = configure_session(builder, pipeline, log_file=log_file)
    # It prints what failed expressions say, and that holds cell values.
    logging.getLogger("DataFrameQueryContextLogger").disabled = True
    begin = log_file.stat().st_size if log_file and log_file.exists() else 0
    try:
        with _stderr_to(log_file):
            spark = builder.getOrCreate()
    except (*JOB_FAILED, Py4JError) as failed:
        raise _not_started(failed, log_file, log_since(log_file, begin)) from failed
    require_session(spark, pipeline)
    return spark


def configure_session(
    builder: SparkSession.Builder, pipeline: Pipeline, *, log_file: Path | None = None
) -> SparkSession.Builder:
    """Give a builder of yours all that a pipeline needs of its session; set what is yours behind it.

    In:     `log_file`, where a JVM that this starts writes its log; default its stderr.
    Raises: ConfigError when a secret can't be read, or a locked jar can't be trusted.
    """
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    for key, value in _properties(pipeline, submitted=submitted, log_file=log_file).items():
        builder = builder.config(key, value)
    return builder


def _not_started(failed: Exception, log_file: Path | None, said: str) -> ConfigError:
    log = f"; {log_file} has what the JVM said" if log_file else ""
    if lacking := unresolved(said):
        return ConfigError(
            "Spark session",
            f"Spark could not fetch {', '.join(lacking)}",
            data="nothing was started",
            remedy="name a repository that has them under spark.conf (spark.jars.repositories, or "
            f"spark.jars.ivySettings), or set `jars: locked` under `spark`{log}",
        )
    return ConfigError(
        "Spark session",
        f"Spark did not start ({innermost(str(failed))})",
        data="nothing was started",
        remedy=f"correct spark.master and spark.conf, spark.driver.memory above all{log}",
    )


def require_session(spark: SparkSession, pipeline: Pipeline) -> None:
    """Refuse a session that lacks what the pipeline needs.

    Raises: ConfigError that lists every missing property.
    """
    if not hasattr(spark, "_jvm"):
        raise ConfigError(
            "Spark session",
            "it is one of Spark Connect, which has no JVM of its own here",
            data="nothing was started",
            remedy="start a classic session, with SPARK_REMOTE unset and spark.master set",
        )
    wanted = session_properties(pipeline.catalog)
    missing = [k for k, v in wanted.items() if k not in _has(spark) or not _fits(spark, k, v)]
    if missing:
        raise ConfigError(
            "Spark session",
            f"these properties are missing or differ: {', '.join(sorted(missing))}",
            remedy="start the session with them: `cdc-sink plan CONFIG` prints them with their values",
        )
    require_classes(spark, pipeline)


def activate(spark: SparkSession) -> None:
    """Make the session known to the JVM thread behind this Python thread.

    A new thread has none, and Spark would then look catalogs up in an empty configuration.
    """
    jvm: Any = spark._jvm
    jvm.org.apache.spark.sql.classic.SparkSession.setActiveSession(spark._jsparkSession)


def _has(spark: SparkSession) -> dict[str, str]:
    return {k: v for k, v in spark.conf.getAll.items()}


def _fits(spark: SparkSession, key: str, value: str) -> bool:
    # Other extensions may stand beside Iceberg's; a local SQLite address may be written in two ways.
    return value in (spark.conf.get(key, "") or "") if key == "spark.sql.extensions" else True


def _properties(pipeline: Pipeline, *, submitted: bool, log_file: Path | None) -> Mapping[str, str]:
    master = pipeline.spark.master
    if master is None and not submitted:
        master = "local[*]"
    local = master is not None and _is_one_jvm(master)
    found = {
        # Code that Spark generated for a table's batches has to be there for the next ones: a table has 40
        # pieces of it, and 150 more once key updates leave values out. By default all tables share 100.
        "spark.sql.codegen.cache.maxEntries": str(max(1_000, 200 * len(pipeline.tables))),
        # What was fetched ahead is for the next batch. A batch that is read twice leaves it behind, and the
        # heaps of drivers with large values were full of it within Spark's five minutes.
        "spark.kafka.consumer.fetchedData.cache.timeout": "30s",
        "spark.kafka.consumer.fetchedData.cache.evictorThreadRunInterval": "15s",
        "spark.sql.session.timeZone": "UTC",
        # PySpark would note for each column which line of Python made it: five calls to the JVM and a look at
        # the stack.
        "spark.python.sql.dataFrameDebugging.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.streaming.stopTimeout": "60000",
        **session_properties(pipeline.catalog),
    }
    if master is not None:
        found["spark.master"] = master
    if not submitted:
        found |= _own_jvm(log_file) | dict(jar_properties(pipeline, one_jvm=local))
    if local:
        found |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
            # For a page that nobody can open, Spark keeps the plans of the last 1,000 executions as texts.
            # With tables of many writer schemas a heap of 1 GiB was full after 25 minutes, 989 of them in it.
            "spark.sql.ui.retainedExecutions": "20",
            "spark.ui.retainedJobs": "50",
            "spark.ui.retainedStages": "50",
            "spark.ui.retainedTasks": "1000",
        }
    return _with_users(found, revealed(pipeline.spark.conf))


def _is_one_jvm(master: str) -> bool:
    """Whether driver and tasks share a JVM; `local-cluster[…]` starts others."""
    return master == "local" or master.startswith("local[")


# What a user gives of these stands behind ours, and in the place of none: without our limits a damaged record
# could end the process, without our jars nothing runs. Of two Java options of one name the later one holds.
_JOINED_BY = {
    "spark.jars": ",",
    "spark.jars.packages": ",",
    "spark.driver.extraClassPath": ":",
    "spark.driver.extraJavaOptions": " ",
    "spark.executor.extraJavaOptions": " ",
}


def _with_users(ours: Mapping[str, str], users: Mapping[str, str]) -> Mapping[str, str]:
    both = ours.keys() & users.keys() & _JOINED_BY.keys()
    return {**ours, **users} | {k: _JOINED_BY[k].join((ours[k], users[k])) for k in both}


# All the code that Spark generated and keeps is compiled, too. A JVM with its quick compiler alone has 48 MB
# for it: a demo of six tables filled them in a minute, and a batch failed. Reserved is not used.
CODE_CACHE = "-XX:ReservedCodeCacheSize=512m"


def _own_jvm(log_file: Path | None) -> dict[str, str]:
    log = f"-Dlog4j2.configurationFile={LOG4J} -Dcdcsink.log={log_file or '/dev/stderr'}"
    return {
        "spark.driver.extraJavaOptions": f"{log} {AVRO_LIMITS} {CODE_CACHE}",
        "spark.executor.extraJavaOptions": AVRO_LIMITS,
    }


@contextmanager
def _stderr_to(log_file: Path | None) -> Iterator[None]:
    """Let the JVM inherit a file as its stderr, so that its chatter stays off the user's screen."""
    if log_file is None:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
