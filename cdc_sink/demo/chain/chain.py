"""The embedded chain: databases, broker, registry, Connect and a Spark cluster, on this machine.

    with Chain(Path("work")) as chain:
        chain.postgres.create_database("shop")
        ...
        settings = chain.postgres_connector("shop_pg", "shop", ["public.customers"], slot="shop")
        chain.add_connector("shop_pg", settings)

MariaDB and the Spark cluster are there only when asked for: Chain(..., parts=(*CHAIN, "mariadb")).

Steps of a start, in order: take the work folder, choose ports, make what must lie on disk, start
every part at once, wait until each is ready. Whatever goes wrong in between, nothing stays running.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from cdc_sink.clients.connect import ConnectClient
from cdc_sink.demo.chain.connectors import (
    mariadb_settings,
    mysql_settings,
    postgres_settings,
    with_topics,
)
from cdc_sink.demo.chain.hosting.ports import choose_ports
from cdc_sink.demo.chain.hosting.process import Process
from cdc_sink.demo.chain.hosting.service import Service
from cdc_sink.demo.chain.hosting.workdir import (
    ChainState,
    ServiceState,
    forget_state,
    lock_workdir,
    write_state,
)
from cdc_sink.demo.chain.servers.mariadb import MariaDb
from cdc_sink.demo.chain.servers.mysql import MySql
from cdc_sink.demo.chain.servers.postgres import Postgres
from cdc_sink.demo.chain.services import (
    CHAIN,
    build,
    jar_groups,
    port_names,
    require_known,
)
from cdc_sink.errors import ConfigError, UnavailableError
from cdc_sink.jars.jars import jars

START_LIMIT_S = 180.0  # ten times a warm start on two cores
CONNECTOR_LIMIT_S = 90.0
_SPARK_PARTS = ("spark-master", "spark-worker-1", "spark-worker-2")
_POLL_S = 0.1
_TALK_EVERY_S = 2.0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Chain:
    """The chain in one work folder; the same folder again brings back the same data and ports."""

    def __init__(
        self,
        workdir: Path | str,
        *,
        parts: Sequence[str] = CHAIN,
        limit_s: float = START_LIMIT_S,
        say: Callable[[str], None] = _say,
    ) -> None:
        """Nothing happens yet. In: parts out of EVERYTHING; `say` is given the progress lines."""
        self.workdir = Path(workdir).resolve()
        self._names = require_known(parts)
        self._limit_s = limit_s
        self._say = say
        self._parts: dict[str, Service] = {}
        self._processes: dict[str, Process] = {}
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring every part up. Raises: ConfigError, UnavailableError; nothing runs then."""
        started = time.monotonic()
        _require_platform()
        self._lock = lock_workdir(self.workdir)
        try:
            forget_state(self.workdir)
            ports = choose_ports(port_names(self._names), self.workdir / "ports.json")
            self._parts = build(self.workdir, self._names, ports)
            self._prepare()
            self._bring_up(tuple(self._parts))
        except BaseException:
            self._end(orderly=False)
            raise
        self._say(f"chain: up after {time.monotonic() - started:.1f} s in {self.workdir}")

    def stop(self) -> None:
        """Stop every part in order, Connect before its broker. Idempotent."""
        self._end(orderly=True)

    def kill(self, part: str) -> None:
        """End one part, or all three of `spark`, with SIGKILL, as a crash would."""
        for name in self._named(part):
            self._processes[name].kill()

    def restart(self, part: str) -> None:
        """Start a part again, stopping it before if it runs: same port, same data."""
        names = self._named(part)
        for name in names:
            self._processes[name].stop()
            self._parts[name].prepare()
        self._bring_up(names)

    def require_running(self) -> None:
        """Raise UnavailableError when a part ended by itself."""
        for process in self._processes.values():
            if not process.is_running:
                raise process.failure(f"it ended with exit code {process.exit_code}")

    # --- where things are -------------------------------------------------------------------

    @property
    def postgres(self) -> Postgres:
        """The PostgreSQL server."""
        part = self._part("postgres")
        assert isinstance(part, Postgres)
        return part

    @property
    def mysql(self) -> MySql:
        """The MySQL server."""
        part = self._part("mysql")
        assert isinstance(part, MySql)
        return part

    @property
    def mariadb(self) -> MariaDb:
        """The MariaDB server."""
        part = self._part("mariadb")
        assert isinstance(part, MariaDb)
        return part

    @property
    def bootstrap_servers(self) -> str:
        """Where Kafka clients begin."""
        return self._part("kafka").endpoint

    @property
    def registry_url(self) -> str:
        """The schema registry's Confluent API."""
        return self._part("registry").endpoint

    @property
    def connect_url(self) -> str:
        """Kafka Connect's REST interface."""
        return self._part("connect").endpoint

    @property
    def spark_master_url(self) -> str:
        """The standalone master."""
        return self._part("spark-master").endpoint

    def log(self, part: str) -> Path:
        """The log file of a part."""
        return self.workdir / "logs" / f"{part}.log"

    # --- connectors -------------------------------------------------------------------------

    def postgres_connector(
        self, prefix: str, database: str, tables: Sequence[str], *, slot: str, partitions: int = 1
    ) -> dict[str, str]:
        """Return settings for add_connector; tables as `schema.table`."""
        settings = postgres_settings(self.postgres, prefix, database, tables, slot=slot)
        return with_topics(settings, partitions=partitions)

    def mysql_connector(
        self, prefix: str, database: str, tables: Sequence[str], *, partitions: int = 1
    ) -> dict[str, str]:
        """Return settings for add_connector; tables as `database.table`."""
        servers = self.bootstrap_servers
        settings = mysql_settings(self.mysql, prefix, database, tables, history_servers=servers)
        return with_topics(settings, partitions=partitions)

    def mariadb_connector(
        self, prefix: str, database: str, tables: Sequence[str], *, partitions: int = 1
    ) -> dict[str, str]:
        """Return settings for add_connector; tables as `database.table`."""
        servers = self.bootstrap_servers
        settings = mariadb_settings(self.mariadb, prefix, database, tables, history_servers=servers)
        return with_topics(settings, partitions=partitions)

    def add_connector(
        self, name: str, settings: Mapping[str, str], *, limit_s: float = CONNECTOR_LIMIT_S
    ) -> None:
        """Create or change a connector and return when it and its task run.

        Raises: ConfigError when Connect refuses it or it fails; UnavailableError after the limit.
        """
        until = time.monotonic() + limit_s
        with _ClosedConnect(self.connect_url) as connect:
            while True:
                try:
                    connect.put_connector(name, settings)
                    break
                except UnavailableError:  # Connect is rebalancing, which passes
                    if time.monotonic() > until:
                        raise
                    time.sleep(_POLL_S)
            connect.wait_running(name, until - time.monotonic())

    def remove_connector(self, name: str) -> None:
        """Remove a connector; its slot, offsets and topics stay."""
        with _ClosedConnect(self.connect_url) as connect:
            connect.delete(name)

    # --- inside -----------------------------------------------------------------------------

    def _part(self, name: str) -> Service:
        if name not in self._parts:
            raise ConfigError(
                f"chain: {name}",
                f"this chain has no such part, only: {', '.join(self._parts)}",
                data="nothing was done",
                remedy="ask for it with Chain(..., parts=...)",
            )
        return self._parts[name]

    def _named(self, part: str) -> tuple[str, ...]:
        names = _SPARK_PARTS if part == "spark" else (part,)
        return tuple(self._part(name).name for name in names)

    def _prepare(self) -> None:
        if groups := jar_groups(self._names):
            jars(*groups)  # all at once, and here: a thread could not be interrupted
        with ThreadPoolExecutor(max_workers=len(self._parts)) as pool:
            for done in [pool.submit(part.prepare) for part in self._parts.values()]:
                done.result()

    def _bring_up(self, names: Sequence[str]) -> None:
        """Start parts at once and wait for them; workers once their master is there.

        A worker that comes too early tries again only after 8 to 15 s.
        """
        first = [name for name in names if not name.startswith("spark-worker")]
        second = [name for name in names if name not in first]
        for name in first:
            self._launch(name)
        if second and "spark-master" in first:
            first.remove("spark-master")
            self._wait_ready(["spark-master"])
        for name in second:
            self._launch(name)
        self._wait_ready([*first, *second])
        self._write_state()

    def _launch(self, name: str) -> None:
        self.log(name).parent.mkdir(exist_ok=True)
        assert self._lock is not None
        launch = self._parts[name].launch()
        held = self._lock.fileno()
        self._processes[name] = Process(name, launch, self.log(name), held=held)

    def _wait_ready(self, names: Iterable[str]) -> None:
        waiting = list(names)
        started = spoken = time.monotonic()
        while waiting:
            for name in list(waiting):
                if not self._processes[name].is_running:
                    code = self._processes[name].exit_code
                    raise self._processes[name].failure(f"it ended with exit code {code}")
                if self._parts[name].is_ready():
                    waiting.remove(name)
                    self._say(f"chain: {name} ready after {time.monotonic() - started:.1f} s")
                    spoken = time.monotonic()
            if waiting and time.monotonic() - started > self._limit_s:
                saw = f"it was not ready after {self._limit_s:g} s"
                raise self._processes[waiting[0]].failure(saw)
            if waiting and time.monotonic() - spoken > _TALK_EVERY_S:
                self._say(f"chain: waiting for {', '.join(waiting)}")
                spoken = time.monotonic()
            time.sleep(_POLL_S)

    def _write_state(self) -> None:
        parts = {
            name: ServiceState(part.endpoint, str(self.log(name)), self._processes[name].pid)
            for name, part in self._parts.items()
        }
        write_state(self.workdir, ChainState(os.getpid(), parts))

    def _end(self, *, orderly: bool) -> None:
        try:
            if orderly:
                self._stop_in_order()
        finally:
            for process in self._processes.values():
                process.kill()
            self._processes.clear()
            if self._lock is not None:
                forget_state(self.workdir)
                self._lock.close()
                self._lock = None

    def _stop_in_order(self) -> None:
        if "connect" in self._processes:
            self._processes["connect"].stop()
        for process in self._processes.values():
            process.ask_to_stop()
        for process in self._processes.values():
            process.stop()


class _ClosedConnect(ConnectClient):
    """The Connect client, its connections closed after use."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()


def _require_platform() -> None:
    seen = f"{platform.system()} {platform.machine()}"
    if seen != "Linux x86_64":
        raise ConfigError(
            "chain",
            f"this is {seen}, and the servers of the chain are programs for Linux x86_64",
            data="nothing was started",
            remedy="run it there, or use servers of your own",
        )
