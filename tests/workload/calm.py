"""The end of a run with other hands: until nothing is under way any more, then every row compared.

Steps, in order: start Connect again, so that its producer knows of new partitions; play for a moment and wait
until all is applied, as often as a table still has something to decide; replay dead letters; rebuild the
tables whose sentence named the backfill; compare.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from cdc_sink.errors import CdcSinkError, UnavailableError
from cdc_sink.observe.status import TableFacts
from cdc_sink.observe.table_facts import Upstream, read_facts
from cdc_sink.spark.run.backfill import backfill
from cdc_sink.spark.run.replay import replay
from cdc_sink.verification.verify import verify
from tests.workload.hands import Hands
from tests.workload.outcome import SETTLE_LIMIT_S, HandsTold, Outcome, is_applied
from tests.workload.stops import Command
from tests.workload.topic_hands import number_of

_PLAY_S = 4.0
_ROUNDS = 8
_STILL_S = 3.0


class Calm:
    """Brings a run with other hands to its end."""

    def __init__(self, hands: Hands) -> None:
        self._hands, self._run = hands, hands.run
        self._mark = 0
        self._late = ""

    def outcome(self) -> Outcome:
        """Wait, mend, compare."""
        self._run.chain.restart("connect")
        self._go_on_until_decided()
        letters = self._replayed()
        if letters:
            self._go_on_until_decided()
        self._hands.driver.stop()
        rebuilt = dict(self._rebuilt())
        waiting = {one.table: one.ledger.quarantined for one in self._facts() if one.ledger}
        told = HandsTold(
            drawn=dict(self._hands.drawn),
            refused=dict(self._hands.refused),
            stops=tuple(self._hands.stops.all),
            failures=tuple(self._hands.failures),
            letters={table: count for table, count in waiting.items() if count},
            rebuilt=rebuilt,
        )
        return Outcome(tuple(verify(self._run.pipeline)), (self._late,) * bool(self._late), told)

    def _go_on_until_decided(self) -> None:
        for _ in range(_ROUNDS):
            self._run.play_for(_PLAY_S, alters=False)
            self._late = self._wait_applied()
            undecided = [one.table for one in self._facts() if _is_undecided(one)]
            if self._late or not undecided:
                return
            self._run.say(f"undecided: {', '.join(undecided)}")

    def _wait_applied(self) -> str:
        """Wait until all is delivered and applied; what is late at the limit."""
        self._mark += 1
        self._run.mark(self._mark)
        until, calm_since = time.monotonic() + SETTLE_LIMIT_S, None
        ends: object = None
        while time.monotonic() < until:
            self._hands.follow()
            late, now = self._left()
            if late or now != ends:
                calm_since = None
            elif calm_since is None:
                calm_since = time.monotonic()
            elif time.monotonic() - calm_since > _STILL_S:
                return ""
            ends = now
            threading.Event().wait(1)
        return f"after {SETTLE_LIMIT_S:g} s, {late or 'the topics still grow'}"

    def _left(self) -> tuple[str, object]:
        """What is under way, and where the topics end now."""
        try:
            keys = self._hands.topics.keys(self._run.marks_topic)
            if max(map(number_of, keys), default=0) < self._mark:
                return "the connector has not delivered all", None
            facts = list(self._facts())
        except UnavailableError:
            return "Kafka does not answer", None
        late = [one.table for one in facts if one.failures or not is_applied(one)]
        return (
            f"not applied: {', '.join(late)}" if late else "",
            [one.end_offsets for one in facts],
        )

    def _facts(self) -> Iterator[TableFacts]:
        """What is known of the tables that go on."""
        given_up = self._hands.stops.open_tables
        pipeline = self._run.pipeline
        for one in read_facts(pipeline, Upstream.of(pipeline)):
            if one.table not in given_up:
                yield one

    def _replayed(self) -> int:
        """Replay what waits among the dead letters; how many tables had some."""
        tables = [one.table for one in self._facts() if one.ledger and one.ledger.quarantined]
        if not tables:
            return 0
        self._hands.driver.stop()
        for table in tables:
            report = replay(self._run.pipeline, table, spark=self._hands.driver.spark)
            self._run.say(f"{table}: {report.replayed} letters replayed, {report.waiting} wait")
        self._hands.driver.start(self._run.pipeline)
        return len(tables)

    def _rebuilt(self) -> Iterator[tuple[str, str]]:
        """Rebuild, into a new target, what a sentence said is to be rebuilt; the new name by the old one."""
        stops = [one for one in self._hands.stops.all if one.is_open]
        for table in sorted({one.table for one in stops if one.command is Command.BACKFILL}):
            into = f"{table}_rebuilt"
            self._run.change(table, on_resnapshot="delete")
            spark = self._hands.driver.spark
            try:
                report = backfill(self._run.pipeline, table, into=into, spark=spark)
            except CdcSinkError as refusal:
                self._run.say(f"backfill of {table}: {refusal}")
                continue
            self._run.say(f"backfill of {table}: {report}")
            if report.exit_code == 0:
                self._run.change(table, target=into)
                yield table, into


def _is_undecided(facts: TableFacts) -> bool:
    """Keys move still, or a snapshot is whole and nothing was decided over what it does not name."""
    ledger = facts.ledger
    if ledger is None:
        return False
    return ledger.moving is not None or (ledger.is_undecided and not ledger.quarantined)
