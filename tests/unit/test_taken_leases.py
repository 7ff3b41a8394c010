"""Of drivers that find a lease free, one takes it: whatever one does between two steps of another."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.config import Target
from cdc_sink.errors import StateError
from cdc_sink.spark.run import lease_file as leases
from cdc_sink.spark.run.checkpoint import Files
from cdc_sink.spark.run.lease_file import read_lease, renew_lease, take_lease
from cdc_sink.table.lease import LEASE_S, Lease, LeaseState, QueryState

NOW_MS = 1_000_000_000
GONE = 99  # the pid of a process that has ended
GONE_LEASE = Lease("here", GONE, "s99", NOW_MS, QueryState.RUNNING, take=3)


@dataclass
class Memory:
    """Files of one checkpoint; before each step, another driver may do all of its own."""

    texts: dict[str, str] = field(default_factory=dict)
    steps: list[Callable[[], None]] = field(default_factory=list)
    written_ms: int = NOW_MS

    def step(self) -> None:
        if self.steps:
            self.steps.pop(0)()

    def read(self, uri: str) -> str | None:
        self.step()
        return self.texts.get(uri)

    def write(self, uri: str, text: str) -> None:
        self.step()
        self.texts[uri] = text

    def create(self, uri: str, text: str) -> bool:
        self.step()
        if uri in self.texts:
            return False
        self.texts[uri] = text
        return True

    def remove(self, uri: str) -> None:
        self.step()
        self.texts.pop(uri, None)

    def modified_ms(self, uri: str) -> int | None:
        return self.written_ms if uri in self.texts else None


class _Target:
    name, checkpoint, lease_file = "shop.t", "file:/c/t", "file:/c/t.lease.json"


TARGET = cast(Target, _Target())
LEASE, STREAM = _Target.lease_file, _Target.lease_file + ".take-4"


class Drivers:
    """Processes of one host; the one that acts is `pid`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pid, self.gone = 1, {GONE}
        monkeypatch.setattr(leases, "my_lease", self.lease)
        monkeypatch.setattr(leases, "_process_start", self.started)
        monkeypatch.setattr(leases.time, "time_ns", lambda: NOW_MS * 1_000_000)

    def lease(self, state: str, error: str | None = None) -> Lease:
        return Lease("here", self.pid, f"s{self.pid}", NOW_MS, QueryState(state), error)

    def started(self, pid: int) -> str | None:
        return None if pid in self.gone else f"s{pid}"

    def take(self, pid: int, memory: Memory) -> LeaseState:
        before, self.pid = self.pid, pid
        try:
            waiting_for = take_lease(cast(Files, memory), TARGET)
        except StateError:
            return LeaseState.HELD
        finally:
            self.pid = before
        return LeaseState.FREE if waiting_for is None else LeaseState.UNSURE


@pytest.fixture
def drivers(monkeypatch: pytest.MonkeyPatch) -> Drivers:
    return Drivers(monkeypatch)


BEGINNINGS: dict[str, dict[str, str]] = {
    "none": {},
    "torn": {LEASE: "{"},
    "gone": {LEASE: GONE_LEASE.to_json()},
    "stopped": {LEASE: dataclasses.replace(GONE_LEASE, pid=5, state=QueryState.STOPPED).to_json()},
    "gone while it took over": {LEASE: GONE_LEASE.to_json(), STREAM: GONE_LEASE.to_json()},
    "of an earlier release": {LEASE: GONE_LEASE.to_json().replace(', "take": 3', "")},
}


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("at", range(8))
@pytest.mark.parametrize("third_at", range(6))
def test_of_three_drivers_at_one_moment_one_takes_the_lease(
    drivers: Drivers, beginning: str, at: int, third_at: int
) -> None:
    memory, said = Memory(dict(BEGINNINGS[beginning])), {}

    def take(pid: int) -> None:
        said[pid] = drivers.take(pid, memory)

    def second() -> None:
        memory.steps = [lambda: None] * third_at + [lambda: take(3)]
        take(2)

    memory.steps = [lambda: None] * at + [second]
    take(1)
    winners = [pid for pid, verdict in said.items() if verdict is LeaseState.FREE]
    assert len(winners) == 1, said
    held = read_lease(cast(Files, memory), TARGET)
    assert held is not None
    assert held.pid == winners[0]


def test_a_claim_that_is_being_written_is_waited_for_and_passed_once_it_is_old(
    drivers: Drivers,
) -> None:
    memory = Memory({LEASE: GONE_LEASE.to_json(), STREAM: '{"ho'})
    assert drivers.take(1, memory) is LeaseState.UNSURE
    memory.written_ms -= LEASE_S * 1000 + 1
    assert drivers.take(1, memory) is LeaseState.FREE
    assert set(memory.texts) == {LEASE}
    held = read_lease(cast(Files, memory), TARGET)
    assert held is not None
    assert (held.pid, held.take) == (1, 5)


