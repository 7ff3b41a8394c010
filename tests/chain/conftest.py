"""One embedded chain and one Spark session for all tests of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from cdc_sink.config import load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.services import CHAIN
from cdc_sink.spark.run.session import create_session
from tests.chain.pipelines import Lake

_SESSION = """
pipeline: tests
kafka: {bootstrap_servers: "127.0.0.1:1"}
registry: {url: "http://127.0.0.1:1"}
catalog: {type: hadoop, warehouse: FOLDER}
checkpoints: FOLDER
spark: {master: "local[2]", conf: {spark.driver.memory: 2g}}
tables: [{topic: none}]
"""
# Most of its time this session waits, and more than half of what it computed went into the second compiler.
_QUICK_COMPILER = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with Chain(tmp_path_factory.mktemp("stack"), parts=(*CHAIN, "mariadb")) as running:
        for server in (running.postgres, running.mysql, running.mariadb):
            server.create_database("shop")
        yield running


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    folder = tmp_path_factory.mktemp("session")
    config = folder / "session.yaml"
    config.write_text(_SESSION.replace("FOLDER", str(folder)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JAVA_TOOL_OPTIONS", _QUICK_COMPILER)
        session = create_session(load_config(config), purpose="test", log_file=folder / "spark.log")
    yield session
    session.stop()


@pytest.fixture
def new_lake(tmp_path: Path, stack: Chain, spark: SparkSession) -> Callable[[], Lake]:
    numbers = iter(range(100))
    return lambda: Lake(tmp_path / f"lake{next(numbers)}", stack, spark)


@pytest.fixture
def lake(new_lake: Callable[[], Lake]) -> Lake:
    return new_lake()
