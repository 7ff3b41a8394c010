"""The demo as its users start it: it ends with equal tables, and nothing it started outlives it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sysconfig
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cdc_sink.clients.catalog import load_table
from cdc_sink.config import load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.hosting.workdir import is_in_use
from cdc_sink.demo.folder import DemoFolder

SCRIPTS = Path(sysconfig.get_path("scripts"))
PROGRAM = str(SCRIPTS / "cdc-sink")
LIMIT_S = 420  # ten times what it needs on an idle machine


@dataclass(frozen=True)
class DemoRun:
    """One demo, recognised by a mark in the environment of everything it starts."""

    folder: DemoFolder
    mark: str = field(default_factory=lambda: f"CDC_SINK_TEST_MARK={uuid.uuid4()}")

    def command(self, *options: str) -> list[str]:
        return [PROGRAM, "demo", "--folder", str(self.folder.path), *options]

    @property
    def environment(self) -> dict[str, str]:
        name, _, value = self.mark.partition("=")
        return {**os.environ, name: value}

    def require_nothing_left(self) -> None:
        left = [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if self.has(path)]
        assert left == []
        assert not is_in_use(self.folder.path)
        assert not is_in_use(self.folder.stack)

    def has(self, environ: Path) -> bool:
        try:
            return self.mark.encode() in environ.read_bytes()
        except OSError:  # it ended, or is somebody else's
            return False

    @contextmanager
    def started(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """The demo as a process; whatever a test leaves of it is killed."""
        process = subprocess.Popen(
            self.command(*options),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self.environment,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Return what it said up to the line that holds the text; fail when it ends before."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"it ended before it said {text!r}:\n{said}")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def in_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run what a user pastes, in a shell that has the virtual environment's programs."""
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-ec", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
        cwd=folder,
        timeout=LIMIT_S,
        check=False,
    )


@dataclass(frozen=True)
class Finished:
    demo: DemoRun
    exit_code: int
    said: str

    def copied(self, first: str, last: str) -> str:
        """The lines of the last screen between two of its comments."""
        return self.said.partition(first)[2].partition(last)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    demo = DemoRun(DemoFolder(tmp_path_factory.mktemp("demo") / "work"))
    ended = subprocess.run(
        demo.command("--seconds", "10", "--rate", "50"),
        stdout=subprocess.PIPE,
        text=True,
        env=demo.environment,
        timeout=LIMIT_S,
        check=False,
    )
    return Finished(demo, ended.returncode, ended.stdout)


def test_the_demo_ends_with_tables_equal_to_their_sources(finished: Finished) -> None:
    assert finished.exit_code == 0, finished.said
    assert "6 Iceberg tables, " in finished.said
    assert "rows, every one equal to its source." in finished.said
    assert "altering the shop: ALTER TABLE customers ADD COLUMN phone text" in finished.said


def test_the_demo_tells_of_progress_in_lines_where_there_is_no_screen(finished: Finished) -> None:
    assert re.search(r"of 10 s: [\d,]+ events sent, ", finished.said)
    assert re.search(r"[\d,]+ records wait \(lag/freshness: customers [\d,?]+/", finished.said)
    assert "\x1b" not in finished.said


def test_the_last_screen_says_where_things_are(finished: Finished) -> None:
    folder = finished.demo.folder
    for path in (folder.config, folder.warehouse, folder.catalog, folder.pipeline_log):
        assert f" {path}\n" in finished.said
        assert path.exists()


def test_no_process_survives_the_demo(finished: Finished) -> None:
    finished.demo.require_nothing_left()


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        ("# Spark SQL\n", "# pyiceberg", "\t"),
        ("# pyiceberg and DuckDB\n", "# the chain", "count_star()"),
    ],
)
def test_a_query_of_the_last_screen_can_be_copied(
    finished: Finished, tmp_path: Path, first: str, last: str, found: str
) -> None:
    command = finished.copied(first, last)
    answer = in_shell(command, tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert found in answer.stdout
    assert list(tmp_path.iterdir()) == []  # no metastore, no log


def test_verify_finds_rows_that_somebody_took_out_of_a_table(
    finished: Finished, tmp_path: Path
) -> None:
    folder = finished.demo.folder
    with Chain(folder.stack, parts=("postgres", "mysql")):
        before = run(PROGRAM, "verify", str(folder.config))
        assert before.returncode == 0, before.stderr
        table = load_table(load_config(folder.config).catalog, "shop.payments")
        assert table is not None
        victim = table.scan(limit=1, selected_fields=("id",)).to_arrow()["id"][0].as_py()
        properties = folder.path / "spark.properties"
        delete = f"DELETE FROM shop.payments WHERE id = {victim}"
        taken = in_shell(f"spark-sql --properties-file '{properties}' -e '{delete}'", tmp_path)
        assert taken.returncode == 0, taken.stderr
        after = run(PROGRAM, "verify", "--keys", "1000", str(folder.config))
    assert after.returncode == 1
    assert f"shop.payments: id={victim} is missing in the table\n" in after.stdout


def test_a_kept_demo_goes_on_until_it_is_told_to_end(tmp_path: Path) -> None:
    demo = DemoRun(DemoFolder(tmp_path / "demo"))
    with demo.started("--keep", "--seconds", "2", "--rate", "20") as process:
        read_until(process, "until you press Ctrl-C")
        status = run(PROGRAM, "status", str(demo.folder.config))
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 0
    assert (status.returncode, status.stdout.count("caught up")) == (0, 6)
    demo.require_nothing_left()


def test_no_process_survives_a_demo_that_is_interrupted(tmp_path: Path) -> None:
    demo = DemoRun(DemoFolder(tmp_path / "demo"))
    with demo.started("--seconds", "600") as process:
        read_until(process, "events sent")
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
    demo.require_nothing_left()
