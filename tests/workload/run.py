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
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import SparkSession

from cdc_sink.clients.catalog import session_properties
from cdc_sink.clients.connect import Connect
from cdc_sink.clients.kafka import Cluster
from cdc_sink.clients.progress import Upstream, read_facts
from cdc_sink.clients.verify import Verification, verify
from cdc_sink.config import Pipeline, load_config
from cdc_sink.errors import UnavailableError
from cdc_sink.spark.stream import RunningPipeline, start
from cdc_sink.stack.stack import Stack
from cdc_sink.table.status import TableFacts
from tests.workload.player import Play, Player

FIRST_S = 3.0  # of play, before the connector comes
SETTLE_LIMIT_S = 480.0  # ten times what two quiet cores need
_MARKS = "marks"  # a table of its own, written to when all is played
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
    records_per_batch: int = 200  # few, so that a short run has many ends of batches
    kills: int = 0

    def __post_init__(self) -> None:
        """Make the tables and the configuration."""
        self.name = f"work_{self.play.database}"
        server = self._server
        server.create_database(self.name)
        self.player = Player(self.play, partial(server.connect, self.name))
        with closing(server.connect(self.name)) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {_MARKS} (id int PRIMARY KEY)")
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
        """Wait until all is delivered and applied, or something stopped; then compare once."""
        with closing(self._server.connect(self.name)) as connection, connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {_MARKS} VALUES (1)")  # after all others: the log's end
        until = time.monotonic() + SETTLE_LIMIT_S
        cluster = Cluster(self.pipeline.kafka)
        while (left := self._left(cluster)) and time.monotonic() < until:
            if stops := self._stops(running):
                return Outcome(tuple(verify(self.pipeline)), stops)
            threading.Event().wait(1)
        if left:
            left = f"after {SETTLE_LIMIT_S:g} s, {left}"
            return Outcome(tuple(verify(self.pipeline)), (left, *self._stops(running)))
        return Outcome(tuple(verify(self.pipeline)), self._stops(running))

    def _left(self, cluster: Cluster) -> str:
        """Say what is still under way; nothing when all was delivered and applied."""
        marks = f"{self.name}.{self._schema}.{_MARKS}"
        try:
            if cluster.topic(marks) is None or not sum(cluster.end_offsets(marks).values()):
                return "the connector has not delivered all"
            facts = read_facts(self.pipeline, Upstream.of(self.pipeline))
        except UnavailableError:  # a topic just made has no leader yet
            return "Kafka does not answer"
        late = [one.table for one in facts if one.failures or not _is_applied(one)]
        return f"not applied: {', '.join(late)}" if late else ""

    def _stops(self, running: RunningPipeline) -> tuple[str, ...]:
        status = Connect(self.stack.connect_url).status(self.name) or {}
        failed = [f"{self.name}: {part} FAILED" for part, is_ in status.items() if is_ == "FAILED"]
        return (*(f"{q.error}" for q in running.queries if q.state == "parked"), *failed)

    # --- settings ---------------------------------------------------------------------------

    def _connector(self) -> dict[str, str]:
        tables = [f"{self._schema}.{name}" for name in (*self.player.tables, _MARKS)]
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
                "max_records_per_batch": self.records_per_batch,
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


def _is_applied(facts: TableFacts) -> bool:
    if facts.ledger is None:
        return not any((facts.end_offsets or {}).values())
    return dict(facts.ledger.next_offsets) == facts.end_offsets


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
