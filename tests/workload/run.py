"""A workload through the whole chain: database, Connect, Kafka, the pipeline; then every row compared.

Steps, in order: make the tables, play for a moment without anybody listening, add the connector
(that is the source snapshot), start the pipeline, play for the time asked for while Connect is
killed now and then, stop playing, wait until all is applied or the limit is over, compare.

Several databases of one chain may go these steps side by side: a kill of Connect hits all of them.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import SparkSession

from cdc_sink.check.rules.judged import is_judged
from cdc_sink.clients.connect import ConnectClient
from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.errors import UnavailableError
from cdc_sink.observe.table_facts import Upstream, read_facts
from cdc_sink.verification.verify import verify
from tests.chain.pipelines import use_catalog
from tests.chain.settings import database_of, surroundings_of
from tests.chain.surroundings import let_through
from tests.workload.calm import Calm
from tests.workload.driver import Driver
from tests.workload.hands import Hands
from tests.workload.outcome import SETTLE_LIMIT_S, Outcome, is_applied
from tests.workload.player import Play, Player

FIRST_S = 3.0  # of play, before the connector comes
_MARKS = "marks"  # a table of its own, written to when all is played
# The connector's producer keeps the order inside a partition alone: a mark may come before the last change.
_BEHIND_MARK_S = 60.0
_PARTITIONS = 2


@dataclass
class Kills:
    """Connect, killed at instants that a seed stands for, and started again."""

    chain: Chain
    seed: int
    every_s: float
    say: Callable[[str], None]
    count: int = 0

    def step(self, left_s: float) -> None:
        """Wait for the next instant, or until no time is left."""
        draw = random.Random(f"{self.seed}/kill/{self.count}")
        wait_s = self.every_s * (0.5 + draw.random())
        threading.Event().wait(min(wait_s, left_s))
        if wait_s < left_s:
            self.chain.kill("connect")
            self.count += 1
            self.say(f"Connect killed, {left_s - wait_s:.0f} s left")
            self.chain.restart("connect")


@dataclass
class Run:
    """One workload on a running chain. `name` is the database's, the connector's and the lake's."""

    chain: Chain
    folder: Path
    play: Play
    say: Callable[[str], None] = print
    records_per_batch: int = 200  # few, so that a short run has many ends of batches
    trigger_s: float = 1.0
    kills: int = 0
    changes: dict[str, dict[str, object]] = field(default_factory=dict)  # of tables' settings

    def __post_init__(self) -> None:
        """Make the tables and the configuration."""
        self.name = f"work_{self.play.database}"
        server = self._server
        server.create_database(self.name)
        self.player = Player(self.play, partial(server.connect, self.name))
        with closing(server.connect(self.name)) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {_MARKS} (id int PRIMARY KEY)")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._configure()

    def _configure(self) -> None:
        path = self.folder / "pipeline.yaml"
        path.write_text(yaml.safe_dump(self._settings()))
        self.pipeline = load_config(path)

    @property
    def _server(self) -> Any:
        names = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mariadb"}
        return getattr(self.chain, names[self.play.database])

    @property
    def _schema(self) -> str:
        return "public" if self.play.database == "postgresql" else self.name

    def go(
        self,
        spark: SparkSession,
        seconds: float,
        *,
        kill_every_s: float,
        kinds: Sequence[str] = (),
        hand_every_s: float = 10.0,
    ) -> Outcome:
        """Play for so long, then compare; with `kinds` of other hands, these act meanwhile."""
        if not kinds:
            (outcome,) = go_together([self], spark, seconds, kill_every_s=kill_every_s)
            return outcome
        self.play_for(FIRST_S, alters=False)
        with let_through(self.chain), self.listened_to(spark) as driver:
            hands = Hands(self, driver, kinds, hand_every_s)
            hands.await_tables()
            self.play_for(seconds, alters=True, meanwhile=hands.step)
            self.say(f"played: {self.player.counts}")
            return Calm(hands).outcome()

    @contextmanager
    def listened_to(self, spark: SparkSession) -> Iterator[Driver]:
        """The connector and the pipeline, while the block runs; the connector stays after a failure."""
        use_catalog(spark, self.pipeline.catalog)
        driver = Driver(spark)
        self.chain.add_connector(self.name, self.connector())
        driver.start(self.pipeline)
        try:
            yield driver
        finally:
            driver.stop()
        self.chain.remove_connector(self.name)

    def play_for(
        self, seconds: float, *, alters: bool, meanwhile: Callable[[float], None] | None = None
    ) -> None:
        """Play for so long; `meanwhile` is called again and again with the seconds left."""
        _play_for([self], seconds, alters=alters, meanwhile=meanwhile)

    def settle(self, driver: Driver) -> Outcome:
        """Wait until the mark is delivered and all is applied, or something stopped; then compare."""
        until = time.monotonic() + SETTLE_LIMIT_S
        cluster = Cluster(self.pipeline.kafka)
        while (left := self._left(cluster)) and time.monotonic() < until:
            if stops := self._stops(driver):
                return Outcome(tuple(verify(self.pipeline)), stops)
            threading.Event().wait(1)
        if left:
            left = f"after {SETTLE_LIMIT_S:g} s, {left}"
            return Outcome(tuple(verify(self.pipeline)), (left, *self._stops(driver)))
        found = tuple(verify(self.pipeline, wait_s=_BEHIND_MARK_S))
        return Outcome(found, self._stops(driver))

    def _left(self, cluster: Cluster) -> str:
        """Say what is still under way; nothing when all was delivered and applied."""
        marks = self.marks_topic
        try:
            if cluster.topic(marks) is None or not sum(cluster.end_offsets(marks).values()):
                return "the connector has not delivered all"
            facts = read_facts(self.pipeline, Upstream.of(self.pipeline))
        except UnavailableError:  # a topic just made has no leader yet
            return "Kafka does not answer"
        late = [one.table for one in facts if one.failures or not is_applied(one)]
        return f"not applied: {', '.join(late)}" if late else ""

    def _stops(self, driver: Driver) -> tuple[str, ...]:
        failed = [
            f"{self.name}: {part} FAILED: {trace}"
            for one in ConnectClient(self.chain.connect_url).connectors(is_judged)
            if one.name == self.name
            for part, trace in one.failed.items()
        ]
        return (*(f"{query.error}" for query in driver.parked), *failed)

    def mark(self, number: int) -> None:
        """Write after all others: where the log ends."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {_MARKS} VALUES ({number})")

    # --- settings ---------------------------------------------------------------------------

    def connect(self) -> Any:
        """Open a connection to the database, on which each statement commits by itself."""
        return self._server.connect(self.name)

    @property
    def marks_topic(self) -> str:
        """Where the marks arrive."""
        return self.topic(_MARKS)

    def topic(self, table: str) -> str:
        """The topic of a source table."""
        return f"{self.name}.{self._schema}.{table}"

    def change(self, table: str, **settings: object) -> None:
        """Change settings of a table, by its target's name, for drivers that start from now on."""
        topic = self.pipeline.table(table).topic
        self.changes[topic] = self.changes.get(topic, {}) | settings
        self._configure()

    def connector(self) -> dict[str, str]:
        tables = [f"{self._schema}.{name}" for name in (*self.player.tables, _MARKS)]
        if self.play.database == "postgresql":
            return self.chain.postgres_connector(
                self.name, self.name, tables, slot=self.name, partitions=_PARTITIONS
            )
        settings = {"mysql": self.chain.mysql_connector, "mariadb": self.chain.mariadb_connector}
        return settings[self.play.database](self.name, self.name, tables, partitions=_PARTITIONS)

    def _settings(self) -> Mapping[str, object]:
        return {
            "pipeline": self.name,
            **surroundings_of(self.chain, self.folder, self.name),
            "defaults": {
                "namespace": self.name,
                "buckets": 2,
                "trigger_s": self.trigger_s,
                "max_records_per_batch": self.records_per_batch,
            },
            "tables": [
                {
                    "topic": self.topic(name),
                    "source": {"database": "source", "table": f"{self._schema}.{name}"},
                    **self.changes.get(self.topic(name), {}),
                }
                for name in self.player.tables
            ],
            "databases": {"source": database_of(self._server, self.name, self.folder)},
        }


