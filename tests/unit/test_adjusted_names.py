"""Names that Debezium adjusts are found again in the table."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cdc_sink.debezium.adjusted_names import avro_names, named_in, undo_unicode, unicode_name

NAMES = st.text(min_size=1, max_size=12)
PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=255), min_size=1, max_size=63)
# Letters whose escapes have two, three and four digits, beside the digits that could belong to them.
MIXED = st.text("ae09_ f\u00e9\u017f\u0433\u4e2d", min_size=1, max_size=8)

# What Debezium 3.6.1's own SchemaNameAdjuster answered: AVRO_FIELD_NAMER, AVRO_UNICODE_FIELD_NAMER.
ASKED = [
    ("under_score", "under_score", "under_u005fscore"),
    ("XXX$123", "XXX_123", "XXX_u0024123"),
    ("with space", "with_space", "with_u0020space"),
    ("Ümlaut", "_mlaut", "_u00dcmlaut"),
    ("größe", "gr__e", "gr_u00f6_u00dfe"),
    ("1digit", "_1digit", "_u0031digit"),
    ("a.b", "a_b", "a_u002eb"),
    ("trail ", "trail_", "trail_u0020"),
    ("\u0663x", "_\u0663x", "_u663x"),
    ("\U0001f600a", "__a", "_ud83d_ude00a"),
    ("\uff19x", "_\uff19x", "_uff19x"),
    ("\u017f", "_", "_u17f"),
    ("__op", "__op", "_u005f_u005fop"),
    ("_u005f", "_u005f", "_u005fu005f"),
    ("\u00b2x", "_x", "_u00b2x"),
    ("A1b2", "A1b2", "A1b2"),
]


@pytest.mark.parametrize(("name", "plain", "escaped"), ASKED)
def test_names_are_adjusted_as_debezium_does(name: str, plain: str, escaped: str) -> None:
    assert (avro_names(name)[0], unicode_name(name)) == (plain, escaped)


@given(NAMES)
def test_an_escaped_name_is_one_that_avro_takes(name: str) -> None:
    assert re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", unicode_name(name))


@given(PLAIN)
def test_an_escaped_name_of_western_letters_is_undone_exactly(name: str) -> None:
    assume(name.isprintable())
    assert undo_unicode(unicode_name(name)) == name


@given(MIXED, MIXED)
def test_an_escaped_name_is_undone_to_its_own_or_not_at_all(name: str, other: str) -> None:
    assert undo_unicode(unicode_name(name)) in (name, None)
    if name != other and unicode_name(name) == unicode_name(other):
        assert undo_unicode(unicode_name(name)) is None


@pytest.mark.parametrize(
    ("escaped", "own"),
    [
        ("_u438_u43c_u44f", "имя"),
        ("_u44f1", None),  # я and 1, or one Chinese character
        ("under_score", None),  # a _ that avro_unicode would have escaped
        ("_u0041", None),  # an A, which it leaves as it is
        ("_u00DC", None),  # it writes small digits
        ("a_u5f", None),
        ("1a", None),
    ],
)
def test_a_name_that_the_mode_does_not_write_or_that_has_two_sources_is_not_undone(
    escaped: str, own: str | None
) -> None:
    assert undo_unicode(escaped) == own


def test_names_of_the_mode_avro_are_found() -> None:
    source = ["OrderID", "Product ID", "qty%", "1st", "größe", "a.b", "trail ", "x-y", "\U0001f600"]
    table = ["OrderID", "Product_ID", "qty_", "_1st", "gr__e", "a_b", "trail_", "x_y", "__"]
    assert named_in(source, table) == dict(zip(source, table, strict=True))


def test_two_names_that_become_one_are_told_from_neither() -> None:
    assert named_in(["a b", "a-b", "c"], ["a_b", "c"]) == {"c": "c"}
    assert named_in(["a b", "a_b"], ["a_b"]) == {"a_b": "a_b"}


@given(st.lists(NAMES, unique=True, max_size=6))
def test_a_table_with_the_sources_own_names_is_taken_as_it_is(names: list[str]) -> None:
    assert named_in(names, names) == {name: name for name in names}
