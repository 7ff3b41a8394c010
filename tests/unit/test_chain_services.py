"""What the embedded chain decides without starting a server: ports, settings, who outlives whom."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.connectors import mariadb_settings, mysql_settings, with_topics
from cdc_sink.demo.chain.hosting import keeper
from cdc_sink.demo.chain.hosting.cache import drop_symbols
from cdc_sink.demo.chain.hosting.ports import HOST, choose_ports, is_free
from cdc_sink.demo.chain.hosting.process import Launch, Process, run_kept
from cdc_sink.demo.chain.servers.connect_worker import ConnectWorker
from cdc_sink.demo.chain.servers.mariadb import MariaDb, require_libraries
from cdc_sink.demo.chain.servers.mysql import MySql, library_environment
from cdc_sink.demo.chain.services import CHAIN, build, port_names, require_known
from cdc_sink.errors import ConfigError, UnavailableError

# A server that starts others which leave its process group and session, as PostgreSQL and Spark do.
FORKING = "setsid sleep 1000 & setsid sh -c 'sleep 1000 & echo started > said; wait' & wait"
LIMIT_S = 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    """A running FORKING; the fixture's pipe tells when it is complete."""
    os.mkfifo(tmp_path / "said")
    launch = Launch(("sh", "-c", FORKING), tmp_path)
    process = Process("server", launch, tmp_path / "log", held=None)
    assert (tmp_path / "said").read_text() == "started\n"  # blocks until it is written
    yield process
    process.kill()


def watch_family(process: Process) -> list[int]:
    family = keeper.descendants(process.pid)
    assert len(family) == 4  # sh, sleep, sh, sleep
    return [os.pidfd_open(pid) for pid in family]


def all_gone(pidfds: list[int]) -> bool:
    gone = [bool(select.select([pidfd], [], [], LIMIT_S)[0]) for pidfd in pidfds]
    for pidfd in pidfds:
        os.close(pidfd)
    return all(gone)


def test_kill_ends_a_server_and_what_left_its_process_group(server: Process) -> None:
    pidfds = watch_family(server)
    server.kill()
    assert all_gone(pidfds)
    assert server.exit_code == 128 + signal.SIGKILL


def test_stop_sends_the_stop_signal_and_takes_what_is_left(server: Process) -> None:
    pidfds = watch_family(server)
    server.stop()
    assert all_gone(pidfds)
    assert server.exit_code == 128 + signal.SIGTERM


def test_a_server_dies_with_its_keeper(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "said")
    launch = Launch(("sh", "-c", "echo started > said; exec sleep 1000"), tmp_path)
    process = Process("server", launch, tmp_path / "log", held=None)
    assert (tmp_path / "said").read_text() == "started\n"
    pidfds = [os.pidfd_open(pid) for pid in keeper.descendants(process.pid)]
    os.kill(process.pid, signal.SIGKILL)
    assert all_gone(pidfds)
    process.kill()


def test_stop_gives_a_server_the_time_to_end_in_order(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "said")
    slow = "trap 'kill $!; sleep 0.2; exit 0' TERM; sleep 1000 & echo started > said; wait"
    process = Process("slow", Launch(("sh", "-c", slow), tmp_path), tmp_path / "log", held=None)
    assert (tmp_path / "said").read_text() == "started\n"
    process.stop()
    assert process.exit_code == 0


def test_a_server_deaf_to_its_stop_signal_is_killed_after_the_limit(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "said")
    deaf = "trap '' TERM; echo started > said; sleep 1000"
    launch = Launch(("sh", "-c", deaf), tmp_path, stop_limit_s=0.1)
    process = Process("deaf", launch, tmp_path / "log", held=None)
    assert (tmp_path / "said").read_text() == "started\n"
    process.stop()
    assert process.exit_code == 128 + signal.SIGKILL


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    launch = Launch(("/no/such/program",), tmp_path)
    with pytest.raises(UnavailableError, match="/no/such/program: No such file or directory"):
        run_kept("server", launch)


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="sleep did not end in time"):
        run_kept("server", Launch(("sleep", "1000"), tmp_path), limit_s=0.1)


def test_a_failure_holds_the_end_of_the_log(tmp_path: Path) -> None:
    launch = Launch(("sh", "-c", "for n in 1 2 3 4 5 6; do echo line $n; done; exit 3"), tmp_path)
    with pytest.raises(UnavailableError, match=r"code 3: line 3 \| line 4 \| line 5 \| line 6"):
        run_kept("server", launch)


