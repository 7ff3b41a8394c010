"""The demo: chain, shop, connectors and a pipeline as `cdc-sink run`, under live traffic.

    with Demo(DemoFolder(path), seed=7, rate=100, say=print) as demo:
        for progress in demo.send(60): ...
        for progress in demo.settle(): ...

Steps of a start, in order: take the folder, bring up the chain, open the shop and let the first
customers in, write the pipeline's YAML, start the pipeline, put the connectors. Whatever goes wrong
in between or later, nothing stays running: every process has a keeper (keeper.py).
"""

from __future__ import annotations

import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from cdc_sink.clients.catalog import load_table, session_properties
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.hosting.process import Launch, Process
from cdc_sink.demo.folder import DemoFolder, shown
from cdc_sink.demo.progress import Progress, TableProgress
from cdc_sink.demo.shop.tables import SCHEMA_STEPS, TABLES
from cdc_sink.demo.shop.traffic import Traffic, create
from cdc_sink.errors import StateError, UnavailableError
from cdc_sink.jars.jars import jars
from cdc_sink.jars.packages import groups_of
from cdc_sink.observe.status import TableStatus, table_status
from cdc_sink.observe.table_facts import Upstream, read_facts
from cdc_sink.spark.run.session import LOG4J
from cdc_sink.table.lease import QueryState

FIRST_CUSTOMERS = 300  # row changes before the connectors come: these arrive as a source snapshot
SETTLE_LIMIT_S = 180.0  # ten times what two cores need after a minute of traffic
_LOOK_EVERY_S = 2.0  # lag is asked for: neither Kafka nor a table tells of it
_PIPELINE_STOP_S = 45.0  # a batch that lasts longer is cut short, harmlessly


