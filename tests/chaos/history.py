"""One long history of one pipeline: a shop with people in it, a driver that is killed again and again.

Nothing is started from scratch in between. Whatever was done to it, `settle` says whether the tables still
equal the databases, and whether each table snapshot of the way holds what it has to. Tests need no order:
what a test needs to be there, it asks for.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cdc_sink.config import Pipeline, load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.shop.traffic import Traffic, create
from cdc_sink.observe.status import TableFacts
from cdc_sink.table.lease import QueryState
from cdc_sink.table.ledger.offsets import Offsets
from cdc_sink.verification.verify import verify
from tests.chaos.driver import Driver, wait_until
from tests.chaos.left import Left
from tests.chaos.looks import batches_of, facts_of, is_applied, records_in
from tests.chaos.shop import DDL, NAME, captured, config_of, connects, name_of

FIRST_CHANGES = 300
CHANGES_PER_S = 20.0
VERIFY_S = 120  # for what Connect has not delivered yet


def _nothing() -> None:
    """What happens where nothing has to."""


@dataclass
class History:
    """The pipeline, its servers and its driver, if one runs now."""

    chain: Chain
    folder: Path
    seed: int
    pipeline: Pipeline
    traffics: list[Traffic]
    is_open: bool = False  # whether people are in the shop
    starts: int = 0
    connectors: list[str] = field(default_factory=lambda: ["shop_my"])
    kills: list[str] = field(
        default_factory=list
    )  # each with its table and its batch, where they are known
    drivers: list[Driver] = field(default_factory=list)
    alone: str | None = None  # the only table of the newest driver
    left: Left = field(default_factory=Left)
    is_settled: bool = False  # nothing was done since all tables were compared

    @classmethod
    def begin(cls, chain: Chain, folder: Path, seed: int) -> History:
        """Make the shop with its first rows, its connectors and the configuration; no driver yet."""
        chain.postgres.create_database(NAME)
        chain.mysql.create_database(NAME)
        create(*connects(chain))
        config = folder / "shop.yaml"
        config.write_text(yaml.safe_dump(config_of(chain, folder)))
        crowd = Traffic(seed, *connects(chain))
        history = cls(chain, folder, seed, load_config(config), [crowd])
        history.execute(*DDL)
        crowd.run(events=FIRST_CHANGES)
        history.connect("shop_pg", [f"public.{name}" for name in captured("postgres")])
        tables = [f"{NAME}.{name}" for name in captured("mysql")]
        chain.add_connector("shop_my", chain.mysql_connector("shop_my", NAME, tables, partitions=2))
        history.rehearse()
        return history

    def rehearse(self) -> None:
        """Run a driver of its own to the end, so that all others find their classes loaded."""
        folder = self.folder / "rehearsal"
        folder.mkdir()
        config = config_of(self.chain, folder)
        first = config["tables"][0] | {"max_records_per_batch": 5}
        file = folder / "shop.yaml"
        file.write_text(yaml.safe_dump(config | {"tables": [first]}))
        wait_until(
            "records for two batches", lambda: records_in(self.pipeline, first["topic"]) >= 6
        )
        command = ("run", str(file), "--once")
        driver = Driver(folder / "driver.log", self._classes, *command, is_rehearsal=True)
        assert driver.wait_end("the rehearsal to end") == 0, driver.tail()
        assert driver.applied() > 1, driver.tail()
        assert self._classes.exists(), driver.tail()

    @property
    def _classes(self) -> Path:
        return self.folder / "classes.jsa"

    @property
    def config(self) -> Path:
        """The pipeline's file."""
        return self.folder / "shop.yaml"

    def config_alone(self, table: str) -> Path:
        """A file of the same pipeline that has one of its tables alone."""
        config = yaml.safe_load(self.config.read_text())
        config["tables"] = [one for one in config["tables"] if _is_of(one, table)]
        config["defaults"]["trigger_s"] = 1.0  # its batches are waited for
        file = self.folder / f"{table}.yaml"
        file.write_text(yaml.safe_dump(config))
        return file

    def configure(self, table: str, **settings: Any) -> None:
        """Give one table other settings; drivers that run keep the old ones."""
        config = yaml.safe_load(self.config.read_text())
        (one,) = (entry for entry in config["tables"] if _is_of(entry, table))
        one.update(settings)
        self.config.write_text(yaml.safe_dump(config))
        self.pipeline = load_config(self.config)

    def connect(self, prefix: str, tables: list[str]) -> None:
        """Add a connector for tables in PostgreSQL, and wait until it runs."""
        settings = self.chain.postgres_connector(prefix, NAME, tables, slot=prefix, partitions=2)
        self.chain.add_connector(prefix, settings)
        self.connectors.append(prefix)

    def execute(self, *statements: str) -> None:
        """Run statements in PostgreSQL, each a transaction."""
        self.is_settled = False
        with closing(self.chain.postgres.connect(NAME)) as connection:
            for statement in statements:
                connection.execute(statement)

    # --- the driver -------------------------------------------------------------------------

    @property
    def driver(self) -> Driver:
        """The newest driver."""
        return self.drivers[-1]

    @property
    def is_running(self) -> bool:
        """Whether the newest driver runs."""
        return bool(self.drivers) and self.driver.is_running

    def start(self, alone: str | None = None) -> Driver:
        """Start a driver of all tables, or of one alone, whatever else runs."""
        config = self.config_alone(alone) if alone else self.config
        return self.start_command("run", str(config), alone=alone)

    def start_command(self, *command: str, alone: str | None = None) -> Driver:
        """Start a command that starts Spark, whatever else runs."""
        self.starts += 1
        self.is_settled = False
        log = self.folder / f"driver-{self.starts:02d}.log"
        self.drivers.append(Driver(log, self._classes, *command))
        self.alone = alone
        return self.driver

    def keep_running(self, alone: str | None = None) -> Driver:
        """The driver of all tables, or of one alone: the one that runs, or a new one where that is killed."""
        if self.is_running and self.alone == alone:
            return self.driver
        self.kill()
        return self.start(alone)

    def keep_applying(self, alone: str | None = None) -> Driver:
        """The driver that `keep_running` gives, under traffic, once it applied a batch."""
        self.live()
        driver = self.keep_running(alone)
        wait_until("a first batch", lambda: driver.applied() > 0, driver.tail)
        return driver

    def kill(self) -> None:
        """Kill the driver wherever it is, if one runs."""
        if self.is_running:
            self.driver.kill()
            self.kills.append(f"{self.alone or 'all tables'}: any instant")

    def stop(self) -> None:
        """Stop the driver between two batches, if one runs."""
        if self.is_running:
            self.driver.stop()

    def kill_at(
        self,
        failpoint: str,
        during: Callable[[], None] = _nothing,
        *,
        alone: str | None = None,
        passing: int = 1,
    ) -> None:
        """Let a driver, the one that runs or a new one, come to an instant, where it ends by -9.

        What leads it there is done `during` the wait, once it can't pass the instant any more.
        """
        driver = self.keep_running(alone)
        driver.arm(failpoint, passing)
        during()
        self.wait_killed(driver, failpoint)

    def kill_in_new_batch(
        self,
        table: str,
        failpoint: str,
        during: Callable[[], None] = _nothing,
        *,
        passing: int = 1,
    ) -> None:
        """Let a driver of one table end at an instant of a batch that no other driver began."""
        self.keep_running(table)
        before = batches_of(self.pipeline, table)
        self.kill_at(failpoint, during, alone=table, passing=passing)
        after = batches_of(self.pipeline, table)
        assert after.is_open, f"{after}\n{self.tell()}"
        assert after.begun > before.begun, f"{before} {after}\n{self.tell()}"
        self.kills[-1] += f" of {table}, new batch {after.begun}"

    def kill_at_replay(self, table: str, failpoint: str) -> None:
        """Let the next driver of one table end at an instant of the batch that the last one left."""
        assert not self.is_running
        before = batches_of(self.pipeline, table)
        assert before.is_open, f"no batch to replay: {before}\n{self.tell()}"
        self.kill_at(failpoint, alone=table)
        assert batches_of(self.pipeline, table) == before, f"{before}\n{self.tell()}"
        self.kills[-1] += f" of {table}, replay of batch {before.begun}"

    def wait_killed(self, driver: Driver, failpoint: str) -> None:
        """Wait until an armed driver ended where it should."""
        what = f"the driver to end at {failpoint}"
        wait_until(what, lambda: driver.is_gone or bool(driver.said("parked")), driver.tail)
        assert not driver.said("parked"), driver.tail()
        code = driver.wait_end(what)
        assert code == -9, f"exit code {code} instead of -9\n{driver.tail()}"
        self.kills.append(failpoint)

    def kill_somewhere(self) -> None:
        """Kill the driver of all tables at an instant drawn from the seed, in its work."""
        driver = self.keep_applying()
        draw = random.Random(f"{self.seed}/{self.starts}")
        self.more_batches(driver, draw.randrange(1, 4))
        threading.Event().wait(draw.random())  # the instant: somewhere in the next second
        self.kill()

    def more_batches(self, driver: Driver, count: int, table: str | None = None) -> None:
        """Wait until a running driver applied so many more, of one table or of all."""
        batches = driver.applied(table) + count
        wait_until(
            f"{count} more batches",
            lambda: driver.applied(table) >= batches or bool(driver.said("parked")),
            self.tell,
        )
        assert not driver.said("parked"), driver.tail()

    def open_batch(self, driver: Driver) -> str:
        """Wait until a table's batch is under way, and name the table."""
        found: list[str] = []

        def is_open() -> bool:
            assert driver.is_running, driver.tail()
            found[:] = [t.name for t in self.pipeline.tables if self._is_in_batch(t.table_name)]
            return bool(found)

        wait_until("a batch under way", is_open, driver.tail)
        return found[0]

    def _is_in_batch(self, table: str) -> bool:
        batches = batches_of(self.pipeline, table)
        return self.alone in (None, table) and batches.is_open and batches.done >= 0

    # --- the shop ---------------------------------------------------------------------------

    def live(self) -> None:
        """Let people into the shop, if nobody is there."""
        self.is_settled = False
        if not self.is_open:
            self.is_open = True
            for traffic in self.traffics:
                traffic.start(rate=CHANGES_PER_S)

    def close(self) -> None:
        """Send everybody home; what was begun is finished."""
        self.is_open = False
        for traffic in self.traffics:
            traffic.stop()

    def alter_tables(self) -> None:
        """Let a second crowd in, which alters three tables first and fills the new columns."""
        crowd = Traffic(self.seed, *connects(self.chain), alter_after=0, lane=1)
        crowd.run(events=200)
        self.traffics.append(crowd)
        if self.is_open:
            crowd.start(rate=CHANGES_PER_S)

    # --- what came of it --------------------------------------------------------------------

    def settle(self, alone: str | None = None) -> None:
        """Send everybody home, wait until all is applied, and compare every row with the databases.

        With a table alone: by a driver of this one, and no other is waited for or compared. What no look has
        seen yet of any table is looked at.
        """
        if self.is_settled and self.is_running:
            return
        self.close()
        driver = self.keep_running(alone)
        self._wait_level(driver)
        found = verify(self.pipeline, alone and [name_of(alone)], wait_s=VERIFY_S)
        wrong = [f"{one.table}: {one.differences[:5]} {one}" for one in found if not one.equal]
        assert not wrong, "\n".join([*wrong, self.tell()])
        ends = self._wait_level(driver)
        self.left.look(self.pipeline)
        wrong = self.left.wrong(ends)
        assert not wrong, "\n".join([*wrong, self.tell()])
        self.is_settled = alone is None

    def _wait_level(self, driver: Driver) -> dict[str, Offsets]:
        """Wait until the driver's tables are at the ends of their topics, and tell the ends."""
        facts: dict[str, TableFacts] = {}
        pipeline = load_config(self.config_alone(self.alone)) if self.alone else self.pipeline

        def is_level() -> bool:
            assert driver.is_running, f"the driver ended by itself\n{driver.tail()}"
            facts.update(facts_of(pipeline))
            parked = [
                f"{name}: {one.lease.error}"
                for name, one in facts.items()
                if one.lease
                and one.lease.state is QueryState.PARKED
                and one.lease.pid == driver.pid
            ]
            assert not parked, "\n".join([*parked, driver.tail()])
            return all(is_applied(one) for one in facts.values())

        wait_until("every ledger at its topic's end", is_level, self.tell, poll_s=0.5)
        return {name: one.end_offsets or {} for name, one in facts.items()}

    def tell(self) -> str:
        """Where the tables and the driver are, for a failure."""
        lines = [f"seed {self.seed}; kills: {'; '.join(self.kills)}"]
        for name, one in facts_of(self.pipeline).items():
            applied = dict(one.ledger.next_offsets) if one.ledger else None
            lines.append(f"{name}: applied {applied} of {one.end_offsets}, {one.lease}")
        return "\n".join([*lines, self.driver.tail()])

    def end(self) -> None:
        """Leave nothing running."""
        self.close()
        for driver in self.drivers:
            if not driver.is_gone:
                driver.kill()


def _is_of(entry: Mapping[str, Any], table: str) -> bool:
    return str(entry["topic"]).endswith(f".{table}")