def test_ports_are_free_distinct_and_kept(tmp_path: Path) -> None:
    kept_in = tmp_path / "ports.json"
    chosen = choose_ports(["kafka", "registry"], kept_in)
    assert len(set(chosen.values())) == 2
    assert all(is_free(port) for port in chosen.values())
    assert choose_ports(["kafka", "registry"], kept_in) == chosen


def test_ports_lie_below_those_of_outgoing_connections(tmp_path: Path) -> None:
    names = [str(number) for number in range(50)]
    assert max(choose_ports(names, tmp_path / "ports.json").values()) < 32768


def test_a_kept_port_in_use_is_a_config_error_with_a_way_out(tmp_path: Path) -> None:
    kept_in = tmp_path / "ports.json"
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        kept_in.write_text(json.dumps({"kafka": port}))
        with pytest.raises(ConfigError, match=f"chain: kafka: port {port}, .* is in use"):
            choose_ports(["kafka"], kept_in)


def test_unreadable_kept_ports_are_a_config_error(tmp_path: Path) -> None:
    kept_in = tmp_path / "ports.json"
    kept_in.write_text('{"kafka": "many"}')
    with pytest.raises(ConfigError, match="not a JSON object of names and ports"):
        choose_ports(["kafka"], kept_in)


def refuse_to_load(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")


def test_a_missing_libaio_is_a_config_error_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", refuse_to_load)
    with pytest.raises(ConfigError, match=r"libaio\.so\.1 is missing; .*apt-get install libaio1"):
        library_environment()


def test_a_missing_library_of_mariadb_is_a_config_error_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", refuse_to_load)
    with pytest.raises(ConfigError, match=r"libcrypt\.so\.1 is missing; .*install libcrypt1"):
        require_libraries()


@pytest.mark.parametrize(
    ("server", "settings"),
    [(MySql(Path("mysql"), 3306), mysql_settings), (MariaDb(Path("m"), 3306), mariadb_settings)],
)
def test_binlog_connectors_have_replica_ids_of_their_own(server: MySql, settings: Any) -> None:
    prefixes = [f"shop_{number}" for number in range(50)]
    ids = {
        settings(server, prefix, "shop", ["shop.t"], history_servers="h:1")["database.server.id"]
        for prefix in prefixes
    }
    assert len(ids) == len(prefixes)


def test_connectors_say_how_their_topics_are_made() -> None:
    settings = with_topics({"tasks.max": "1"}, partitions=3)
    assert settings["topic.creation.default.partitions"] == "3"
    assert settings["topic.creation.default.replication.factor"] == "1"


@pytest.mark.parametrize("parts", [("kafka", "connect"), ("postgres", "oracle")])
def test_parts_that_can_not_work_are_refused_before_anything_starts(
    tmp_path: Path, parts: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError, match="chain: parts"):
        Chain(tmp_path / "work", parts=parts)
    assert not (tmp_path / "work").exists()


def loaded_connectors(tmp_path: Path, parts: tuple[str, ...]) -> tuple[str, ...]:
    names = require_known(parts)
    ports = {name: 15000 + number for number, name in enumerate(port_names(names))}
    connect = build(tmp_path, names, ports)["connect"]
    assert isinstance(connect, ConnectWorker)
    return connect.connectors


def test_mariadb_and_its_connector_are_there_only_when_asked_for(tmp_path: Path) -> None:
    assert "mariadb" not in CHAIN
    assert loaded_connectors(tmp_path, CHAIN) == ("debezium-mysql", "debezium-postgres")
    assert "debezium-mariadb" in loaded_connectors(tmp_path, (*CHAIN, "mariadb"))


def test_a_program_without_its_symbols_still_runs(tmp_path: Path) -> None:
    whole, program = Path("/bin/sh").resolve(), tmp_path / "sh"
    program.write_bytes(whole.read_bytes() + b"symbols" * 1000)  # behind all that is loaded
    program.chmod(0o755)
    drop_symbols(program)
    assert program.stat().st_size < whole.stat().st_size  # the table of sections went, too
    ran = subprocess.run([program, "-c", "echo $((6 * 7))"], capture_output=True)
    assert (ran.stdout, ran.returncode) == (b"42\n", 0)
