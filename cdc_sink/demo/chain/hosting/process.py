"""One server of the chain as a process that can't outlive us: see keeper.py for how."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cdc_sink.demo.chain.hosting import keeper
from cdc_sink.errors import UnavailableError


@dataclass(frozen=True)
class Launch:
    """How a server is started."""

    command: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""  # the OS user to become; empty: stay who we are
    stop_signal: signal.Signals = signal.SIGTERM
    stop_limit_s: float = 20.0  # most need 1 to 3 s; whoever needs longer is killed


class Process:
    """A running server, its keeper and its log."""

    def __init__(self, name: str, launch: Launch, log: Path, *, held: int | None) -> None:
        """Start it. `held` is a locked file that stays open, and locked, until it is gone."""
        self.name = name
        self.log = log
        self._stop_limit_s = launch.stop_limit_s
        with log.open("ab") as out:
            self._keeper = subprocess.Popen(
                _kept(launch),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=launch.folder,
                env={**os.environ, **launch.environment},
                pass_fds=[] if held is None else [held],
                start_new_session=True,  # Ctrl-C is for us; we stop the servers in order
            )

    @property
    def pid(self) -> int:
        """The keeper's process id; the server and what it started are below it."""
        return self._keeper.pid

    @property
    def is_running(self) -> bool:
        """True until the server ended."""
        return self._keeper.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The server's exit code, None while it runs."""
        return self._keeper.poll()

    def wait(self, limit_s: float) -> int | None:
        """Return the exit code when the server ends, None when it still runs after the limit."""
        try:
            return self._keeper.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None

    def ask_to_stop(self) -> None:
        """Send the server its stop signal and return at once."""
        with suppress(BrokenPipeError, ValueError):  # it ended, or was killed, before
            assert self._keeper.stdin is not None
            self._keeper.stdin.write(b"s")
            self._keeper.stdin.flush()

    def stop(self) -> None:
        """Stop the server in order; kill it when the limit is over. Idempotent."""
        self.ask_to_stop()
        try:
            self.wait(self._stop_limit_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """End the server and everything it started with SIGKILL, and wait until they are gone."""
        assert self._keeper.stdin is not None
        with suppress(BrokenPipeError):
            self._keeper.stdin.close()
        self._keeper.wait()

    def failure(self, saw: str) -> UnavailableError:
        """Describe what went wrong with the end of the log."""
        last = " | ".join(self.last_lines(4)) or "empty"
        return UnavailableError(
            f"chain: {self.name}",
            f"{saw}; its log ends: {last}",
            data="every part was stopped",
            remedy=f"read {self.log}",
        )

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines of the log that say something: no blanks, no Java stack frames."""
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            said = (line.strip() for line in lines)
            return list(deque((s for s in said if s and not s.startswith("at ")), maxlen=count))


def run_kept(name: str, launch: Launch, *, limit_s: float = 300) -> None:
    """Run a command to its end; like a server, it can't outlive us.

    Raises: UnavailableError with the end of its output when it fails or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="cdc-sink-") as folder:
        running = Process(name, launch, Path(folder) / "log", held=None)
        try:
            code = running.wait(limit_s)
        finally:
            running.kill()
        if code != 0:
            ended = "did not end in time" if code is None else f"ended with exit code {code}"
            program = Path(launch.command[0]).name
            raise UnavailableError(
                f"chain: {name}",
                f"{program} {ended}: {' | '.join(running.last_lines(4))}",
                data="nothing was started",
                remedy="mend what it says",
            )


def _kept(launch: Launch) -> list[str]:
    # -I -S: start in 20 ms, see no site-packages and no environment of ours.
    python = [sys.executable, "-I", "-S", keeper.__file__]
    return [*python, str(int(launch.stop_signal)), launch.user, *launch.command]


def rss_bytes(keeper_pid: int) -> int:
    """Resident memory of a keeper and all below it; shared pages count for each process."""
    return sum(_read_rss(pid) for pid in (keeper_pid, *keeper.descendants(keeper_pid)))


def _read_rss(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:  # it ended while we looked
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
