from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.debezium.wire.confluent import (
    JSON_FAULTS,
    TOMBSTONE,
    Frame,
    FramingError,
    fault_mark,
    frame_prefix,
    framing_fault_sql,
    marked_fault,
    parse_frame,
)
from cdc_sink.table.faults import FAULTS


@given(st.integers(1, 2**32 - 1), st.binary())
def test_a_frame_comes_back_as_it_was_written(schema_id: int, payload: bytes) -> None:
    assert parse_frame(frame_prefix(schema_id) + payload) == Frame(schema_id, payload)


def test_a_null_value_is_a_tombstone() -> None:
    assert parse_frame(None) is TOMBSTONE


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", "short_value"),
        (b"\x00", "short_value"),
        (b"\x00\x00\x00\x07", "short_value"),
        (b"\x01\x00\x07", "short_value"),
        (b"\x01\x00\x00\x00\x07body", "wrong_magic"),
        (b'{"before":null}', "wrong_magic"),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00\x07", "eight_byte_id"),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00\x07body", "eight_byte_id"),
    ],
)
def test_each_framing_fault_has_its_own_code(value: bytes, code: str) -> None:
    with pytest.raises(FramingError) as caught:
        parse_frame(value)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "value", [b"\x00\x00\x00\x00\x07", b"\x00\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\x01\x02\x03"]
)
def test_a_value_too_short_for_an_eight_byte_id_is_a_frame(value: bytes) -> None:
    assert parse_frame(value) == Frame(value[4], value[5:])


def fault_of(value: bytes) -> str | None:
    try:
        parse_frame(value)
    except FramingError as fault:
        return fault.code
    return None


@given(st.binary())
def test_every_value_is_a_frame_or_one_of_the_named_faults(value: bytes) -> None:
    named = {None, "short_value", "wrong_magic", "eight_byte_id", *JSON_FAULTS}
    assert fault_of(value) in named


@pytest.mark.parametrize("code", JSON_FAULTS)
def test_a_mark_names_its_fault_in_python_and_in_sql(code: str) -> None:
    """In the first nine bytes, which are all that an error's text carries of a record."""
    mark = fault_mark(code)
    assert len(mark) <= 9
    assert marked_fault(mark) == fault_of(mark) == code
    assert f"WHEN X'{mark.hex()}' THEN '{code}'" in framing_fault_sql("value")


@pytest.mark.parametrize("value", [b"", b"\xffcdcsink", b"\xffcdcsink\x7f", b'{"schema":null}'])
def test_what_is_no_mark_names_nothing(value: bytes) -> None:
    assert marked_fault(value) is None


def test_the_prefix_is_magic_zero_and_a_big_endian_id() -> None:
    assert frame_prefix(258) == b"\x00\x00\x00\x01\x02"


@pytest.mark.parametrize("schema_id", [-1, 2**32])
def test_an_id_that_does_not_fit_four_bytes_is_refused(schema_id: int) -> None:
    with pytest.raises(ValueError, match="four bytes"):
        frame_prefix(schema_id)


def test_the_sql_tests_null_first_and_the_faults_in_the_same_order() -> None:
    sql = framing_fault_sql("`value`")
    places = [
        sql.index(part)
        for part in ("`value` IS NULL", "short_value", "wrong_magic", "eight_byte_id")
    ]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "code", ["short_long_id", "id_out_of_range", "no_id_header", "bad_id_header"]
)
def test_a_fault_mark_says_its_code_in_python_and_in_sql(code: str) -> None:
    assert fault_of(fault_mark(code)) == code
    assert f"WHEN X'{fault_mark(code).hex()}' THEN '{code}'" in framing_fault_sql("value")
    assert len(fault_mark(code)) <= 9  # what a failed job tells of a value
    assert code in FAULTS
