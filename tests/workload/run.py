"""A workload through the whole chain: database, Connect, Kafka, the pipeline; then every row compared.

Steps, in order: make the tables, play for a moment without anybody listening, add the connector
(that is the source snapshot), start the pipeline, play for the time asked for while Connect is
killed now and then, stop playing, wait until all is applied or the limit is over, compare.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import SparkSession

from cdc_sink.clients.catalog import session_properties
from cdc_sink.clients.connect import Connect
from cdc_sink.clients.verify import Verification, verify
from cdc_sink.config import Pipeline, load_config
from cdc_sink.spark.stream import RunningPipeline, start
from cdc_sink.stack.stack import Stack
from tests.workload.player import Play, Player

FIRST_S = 3.0  # of play, before the connector comes
SETTLE_LIMIT_S = 240.0
_CONNECTOR_LIMIT_S = 120.0
_PARTITIONS = 2


@dataclass(frozen=True)
class Outcome:
    """What came of it: a comparison per table, and what stopped a table or the connector."""

    verifications: tuple[Verification, ...]
    stops: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Whether every table equals its source, and nothing stopped."""
        return not self.stops and all(one.equal for one in self.verifications)


@dataclass
class Run:
    """One workload on a running chain. `name` is the database's, the connector's and the lake's."""

    stack: Stack
    folder: Path
    play: Play
    say: Callable[[str], None] = print
    kills: int = 0

    def __post_init__(self) -> None:
        """Make the tables and the configuration."""
        self.name = f"work_{self.play.database}"
        server = self._server
        server.create_database(self.name)
        self.player = Player(self.play, partial(server.connect, self.name))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "pipeline.yaml"
        path.write_text(yaml.safe_dump(self._settings()))
        self.pipeline = load_config(path)

    @property
    def _server(self) -> Any:
        names = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mariadb"}
        return getattr(self.stack, names[self.play.database])

    @property
    def _schema(self) -> str:
        return "public" if self.play.database == "postgresql" else self.name

    def go(self, spark: SparkSession, seconds: float, *, kill_every_s: float) -> Outcome:
        """Play for so long, then compare."""
        for key, value in session_properties(self.pipeline.catalog).items():
            if key != "spark.sql.extensions":
                spark.conf.set(key, value)
        self._play(FIRST_S, alters=False)
        self.stack.add_connector(self.name, self._connector())
        with _streaming(self.pipeline, spark) as running:
            self._play(
                seconds, alters=True, meanwhile=lambda left_s: self._kill(kill_every_s, left_s)
            )
            self.say(f"played: {self.player.counts}, Connect killed {self.kills} times")
            outcome = self._settle(running)
        self.stack.remove_connector(self.name)
        return outcome

    def _play(
        self, seconds: float, *, alters: bool, meanwhile: Callable[[float], None] | None = None
    ) -> None:
        until = time.monotonic() + seconds
        self.player.start(alters=alters)
        try:
            while (left_s := until - time.monotonic()) > 0:
                if meanwhile is None:
                    threading.Event().wait(left_s)
                else:
                    meanwhile(left_s)
        finally:
            self.player.stop()

    def _kill(self, every_s: float, left_s: float) -> None:
        """Wait for an instant drawn from the seed, kill Connect there, and start it again."""
        draw = random.Random(f"{self.play.seed}/kill/{self.kills}")
        wait_s = every_s * (0.5 + draw.random())
        threading.Event().wait(min(wait_s, left_s))
        if wait_s < left_s:
            self.stack.kill("connect")
            self.kills += 1
            self.say(f"Connect killed, {left_s - wait_s:.0f} s left")
            self.stack.restart("connect")

    def _settle(self, running: RunningPipeline) -> Outcome:
        """Compare until all is equal, something stopped, or the limit is over."""
        connect = Connect(self.stack.connect_url)
        connect.wait_running(self.name, _CONNECTOR_LIMIT_S)
        until = time.monotonic() + SETTLE_LIMIT_S
        found: dict[str, Verification] = {}
        while True:
            stops = tuple(f"{q.error}" for q in running.queries if q.state == "parked")
            status = connect.status(self.name) or {}
            stops += tuple(f"{part} {state}" for part, state in status.items() if state == "FAILED")
            for table in self.pipeline.tables:
                if table.name not in found or not found[table.name].equal:
                    found[table.name] = verify(self.pipeline, [table.name])[0]
            is_over = time.monotonic() > until or stops
            if is_over or all(one.equal for one in found.values()):
                return Outcome(tuple(found.values()), stops)
            threading.Event().wait(2)

    # --- settings ---------------------------------------------------------------------------

    def _connector(self) -> dict[str, str]:
        tables = [f"{self._schema}.{name}" for name in self.player.tables]
        if self.play.database == "postgresql":
            return self.stack.postgres_connector(
                self.name, self.name, tables, slot=self.name, partitions=_PARTITIONS
            )
        settings = {"mysql": self.stack.mysql_connector, "mariadb": self.stack.mariadb_connector}
        return settings[self.play.database](self.name, self.name, tables, partitions=_PARTITIONS)

    def _settings(self) -> Mapping[str, object]:
        password = self.folder / "password"
        password.write_text(self._server.password)
        return {
            "pipeline": self.name,
            "kafka": {"bootstrap_servers": self.stack.bootstrap_servers},
            "registry": {"url": self.stack.registry_url},
            "catalog": {
                "name": self.name,
                "type": "jdbc",
                "uri": f"jdbc:sqlite:{self.folder}/catalog.db",
                "warehouse": f"file://{self.folder}/warehouse",
            },
            "checkpoints": f"file://{self.folder}/checkpoints",
            "defaults": {
                "namespace": self.name,
                "buckets": 2,
                "trigger_s": 0.5,
                "max_records_per_batch": 200,
            },
            "tables": [
                {
                    "topic": f"{self.name}.{self._schema}.{name}",
                    "source": {"database": "source", "table": f"{self._schema}.{name}"},
                }
                for name in self.player.tables
            ],
            "databases": {
                "source": {
                    "type": "postgresql" if self.play.database == "postgresql" else "mysql",
                    "host": self._server.host,
                    "port": self._server.port,
                    "database": self.name,
                    "user": self._server.user,
                    "password": {"file": str(password)},
                }
            },
        }


@contextmanager
def _streaming(pipeline: Pipeline, spark: SparkSession) -> Iterator[RunningPipeline]:
    """The pipeline, supervised in a thread while the block runs."""
    running, stop = start(pipeline, spark), threading.Event()
    thread = threading.Thread(target=running.run, args=(stop,))
    thread.start()
    try:
        yield running
    finally:
        stop.set()
        thread.join()
