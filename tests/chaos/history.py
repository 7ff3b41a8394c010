"""One long history of one pipeline: a shop with people in it, a driver that is killed again and again.

Nothing is started from scratch in between. Whatever was done to it, `settle` says whether the tables
still equal the databases.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from cdc_sink.clients.catalog import load_table
from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import Pipeline, Target, load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.shop.tables import CUSTOMERS, ORDER_LINES, PRODUCTS, SCHEMA_STEPS
from cdc_sink.demo.shop.traffic import Connect, Traffic, create
from cdc_sink.errors import UnavailableError
from cdc_sink.observe.status import TableFacts
from cdc_sink.observe.table_facts import Upstream, read_facts
from cdc_sink.table.lease import QueryState
from cdc_sink.verification.verify import verify
from tests.chaos.driver import Driver, wait_until

NAME = "shop_chaos"
TABLES = (CUSTOMERS, ORDER_LINES, PRODUCTS)  # of the shop's, from both databases
VISITS = "visits"  # of its own connector, which comes late
VISITS_DDL = "CREATE TABLE visits (id bigint PRIMARY KEY, page text NOT NULL, seconds int)"
READINGS = "readings"  # left alone by the traffic: its changes are a test's own, see readings.py
READINGS_DDL = (
    "CREATE TABLE readings (id bigint PRIMARY KEY, value int, seen timestamptz, note text)",
    "INSERT INTO readings SELECT i, i, now(), 'first' FROM generate_series(1, 40) i",
)
FIRST_CHANGES = 300
CHANGES_PER_S = 30.0
VERIFY_S = 120  # for what Connect has not delivered yet


@dataclass
class History:
    """The pipeline, its servers and its driver, if one runs now."""

    stack: Chain
    folder: Path
    seed: int
    pipeline: Pipeline
    traffics: list[Traffic]
    is_open: bool = False  # whether people are in the shop
    starts: int = 0
    connectors: list[str] = field(default_factory=lambda: ["shop_my"])
    kills: Counter[str] = field(default_factory=Counter)
    drivers: list[Driver] = field(default_factory=list)

    @classmethod
    def begin(cls, stack: Chain, folder: Path, seed: int) -> History:
        """Make the shop with its first rows, its connectors and the configuration; no driver yet."""
        stack.postgres.create_database(NAME)
        stack.mysql.create_database(NAME)
        create(*_connects(stack))
        config = folder / "shop.yaml"
        config.write_text(yaml.safe_dump(_config(stack, folder)))
        crowd = Traffic(seed, *_connects(stack))
        history = cls(stack, folder, seed, load_config(config), [crowd])
        history.execute(VISITS_DDL, *READINGS_DDL)
        crowd.run(events=FIRST_CHANGES)
        tables = {
            side: [t.name for t in TABLES if t.side == side] for side in ("postgres", "mysql")
        }
        history.connect("shop_pg", [f"public.{name}" for name in (*tables["postgres"], READINGS)])
        settings = stack.mysql_connector(
            "shop_my", NAME, [f"{NAME}.{name}" for name in tables["mysql"]], partitions=2
        )
        stack.add_connector("shop_my", settings)
        history.rehearse()
        return history

    def rehearse(self) -> None:
        """Run a driver of its own to the end, so that all others find their classes loaded."""
        folder = self.folder / "rehearsal"
        folder.mkdir()
        config = _config(self.stack, folder)
        first = config["tables"][0] | {"max_records_per_batch": 5}
        file = folder / "shop.yaml"
        file.write_text(yaml.safe_dump(config | {"tables": [first]}))
        wait_until("records for two batches", lambda: self.has_records(first["topic"], 6))
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

    def configure(self, table: str, **settings: Any) -> None:
        """Give one table other settings; drivers that run keep the old ones."""
        config = yaml.safe_load(self.config.read_text())
        (one,) = (entry for entry in config["tables"] if entry["topic"].endswith(f".{table}"))
        one.update(settings)
        self.config.write_text(yaml.safe_dump(config))
        self.pipeline = load_config(self.config)

    def connect(self, prefix: str, tables: list[str]) -> None:
        """Add a connector for tables in PostgreSQL, and wait until it runs."""
        settings = self.stack.postgres_connector(prefix, NAME, tables, slot=prefix, partitions=2)
        self.stack.add_connector(prefix, settings)
        self.connectors.append(prefix)

    def execute(self, *statements: str) -> None:
        """Run statements in PostgreSQL, each a transaction."""
        with closing(self.stack.postgres.connect(NAME)) as connection:
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

    def start(self, *command: str) -> Driver:
        """Start a driver, whatever else runs: `run`, or another command that starts Spark."""
        self.starts += 1
        log = self.folder / f"driver-{self.starts:02d}.log"
        command = command or ("run", str(self.config))
        self.drivers.append(Driver(log, self._classes, *command))
        return self.driver

    def keep_running(self) -> Driver:
        """The driver that runs, or a new one."""
        return self.driver if self.is_running else self.start()

    def kill_at(self, failpoint: str, passing: int, *statements: str) -> None:
        """Let the driver, a new one if none runs, come to an instant under traffic, where it ends by -9.

        Statements are sent to PostgreSQL once it can't pass the instant any more.
        """
        self.live()
        driver = self.keep_running()
        driver.arm(failpoint, passing)
        self.execute(*statements)
        self.wait_killed(driver, failpoint, passing)

    def wait_killed(self, driver: Driver, failpoint: str, passing: int) -> None:
        """Wait until an armed driver ended where it should."""
        what = f"the driver to end at {failpoint}:{passing}"
        wait_until(what, lambda: driver.is_gone or bool(driver.said("parked")), driver.tail)
        assert not driver.said("parked"), driver.tail()
        code = driver.wait_end(what)
        assert code == -9, f"exit code {code} instead of -9\n{driver.tail()}"
        self.kills[failpoint] += 1

    def kill_somewhere(self) -> None:
        """Kill the driver, a new one if none runs, at an instant drawn from the seed, in its work."""
        self.live()
        self.keep_running()
        draw = random.Random(f"{self.seed}/{self.starts}")
        self.more_batches(draw.randrange(1, 6))
        threading.Event().wait(draw.random())  # the instant: somewhere in the next second
        self.driver.kill()
        self.kills["a random instant"] += 1

    def more_batches(self, count: int) -> None:
        """Wait until the running driver applied so many more."""
        driver, batches = self.driver, self.driver.applied() + count
        wait_until(
            f"{count} more batches",
            lambda: driver.applied() >= batches or bool(driver.said("parked")),
            self.tell,
        )
        assert not driver.said("parked"), driver.tail()

    def open_batch(self, driver: Driver) -> str:
        """Wait until a table's batch is under way, and name the table."""
        found: list[str] = []

        def is_open() -> bool:
            assert driver.is_running, driver.tail()
            found[:] = [t.name for t in self.pipeline.tables if self._has_open_batch(t.name)]
            return bool(found)

        wait_until("a batch under way", is_open, driver.tail)
        return found[0]

    def _has_open_batch(self, table: str) -> bool:
        checkpoint = Path(self.pipeline.target(table).checkpoint.removeprefix("file://"))
        begun, done = (
            max((int(p.name) for p in (checkpoint / part).glob("[0-9]*")), default=-1)
            for part in ("offsets", "commits")
        )
        return begun > done >= 0

    def leases(self) -> list[Path]:
        """The files that keep a second driver away."""
        files = [Target(self.pipeline, table).lease_file for table in self.pipeline.tables]
        paths = [Path(file.removeprefix("file://")) for file in files]
        return [path for path in paths if path.exists()]

    # --- the shop ---------------------------------------------------------------------------

    def live(self) -> None:
        """Let people into the shop, if nobody is there."""
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
        crowd = Traffic(self.seed, *_connects(self.stack), alter_after=0, lane=1)
        crowd.run(events=200)
        self.traffics.append(crowd)
        crowd.start(rate=CHANGES_PER_S)

    def has_altered(self) -> bool:
        """Whether all altered tables have their new column, or its new type."""
        for step in SCHEMA_STEPS:
            table = load_table(self.pipeline.catalog, f"{NAME}.{step.table.name}")
            fields = {f.name: str(f.field_type) for f in table.schema().fields} if table else {}
            if fields.get(step.column) in (None, "int"):
                return False
        return True

    def key_of(self, table: str) -> list[str]:
        """The key columns that the Iceberg table names."""
        loaded = load_table(self.pipeline.catalog, f"{NAME}.{table}")
        assert loaded is not None
        return sorted(loaded.schema().identifier_field_names())

    # --- what came of it --------------------------------------------------------------------

    def records(self, topic: str) -> int:
        """How many records a topic has; none while it is not there."""
        cluster = Cluster(self.pipeline.kafka)
        return sum(cluster.end_offsets(topic).values()) if cluster.topic(topic) else 0

    def has_records(self, topic: str, records: int) -> bool:
        """Whether a topic that may not be there yet has so many records."""
        try:
            return self.records(topic) >= records
        except UnavailableError:  # just made, it has no leader yet
            return False

    def facts(self) -> dict[str, TableFacts]:
        """What tables, topics and leases say now."""
        upstream = Upstream.of(self.pipeline)
        return {one.table: one for one in read_facts(self.pipeline, upstream)}

    def settle(self) -> None:
        """Send everybody home, wait until all is applied, and compare every row with the databases."""
        self.close()
        driver = self.keep_running()
        self._wait_level(driver)
        found = verify(self.pipeline, wait_s=VERIFY_S)
        wrong = [f"{one.table}: {one.differences[:5]} {one}" for one in found if not one.equal]
        assert not wrong, "\n".join([*wrong, driver.tail()])
        self._wait_level(driver)

    def _wait_level(self, driver: Driver) -> None:
        wait_until(
            "every ledger at its topic's end",
            lambda: self._is_level(driver),
            self.tell,
            poll_s=0.5,  # a look reads all tables
        )

    def _is_level(self, driver: Driver) -> bool:
        assert driver.is_running, f"the driver ended by itself\n{driver.tail()}"
        facts = self.facts()
        parked = [
            f"{name}: {one.lease.error}"
            for name, one in facts.items()
            if one.lease and one.lease.state is QueryState.PARKED and one.lease.pid == driver.pid
        ]
        assert not parked, "\n".join([*parked, driver.tail()])
        return all(_is_applied(one) for one in facts.values())

    def tell(self) -> str:
        """Where the tables and the driver are, for a failure."""
        lines = [f"seed {self.seed}; kills: {dict(self.kills)}"]
        for name, one in self.facts().items():
            applied = dict(one.ledger.next_offsets) if one.ledger else None
            lines.append(f"{name}: applied {applied} of {one.end_offsets}, {one.lease}")
        return "\n".join([*lines, self.driver.tail()])

    def end(self) -> None:
        """Leave nothing running."""
        self.close()
        for driver in self.drivers:
            if not driver.is_gone:
                driver.kill()


