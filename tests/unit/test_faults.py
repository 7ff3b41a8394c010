"""One table of faults: a table that stops and a dead letter say the same, and both say what helps."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.debezium.wire.confluent import EIGHT_BYTE_ID, FramingError, fault_mark, parse_frame
from cdc_sink.errors import RecordRef
from cdc_sink.spark.read.record_faults import Fault
from cdc_sink.table.dead_letter import message_sql, remedy_of
from cdc_sink.table.faults import FAULTS, NO_KEY, OP, UNKNOWN_SCHEMA, framing_fault


@pytest.mark.parametrize("code", FAULTS)
@pytest.mark.parametrize("side", ["key", "value"])
def test_a_fault_says_what_was_seen_and_what_helps(code: str, side: str) -> None:
    saw, remedy = FAULTS[code].of(side, "detail")
    assert saw.endswith(" (detail)")
    assert remedy
    assert "{side}" not in saw + remedy


@pytest.mark.parametrize("code", FAULTS)
def test_a_dead_letter_says_what_a_table_that_stops_says(code: str) -> None:
    saw, remedy = FAULTS[code].of("value")
    assert remedy_of(code) == remedy
    said = re.search(rf"WHEN '{code}' THEN '((?:[^'\\]|\\.)*)'", message_sql("fault"))
    assert said is not None
    assert re.sub(r"\\(.)", r"\1", said[1]) == saw


def test_a_reason_of_another_release_has_no_remedy() -> None:
    assert remedy_of("of another release") is None


@given(
    st.binary(max_size=14) | st.sampled_from([fault_mark("no_json"), fault_mark("no_id_header")])
)
def test_bytes_that_are_no_frame_have_the_code_that_their_reader_gives(value: bytes) -> None:
    code, _ = framing_fault(value[:9], len(value))
    found = code_of(value)
    # Schema id 0 without room for eight bytes is no fault of the framing.
    assert code == found if found else code in (UNKNOWN_SCHEMA, EIGHT_BYTE_ID)


def code_of(value: bytes) -> str | None:
    try:
        parse_frame(value)
    except FramingError as error:
        return error.code
    return None


def test_no_bytes_at_all_are_no_key() -> None:
    assert framing_fault(b"", -1) == (NO_KEY, "")


def test_of_an_op_that_nobody_knows_eight_letters_are_told() -> None:
    """It may be any text of a record that something else wrote."""
    error = Fault(OP, RecordRef("t", 0, 1), b"", 1, "a value of somebody").error()
    assert error.saw == "the op is not one of r c u d (a value )"
