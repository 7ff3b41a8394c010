"""Which rows a complete source snapshot leaves over, and what becomes of them."""

from __future__ import annotations

import dataclasses

import pytest

from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import StateError
from cdc_sink.table.ledger.source_snapshot import (
    Before,
    Outcome,
    Over,
    Reads,
    Run,
    is_earlier,
    judge,
    next_run,
)
from cdc_sink.table.left_over_rows import left_over_sql


def at(lo: int, hi: int = 0) -> SourcePosition:
    return SourcePosition(hi, lo)


def after(before: Before, reads: Reads | None, *, has_letters: bool = False) -> Run | None:
    return next_run(before, reads, has_letters=has_letters, ends=lambda: {0: 9, 1: 4})


WHOLE = Reads(at(5), {0: 3}, least=at(5), ends=(at(5), at(5)))
PENDING = Run(at(5), {0: 3}, Over.INTERRUPTED, ends={0: 9, 1: 4})


def test_a_first_snapshot_has_nothing_to_decide() -> None:
    run = after(Before(), WHOLE)
    assert run == Run(at(5), {0: 3}, Over.NOTHING, ends={0: 9, 1: 4}, outcome=Outcome.NONE)


@pytest.mark.parametrize(
    ("before", "reads", "over"),
    [
        (Before(), dataclasses.replace(WHOLE, least=at(2)), Over.INTERRUPTED),
        (Before(Run(at(2), {0: 0}, Over.NOTHING), True), WHOLE, Over.INTERRUPTED),
        (Before(None, True), WHOLE, Over.INTERRUPTED),
        (Before(Run(at(2), {0: 0}, Over.NOTHING, {0: 2}), True), WHOLE, Over.ESTABLISHED),
        (Before(None, True, True), WHOLE, Over.ESTABLISHED),
        (
            Before(),
            dataclasses.replace(WHOLE, least=at(2), ends=(at(2), at(5))),
            Over.ESTABLISHED,
        ),
        (Before(), dataclasses.replace(WHOLE, least_stream=at(4, 3)), Over.ESTABLISHED),
        (Before(), dataclasses.replace(WHOLE, least_stream=at(6, 3)), Over.NOTHING),
    ],
)
def test_a_run_knows_what_it_came_over(before: Before, reads: Reads, over: Over) -> None:
    run = after(before, reads)
    assert run is not None
    assert run.over is over


def test_a_run_is_whole_when_every_partition_passed_its_end() -> None:
    begun = after(Before(None, True), dataclasses.replace(WHOLE, ends=None))
    assert begun is not None
    assert not begun.is_due({0: 99, 1: 99})
    ended = after(Before(begun, True), WHOLE)
    assert ended is not None
    assert not ended.is_due({0: 9, 1: 3})
    assert ended.is_due({0: 9, 1: 4})
    assert not dataclasses.replace(ended, outcome=Outcome.KEPT).is_due({0: 9, 1: 4})


def test_the_first_offset_of_a_partition_stays_and_that_of_another_comes_with_its_rows() -> None:
    run = after(Before(PENDING, True), Reads(at(5), {0: 7, 1: 2}, least=at(5)))
    assert run is not None
    assert run.first == {0: 3, 1: 2}


def test_late_rows_of_an_older_run_begin_no_new_one() -> None:
    assert after(Before(PENDING, True), Reads(at(2), {1: 0}, least=at(2))) == PENDING


def test_records_among_the_dead_letters_tear_a_run_until_it_is_decided() -> None:
    torn = after(Before(PENDING, True), None, has_letters=True)
    assert torn is not None
    assert torn.is_torn
    done = dataclasses.replace(PENDING, outcome=Outcome.NONE)
    assert after(Before(done, True), None, has_letters=True) == done


@pytest.mark.parametrize(
    ("one", "other", "earlier"),
    [
        (at(4), at(5), True),
        (at(5), at(5), False),
        (at(4, 9), at(5), True),  # a slot begins: no commit was seen
        (at(6), at(5, 9), False),
        (at(5), at(5, 9), True),  # ad-hoc, by the task that made the slot
        (at(5, 9), at(5), False),
        (at(9, 1), at(1, 2), True),
    ],
)
def test_runs_compare_by_the_log(one: SourcePosition, other: SourcePosition, earlier: bool) -> None:
    assert is_earlier(one, other) is earlier


@pytest.mark.parametrize(
    ("over", "policy", "is_torn", "outcome"),
    [
        (Over.INTERRUPTED, "stop", False, Outcome.DELETED),
        (Over.INTERRUPTED, "delete", False, Outcome.DELETED),
        (Over.INTERRUPTED, "keep", False, Outcome.KEPT),
        (Over.INTERRUPTED, "stop", True, None),
        (Over.ESTABLISHED, "stop", False, None),
        (Over.ESTABLISHED, "delete", False, Outcome.DELETED),
        (Over.ESTABLISHED, "delete", True, Outcome.KEPT),
        (Over.ESTABLISHED, "keep", False, Outcome.KEPT),
    ],
)
def test_what_becomes_of_rows_left_over(
    over: Over, policy: str, is_torn: bool, outcome: Outcome | None
) -> None:
    run = dataclasses.replace(PENDING, over=over, is_torn=is_torn)
    if outcome is None:
        with pytest.raises(StateError, match="3 rows of the table are not in it"):
            judge(run, 3, policy, "shop.t")  # type: ignore[arg-type]
    else:
        judged = judge(run, 3, policy, "shop.t")  # type: ignore[arg-type]
        assert (judged.outcome, judged.rows) == (outcome, 3)
    assert judge(run, 0, policy, "shop.t").outcome is Outcome.NONE  # type: ignore[arg-type]


def test_the_condition_names_older_snapshot_rows_alone_behind_an_interrupted_run() -> None:
    assert left_over_sql(PENDING, 0) == (
        "_cdc_op = 'r' AND _cdc_position_lo < 5L AND (_cdc_partition NOT IN (0) OR "
        "((_cdc_partition = 0 AND _cdc_offset < 3L)))"
    )


def test_a_run_survives_its_ledger() -> None:
    judged = judge(PENDING, 3, "keep", "shop.t")
    assert Run.from_json(judged.to_json()) == judged
    assert Run.from_json(PENDING.to_json()) == PENDING
    assert Run.from_json(None) is None
