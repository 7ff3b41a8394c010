"""Names that Debezium adjusts are found again in the table."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.change.adjusted_names import avro_names, named_in, undo_unicode, unicode_name

NAMES = st.text(min_size=1, max_size=12)


@given(NAMES)
def test_an_escaped_name_is_undone_exactly(name: str) -> None:
    escaped = unicode_name(name)
    assert re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", escaped)
    assert undo_unicode(escaped) == name


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("under_score", "under_u005fscore"),
        ("XXX$123", "XXX_u0024123"),
        ("with space", "with_u0020space"),
        ("Ümlaut", "_u00dcmlaut"),
        ("1digit", "_u0031digit"),
    ],
)
def test_names_are_escaped_as_debezium_does(name: str, escaped: str) -> None:
    assert unicode_name(name) == escaped


def test_names_of_the_mode_avro_are_found() -> None:
    source = ["OrderID", "Product ID", "qty%", "1st", "größe", "a.b", "trail ", "x-y"]
    table = ["OrderID", "Product_ID", "qty_", "_1st", "gr__e", "a_b", "trail_", "x_y"]
    assert named_in(source, table) == dict(zip(source, table, strict=True))


def test_two_names_that_become_one_are_told_from_neither() -> None:
    assert named_in(["a b", "a-b", "c"], ["a_b", "c"]) == {"c": "c"}
    assert named_in(["a b", "a_b"], ["a_b"]) == {"a_b": "a_b"}


@given(st.lists(NAMES, unique=True, max_size=6))
def test_a_table_with_the_sources_own_names_is_taken_as_it_is(names: list[str]) -> None:
    assert named_in(names, names) == {name: name for name in names}


@given(NAMES)
def test_a_name_that_avro_allows_stays_one_of_its_forms(name: str) -> None:
    assert all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", one) for one in avro_names(name))
