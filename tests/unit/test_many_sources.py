"""The sources of a table of many: numbered for good, and never taken for one another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.config import SourceTable, Table
from cdc_sink.debezium.origin import Origin
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import StateError
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.ledger.many_sources import (
    MOST_LANES,
    KnownSource,
    Lanes,
    SourceFacts,
    advanced,
    with_origins,
)
from cdc_sink.table.ledger.stream_identity import StreamIdentity

NAMES = st.sampled_from(["", "a", "b", "a.b", "b.a"])
ORIGINS = st.builds(
    Origin,
    record=st.sampled_from(["r1", "r2"]),
    connector=st.just("mysql"),
    name=NAMES,
    database=NAMES,
    schema=NAMES,
    table=NAMES,
)
EU = Origin("r", "mysql", "shop", "eu", None, "items")
US = replace(EU, database="us")


def known(*origins: Origin, partitions: int = 2) -> tuple[KnownSource, ...]:
    return with_origins((), origins, partitions, "t", "shop.items")


@given(st.lists(st.lists(ORIGINS, max_size=3), max_size=6))
def test_numbers_stay_and_no_two_sources_share_one_or_a_name(batches: list[list[Origin]]) -> None:
    sources: tuple[KnownSource, ...] = ()
    for batch in batches:
        try:
            after = with_origins(sources, batch, 2, "t", "shop.items")
        except StateError:
            continue
        assert after[: len(sources)] == sources
        for origin in batch:
            assert any(one.origin == origin for one in after), "as it was when it came first"
        sources = after
    identities = [one.origin.identity for one in sources]
    assert len(set(identities)) == len(identities) == len({one.origin.text for one in sources})


@given(st.integers(1, 20), st.lists(st.integers(0, 9_999), unique=True, max_size=20))
def test_no_two_pairs_of_source_and_partition_share_a_lane(
    sources: int, partitions: list[int]
) -> None:
    some = tuple(KnownSource(replace(EU, database=f"d{i}")) for i in range(sources))
    found = Lanes(some).of(partitions)
    assert len(set(found)) == len(found) == sources * len(partitions)
    assert found[: len(partitions)] == partitions, "the first source's are those of a table of one"


def test_a_ledger_keeps_its_sources() -> None:
    run, key = SourcePosition(4, 2), "shop.eu.items"
    stream = StreamIdentity("p", "q", "c", "t", "i")
    ledger = Ledger(stream, {0: 1}, {}, sources=(KnownSource(EU, 7, run, key), KnownSource(US)))
    assert Ledger.from_json(ledger.to_json()) == ledger


def test_sources_that_do_not_say_their_name_are_refused() -> None:
    with pytest.raises(StateError, match="don't say which source they come from"):
        known(Origin("r", "mysql"))


def test_more_sources_than_can_be_kept_apart_are_refused() -> None:
    many = [replace(EU, database=f"d{i}") for i in range(11)]
    with pytest.raises(StateError, match=f"{MOST_LANES} pairs of both is the most"):
        known(*many, partitions=MOST_LANES // 10)


def test_a_source_begins_its_snapshot_once() -> None:
    first, second = SourcePosition(1, 1), SourcePosition(2, 1)
    before = (KnownSource(EU, run=first),)
    same = SourceFacts(runs=(first, first))
    assert advanced(before, [same], "stop", "t", "shop.items")[0].run == first
    for runs in ((second, second), (first, second)):
        with pytest.raises(StateError, match="sent a source snapshot into t once more"):
            advanced(before, [SourceFacts(runs=runs)], "stop", "t", "shop.items")
        kept = advanced(before, [SourceFacts(runs=runs)], "keep", "t", "shop.items")
        assert kept[0].run == second


@pytest.mark.parametrize(
    "more",
    [
        {"order": "kafka"},
        {"order": "kafka", "outbox": True},
        {"source": SourceTable(database="mysql", table="shop.items")},
    ],
    ids=["kafka", "outbox", "source"],
)
def test_what_many_sources_cannot_have_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`sources: many`"):
        Table(topic="t", target="shop.items", sources="many", **more)
