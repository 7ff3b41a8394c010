"""The jars of a session: how it comes by them, and whether their classes are there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from cdc_sink.config import Pipeline
from cdc_sink.errors import ConfigError
from cdc_sink.jars.jars import jars
from cdc_sink.jars.packages import ALWAYS, groups_of, packages_of
from cdc_sink.spark.foreign_errors import PROVIDE

_BARE_LOCAL = "com.globalmentor.apache.hadoop.fs.BareLocalFileSystem"
_UNRESOLVED = re.compile(r"unresolved dependency: ([^#\s]+)#([^;\s]+);([^:\s]+): ([^\]\n]*)")


def jar_properties(pipeline: Pipeline, *, one_jvm: bool) -> Mapping[str, str]:
    """Properties that bring the jars to a session which is about to start, as `spark.jars` says.

    Raises: as `jars`, where they are locked.
    """
    if pipeline.spark.jars == "packages":
        return {"spark.jars.packages": ",".join(p.coordinate for p in packages_of(pipeline))}
    if pipeline.spark.jars == "provided":
        return {}
    paths = [str(path) for path in jars(*groups_of(pipeline))]
    # The file system class is loaded before spark.jars are.
    found = {"spark.driver.extraClassPath": ":".join(paths)}
    if one_jvm:
        # Without a forked `chmod` for each file. Executors of other JVMs would not find it in time.
        return found | {"spark.hadoop.fs.file.impl": _BARE_LOCAL}
    return found | {"spark.jars": ",".join(paths)}


def require_classes(spark: SparkSession, pipeline: Pipeline) -> None:
    """Refuse a session without a class that the pipeline needs, or with Iceberg twice.

    Raises: ConfigError.
    """
    homes = {one: _homes(spark, one.class_name) for one in packages_of(pipeline)}
    lacking = [one for one, found in homes.items() if not found]
    if lacking:
        raise ConfigError(
            "Spark session",
            f"these classes are not on Spark's class path: {', '.join(p.class_name for p in lacking)}",
            data="nothing was started",
            remedy=f"{PROVIDE}; these are lacking: {','.join(p.coordinate for p in lacking)}",
        )
    icebergs = homes[ALWAYS[0]]
    if len(icebergs) > 1:
        raise ConfigError(
            "Spark session",
            f"Iceberg is on Spark's class path more than once: {', '.join(sorted(icebergs))}",
            data="nothing was started",
            remedy="leave one of them; where Spark brings Iceberg along, set `jars: provided` under `spark`",
        )


def _homes(spark: SparkSession, class_name: str) -> set[str]:
    """Names of the jars that have a class."""
    jvm: Any = spark._jvm
    loader = jvm.org.apache.spark.util.Utils.getContextOrSparkClassLoader()
    found = loader.getResources(class_name.replace(".", "/") + ".class")
    homes = set()
    while found.hasMoreElements():
        jar = str(found.nextElement()).partition("!")[0]
        # Spark's packages carry their organisation in front.
        homes.add(jar.rpartition("/")[2].removeprefix("org.apache.iceberg_"))
    return homes


def unresolved(log: str) -> Sequence[str]:
    """Packages that Spark could not fetch, each with the reason, out of what the JVM said."""
    found = (f"{':'.join(one[:3])} ({one[3].strip()})" for one in _UNRESOLVED.findall(log))
    return tuple(dict.fromkeys(found))


def log_since(log_file: Path | None, begin: int) -> str:
    """What a log has got since it was so many bytes long; nothing where there is none."""
    if log_file is None or not log_file.exists():
        return ""
    with log_file.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace")
