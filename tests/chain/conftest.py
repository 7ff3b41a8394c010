"""One embedded chain and one Spark session for all tests of a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
import structlog
from pyspark.sql import SparkSession

from cdc_sink.config import Database, Secret, load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.servers.mysql import MySql
from cdc_sink.demo.chain.servers.postgres import Postgres
from cdc_sink.demo.chain.services import CHAIN
from cdc_sink.spark.run.session import create_session
from tests.chain.databases import VERIFIED
from tests.chain.pipelines import Lake
from tests.java_options import FOR_A_WHOLE_RUN, FOR_ONE_TEST

_SESSION = """
pipeline: tests
kafka: {bootstrap_servers: "127.0.0.1:1"}
registry: {url: "http://127.0.0.1:1"}
catalog: {type: jdbc, uri: "jdbc:sqlite:FOLDER/none.db", warehouse: FOLDER}
checkpoints: FOLDER
spark:
  master: local[2]
  jars: locked
  conf: {spark.driver.memory: 2g, spark.driver.extraJavaOptions: "-Xms2g"}
tables: [{topic: none}]
"""


@pytest.fixture(scope="session", autouse=True)
def _quick_jvms() -> Iterator[None]:
    """The JVMs that a test starts: a demo's driver, a cluster and its job, an example."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JAVA_TOOL_OPTIONS", FOR_ONE_TEST)
        yield


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with Chain(tmp_path_factory.mktemp("chain"), parts=(*CHAIN, "mariadb")) as running:
        for server in (running.postgres, running.mysql, running.mariadb):
            server.create_database("shop")
        yield running


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    folder = tmp_path_factory.mktemp("session")
    config = folder / "session.yaml"
    config.write_text(_SESSION.replace("FOLDER", str(folder)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JAVA_TOOL_OPTIONS", FOR_A_WHOLE_RUN)
        session = create_session(load_config(config), purpose="test", log_file=folder / "spark.log")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def databases(
    chain: Chain, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Database]]:
    """A database of its own on each server, as `verify` is given it."""
    secret = tmp_path_factory.mktemp("secret") / "password"
    secret.write_text(chain.mysql.password)
    servers: dict[str, Postgres | MySql] = {
        "postgres": chain.postgres,
        "mysql": chain.mysql,
        "mariadb": chain.mariadb,
    }
    for server in servers.values():
        server.create_database(VERIFIED)
    yield {
        side: Database(
            type="postgresql" if side == "postgres" else "mysql",
            host=server.host,
            port=server.port,
            database=VERIFIED,
            user=server.user,
            password=None if side == "postgres" else Secret(file=str(secret)),
        )
        for side, server in servers.items()
    }
    for server in servers.values():
        with closing(server.connect()) as opened, opened.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {VERIFIED}")


@pytest.fixture(autouse=True)
def _no_logs_of_the_test_before() -> Iterator[None]:
    """A command line of a test sends logs to that test's stderr, which is closed when the test ends."""
    yield
    structlog.reset_defaults()
    root = logging.getLogger()
    root.handlers[:] = [one for one in root.handlers if type(one) is not logging.StreamHandler]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What failed beside a chain is told with the states of its connectors."""
    report = yield
    chain = getattr(item, "funcargs", {}).get("chain")
    if report.when == "call" and report.failed and chain is not None:
        try:
            states = httpx2.get(f"{chain.connect_url}/connectors?expand=status", timeout=5).text
        except httpx2.HTTPError as failure:
            states = f"Connect does not answer: {failure}"
        report.sections.append(("connectors", states))
    return report


@pytest.fixture
def new_lake(tmp_path: Path, chain: Chain, spark: SparkSession) -> Callable[[], Lake]:
    numbers = iter(range(100))
    return lambda: Lake(tmp_path / f"lake{next(numbers)}", chain, spark)


@pytest.fixture
def lake(new_lake: Callable[[], Lake]) -> Lake:
    return new_lake()
