"""One `cdc-sink` with Spark as a process group of its own: a test can end all of it, or half of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cdc_sink.spark.failpoints import VARIABLE
from tests.java_options import FOR_ONE_TEST

# Ten times what two quiet cores need: a limit ends a test that hangs, it measures nothing.
LIMIT_S = 400.0
POLL_S = 0.05
_CDC_SINK = (sys.executable, "-c", "from cdc_sink.cli.main import main; main()")
# A driver lives for seconds here: what the second compiler would make of it is never used, and a third of its
# start is the loading of classes, which a rehearsal keeps for all that follow. With room for all classes, and
# for the garbage of a start, it collects less.
_STARTS_SOON = (
    f"{FOR_ONE_TEST} -XX:ReservedCodeCacheSize=240m"
    " -XX:MetaspaceSize=256m -XX:NewRatio=1"
    " -Xlog:cds=off -Xlog:cds+dynamic=off"
)
# The driver dies with the test run, whatever ends that; its JVM then reads the end of its stdin.
_DIES_WITH_US = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGKILL); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def wait_until(
    what: str,
    holds: Callable[[], bool],
    tell: Callable[[], str] = lambda: "",
    *,
    limit_s: float = LIMIT_S,
    poll_s: float = POLL_S,
) -> None:
    """Look until it holds; at the limit say what was waited for, and what `tell` knows."""
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_s:g} s for {what}\n{tell()}")
        threading.Event().wait(poll_s)


class Driver:
    """A running driver: Python and, below it, its JVM."""

    def __init__(self, log: Path, classes: Path, *command: str, is_rehearsal: bool = False) -> None:
        """Start `cdc-sink` with this command; a rehearsal leaves the loaded classes when it ends."""
        self.log = log
        self._heard: list[dict[str, Any]] = []
        self._heard_bytes = 0
        self._failpoint = log.with_suffix(".failpoint")
        option = "ArchiveClassesAtExit" if is_rehearsal else "SharedArchiveFile"
        java = f"{_STARTS_SOON} -XX:{option}={classes}"
        settings = {VARIABLE: f"@{self._failpoint}", "JAVA_TOOL_OPTIONS": java}
        program = [*_CDC_SINK, "--log-format", "json", *command]
        spark_log = log.with_suffix(".spark.log")
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _DIES_WITH_US, *program, "--spark-log", str(spark_log)],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **settings},
                start_new_session=True,
            )

    # --- what it says -----------------------------------------------------------------------

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of one event, such as `applied`, in order."""
        with self.log.open("rb") as log:
            log.seek(self._heard_bytes)
            fresh = log.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._heard_bytes += len(whole)
        lines = (line for line in whole.splitlines() if line.startswith(b"{"))
        self._heard += [json.loads(line) for line in lines]
        return [entry for entry in self._heard if entry.get("event") == event]

    def applied(self, table: str | None = None) -> int:
        """Batches that went through, of one table or of all."""
        return sum(table in (None, entry["table"]) for entry in self.said("applied"))

    def tail(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([f"--- {self.log} ends:", *lines[-25:]])

    # --- whether it lives -------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The Python process, and the process group."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """True until Python ended."""
        return self._process.poll() is None

    @property
    def jvms(self) -> list[int]:
        """Processes of the group other than Python."""
        return [pid for pid in self._members() if pid != self.pid]

    @property
    def is_gone(self) -> bool:
        """True when nothing of the group is left."""
        return not self.is_running and not self._members()

    def _members(self) -> list[int]:
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it ended while we looked
                continue
            if int(fields[2]) == self.pid and fields[0] != "Z":
                found.append(int(stat.parent.name))
        return found

    # --- ending it --------------------------------------------------------------------------

    def wait_end(self, what: str) -> int:
        """Wait until it ends by itself, all of it; return the exit code, -9 for SIGKILL."""
        wait_until(what, lambda: self.is_gone, self.tail)
        return self._process.wait()

    def signal(self, number: signal.Signals, *pids: int) -> None:
        """Send a signal to some of its processes; none given: to the whole group."""
        for pid in pids:
            with contextlib.suppress(
                ProcessLookupError
            ):  # a JVM's helper, such as chmod, ends when it likes
                os.kill(pid, number)
        if not pids and self._members():
            os.killpg(self.pid, number)

    def arm(self, failpoint: str, passing: int) -> None:
        """Let it end itself with -9 when it passes an instant so many times from now on."""
        fresh = self._failpoint.with_suffix(".new")
        fresh.write_text(f"{failpoint}:{passing}")
        fresh.rename(self._failpoint)

    def kill(self) -> None:
        """End Python and JVM with -9 at once, frozen ones too, and wait until they are gone."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        wait_until("a killed driver to be gone", lambda: self.is_gone, self.tail)

    def stop(self) -> int:
        """Ask for an orderly end, between two batches, and return the exit code."""
        self.signal(signal.SIGTERM, self.pid)
        return self.wait_end("the driver to stop after SIGTERM")