def go_together(
    runs: Sequence[Run], spark: SparkSession, seconds: float, *, kill_every_s: float
) -> list[Outcome]:
    """Play on several databases of one chain at once, then compare each."""
    first = runs[0]
    kills = Kills(first.chain, first.play.seed, kill_every_s, first.say)
    _play_for(runs, FIRST_S, alters=False)
    # PostgreSQL's connector, started anew, sends a type from before an ALTER again, with the NULLs that the
    # column takes now: a schema that was never registered, and that BACKWARD refuses.
    with let_through(first.chain), ExitStack() as listening:
        drivers = [listening.enter_context(run.listened_to(spark)) for run in runs]
        _play_for(runs, seconds, alters=True, meanwhile=kills.step)
        for run in runs:
            run.kills = kills.count
            run.say(f"played: {run.player.counts}, Connect killed {run.kills} times")
            run.mark(1)
        return [run.settle(driver) for run, driver in zip(runs, drivers, strict=True)]


def _play_for(
    runs: Sequence[Run],
    seconds: float,
    *,
    alters: bool,
    meanwhile: Callable[[float], None] | None = None,
) -> None:
    until = time.monotonic() + seconds
    with ExitStack() as playing:
        for run in runs:
            run.player.start(alters=alters)
            playing.callback(run.player.stop)
        while (left_s := until - time.monotonic()) > 0:
            if meanwhile is None:
                threading.Event().wait(left_s)
            else:
                meanwhile(left_s)
