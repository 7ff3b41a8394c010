"""A query without its lease stops, alone: the lease can't be written, or another driver has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from pyspark.errors import PySparkException

from cdc_sink.errors import StateError, UnavailableError
from cdc_sink.spark.run import table_query as query_module
from cdc_sink.spark.run.stopping import stop_all
from cdc_sink.spark.run.table_query import RENEW_S, TableQuery
from cdc_sink.table.lease import QueryState

DISK_FULL = "java.io.IOException: No space left on device"


@dataclass
class _Target:
    name: str


@dataclass
class _Stream:
    isActive: bool = True

    def stop(self) -> None:
        self.isActive = False


@dataclass
class _Leases:
    """What is written, table by table; and what renewing one raises."""

    written: dict[str, str] = field(default_factory=dict)
    faults: dict[str, Exception] = field(default_factory=dict)

    def renew(self, _: object, target: _Target, state: str, _error: str | None = None) -> None:
        if target.name in self.faults:
            raise self.faults[target.name]
        self.written[target.name] = state


class _Query(TableQuery):
    """Starts at once, unless it waits for something."""

    waits_for: str | None = None

    def _start(self) -> str | None:
        self._owns_lease, self._query = True, _Stream()
        return self.waits_for

    @property
    def is_streaming(self) -> bool:
        return bool(self._query.isActive)


def a_query(where: str) -> _Query:
    nothing: Any = None
    return _Query(nothing, cast(Any, _Target(where)), nothing)


@pytest.fixture
def leases(monkeypatch: pytest.MonkeyPatch) -> _Leases:
    kept = _Leases()
    monkeypatch.setattr(query_module, "renew_lease", kept.renew)
    return kept


def test_a_table_whose_lease_finds_no_space_backs_off_and_the_others_go_on(leases: _Leases) -> None:
    full, other = a_query("shop.full"), a_query("shop.other")
    for query in (full, other):
        query.tick(0.0)
    assert leases.written == {"shop.full": "running", "shop.other": "running"}
    leases.faults["shop.full"] = PySparkException(DISK_FULL)
    leases.written.clear()
    pauses = []
    now = RENEW_S + 1.0
    for _ in range(3):
        for query in (full, other):
            query.tick(now)
        assert (full.state, full.is_streaming) == ("backing_off", False)
        assert (other.state, other.is_streaming) == ("running", True)
        assert isinstance(full.error, UnavailableError)
        assert "no space is left" in str(full.error)
        pauses.append(full.due_at - now)
        now = full.due_at
    assert pauses == [1.0, 2.0, 4.0]
    assert leases.written == {"shop.other": "running"}
    leases.faults.clear()
    full.tick(now)
    assert (full.state, full.is_streaming) == ("running", True)
    assert leases.written["shop.full"] == "running"


def test_a_query_whose_lease_another_driver_took_parks_at_once(leases: _Leases) -> None:
    query = a_query("shop.t")
    query.tick(0.0)
    leases.faults["shop.t"] = StateError("shop.t", "another has it", remedy="stop one")
    query.tick(RENEW_S + 1.0)
    assert (query.state, query.is_streaming) == ("parked", False)
    leases.faults.clear()
    leases.written.clear()
    query.stop()
    query.tick(3 * RENEW_S)
    assert leases.written == {}


@dataclass
class _Stubborn(_Stream):
    """Its batch outlasts the time that Spark gives it, or ends just after it."""

    ends: bool = False

    def stop(self) -> None:
        self.isActive = not self.ends
        raise PySparkException("failed to stop within 60000 milliseconds")

    @property
    def status(self) -> dict[str, bool]:
        return {"isTriggerActive": False}


def test_a_batch_that_goes_on_is_named_and_the_other_queries_are_stopped(leases: _Leases) -> None:
    queries = [a_query(f"shop.{number}") for number in range(3)]
    for query in queries:
        query.tick(0.0)
        query._query = _Stubborn(ends=query.target.name != "shop.0")
    with pytest.raises(StateError, match="a batch goes on") as stopped:
        stop_all(queries)
    assert stopped.value.where == "shop.0"
    assert [query.state for query in queries] == ["running", "stopped", "stopped"]
    assert leases.written == {"shop.0": "running", "shop.1": "stopped", "shop.2": "stopped"}


def test_a_query_that_waits_or_backs_off_keeps_its_lease(leases: _Leases) -> None:
    query = a_query("shop.t")
    query.waits_for = "topic t to exist"
    for second in range(2 * RENEW_S):
        query.tick(float(second))
    assert leases.written == {"shop.t": "waiting"}
    leases.written.clear()
    query.state, query.due_at = QueryState.BACKING_OFF, 1000.0
    query.tick(4.0 * RENEW_S)
    assert leases.written == {"shop.t": "backing_off"}