NAMED = "in use by another driver, process 1 on host here;"


def test_who_holds_a_lease_is_named_and_only_he_renews_it(drivers: Drivers) -> None:
    memory = Memory()
    files = cast(Files, memory)
    assert drivers.take(1, memory) is LeaseState.FREE
    renew_lease(files, TARGET, QueryState.RUNNING)
    assert drivers.take(1, memory) is LeaseState.FREE
    held = read_lease(files, TARGET)
    drivers.pid = 2
    for attempt in (take_lease, renew_lease):
        with pytest.raises(StateError, match=NAMED):
            attempt(files, TARGET, QueryState.RUNNING)
    assert read_lease(files, TARGET) == held


def test_the_driver_that_takes_over_is_named_and_not_the_one_that_is_gone(drivers: Drivers) -> None:
    memory = Memory({LEASE: GONE_LEASE.to_json(), STREAM: drivers.lease("waiting").to_json()})
    drivers.pid = 2
    with pytest.raises(StateError, match=NAMED):
        take_lease(cast(Files, memory), TARGET)
    assert set(memory.texts) == {LEASE, STREAM}


def test_a_driver_on_another_host_is_waited_for_by_name(drivers: Drivers) -> None:
    memory = Memory({LEASE: dataclasses.replace(GONE_LEASE, host="there").to_json()})
    said = take_lease(cast(Files, memory), TARGET)
    assert said == f"the lease of process {GONE} on host there to end"


def test_a_process_that_gave_its_lease_back_takes_it_anew(drivers: Drivers) -> None:
    memory = Memory()
    files = cast(Files, memory)
    for take in (1, 2):
        assert drivers.take(1, memory) is LeaseState.FREE
        renew_lease(files, TARGET, QueryState.STOPPED)
        held = read_lease(files, TARGET)
        assert held is not None
        assert held.take == take


@pytest.mark.parametrize("beginning", ["none", "gone", "gone while it took over"])
@pytest.mark.parametrize("at", range(8))
def test_a_driver_that_dies_between_two_steps_keeps_nobody_out(
    drivers: Drivers, beginning: str, at: int
) -> None:
    memory = Memory(dict(BEGINNINGS[beginning]), [lambda: None] * at + [_die])
    with suppress(_Dead):
        drivers.take(1, memory)
    memory.steps.clear()
    drivers.gone.add(1)
    assert drivers.take(2, memory) is LeaseState.FREE
    assert drivers.take(3, memory) is LeaseState.HELD
    held = read_lease(cast(Files, memory), TARGET)
    assert held is not None
    assert held.pid == 2


def test_a_driver_whose_write_failed_takes_its_own_claim_for_no_other_one(drivers: Drivers) -> None:
    memory = Memory({LEASE: GONE_LEASE.to_json()}, [lambda: None] * 3 + [_die])
    with pytest.raises(_Dead):
        drivers.take(1, memory)
    assert set(memory.texts) == {LEASE, STREAM}
    assert drivers.take(2, memory) is LeaseState.HELD
    assert drivers.take(1, memory) is LeaseState.FREE
    assert set(memory.texts) == {LEASE}


class _Dead(Exception):
    """The process ended, or its write failed."""


def _die() -> None:
    raise _Dead


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from(["take", "stop"])), max_size=12)
)
def test_a_lease_that_goes_round_has_one_owner_and_leaves_no_claim(
    turns: list[tuple[int, str]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        drivers, memory, owner = Drivers(patch), Memory(), 0
        files: Any = memory
        for pid, what in turns:
            if what == "take":
                verdict = drivers.take(pid, memory)
                assert (verdict is LeaseState.FREE) == (owner in (0, pid))
                owner = owner or pid
            elif pid == owner:
                drivers.pid = pid
                renew_lease(files, TARGET, QueryState.STOPPED)
                owner = 0
        assert set(memory.texts) <= {LEASE}


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_process_is_known_by_its_start_while_it_lives(
    monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    """Linux has it in /proc; elsewhere psutil asks the system."""
    monkeypatch.setattr(sys, "platform", platform)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = leases._process_start(other.pid)
        assert started is not None
        assert leases._process_start(other.pid) == started
        assert leases._process_start(os.getpid()) != started
        other.communicate(b"\n")  # it ends, and this process is told
        assert leases._process_start(other.pid) is None
    finally:
        other.kill()
        other.wait()
