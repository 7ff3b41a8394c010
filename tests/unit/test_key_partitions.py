"""A key's partition follows from its bytes, or the topic grew, or another rule is at work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.table.ledger.key_partitions import (
    Placed,
    counts_before,
    murmur2,
    not_hashed,
    partition_of,
)

KEYS = st.lists(st.binary(max_size=12), min_size=1, max_size=60, unique=True)


@pytest.mark.parametrize(
    ("data", "signed"),
    [
        # Kafka's own test vectors: UtilsTest.testMurmur2.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_kafkas(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed & 0xFFFFFFFF


@given(KEYS, st.integers(1, 12))
def test_keys_in_their_place_are_explained_by_todays_count(keys: list[bytes], count: int) -> None:
    sample = [Placed(key, partition_of(key, count)) for key in keys]
    assert counts_before(sample, count) == ()


@given(KEYS, st.integers(1, 8), st.integers(1, 4), st.data())
def test_growth_is_explained_by_a_smaller_count(
    keys: list[bytes], before: int, more: int, data: st.DataObject
) -> None:
    now = before + more
    grown = data.draw(st.integers(0, len(keys)))
    sample = [
        Placed(key, partition_of(key, before if i < grown else now)) for i, key in enumerate(keys)
    ]
    counts = counts_before(sample, now)
    assert counts is not None
    assert len(counts) <= 1
    strays = [one for one in sample if partition_of(one.key, now) != one.partition]
    assert all(any(partition_of(s.key, n) == s.partition for n in counts) for s in strays)


def test_another_rule_is_told_from_growth() -> None:
    keys = [str(number).encode() for number in range(40)]
    sample = [Placed(key, number % 3) for number, key in enumerate(keys)]
    assert counts_before(sample, 3) is None
    told = str(not_hashed(Placed(b"21", 1), 3, "topic", "shop.t"))
    assert f"one lies in 1 of 3, its key gives {partition_of(b'21', 3)}" in told
