"""`python -m tests.workload.standard`: pgbench or sysbench on a real database, the driver killed meanwhile.

pgbench plays TPC-B, sysbench `oltp_read_write`; both come from Debian. The driver is `cdc-sink run` as a user
starts it, and is ended with -9 every 15 to 40 s, whatever it does. At the end every row is compared. Exit
code: 0 every table equals its source, 1 one does not.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from cdc_sink.cli.verbs.verify import render_findings
from cdc_sink.config import Pipeline, load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.observe.table_facts import Upstream, read_facts
from cdc_sink.verification.verify import verify
from tests.chaos.driver import Driver, wait_until
from tests.workload.outcome import is_applied

NAME = "standard"
PGBENCH = ("pgbench_accounts", "pgbench_branches", "pgbench_tellers")  # the history has no key
SYSBENCH = tuple(f"sbtest{number}" for number in range(1, 5))
CLIENTS = 4
FIRST_KILL_S, LAST_KILL_S = 15.0, 40.0


@dataclass
class Load:
    """A program that fills its tables, and one that changes them for some seconds."""

    chain: Chain
    database: str
    rows: int

    def fill(self) -> None:
        """Make the tables."""
        if self.database == "postgresql":
            scale = str(max(1, self.rows // 100_000))
            self._run("pgbench", "--initialize", f"--scale={scale}", *self._pgbench, NAME)
        else:
            self._run(*self._sysbench, "prepare")

    def play(self, seconds: float, rate: int) -> subprocess.Popen[bytes]:
        """Start to change them."""
        if self.database == "postgresql":
            command = ["pgbench", f"--time={seconds:.0f}", f"--rate={rate}", f"--client={CLIENTS}"]
            return self._start(*command, "--no-vacuum", *self._pgbench, NAME)
        played = (f"--time={seconds:.0f}", f"--rate={rate}", f"--threads={CLIENTS}", "run")
        return self._start(*self._sysbench, *played)

    @property
    def _pgbench(self) -> tuple[str, ...]:
        server = self.chain.postgres
        return f"--host={server.host}", f"--port={server.port}", f"--username={server.user}"

    @property
    def _sysbench(self) -> tuple[str, ...]:
        server = self.chain.mysql
        given = {
            "host": server.host, "port": server.port, "user": server.user,
            "password": server.password, "db": NAME,
        }  # fmt: skip
        options = [f"--mysql-{key}={value}" for key, value in given.items()]
        size = self.rows // len(SYSBENCH)
        tables = (f"--tables={len(SYSBENCH)}", f"--table-size={size}", "--mysql-ssl=off")
        # Two clients that lock each other out are tried again, as an application would.
        return "sysbench", "oltp_read_write", *options, *tables, "--mysql-ignore-errors=1213,1205"

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=self._environment, stdout=sys.stderr)

    def _run(self, *command: str) -> None:
        subprocess.run(command, env=self._environment, stdout=sys.stderr, check=True)

    @property
    def _environment(self) -> dict[str, str]:
        path = "/usr/local/bin:/usr/bin:/bin"
        if self.database == "postgresql":
            return {"PATH": path, "PGPASSWORD": self.chain.postgres.password}
        return {"PATH": path}


def main(arguments: list[str] | None = None) -> int:
    """Fill, play, kill, compare."""
    asked = _parser().parse_args(arguments)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="standard-"))
    part = "postgres" if asked.database == "postgresql" else "mysql"
    with Chain(folder / "chain", parts=(part, "kafka", "registry", "connect")) as chain:
        getattr(chain, part).create_database(NAME)
        load = Load(chain, asked.database, asked.rows)
        load.fill()
        tables = PGBENCH if asked.database == "postgresql" else SYSBENCH
        schema = "public" if asked.database == "postgresql" else NAME
        named = [f"{schema}.{name}" for name in tables]
        settings = (
            chain.postgres_connector(NAME, NAME, named, slot=NAME, partitions=2)
            if asked.database == "postgresql"
            else chain.mysql_connector(NAME, NAME, named, partitions=2)
        )
        chain.add_connector(NAME, settings)
        config = folder / "pipeline.yaml"
        config.write_text(yaml.safe_dump(_settings(chain, folder, part, named)))
        pipeline = load_config(config)
        kills = _play(load, asked, config, folder)
        print(f"driver killed {kills} times", flush=True)
        return _compare(pipeline, config, kills, folder)


def _play(load: Load, asked: argparse.Namespace, config: Path, folder: Path) -> int:
    """Change rows while drivers come and go; how many were killed."""
    draw, kills = random.Random(asked.seed), 0
    played = load.play(asked.minutes * 60, asked.rate)
    until = time.monotonic() + asked.minutes * 60
    while time.monotonic() < until:
        driver = _driver(config, folder, kills)
        threading.Event().wait(draw.uniform(FIRST_KILL_S, LAST_KILL_S))
        driver.kill()
        kills += 1
    if played.wait() != 0:
        raise AssertionError(f"{asked.database}: the load ended with {played.returncode}")
    return kills


def _compare(pipeline: Pipeline, config: Path, number: int, folder: Path) -> int:
    """Let one more driver apply what is left, then compare every row."""
    driver = _driver(config, folder, number)

    def is_all_applied() -> bool:
        if not driver.is_running:
            raise AssertionError(driver.tail())
        facts = list(read_facts(pipeline, Upstream.of(pipeline)))
        ends.append([one.end_offsets for one in facts])
        return ends[-1] == ends[-2] and all(map(is_applied, facts))

    ends: list[object] = [None]
    wait_until("all changes to be applied", is_all_applied, driver.tail, limit_s=900, poll_s=5)
    code = driver.stop()
    outcome = list(verify(pipeline))
    for one in outcome:
        print(f"{one.table}: {one.rows_source} rows, {'equal' if one.equal else 'NOT EQUAL'}")
    for line in render_findings([one for one in outcome if not one.equal], keys=20):
        print(line)
    print(f"the last driver ended with {code}; all of it is in {folder}")
    return 0 if all(one.equal for one in outcome) else 1


def _driver(config: Path, folder: Path, number: int) -> Driver:
    return Driver(folder / f"driver{number}.log", folder / "classes.jsa", "run", str(config))


def _settings(chain: Chain, folder: Path, part: str, tables: list[str]) -> dict[str, object]:
    server = getattr(chain, part)
    (folder / "password").write_text(server.password)
    return {
        "pipeline": NAME,
        "kafka": {"bootstrap_servers": chain.bootstrap_servers},
        "registry": {"url": chain.registry_url},
        "catalog": {
            "name": NAME,
            "type": "jdbc",
            "uri": f"jdbc:sqlite:{folder}/catalog.db",
            "warehouse": f"file://{folder}/warehouse",
        },
        "checkpoints": f"file://{folder}/checkpoints",
        "defaults": {
            "namespace": NAME, "buckets": 2, "trigger_s": 1, "max_records_per_batch": 5_000,
        },
        "spark": {"master": "local[2]", "jars": "locked", "conf": {"spark.driver.memory": "2g"}},
        "tables": [
            {"topic": f"{NAME}.{name}", "source": {"database": "source", "table": name}}
            for name in tables
        ],
        "databases": {
            "source": {
                "type": "postgresql" if part == "postgres" else "mysql",
                "host": server.host,
                "port": server.port,
                "database": NAME,
                "user": server.user,
                "password": {"file": str(folder / "password")},
            }
        },
    }  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.workload.standard", description=__doc__)
    parser.add_argument("--database", choices=("postgresql", "mysql"), required=True)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rate", type=int, default=50, help="transactions in a second")
    parser.add_argument("--rows", type=int, default=100_000, help="of all tables, at the start")
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--folder", type=Path, help="where everything is kept; a new one otherwise")
    return parser


if __name__ == "__main__":
    sys.exit(main())
