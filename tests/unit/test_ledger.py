"""The ledger: it survives its text, never goes back, and names whoever does not fit it."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import StateError
from cdc_sink.table.ledger.ledger import Ledger, Totals
from cdc_sink.table.ledger.repartitioning import Moving
from cdc_sink.table.ledger.stream_identity import StreamIdentity

STREAM = StreamIdentity("shop", "q1", "cluster", "topic", "topic-1")

partitions = st.integers(0, 4)
offsets = st.dictionaries(partitions, st.integers(0, 2**63 - 1))
marks = st.dictionaries(
    partitions,
    st.builds(SourcePosition, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)),
)
ids = st.lists(st.integers(1, 2**31 - 1), max_size=4)
ledgers = st.builds(
    Ledger,
    st.builds(StreamIdentity, *[st.text()] * 5, st.integers(0, 9)),
    next_offsets=offsets,
    high_water=marks,
    schema_ids=st.lists(st.integers(1, 9), unique=True).map(lambda found: tuple(sorted(found))),
    totals=st.builds(Totals, *[st.integers(0, 2**40)] * 5),
    quarantined=st.integers(0, 9),
    replay=st.none() | st.text(),
    key_schema_ids=st.lists(st.integers(1, 9), unique=True).map(lambda found: tuple(sorted(found))),
    log=st.none() | st.text(),
    moving=st.none()
    | st.builds(
        Moving,
        st.integers(1, 9),
        st.none() | offsets,
        st.booleans(),
    ),
)


@given(ledgers)
def test_a_ledger_comes_back_as_it_was_written(ledger: Ledger) -> None:
    assert Ledger.from_json(ledger.to_json()) == ledger


@given(ledgers, offsets, marks, ids)
def test_neither_an_offset_nor_a_mark_ever_goes_back(
    ledger: Ledger,
    next_offsets: dict[int, int],
    high_water: dict[int, SourcePosition],
    schema_ids: list[int],
) -> None:
    after = ledger.advanced(next_offsets, high_water, schema_ids)
    for partition, offset in ledger.next_offsets.items():
        assert after.next_offsets[partition] == max(offset, next_offsets.get(partition, 0))
    for partition, mark in ledger.high_water.items():
        assert after.high_water[partition] == max(mark, high_water.get(partition, mark))
    assert set(after.high_water) == {*ledger.high_water, *high_water}
    assert after.schema_ids == tuple(sorted({*ledger.schema_ids, *schema_ids}))
    assert after.advanced(next_offsets, high_water, schema_ids) == after


def test_the_text_is_a_format_that_older_tables_hold() -> None:
    ledger = Ledger.opened(STREAM, [1, 0]).advanced({0: 7}, {0: SourcePosition(1, 2)}, [5, 3], 1700)
    progress = (
        '"next_offsets":{"0":7,"1":0},"high_water":{"0":[1,2]},"schema_ids":[3,5],'
        '"newest_source_ts_ms":1700'
    )
    first_release = (
        '{"version":1,"pipeline":"shop","query_id":"q1","generation":0,"cluster_id":"cluster",'
        f'"topic":"topic","topic_id":"topic-1",{progress}}}'
    )
    assert Ledger.from_json(first_release) == ledger
    assert ledger.to_json() == (
        '{"version":1,"pipeline":"shop","query_id":"q1","cluster_id":"cluster","topic":"topic",'
        f'"topic_id":"topic-1","generation":0,{progress}'
        ',"totals":{"applied":0,"redelivered":0,"tombstones":0,"ignored":0,"dead_letters":0},'
        '"quarantined":0,"replay":null,"key_schema_ids":[],"moving":null,"log":null,'
        '"origin":null,"fingerprints":{},"ended_with":{},"run":null,"sources":[],"read_only":[]}'
    )


def test_a_greater_generation_begins_a_new_log_and_keeps_the_account() -> None:
    totals = Totals(applied=5, dead_letters=2)
    old = Ledger.opened(STREAM, [0]).advanced({0: 7}, {0: SourcePosition(9, 9)}, [3], 1700, totals)
    old = dataclasses.replace(old, quarantined=2)
    next_one = dataclasses.replace(STREAM, query_id="q2", generation=1)
    same_topic = old.reopened(next_one, [0])
    assert same_topic.next_offsets == {0: 7}
    assert (same_topic.high_water, same_topic.newest_source_ts_ms) == ({}, None)
    assert (same_topic.totals, same_topic.quarantined) == (totals, 2)
    same_topic.require_of(next_one, "shop.t")
    with pytest.raises(StateError, match="belongs to generation 1, this query has 0"):
        same_topic.require_of(STREAM, "shop.t")
    made_anew = dataclasses.replace(next_one, topic_id="topic-2")
    assert old.reopened(made_anew, [0, 1]).next_offsets == {0: 0, 1: 0}


def test_a_new_ledger_names_every_partition() -> None:
    assert Ledger.opened(STREAM, [0, 1, 2]).next_offsets == {0: 0, 1: 0, 2: 0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"version": 1}',
        Ledger.opened(STREAM, [0]).to_json().replace('{"0":0}', '{"x":0}'),
        Ledger.opened(STREAM, [0]).to_json().replace('"high_water":{}', '"high_water":{"0":[1]}'),
    ],
)
def test_a_text_that_is_no_ledger_is_refused(text: str) -> None:
    with pytest.raises(StateError, match=r"shop\.t: the ledger in the newest table snapshot can't"):
        Ledger.from_json(text, "shop.t")


def test_a_ledger_of_a_newer_release_is_refused() -> None:
    seen = json.loads(Ledger.opened(STREAM, [0]).to_json()) | {"version": 2}
    with pytest.raises(StateError, match="has version 2, this release reads version 1"):
        Ledger.from_json(json.dumps(seen))


@pytest.mark.parametrize(
    ("field", "name", "remedy"),
    [
        ("pipeline", "pipeline", "write to another target table"),
        ("topic", "topic", "write to another target table"),
        ("cluster_id", "cluster id", "point kafka.bootstrap_servers at the old cluster"),
        ("topic_id", "topic id", "the topic was made anew"),
        ("query_id", "query id", "start once with `cdc-sink run --take-over`"),
    ],
)
def test_the_first_difference_is_named_with_its_remedy(field: str, name: str, remedy: str) -> None:
    theirs = getattr(STREAM, field)
    other = dataclasses.replace(STREAM, **{field: "mine"})
    with pytest.raises(StateError) as refused:
        Ledger.opened(STREAM, [0]).require_of(other, "shop.t")
    assert (
        refused.value.saw
        == f"the table's ledger belongs to {name} {theirs!r}, this query has 'mine'"
    )
    assert remedy in refused.value.remedy
    assert not refused.value.retry


def test_a_ledger_that_is_handed_over_fits_the_new_query_only() -> None:
    handed = Ledger.opened(STREAM, [0]).handed_to("q2")
    handed.require_of(dataclasses.replace(STREAM, query_id="q2"), "shop.t")
    with pytest.raises(StateError, match="belongs to query id 'q2', this query has 'q1'"):
        handed.require_of(STREAM, "shop.t")
    assert handed == Ledger.opened(dataclasses.replace(STREAM, query_id="q2"), [0])


def test_the_newest_source_timestamp_never_goes_back() -> None:
    ledger = Ledger.opened(STREAM, [0]).advanced({}, {}, [], 1700)
    assert ledger.advanced({}, {}, [], 1600).newest_source_ts_ms == 1700
    assert ledger.advanced({}, {}, [], None).newest_source_ts_ms == 1700
    assert ledger.advanced({}, {}, [], 1800).newest_source_ts_ms == 1800
