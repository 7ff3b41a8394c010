"""The shop's statements follow from the seed alone, and its live keys from the statements."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_sink.demo.shop.tables import DOCUMENTS, SCHEMA_STEPS, TABLES
from cdc_sink.demo.shop.traffic import LANE_KEYS, Statements, Transaction

SEEDS = st.integers(0, 2**32)


@cache
def transactions(seed: int, count: int, lane: int = 0) -> list[Transaction]:
    stream = Statements(seed, lane)
    return [stream.next() for _ in range(count)]


def as_text(stream: list[Transaction]) -> list[str]:
    return [repr((s.sql, s.parameters)) for t in stream for s in t.statements]


@settings(max_examples=10)
@given(SEEDS)
def test_one_seed_is_one_stream_of_statements(seed: int) -> None:
    assert as_text(transactions(seed, 50)) == as_text(transactions.__wrapped__(seed, 50))
    assert as_text(transactions(seed, 50)) != as_text(transactions(seed + 1, 50))


@settings(max_examples=10)
@given(SEEDS)
def test_statements_touch_only_rows_that_are_there(seed: int) -> None:
    stream = Statements(seed)
    rows: dict[str, set[tuple[object, ...]]] = {table.name: set() for table in TABLES}
    for _ in range(200):
        transaction = stream.next()
        after = {name: set(keys) for name, keys in rows.items()}
        for statement in transaction.statements:
            keys, width = after[statement.table.name], len(statement.table.key)
            if statement.verb == "insert":
                assert statement.parameters[:width] not in keys
                keys.add(statement.parameters[:width])
                continue
            assert statement.parameters[-width:] in keys
            if statement.verb != "update":
                keys.remove(statement.parameters[-width:])
            if statement.verb == "rekey":
                assert statement.parameters[:width] not in keys
                keys.add(statement.parameters[:width])
        rows = rows if transaction.is_rolled_back else after
        assert {name: len(keys) for name, keys in rows.items()} == {
            name: len(keys) for name, keys in stream.live.items()
        }


def test_every_kind_of_change_and_transaction_comes_up() -> None:
    stream = transactions(7, 2_000)
    seen = Counter((s.table.name, s.verb) for t in stream for s in t.statements)
    assert len(seen) == len(TABLES) * 4
    assert any(t.is_rolled_back for t in stream)
    assert any(len({s.table.name for s in t.statements}) > 1 for t in stream)
    assert all(len({s.table.side for s in t.statements}) == 1 for t in stream)


def test_two_lanes_never_touch_the_same_key() -> None:
    keys = [
        {
            (s.table.name, s.parameters[: len(s.table.key)])
            for t in transactions(7, 1_000, lane)
            for s in t.statements
            if s.verb == "insert"
        }
        for lane in (0, 1)
    ]
    assert not keys[0] & keys[1]
    numbers = [int(str(key[0])) for name, key in keys[1] if name == "customers"]
    assert min(numbers) > LANE_KEYS


def test_a_column_is_filled_only_after_it_was_added() -> None:
    (step,) = (step for step in SCHEMA_STEPS if step.column == "phone")
    stream = Statements(7)
    assert not [text for text in as_text([stream.next() for _ in range(500)]) if "phone" in text]
    stream.alter(step)
    assert [text for text in as_text([stream.next() for _ in range(500)]) if "phone" in text]


@pytest.mark.parametrize("table", [table for table in TABLES if table is not DOCUMENTS])
def test_rows_are_too_small_to_be_stored_out_of_line(table: object) -> None:
    stored = [
        sum(len(str(value).encode()) for value in statement.parameters)
        for transaction in transactions(7, 2_000)
        for statement in transaction.statements
        if statement.table is table
    ]
    assert 0 < max(stored) < 1_000  # PostgreSQL begins to think of it at 2,000 bytes
