"""Other hands: which one comes next, on which table, and what is done about the stops that follow.

Rules owned here: the kinds are drawn without putting back until all were drawn; the draw of a hand depends on
the seed and its number alone. A hand that finds nothing to do, or that a server or table refuses, is counted
as refused. While a table that was rolled back has not said so, its snapshots are not expired, and it is not
rolled back again: that leaves no trace, as the manual says.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from cdc_sink.clients.kafka import Cluster
from cdc_sink.errors import CdcSinkError
from cdc_sink.observe.table_facts import Upstream, read_facts
from tests.workload.driver import Driver
from tests.workload.source_hands import SourceHands
from tests.workload.stops import Command, Stops
from tests.workload.table_hands import TableHands
from tests.workload.topic_hands import TopicHands

if TYPE_CHECKING:
    from tests.workload.run import Run

KINDS = (
    "grow",
    "abort",
    "rollback",
    "drop",
    "compact",
    "expire",
    "resnapshot",
    "snapshot-killed",
    "connect",
    "driver",
    "stray",
    "route",
    "registry",
)
_REFUSALS = (CdcSinkError, KafkaException, PySparkException, Py4JError)
_STOP_S = 45.0  # within which a table under traffic notices that it was rolled back or dropped
_FAILURES = 5  # of the connector
_BEGIN_S = 240.0  # for the first table commits, of a JVM that has compiled nothing yet


@dataclass(frozen=True)
class Drawn:
    """One hand: its kind, its table, and the rest of its draw."""

    kind: str
    table: str
    draw: random.Random


class Draws:
    """The endless stream of hands that a seed stands for."""

    def __init__(self, seed: int, kinds: Sequence[str], tables: Sequence[str]) -> None:
        self._seed, self._kinds, self._tables = seed, sorted(kinds), sorted(tables)
        self._number = 0
        self._left: list[str] = []

    def next(self) -> Drawn:
        """Draw one."""
        draw = random.Random(f"{self._seed}/hand/{self._number}")
        self._number += 1
        if not self._left:
            self._left = draw.sample(self._kinds, len(self._kinds))
        return Drawn(self._left.pop(), draw.choice(self._tables), draw)


class Hands:
    """The other hands of one run."""

    def __init__(self, run: Run, driver: Driver, kinds: Sequence[str], every_s: float) -> None:
        self.run, self.driver, self.every_s = run, driver, every_s
        self.cluster = Cluster(run.pipeline.kafka)
        self.topics = TopicHands(run.chain.bootstrap_servers, self.cluster)
        self.tables = TableHands(driver.spark, run.pipeline)
        self.source = SourceHands(run.chain, run.name, run.connector(), run.connect)
        self.draws = Draws(run.play.seed, kinds, sorted(run.player.tables))
        self.drawn: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.stops = Stops()
        self.failures: list[str] = []  # of the connector
        self._unsaid: set[str] = set()  # tables that were set back and have not stopped yet

    def await_tables(self) -> None:
        """Wait until every topic that is there has its table, or stopped: before, hands find nothing."""
        until = time.monotonic() + _BEGIN_S
        while time.monotonic() < until:
            facts = read_facts(self.run.pipeline, Upstream.of(self.run.pipeline))
            waits = {
                one.table
                for one in facts
                if one.end_offsets and not (one.ledger and one.ledger.totals.records)
            }
            if waits <= {one.target.name for one in self.driver.parked}:
                return
            threading.Event().wait(1)

    def step(self, left_s: float) -> None:
        """Wait for the next hand, follow the stops meanwhile, and let it do its work."""
        hand = self.draws.next()
        until = time.monotonic() + min(left_s, self.every_s * (0.5 + hand.draw.random()))
        while time.monotonic() < until:
            self.follow()
            threading.Event().wait(0.5)
        self.follow()
        try:
            told = self._do(hand)
        except _REFUSALS as refusal:
            told = ""
            self.run.say(
                f"  {hand.kind} on {hand.table}: {type(refusal).__name__}: {refusal}"[:600]
            )
        (self.drawn if told else self.refused)[hand.kind] += 1
        self.run.say(f"hand {hand.kind} on {hand.table}: {told or 'refused'}")
        if told and hand.kind in ("rollback", "drop"):
            self._await_stop(hand)

    def follow(self) -> None:
        """Do what the sentences of parked tables say, and start the driver again."""
        if failed := self.source.heal() if len(self.failures) < _FAILURES else "":
            self.failures.append(failed)
            self.run.say(f"STOP {failed}: restarted")
        parked = [
            one for one in self.driver.parked if one.target.name not in self.stops.open_tables
        ]
        if not parked:
            return
        commands = {}
        for query in parked:
            assert query.error is not None
            stop = self.stops.add(query.target.name, query.error)
            commands[stop.table] = Command.NONE if stop.is_open else stop.command
            self.run.say(f"STOP {stop.sentence}\n  -> {stop.command}{', given up' * stop.is_open}")
            if stop.is_unknown and stop.cause:
                self.run.say(f"  cause: {stop.cause}")
        self._obey(commands)

    def _obey(self, commands: dict[str, Command]) -> None:
        if set(commands.values()) == {Command.NONE}:
            return
        self.driver.stop()
        if {Command.DELETE, Command.NEW_TOPIC} & set(commands.values()):
            for table in self.run.pipeline.tables:  # the snapshot was of the whole of each
                self.run.change(table.name, on_resnapshot="delete")
        renewed = [table for table, command in commands.items() if command is Command.NEW_TOPIC]
        if renewed:
            self._renew(renewed)
        takes_over = Command.TAKE_OVER in commands.values()
        if takes_over:
            self._unsaid.clear()
        self.driver.start(self.run.pipeline, take_over=takes_over)

    def _renew(self, tables: list[str]) -> None:
        """Make the topics anew, let the connector take a new source snapshot into them."""
        self.run.say(f"  {self.source.forget(random.Random(0))}; topics of {tables} made anew")
        self.topics.delete([self.run.pipeline.table(table).topic for table in tables])
        self.source.begin()
        for table in tables:
            generation = self.run.pipeline.table(table).generation
            self.run.change(table, generation=generation + 1)

    def _await_stop(self, hand: Drawn) -> None:
        where = f"{self.run.name}.{hand.table}"
        if hand.draw.random() < 0.3:
            return  # the next hand comes first
        until = time.monotonic() + _STOP_S
        while time.monotonic() < until:
            if any(one.target.name == where for one in self.driver.parked):
                self.follow()
                return
            threading.Event().wait(0.25)
        self.run.say(f"  {where} has not stopped after {_STOP_S:g} s")

    # --- hands ------------------------------------------------------------------------------

    def _do(self, hand: Drawn) -> str:
        """Let a hand do its work; what it did, or nothing."""
        table = f"{self.run.name}.{hand.table}"
        topic, draw = self.run.topic(hand.table), hand.draw
        work: dict[str, Callable[[], str]] = {
            "grow": lambda: self.topics.grow(topic, draw),
            "abort": lambda: self.topics.abort(topic, draw),
            "rollback": lambda: self._set_back(table, lambda: self.tables.rollback(table, draw)),
            "drop": lambda: self._set_back(table, lambda: self.tables.drop(table)),
            "compact": lambda: self.tables.compact(table),
            "expire": lambda: "" if table in self._unsaid else self.tables.expire(table, draw),
            "resnapshot": lambda: self.source.snapshot_again(draw),
            "snapshot-killed": lambda: self.source.snapshot_killed(draw, topic, self.cluster),
            "connect": self.source.kill,
            "driver": self._kill_driver,
            "stray": lambda: self.topics.stray(self._other_topic(hand), topic, draw),
            "route": self.source.route_otherwise,
            "registry": lambda: self.source.rebuild_registry(draw),
        }
        return work[hand.kind]()

    def _other_topic(self, hand: Drawn) -> str:
        """The topic of another table: a routing transform that was set up wrongly brings its records."""
        others = sorted(set(self.run.player.tables) - {hand.table})
        return self.run.topic(hand.draw.choice(others))

    def _set_back(self, table: str, work: Callable[[], str]) -> str:
        if table in self._unsaid:
            return ""
        told = work()
        if told:
            self._unsaid.add(table)
        return told

    def _kill_driver(self) -> str:
        self.driver.kill()
        self.driver.start(self.run.pipeline)
        return "killed"
