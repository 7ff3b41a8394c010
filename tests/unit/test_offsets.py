"""A batch goes on where the ledger ends, or the table stops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.errors import StateError
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.ledger.offsets import OffsetRange, parse_offsets, require_continuous
from cdc_sink.table.ledger.stream_identity import StreamIdentity
from cdc_sink.table.plan import Plan, Step

OFFSETS = st.dictionaries(st.integers(0, 3), st.integers(0, 9))


@given(OFFSETS, OFFSETS)
def test_a_batch_may_begin_before_the_ledgers_end_never_behind_it(
    first: dict[int, int], applied: dict[int, int]
) -> None:
    batch = OffsetRange(first, first)
    if all(offset <= applied.get(p, 0) for p, offset in first.items()):
        require_continuous(batch, applied, "shop.t")
    else:
        with pytest.raises(StateError, match="cdc-sink run --take-over"):
            require_continuous(batch, applied, "shop.t")


@given(OFFSETS, OFFSETS)
def test_the_ledger_has_all_that_spark_read_also_what_no_record_has(
    applied: dict[int, int], end: dict[int, int]
) -> None:
    opened = Ledger.opened(StreamIdentity("p", "q", "c", "t", "i"), []).advanced(applied, {}, ())
    for step in (Step.SKIP, Step.MERGE):
        plan = Plan(step, opened).up_to(end)
        wanted = {p: max(applied.get(p, 0), end.get(p, 0)) for p in {*applied, *end}}
        assert plan.ledger.next_offsets == wanted
        moved = wanted != applied
        assert plan.step is (Step.OFFSETS_ONLY if moved and step is Step.SKIP else step)


def test_a_range_is_cut_at_the_end_of_its_query() -> None:
    batch = OffsetRange({0: 2, 1: 5}, {0: 9, 1: 6, 2: 4})
    assert batch.up_to(None) == batch
    assert batch.up_to({0: 7, 1: 9}) == OffsetRange({0: 2, 1: 5}, {0: 7, 1: 6, 2: 0})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('v1\n{"batchWatermarkMs":0}\n{"shop":{"0":17,"1":3}}', {0: 17, 1: 3}),
        ('\0v1\n{"shop":{"0":17}}', {0: 17}),
        ("v1\n-", None),
        ("v1\n[]", None),
        ("", None),
    ],
)
def test_offsets_are_read_from_sparks_files(text: str, found: dict[int, int] | None) -> None:
    assert parse_offsets(text) == found
