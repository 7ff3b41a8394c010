"""A column that only snapshot rows have stops the table at the first change that lacks it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.errors import SchemaError
from cdc_sink.table.schema.computed_columns import Ids, SentColumns, read_only_after

PLAIN, COMPUTED = frozenset({"id"}), frozenset({"id", "total"})
SNAPSHOT, STREAM, LATER = 1, 2, 3
SENT = SentColumns({SNAPSHOT: COMPUTED, STREAM: PLAIN})


def after(
    known: tuple[str, ...],
    sent: SentColumns,
    reads: set[int],
    streams: set[int],
    seen: set[int] = frozenset(),  # type: ignore[assignment]
) -> tuple[str, ...]:
    held = {"id", *known}
    return read_only_after(known, held, sent, Ids(reads, streams, seen), "shop.items")


def test_a_computed_column_stops_in_the_snapshots_batch_and_in_a_later_one() -> None:
    assert after((), SENT, {SNAPSHOT}, set()) == ("total",)
    for known, reads in (((), {SNAPSHOT}), (("total",), set())):
        with pytest.raises(SchemaError, match="column total: the rows of the source snapshot"):
            after(known, SENT, reads, {STREAM}, {SNAPSHOT} - reads)


def test_a_column_that_a_change_had_may_be_dropped() -> None:
    assert after(("total",), SENT, set(), {SNAPSHOT}, {SNAPSHOT}) == ()
    assert after((), SENT, set(), {STREAM}, {SNAPSHOT}) == ()


def test_a_renamed_column_is_asked_for_by_its_name_of_now() -> None:
    """The ledger has the name of the batch that read the rows."""
    renamed = SentColumns({1: COMPUTED, 2: PLAIN | {"sum"}}, renamed={"total": "sum"})
    assert after(("total",), renamed, set(), {2}, {1}) == ()
    assert after(("total",), renamed, set(), set(), {1}) == ("sum",)
    told = SentColumns({1: PLAIN | {"sum"}}, renamed={"total": "sum"})
    assert read_only_after((), {"id", "total"}, told, Ids({1}, (), ()), "shop.items") == ()


def test_a_column_that_is_said_to_be_dropped_is_not_asked_for() -> None:
    dropped = replace(SENT, dropped=frozenset({"total"}))
    assert after((), dropped, {SNAPSHOT}, {STREAM}) == ("total",)


def test_changes_from_before_an_added_column_say_nothing_of_it() -> None:
    """An incremental snapshot reads a new column before any change has it."""
    added = SentColumns({1: PLAIN, 2: COMPUTED})
    assert after((), added, {2}, {1}, {1}) == ("total",), "a schema of before"
    assert after((), added, {2}, {1}) == ("total",), "also where it is seen first"
    assert after(("total",), added, set(), {2}, {1, 2}) == ()


@given(
    computed=st.booleans(),
    cuts=st.lists(st.integers(0, 8), max_size=4),
    changes=st.integers(1, 4),
)
def test_however_a_topic_is_cut_the_first_change_tells(
    computed: bool, cuts: list[int], changes: int
) -> None:
    """Snapshot rows of one schema, then changes of another one, or of the same."""
    stream = STREAM if computed else SNAPSHOT
    records = [("r", SNAPSHOT)] * 4 + [("u", stream)] * changes
    bounds = sorted({0, len(records), *(c for c in cuts if c <= len(records))})
    known: tuple[str, ...] = ()
    seen: set[int] = set()
    held = {"id"}
    stopped = None
    for first, end in itertools.pairwise(bounds):
        batch = records[first:end]
        ids = Ids({i for op, i in batch if op == "r"}, {i for op, i in batch if op == "u"}, seen)
        try:
            known = read_only_after(known, held, SENT, ids, "shop.items")
        except SchemaError:
            stopped = (first, end)
            break
        seen |= {i for _, i in batch}
        held |= {"total"} if ids.reads else set()
    assert (stopped is not None) == computed
    assert stopped is None or stopped[0] <= 4 < stopped[1], "the batch of the first change"
