"""The guard: a change replaces a stored row only when it is newer, by the first rule that decides."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.table.newer_row import RowOrigin, is_newer

STORED = RowOrigin("u", generation=0, partition=0, offset=10, pos_hi=5, pos_lo=5)
numbers = st.integers(0, 3)
places = st.builds(
    RowOrigin,
    st.sampled_from("rcud"),
    numbers,
    numbers,
    numbers,
    st.none() | numbers,
    st.none() | numbers,
)


@pytest.mark.parametrize(
    ("change", "newer"),
    [
        ({"offset": 11}, True),
        ({"offset": 10}, False),
        ({"offset": 9, "pos_hi": 9}, False),
        ({"offset": 9, "generation": 1}, True),
        ({"partition": 1, "offset": 1, "pos_lo": 6}, True),
        ({"partition": 1, "offset": 99, "pos_lo": 4}, False),
        ({"partition": 1, "offset": 99, "pos_hi": 4, "pos_lo": 99}, False),
        ({"partition": 1}, True),
        ({"partition": 1, "pos_hi": None}, False),
    ],
)
def test_the_first_rule_that_decides_counts(change: dict[str, int], newer: bool) -> None:
    assert is_newer(replace(STORED, **change), STORED) is newer  # type: ignore[arg-type]


def test_a_row_without_origin_is_older_than_any_change() -> None:
    assert is_newer(STORED, None)
    assert is_newer(replace(STORED, partition=1), replace(STORED, pos_hi=None))


def test_a_snapshot_row_of_a_new_slot_stands_between_the_events_before_and_behind_it() -> None:
    read = replace(STORED, op="r", pos_hi=0, pos_lo=99)
    elsewhere = replace(STORED, partition=1)
    older, newer = (
        replace(elsewhere, pos_hi=40, pos_lo=41),
        replace(elsewhere, pos_hi=99, pos_lo=104),
    )
    later = replace(read, partition=2, pos_lo=120)
    for first, second in ((older, read), (read, newer), (older, later), (read, later)):
        assert is_newer(second, first)
        assert not is_newer(first, second)


@given(places, places)
def test_of_two_changes_of_one_source_never_both_are_older(
    one: RowOrigin, other: RowOrigin
) -> None:
    """Else the one that comes first would stay, whichever it is; for equal records both are old."""
    same = (one.generation, one.partition, one.offset) == (
        other.generation, other.partition, other.offset,
    )  # fmt: skip
    both_known = None not in (one.pos_hi, one.pos_lo, other.pos_hi, other.pos_lo)
    if not same and both_known:
        assert is_newer(one, other) or is_newer(other, one)


@given(places, places, places)
def test_newer_is_an_order_inside_a_partition(
    one: RowOrigin, two: RowOrigin, three: RowOrigin
) -> None:
    at = [replace(place, partition=0) for place in (one, two, three)]
    if is_newer(at[1], at[0]) and is_newer(at[2], at[1]):
        assert is_newer(at[2], at[0])
        assert not is_newer(at[0], at[2])
