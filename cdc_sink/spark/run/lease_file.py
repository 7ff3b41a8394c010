"""The lease beside a checkpoint, as a driver takes it, renews it and finds it held by another.

    1 judge    the lease N is missing, stopped, or its process is gone
    2 claim    make the file `….lease.json.take-<N + 1>`, which only one driver can
    3 look     the lease is still N: nobody was quicker
    4 write    the lease N + 1, then remove the claim
A driver that dies between 2 and 4 leaves a claim that is judged as a lease is; the next one claims N + 2.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from cdc_sink.config import Target
from cdc_sink.errors import StateError
from cdc_sink.spark.run.checkpoint import Files
from cdc_sink.table.lease import LEASE_S, Lease, LeaseState, QueryState

QUICKER = "the driver that takes the lease at this moment"


def my_lease(state: QueryState, error: str | None = None) -> Lease:
    """A lease of this process, renewed now."""
    pid = os.getpid()
    return Lease(socket.gethostname(), pid, _process_start(pid) or "", _now_ms(), state, error)


def read_lease(files: Files, target: Target) -> Lease | None:
    """The lease beside a checkpoint; None when there is none, or a torn one."""
    return _read(files, target.lease_file)


def write_lease(files: Files, target: Target, lease: Lease) -> None:
    """Replace the lease, with the table's state for `cdc-sink status`."""
    files.write(target.lease_file, lease.to_json())


def judge_lease(files: Files, target: Target) -> LeaseState:
    """May this process run the query of the target's checkpoint?"""
    held = read_lease(files, target)
    return LeaseState.FREE if held is None else _judged(held)


def take_lease(files: Files, target: Target, state: QueryState = QueryState.WAITING) -> str | None:
    """Take the lease where it is free; of drivers that ask at one moment, one gets it.

    Out:    None once this process has it; else what to wait for before it asks again.
    Raises: StateError naming the process of this host that has it.
    """
    held, me = read_lease(files, target), my_lease(state)
    if held is not None and held.is_of(me) and held.state is not QueryState.STOPPED:
        if held.state is not state:
            write_lease(files, target, replace(me, take=held.take))
        return None
    claim = _Claim(files, target, held.take + 1 if held else 1)
    waiting_for = _in_the_way(target, held) if held else None
    waiting_for = waiting_for or claim.make(me)
    if waiting_for is not None:
        return waiting_for
    is_mine = read_lease(files, target) == held
    if is_mine:
        write_lease(files, target, replace(me, take=claim.take))
    claim.remove(with_passed=is_mine)
    return None if is_mine else QUICKER


def renew_lease(files: Files, target: Target, state: QueryState, error: str | None = None) -> None:
    """Write that this process still has the lease, and how its table is.

    Raises: StateError when another one has it; its lease is left alone, or it would be refused later.
    """
    held, me = read_lease(files, target), my_lease(state, error)
    if held is not None and not held.is_of(me):
        raise held_error(target, held)
    write_lease(files, target, replace(me, take=held.take if held else 0))


def held_error(target: Target, by: Lease) -> StateError:
    """Another driver runs this query."""
    return StateError(
        target.name,
        f"the checkpoint {target.checkpoint} is in use by another driver, process {by.pid} on host {by.host}",
        remedy="stop the other driver first, with SIGTERM; this one need not run beside it",
    )


@dataclass
class _Claim:
    """The file by which one of many takes the lease with the number `take`."""

    files: Files
    target: Target
    take: int
    passed: int = 0  # how many of drivers that are gone lie before it

    def make(self, me: Lease) -> str | None:
        """Make the first one that can be made, past those of drivers that died while they took over.

        Out:    None once it is made; else what to wait for.
        Raises: StateError naming the process of this host that makes it.
        """
        while not self.files.create(self._file(self.take), replace(me, take=self.take).to_json()):
            waiting_for = self._met()
            if waiting_for is not None:
                return waiting_for
            self.take, self.passed = self.take + 1, self.passed + 1
        return None

    def remove(self, *, with_passed: bool) -> None:
        """Remove it; and those that it passed, once the lease is taken and they can't matter any more."""
        for take in range(self.take - (self.passed if with_passed else 0), self.take + 1):
            self.files.remove(self._file(take))

    def _met(self) -> str | None:
        """What to wait for where another one has made it; None when that one is gone."""
        uri = self._file(self.take)
        claim = _read(self.files, uri)
        if claim is not None:
            return _in_the_way(self.target, claim)
        # Not there any more, or being written: only its age tells whether anybody still does.
        made_ms = self.files.modified_ms(uri)
        is_young = made_ms is None or _now_ms() - made_ms <= LEASE_S * 1000
        return QUICKER if is_young else None

    def _file(self, take: int) -> str:
        return f"{self.target.lease_file}.take-{take}"


def _in_the_way(target: Target, held: Lease) -> str | None:
    """What a lease or a claim lets this process wait for; None when it may pass.

    Raises: StateError when its process lives on this host.
    """
    verdict = _judged(held)
    if verdict is LeaseState.HELD:
        raise held_error(target, held)
    if verdict is LeaseState.UNSURE:
        return f"the lease of process {held.pid} on host {held.host} to end"
    return None


def _judged(held: Lease) -> LeaseState:
    is_alive = _process_start(held.pid) == held.started
    return held.judge(my_lease(QueryState.WAITING), is_alive=is_alive)


def _read(files: Files, uri: str) -> Lease | None:
    text = files.read(uri)
    return Lease.from_json(text) if text else None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _process_start(pid: int) -> str | None:
    """When a process of this host was started, so that a reused pid is not taken for it."""
    if sys.platform != "linux":
        return _process_start_elsewhere(pid)
    # The clock may be set, and the times that others give change with it: this one counts from the boot.
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    # A killed process stays in the table until its parent asks for it, which some never do.
    return None if fields[0] in ("Z", "X") else fields[19]


def _process_start_elsewhere(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.Error:
        return None
