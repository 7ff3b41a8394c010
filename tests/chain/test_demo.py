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
from pyspark.sql import SparkSession

from cdc_sink.cli.main import run as verb
from cdc_sink.clients.catalog import load_table
from cdc_sink.config import load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.hosting.workdir import is_in_use
from cdc_sink.demo.folder import DemoFolder
from tests.chain.pipelines import use_catalog

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
        assert not is_in_use(self.folder.chain)

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
class Kept:
    """A demo that was kept, asked for its status, and then ended."""

    demo: DemoRun
    status: subprocess.CompletedProcess[str]
    exit_code: int
    said: str

    def copied(self, first: str, last: str) -> str:
        """The lines of the last screen between two of its comments."""
        return self.said.partition(first)[2].partition(last)[0]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """All tests but the last one ask this one demo; its end without --keep is in tests/unit."""
    demo = DemoRun(DemoFolder(tmp_path_factory.mktemp("demo") / "work"))
    with demo.started("--keep", "--seconds", "6", "--rate", "40") as process:
        said = read_until(process, "until you press Ctrl-C")
        status = run(PROGRAM, "status", str(demo.folder.config))
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=LIMIT_S)
    return Kept(demo, status, process.returncode, said + rest)


def test_the_demo_says_that_its_tables_equal_their_sources(kept: Kept) -> None:
    assert kept.exit_code == 0, kept.said
    assert "6 Iceberg tables, " in kept.said
    assert "rows, every one equal to its source." in kept.said
    assert "altering the shop: ALTER TABLE customers ADD COLUMN phone text" in kept.said


def test_a_kept_demo_goes_on_until_it_is_told_to_end(kept: Kept) -> None:
    assert (kept.status.returncode, kept.status.stdout.count("caught up")) == (0, 6)
    assert kept.exit_code == 0, kept.said


def test_the_demo_tells_of_progress_in_lines_where_there_is_no_screen(kept: Kept) -> None:
    assert re.search(r"of 6 s: [\d,]+ events sent, ", kept.said)
    assert re.search(r"[\d,]+ records wait \(lag/freshness: customers [\d,?]+/", kept.said)
    assert "\x1b" not in kept.said


def test_the_last_screen_says_where_things_are(kept: Kept) -> None:
    folder = kept.demo.folder
    for path in (folder.config, folder.warehouse, folder.catalog, folder.pipeline_log):
        assert f" {path}\n" in kept.said
        assert path.exists()


def test_no_process_survives_the_demo(kept: Kept) -> None:
    kept.demo.require_nothing_left()


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        ("# Spark SQL\n", "# pyiceberg", "\t"),
        ("# pyiceberg and DuckDB\n", "# change the shop", "count_star()"),
    ],
)
def test_a_query_of_the_last_screen_can_be_copied(
    kept: Kept, tmp_path: Path, first: str, last: str, found: str
) -> None:
    command = kept.copied(first, last)
    answer = in_shell(command, tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert found in answer.stdout
    assert list(tmp_path.iterdir()) == []  # no metastore, no log


def test_verify_finds_rows_that_somebody_took_out_of_a_table(
    kept: Kept, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    """The chain comes back with the same data and ports."""
    folder = kept.demo.folder
    with Chain(folder.chain, parts=("postgres", "mysql")):
        assert verb(["verify", str(folder.config)]) == 0
        victim = take_a_row(folder, spark)
        assert verb(["verify", "--keys", "1000", str(folder.config)]) == 1
    said = f"shop.payments: id={victim} is missing in the table\n"
    assert said in capsys.readouterr().out


def take_a_row(folder: DemoFolder, spark: SparkSession) -> int:
    """Delete a row as any program may; its id."""
    catalog = load_config(folder.config).catalog
    use_catalog(spark, catalog)
    table = load_table(catalog, "shop.payments")
    assert table is not None
    victim = table.scan(limit=1, selected_fields=("id",)).to_arrow()["id"][0].as_py()
    spark.sql(f"DELETE FROM {catalog.name}.shop.payments WHERE id = {victim}")
    return int(victim)


def test_no_process_survives_a_demo_that_is_interrupted(tmp_path: Path) -> None:
    demo = DemoRun(DemoFolder(tmp_path / "demo"))
    with demo.started("--seconds", "600") as process:
        read_until(process, "events sent")
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
    demo.require_nothing_left()
