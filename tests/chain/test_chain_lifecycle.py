"""The embedded chain carries rows, names what is wrong, and leaves no process behind."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Consumer
from typer.testing import CliRunner

from cdc_sink.cli.verbs.chain import app
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.hosting.keeper import descendants
from cdc_sink.demo.chain.hosting.ports import HOST
from cdc_sink.demo.chain.hosting.workdir import is_in_use, read_state
from cdc_sink.demo.chain.servers.mysql import MySql
from cdc_sink.errors import ConfigError, UnavailableError
from cdc_sink.jars.ivy import Artifact
from cdc_sink.jars.jars import LockedJar, fetch_locked

LIMIT_S = 60
SOME_PARTS = ("postgres", "kafka")
PLAYGROUND = """
import signal, sys
from cdc_sink.demo.chain.detached import serve
from pathlib import Path
serve(Path(sys.argv[1]), sys.argv[2:])
"""


def read_registry(url: str, *, post: dict[str, str] | None = None) -> Any:
    body = None if post is None else json.dumps(post).encode()
    request = urllib.request.Request(url, data=body)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def first_change(chain: Chain, topic: str) -> dict[str, Any]:
    """Read the first record of a topic and decode it by the writer schema of its own id."""
    consumer = Consumer(
        {
            "bootstrap.servers": chain.bootstrap_servers,
            "group.id": f"first_change_{topic}",
            "auto.offset.reset": "earliest",
        }
    )
    try:
        consumer.subscribe([topic])
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            record = consumer.poll(1)
            if record is not None and record.error() is None:
                return decode(chain, record.value())
    finally:
        consumer.close()
    raise AssertionError(f"no record in {topic} after {LIMIT_S} s")


def decode(chain: Chain, value: bytes | None) -> dict[str, Any]:
    assert value is not None
    assert value[0] == 0
    schema_id = int.from_bytes(value[1:5], "big")
    answer = read_registry(f"{chain.registry_url}/schemas/ids/{schema_id}")
    schema = fastavro.parse_schema(json.loads(answer["schema"]))
    decoded = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
    assert isinstance(decoded, dict)
    return decoded


def test_a_row_in_postgres_arrives_as_an_avro_change_event(chain: Chain) -> None:
    chain.postgres.create_database("life")
    with chain.postgres.connect("life") as connection:
        connection.execute("CREATE TABLE paintings (id int PRIMARY KEY, title text)")
        connection.execute("INSERT INTO paintings VALUES (7, 'Café Terrace')")
    settings = chain.postgres_connector("life_pg", "life", ["public.paintings"], slot="life")
    chain.add_connector("life_pg", settings)
    change = first_change(chain, "life_pg.public.paintings")
    assert (change["op"], change["after"]) == ("r", {"id": 7, "title": "Café Terrace"})


@pytest.mark.parametrize("side", ["mysql", "mariadb"])
def test_a_row_in_a_binlog_arrives_as_an_avro_change_event(chain: Chain, side: str) -> None:
    server: MySql = getattr(chain, side)
    server.create_database("life")
    with server.connect("life") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE paintings (id int PRIMARY KEY, title text CHARSET utf8mb4)")
        cursor.execute("INSERT INTO paintings VALUES (7, 'Café Terrace')")
    settings_of = chain.mysql_connector if side == "mysql" else chain.mariadb_connector
    chain.add_connector(f"life_{side}", settings_of(f"life_{side}", "life", ["life.paintings"]))
    change = first_change(chain, f"life_{side}.life.paintings")
    assert (change["op"], change["after"]) == ("r", {"id": 7, "title": "Café Terrace"})
    assert change["source"]["connector"] == side


def test_a_refused_connector_is_a_config_error(chain: Chain) -> None:
    with pytest.raises(ConfigError, match="refuses the connector's settings"):
        chain.add_connector("nonsense", {"connector.class": "no.such.Connector"}, limit_s=10)


def test_the_chain_fits_into_three_gigabytes(chain: Chain) -> None:
    state = read_state(chain.workdir)
    assert state is not None
    assert sum(part.rss_bytes() for part in state.parts.values()) < 3 * 2**30


def test_killed_parts_come_back_with_port_and_data(tmp_path: Path) -> None:
    schema = {"schema": '{"type": "string"}'}
    with Chain(tmp_path, parts=("postgres", "mysql", "mariadb", "registry")) as chain:
        servers = (chain.postgres, chain.mysql, chain.mariadb)
        ports_before = (*(server.port for server in servers), chain.registry_url)
        with chain.postgres.connect() as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        chain.mysql.create_database("kept")
        chain.mariadb.create_database("kept")
        known = read_registry(f"{chain.registry_url}/subjects/kept/versions", post=schema)
        for part in ("postgres", "mysql", "mariadb", "registry"):
            chain.kill(part)
            with pytest.raises(UnavailableError, match="exit code 137"):
                chain.require_running()
            chain.restart(part)
        assert (*(server.port for server in servers), chain.registry_url) == ports_before
        with chain.postgres.connect() as connection:
            assert connection.execute("SELECT one FROM kept").fetchall() == [(1,)]
        chain.mysql.connect("kept").close()
        chain.mariadb.connect("kept").close()
        found = read_registry(f"{chain.registry_url}/schemas/ids/{known['id']}")
        assert found["schema"] == schema["schema"]


@contextmanager
def playground(workdir: Path) -> Iterator[subprocess.Popen[str]]:
    """A chain in a process of its own, up; whatever a test leaves of it is killed."""
    command = [sys.executable, "-c", PLAYGROUND, str(workdir), *SOME_PARTS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for _ in SOME_PARTS:
            assert process.stdout.readline() != "", "it did not come up"
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_gone(pidfds: Iterable[int]) -> None:
    """Return when all these processes ended; fail when one still runs after the limit."""
    until = time.monotonic() + LIMIT_S
    for pidfd in pidfds:
        ended, _, _ = select.select([pidfd], [], [], max(0.0, until - time.monotonic()))
        os.close(pidfd)
        assert ended, "a process of the chain survived"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_process_survives_the_end_of_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    with playground(tmp_path) as process:
        family = descendants(process.pid)
        assert len(family) >= 2 * len(SOME_PARTS)  # a keeper and a server each
        pidfds = [os.pidfd_open(pid) for pid in family]
        process.send_signal(how)
        process.wait(LIMIT_S)
        wait_gone(pidfds)
    assert not is_in_use(tmp_path)


def test_a_work_folder_can_be_used_again_right_after_a_kill(tmp_path: Path) -> None:
    with playground(tmp_path) as process:
        process.kill()
        process.wait()
    with Chain(tmp_path, parts=SOME_PARTS) as chain:
        chain.postgres.connect().close()


def test_a_server_that_ends_at_its_start_is_named_and_nothing_stays(tmp_path: Path) -> None:
    (tmp_path / "kafka" / "data").mkdir(parents=True)  # was never formatted
    chain = Chain(tmp_path, parts=SOME_PARTS)
    with pytest.raises(UnavailableError, match=r"chain: kafka: it ended .*log ends: .*meta"):
        chain.start()
    assert not is_in_use(tmp_path)


def test_a_server_that_is_too_slow_is_named_and_nothing_stays(tmp_path: Path) -> None:
    chain = Chain(tmp_path, parts=("registry",), limit_s=0.3)
    with pytest.raises(UnavailableError, match=r"chain: registry: it was not ready after 0\.3 s"):
        chain.start()
    assert not is_in_use(tmp_path)


def test_a_port_in_use_is_a_sentence(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "ports.json").write_text(json.dumps({"postgres": port}))
        with pytest.raises(ConfigError, match=f"chain: postgres: port {port}, .*, is in use"):
            Chain(tmp_path, parts=("postgres",)).start()
    assert not is_in_use(tmp_path)


def test_a_work_folder_serves_one_chain_at_a_time(tmp_path: Path) -> None:
    with (
        Chain(tmp_path, parts=("postgres",)),
        pytest.raises(ConfigError, match="another chain runs in this work folder"),
    ):
        Chain(tmp_path, parts=("postgres",)).start()


def test_detached_chain_is_shown_and_stopped_by_the_command_line(tmp_path: Path) -> None:
    call = CliRunner().invoke
    here = ["--workdir", str(tmp_path)]
    up = call(app, ["up", "--detach", "--part", "postgres", *here])
    assert up.exit_code == 0, up.output
    try:
        again = call(app, ["up", "--detach", "--part", "postgres", *here])
        assert (again.exit_code, again.stderr.splitlines()[0]) == (0, "already up")
        shown = json.loads(call(app, ["status", "--output", "json", *here]).stdout)
        assert shown["is_up"] is True
        assert [(part["name"], part["is_running"]) for part in shown["parts"]] == [
            ("postgres", True)
        ]
    finally:
        down = call(app, ["down", *here])
    assert (down.exit_code, down.stderr.strip()) == (0, "down")
    assert call(app, ["down", *here]).stderr.strip() == "already down"
    assert call(app, ["status", *here]).exit_code == 1


def test_a_repository_that_gives_nothing_is_an_unavailable_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "ivysettings.xml"
    settings.write_text(
        '<ivysettings><settings defaultResolver="none"/><resolvers><filesystem name="none">'
        f'<artifact pattern="{tmp_path}/[artifact].[ext]"/></filesystem></resolvers></ivysettings>'
    )
    monkeypatch.setenv("CDC_SINK_IVY_SETTINGS", str(settings))
    jar = LockedJar("spark", Artifact("org.example", "absent", "1"), 1, "0" * 64)
    with pytest.raises(UnavailableError, match=r"fetching jars: .*"):
        fetch_locked([jar], tmp_path / "jars")
    assert [path.name for path in (tmp_path / "jars").iterdir()] == [".one-process"]
