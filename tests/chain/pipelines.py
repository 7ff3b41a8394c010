"""A pipeline on the running chain, driven from the test's own Spark session."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pyspark.sql import SparkSession

from cdc_sink.clients.catalog import load_table, session_properties
from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import Catalog, Kafka, Pipeline, load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.servers.mysql import MySql
from cdc_sink.demo.chain.servers.postgres import Postgres
from cdc_sink.errors import UnavailableError
from cdc_sink.observe.table_facts import read_ledger
from cdc_sink.spark.run.pipeline import RunningPipeline, start
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.verification.verify import Verification, verify
from tests.chain.settings import database_of, surroundings_of

_numbers = itertools.count(1)
LIMIT_S = 180.0


@dataclass
class Lake:
    """A folder with a catalog, a warehouse and checkpoints of its own."""

    folder: Path
    chain: Chain
    spark: SparkSession
    name: str = field(default_factory=lambda: f"lake{next(_numbers)}")

    def pipeline(self, *tables: Mapping[str, object], **changes: object) -> Pipeline:
        """Load a configuration with these tables; `changes` replace whole sections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "pipeline.yaml"
        path.write_text(
            yaml.safe_dump({**self._settings(), "tables": [dict(one) for one in tables], **changes})
        )
        pipeline = load_config(path)
        use_catalog(self.spark, pipeline.catalog)
        return pipeline

    @property
    def config(self) -> Path:
        """The file that `pipeline` wrote last."""
        return self.folder / "pipeline.yaml"

    def _settings(self) -> dict[str, object]:
        servers: Mapping[str, Postgres | MySql] = {
            "postgres": self.chain.postgres,
            "mysql": self.chain.mysql,
            "mariadb": self.chain.mariadb,
        }
        return {
            "pipeline": "shop",
            **surroundings_of(self.chain, self.folder, self.name, timeout_s=3),
            "defaults": {"buckets": 2, "trigger_s": 1.0},
            "databases": {
                name: database_of(server, "shop", self.folder) for name, server in servers.items()
            },
        }


def use_catalog(spark: SparkSession, catalog: Catalog) -> None:
    """Let a session that runs know a catalog; its extensions it has from its start."""
    for key, value in session_properties(catalog).items():
        if key != "spark.sql.extensions":
            spark.conf.set(key, value)


def run_once(
    pipeline: Pipeline, spark: SparkSession, *, take_over: bool = False
) -> RunningPipeline:
    """Apply what is in the topics now."""
    running = start(pipeline, spark, once=True, take_over=take_over)
    running.run(threading.Event())
    return running


@contextmanager
def streaming(pipeline: Pipeline, spark: SparkSession) -> Iterator[RunningPipeline]:
    """The pipeline, supervised in a thread while the block runs."""
    running, stop = start(pipeline, spark), threading.Event()
    thread = threading.Thread(target=running.run, args=(stop,))
    thread.start()
    try:
        yield running
    except AssertionError as failure:
        failure.add_note(f"queries: {[(q.target.name, str(q.error)) for q in running.queries]}")
        raise
    finally:
        stop.set()
        thread.join()


def wait(done: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for something that can be asked; what never comes is named."""
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_s:.0f} s for {what}")
        threading.Event().wait(0.2)


def wait_for_records(chain: Chain, topic: str, records: int) -> None:
    """Wait until the topic has so many records."""
    cluster = Cluster(Kafka(bootstrap_servers=chain.bootstrap_servers))

    def arrived() -> bool:
        try:
            known = cluster.topic(topic) is not None
            return known and sum(cluster.end_offsets(topic).values()) >= records
        except UnavailableError:  # a topic just made has no leader yet
            return False

    wait(arrived, f"{records} records in {topic}")


def require_equal(pipeline: Pipeline, wait_s: float = 300) -> None:
    """Every table equals its source, by the databases' own account."""
    different: list[Verification] = [v for v in verify(pipeline, wait_s=wait_s) if not v.equal]
    if different:  # said in full: pytest shows values of assertions in test files only
        raise AssertionError(
            "\n".join(f"{v.failure or v}, of them {v.differences[:5]}" for v in different)
        )


def ledger_of(pipeline: Pipeline, name: str) -> Ledger:
    """The newest ledger of a table that is there."""
    loaded = load_table(pipeline.catalog, name)
    found = None if loaded is None else read_ledger(loaded)
    assert found is not None, name
    return found[0]