def _connects(stack: Chain) -> tuple[Connect, Connect]:
    return partial(stack.postgres.connect, NAME), partial(stack.mysql.connect, NAME)


def _is_applied(facts: TableFacts) -> bool:
    if facts.failures:
        return False
    if facts.ledger is None:
        return not any((facts.end_offsets or {}).values())
    return dict(facts.ledger.next_offsets) == facts.end_offsets


def _config(stack: Chain, folder: Path) -> dict[str, Any]:
    password = folder / "password"
    password.write_text(stack.mysql.password)
    side = {"postgres": ("shop_pg.public", "public"), "mysql": (f"shop_my.{NAME}", NAME)}
    tables = [(t.name, *side[t.side], t.side) for t in TABLES]
    tables.append((READINGS, *side["postgres"], "postgres"))
    tables.append((VISITS, "late_pg.public", "public", "postgres"))
    return {
        "pipeline": NAME,
        "kafka": {"bootstrap_servers": stack.bootstrap_servers},
        "registry": {"url": stack.registry_url},
        "catalog": {
            "type": "jdbc",
            "uri": f"jdbc:sqlite:{folder}/catalog.db",
            "warehouse": f"file://{folder}/warehouse",
        },
        "checkpoints": f"file://{folder}/checkpoints",
        "spark": {"master": "local[2]", "conf": {"spark.driver.memory": "1g"}},
        "defaults": {
            "namespace": NAME,
            "buckets": 2,
            "trigger_s": 0.2,
            "max_records_per_batch": 300,
        },
        "tables": [
            {
                "topic": f"{topic}.{name}",
                "source": {"database": database, "table": f"{schema}.{name}"},
                "max_records_per_batch": 5_000 if name == VISITS else 300,
            }
            for name, topic, schema, database in tables
        ],
        "databases": {
            "postgres": {
                "type": "postgresql",
                "host": stack.postgres.host,
                "port": stack.postgres.port,
                "database": NAME,
                "user": stack.postgres.user,
            },
            "mysql": {
                "type": "mysql",
                "host": stack.mysql.host,
                "port": stack.mysql.port,
                "database": NAME,
                "user": stack.mysql.user,
                "password": {"file": str(password)},
            },
        },
    }
