"""Who may run a query: the process table tells on one host, only time does between two."""

from __future__ import annotations

import dataclasses

import pytest

from cdc_sink.table.lease import LEASE_S, Lease, LeaseState, QueryState

ME = Lease("here", 10, "500", 1_000_000, QueryState.WAITING)


@pytest.mark.parametrize(
    ("held", "is_alive", "verdict"),
    [
        ({"pid": 11}, True, LeaseState.HELD),
        ({"pid": 11}, False, LeaseState.FREE),
        ({"pid": 11, "state": QueryState.STOPPED}, True, LeaseState.FREE),
        ({"pid": 11, "state": QueryState.PARKED}, True, LeaseState.HELD),
        ({}, True, LeaseState.FREE),
        ({"started": "499"}, False, LeaseState.FREE),
        ({"host": "there"}, False, LeaseState.UNSURE),
        ({"host": "there"}, True, LeaseState.UNSURE),
        ({"host": "there", "state": QueryState.STOPPED}, False, LeaseState.FREE),
        ({"host": "there", "renewed_at_ms": 1_000_000 - LEASE_S * 1000}, True, LeaseState.UNSURE),
        ({"host": "there", "renewed_at_ms": 999_999 - LEASE_S * 1000}, True, LeaseState.FREE),
    ],
)
def test_a_lease_is_judged_by_who_holds_it(
    held: dict[str, object], is_alive: bool, verdict: LeaseState
) -> None:
    lease = dataclasses.replace(ME, state=QueryState.RUNNING)
    lease = dataclasses.replace(lease, **held)  # type: ignore[arg-type]
    assert lease.judge(ME, is_alive=is_alive) is verdict


def test_a_lease_comes_back_as_it_was_written() -> None:
    lease = dataclasses.replace(ME, error="why it stopped", take=7)
    assert Lease.from_json(lease.to_json()) == lease


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "null", '{"host": "a"}'])
def test_a_torn_lease_is_none(text: str) -> None:
    assert Lease.from_json(text) is None
