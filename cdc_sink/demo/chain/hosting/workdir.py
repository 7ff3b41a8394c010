"""A work folder belongs to one chain at a time; its state file says what runs in it.

The lock on the folder is held by the process that runs the chain and by every keeper, so it is free
exactly when nothing of the chain runs any more, whoever was killed.
"""

from __future__ import annotations

import fcntl
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from cdc_sink.demo.chain.hosting.process import rss_bytes
from cdc_sink.errors import ConfigError

_STATE_FILE = "chain.json"
_POLL_S = 0.05


@dataclass(frozen=True)
class ServiceState:
    """One server as written in the state file."""

    endpoint: str
    log: str
    pid: int

    @property
    def is_running(self) -> bool:
        """True unless its keeper ended."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] != "Z"

    def rss_bytes(self) -> int:
        """Resident memory of the server and all it started."""
        return rss_bytes(self.pid)


@dataclass(frozen=True)
class ChainState:
    """What runs in a work folder: the process that owns the chain, and the parts by name."""

    owner_pid: int
    parts: dict[str, ServiceState]


def lock_workdir(workdir: Path, *, limit_s: float = 5) -> IO[str]:
    """Take the folder; it is ours until the returned file is closed, here and in every keeper.

    Waits a little, because servers whose owner was just killed need a moment to go.
    Raises: ConfigError when another chain has it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    lock = (workdir / ".in-use").open("a")
    until = time.monotonic() + limit_s
    while not _try_lock(lock):
        if time.monotonic() > until:
            lock.close()
            raise ConfigError(
                f"chain: {workdir}",
                "another chain runs in this work folder",
                data="nothing was started",
                remedy="use that one, stop it with `cdc-sink chain down`, or take another folder",
            )
        time.sleep(_POLL_S)
    return lock


def is_in_use(workdir: Path) -> bool:
    """True while anything of a chain runs in the folder."""
    if not (workdir / ".in-use").exists():
        return False
    with (workdir / ".in-use").open("a") as lock:
        return not _try_lock(lock)


def write_state(workdir: Path, state: ChainState) -> None:
    """Write what runs, whole or not at all."""
    new = workdir / f".{_STATE_FILE}.new"
    new.write_text(json.dumps(asdict(state), indent=1) + "\n", encoding="utf-8")
    new.replace(workdir / _STATE_FILE)


def read_state(workdir: Path) -> ChainState | None:
    """Return what runs in the folder; None when nothing does, or its start is not over."""
    state_file = workdir / _STATE_FILE
    if not is_in_use(workdir) or not state_file.exists():
        return None
    kept = json.loads(state_file.read_text(encoding="utf-8"))
    parts = {name: ServiceState(**part) for name, part in kept["parts"].items()}
    return ChainState(kept["owner_pid"], parts)


def forget_state(workdir: Path) -> None:
    """Remove the state file, before a start and after a stop."""
    (workdir / _STATE_FILE).unlink(missing_ok=True)


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
