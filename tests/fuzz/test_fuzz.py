"""The fuzz target itself: it is repeatable, it sees a crash, and what it once found stays mended."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import properties
import pytest
import run


@pytest.mark.parametrize("name", run.kept_cases())
def test_what_was_found_once_holds(name: str) -> None:
    assert run.hold(run.kept_cases()[name])


def test_two_hundred_cases_of_a_fixed_seed_hold_and_reach_both_ends() -> None:
    random = Random(20)
    outcomes = {run.hold(run.make_case(random)) for _ in range(200)}
    assert outcomes == {
        *("schemas that make a table", "schemas that are refused", "frames", "source blocks"),
    }


def test_the_same_seed_makes_the_same_cases() -> None:
    first, second = (
        [run.make_case(random) for _ in range(50)] for random in (Random(3), Random(3))
    )
    assert first == second


@pytest.mark.parametrize(
    "crash", [RecursionError, KeyError, ValueError, MemoryError, AssertionError]
)
def test_a_foreign_error_is_a_finding_that_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, crash: type[BaseException]
) -> None:
    def crashes(*_: Any) -> None:
        raise crash

    monkeypatch.setattr(run, "CASES", tmp_path)
    monkeypatch.setattr(properties, "parse_key", crashes)
    with pytest.raises(crash):
        run.fuzz(30, seed=1)
    (kept,) = run.kept_cases().values()
    with pytest.raises(crash):
        run.hold(kept)


def test_a_case_that_takes_too_long_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MOST_SECONDS", -1)
    with pytest.raises(run.TooSlowError):
        run.hold({"frame": ""})