class Demo:
    """Everything the demo runs, from taking the folder to stopping the last process."""

    pipeline: Pipeline

    def __init__(
        self, folder: DemoFolder, *, seed: int, rate: float, say: Callable[[str], None]
    ) -> None:
        """Nothing happens yet. In: rate in row changes per second; `say` is given sentences."""
        self.folder = folder
        self._seed, self._rate, self._say = seed, rate, say
        self._chain = Chain(folder.chain, say=say)
        self._lock: IO[str] | None = None
        self._run: Process | None = None
        self._traffic: Traffic | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._say("stopping the pipeline between two batches, then the chain")
        self._stop()

    # --- what is shown --------------------------------------------------------------------------

    def send(self, seconds: float) -> Iterator[Progress]:
        """Send traffic for so long and look at the tables meanwhile; alter tables in the middle.

        Raises: StateError when a table is parked; UnavailableError when a process ended.
        """
        traffic = self._shop_traffic
        began = time.monotonic()
        traffic.start(seconds=seconds, rate=self._rate)
        is_altered = False
        while (elapsed := time.monotonic() - began) < seconds:
            if not is_altered and elapsed >= seconds / 2:
                traffic.alter()
                is_altered = True
                for step in SCHEMA_STEPS:
                    self._say(f"altering the shop: {step.sql}")
            yield self._look(f"traffic, {elapsed:.0f} of {seconds:g} s", elapsed)
            time.sleep(max(0.0, min(_LOOK_EVERY_S, began + seconds - time.monotonic())))
        traffic.join()

    def settle(self, limit_s: float = SETTLE_LIMIT_S) -> Iterator[Progress]:
        """Look at the tables until no record waits.

        Raises: UnavailableError when records still wait after the limit, else as `send`.
        """
        began = time.monotonic()
        while True:
            elapsed = time.monotonic() - began
            progress = self._look("traffic is over, waiting until no record waits", elapsed)
            yield progress
            if progress.is_still:
                return
            if elapsed > limit_s:
                raise UnavailableError(
                    "demo",
                    f"{progress.lag_records} records still wait after {limit_s:g} s",
                    data="they are in Kafka",
                    remedy=f"read {self.folder.pipeline_log}, or give the machine more time",
                )
            time.sleep(_LOOK_EVERY_S)

    def require_running(self) -> None:
        """Raise UnavailableError when a part of the chain or the pipeline ended by itself."""
        self._chain.require_running()
        assert self._run is not None
        if not self._run.is_running:
            raise self._run.failure(f"it ended with exit code {self._run.exit_code}")

    def count_commits(self) -> int:
        """Iceberg table commits that the pipeline made in all tables."""
        loaded = (load_table(self.pipeline.catalog, table.name) for table in self.pipeline.tables)
        return sum(len(table.snapshots()) for table in loaded if table is not None)

    def _look(self, doing: str, elapsed_s: float) -> Progress:
        self.require_running()
        now_ms = time.time_ns() // 1_000_000
        statuses = [
            table_status(facts, now_ms)
            for facts in read_facts(self.pipeline, Upstream.of(self.pipeline))
        ]
        for status in statuses:
            self._require_not_parked(status)
        return Progress(doing, elapsed_s, tuple(self._progress(status) for status in statuses))

    def _require_not_parked(self, status: TableStatus) -> None:
        if status.state == QueryState.PARKED:
            raise StateError(
                status.table,
                f"the pipeline parked it: {status.error}",
                data="what was applied before is in the table",
                remedy=f"read {self.folder.pipeline_log}",
            )

    def _progress(self, status: TableStatus) -> TableProgress:
        sent = self._shop_traffic.changes[status.table.rpartition(".")[2]].total
        return TableProgress(
            status.table, sent, status.state, status.lag_records, status.freshness_s
        )

    @property
    def _shop_traffic(self) -> Traffic:
        assert self._traffic is not None
        return self._traffic

    # --- life -----------------------------------------------------------------------------------

    def _start(self) -> None:
        self._lock = self.folder.take()
        self._say("starting PostgreSQL, MySQL, Kafka, registry and Connect")
        self._chain.start()
        self._say(f"opening the shop: {len(TABLES)} tables, {FIRST_CUSTOMERS} row changes")
        self._open_shop()
        self.pipeline = self._write_config()
        self._say(f"starting the pipeline: cdc-sink run {shown(self.folder.config)}")
        self._run = self._start_pipeline()
        self._say("starting the Debezium connectors shop_pg and shop_my")
        self._add_connectors()

    def _open_shop(self) -> None:
        postgres, mysql = self._chain.postgres, self._chain.mysql
        postgres.create_database("shop")
        mysql.create_database("shop")
        doors = partial(postgres.connect, "shop"), partial(mysql.connect, "shop")
        create(*doors)
        self._traffic = Traffic(self._seed, *doors)
        self._traffic.run(events=FIRST_CUSTOMERS)

    def _write_config(self) -> Pipeline:
        postgres, mysql = self._chain.postgres, self._chain.mysql
        pipeline = self.folder.write_config(
            {
                "kafka": self._chain.bootstrap_servers,
                "registry": self._chain.registry_url,
                "postgres_port": postgres.port,
                "postgres_user": postgres.user,
                "mysql_port": mysql.port,
                "mysql_user": mysql.user,
            },
            {"postgres": postgres.password, "mysql": mysql.password},
        )
        self.folder.write_spark_properties(_shell_properties(pipeline, self.folder))
        return pipeline

    def _start_pipeline(self) -> Process:
        program = Path(sysconfig.get_path("scripts")) / "cdc-sink"
        options = ("--spark-log", str(self.folder.spark_log))
        launch = Launch(
            (str(program), "run", str(self.folder.config), *options),
            self.folder.path,
            stop_limit_s=_PIPELINE_STOP_S,
        )
        assert self._lock is not None
        log = self.folder.pipeline_log
        return Process("pipeline", launch, log, held=self._lock.fileno())

    def _add_connectors(self) -> None:
        chain = self._chain
        ours = [f"public.{table.name}" for table in TABLES if table.side == "postgres"]
        theirs = [f"shop.{table.name}" for table in TABLES if table.side == "mysql"]
        settings = chain.postgres_connector("shop_pg", "shop", ours, slot="shop")
        chain.add_connector("shop_pg", settings)
        chain.add_connector("shop_my", chain.mysql_connector("shop_my", "shop", theirs))

    def _stop(self) -> None:
        """Stop all in order; a second Ctrl-C meanwhile kills what is left instead."""
        try:
            if self._traffic is not None:
                with suppress(Exception):  # its database may be what failed
                    self._traffic.stop()
            if self._run is not None:
                self._run.stop()
        finally:
            self._chain.stop()
            if self._lock is not None:
                self._lock.close()
                self._lock = None


def _shell_properties(pipeline: Pipeline, folder: DemoFolder) -> dict[str, str]:
    """Return what spark-sql needs to see the tables: the catalog, our jars, and some peace."""
    log = folder.spark_log.with_name("spark-sql.log")
    return {
        **session_properties(pipeline.catalog),
        "spark.sql.defaultCatalog": pipeline.catalog.name,
        "spark.sql.catalogImplementation": "in-memory",  # no Hive metastore in the working folder
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.extraClassPath": ":".join(str(path) for path in jars(*groups_of(pipeline))),
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={LOG4J} -Dcdcsink.log={log}",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
