from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.debezium.position import (
    SourcePosition,
    optional_position_fields,
    position_fields,
    position_of,
    position_sql,
)
from cdc_sink.errors import SchemaError

longs = st.integers(0, 10**18 - 1)
positions = st.builds(SourcePosition, longs, longs)


@given(positions, positions, positions)
def test_positions_are_totally_ordered(
    a: SourcePosition, b: SourcePosition, c: SourcePosition
) -> None:
    assert [a < b, a == b, a > b].count(True) == 1
    assert not (a <= b and b <= c) or a <= c
    assert (a < b) == ((a.hi, a.lo) < (b.hi, b.lo))


@given(longs, longs)
def test_a_postgresql_sequence_is_read_as_two_numbers(commit: int, change: int) -> None:
    source = {"sequence": f'["{commit}","{change}"]'}
    assert position_of("postgresql", source) == SourcePosition(commit, change)


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ('[null,"24023160"]', SourcePosition(0, 24023160)),
        ('["24023128",null]', SourcePosition(24023128, 0)),
        ('["0","0"]', SourcePosition(0, 0)),
    ],
)
def test_a_null_in_a_sequence_counts_as_zero(sequence: str, expected: SourcePosition) -> None:
    assert position_of("postgresql", {"sequence": sequence}) == expected


@pytest.mark.parametrize("snapshot", ["false", None])
def test_the_first_transaction_behind_a_new_slot_lies_behind_what_came_before_the_slot(
    snapshot: str | None,
) -> None:
    """It has no commit before it; the topic may have changes of an older slot, and marks are there."""
    before = position_of("postgresql", {"sequence": '["900","950"]', "snapshot": "false"})
    first = position_of("postgresql", {"sequence": '[null,"1000"]', "snapshot": snapshot})
    commit = position_of("postgresql", {"sequence": '["1010","1020"]', "snapshot": "false"})
    assert before is not None
    assert first is not None
    assert commit is not None
    assert before < first < commit


@pytest.mark.parametrize("snapshot", ["true", "first", "last", "incremental"])
def test_a_snapshot_row_of_a_new_slot_is_older_than_any_change(snapshot: str) -> None:
    """Its LSN may be greater than the last commit, which is the first number of the change behind it."""
    source = {"sequence": '[null,"1000"]', "snapshot": snapshot}
    assert position_of("postgresql", source) == SourcePosition(0, 1000)


@pytest.mark.parametrize(
    "sequence",
    [
        *(None, "", "null", "[null,null]", "[]", '["1"]', '["1","2","3"]', "[1,2]"),
        *('["1", "2"]', '["a","2"]', '["+1","2"]', '["-1","2"]', '["01","2"]', '["","2"]'),
        *('["1","2"]x', '["1","2"]\n', '["null","2"]', '["1234567890123456789","2"]'),
        *('["\u0661","2"]', '{"a":"1"}', 7),
    ],
)
def test_an_unreadable_sequence_is_no_position_and_never_zero(sequence: object) -> None:
    assert position_of("postgresql", {"sequence": sequence}) is None


def test_a_missing_field_is_no_position() -> None:
    assert position_of("postgresql", {}) is None
    assert position_of("mysql", {"file": "binlog.000001"}) is None


def test_log_files_compare_by_number_not_by_text() -> None:
    old = position_of("mysql", {"file": "binlog.999999", "pos": 900, "row": 3})
    new = position_of("mysql", {"file": "binlog.1000000", "pos": 4, "row": 0})
    assert old is not None
    assert new is not None
    assert old < new


@pytest.mark.parametrize("connector", ["mysql", "mariadb"])
def test_rows_at_one_place_of_a_binlog_lie_at_one_position(connector: str) -> None:
    """The events of a MariaDB or compressed transaction count their rows anew: a later one may be smaller."""
    blocks = [{"file": "b.7", "pos": 4, "row": row} for row in (0, 5, 0, 1)]
    (one,) = {position_of(connector, block) for block in blocks}
    assert one is not None
    assert one >= SourcePosition(7, 4 * 2**24 + 5)  # as a ledger of an earlier release may have it
    after = position_of(connector, {"file": "b.7", "pos": 5, "row": 0})
    assert after is not None
    assert one < after


@pytest.mark.parametrize(
    ("file", "pos"),
    [
        *(("binlog", 4), ("000003", 4), ("binlog.", 4), ("binlog.x", 4), (".5", 4), (None, 4)),
        *(("binlog.+3", 4), ("binlog.1234567890123456789", 4)),
        *(("b.7", -1), ("b.7", 2**39), ("b.7", None)),
    ],
)
def test_an_unreadable_log_place_is_no_position(file: object, pos: object) -> None:
    assert position_of("mysql", {"file": file, "pos": pos, "row": 0}) is None


@given(st.integers(0, 2**39 - 1))
def test_a_log_place_fits_a_signed_64_bit_number(pos: int) -> None:
    position = position_of("mariadb", {"file": "mariadb-bin.000001", "pos": pos})
    assert position is not None
    assert position.lo < 2**63


@pytest.mark.parametrize("connector", ["mongodb", "db2", "informix"])
def test_a_connector_without_a_known_order_is_refused_by_name(connector: str) -> None:
    with pytest.raises(SchemaError, match=connector):
        position_fields(connector)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"commit_scn": "2345678", "txSeq": 7}, SourcePosition(2345678, 7)),
        ({"commit_scn": "2345678"}, SourcePosition(2345678, 0)),  # before Debezium 3.2
        ({"commit_scn": "2345678", "txSeq": None}, None),
        ({"commit_scn": "2345678", "txSeq": -1}, None),
        ({"commit_scn": None, "txSeq": 1}, None),
        ({"commit_scn": "0023", "txSeq": 1}, None),
        ({"commit_scn": "23,1", "txSeq": 1}, None),
        ({"commit_scn": "1234567890123456789", "txSeq": 1}, None),
    ],
)
def test_an_oracle_change_lies_at_its_commit(
    source: dict[str, object], expected: SourcePosition | None
) -> None:
    assert position_of("oracle", source) == expected


@pytest.mark.parametrize(
    ("lsn", "expected"),
    [
        ("00000027:00000758:0005", SourcePosition(0x0000002700000758, 5)),
        ("7fffffff:FFFFFFFF:ffff", SourcePosition(2**63 - 1, 0xFFFF)),
        ("80000000:00000000:0000", None),
        *((None, None), ("", None), ("27:758:5", None), ("00000027:00000758:0005 ", None)),
        *(("00000027:0000075G:0005", None), ("00000027-00000758-0005", None)),
    ],
)
def test_a_sql_server_change_lies_at_its_commit(
    lsn: str | None, expected: SourcePosition | None
) -> None:
    assert position_of("sqlserver", {"commit_lsn": lsn, "change_lsn": "z"}) == expected


@pytest.mark.parametrize("connector", ["postgresql", "mysql", "mariadb", "oracle", "sqlserver"])
def test_the_sql_reads_the_named_fields_and_checks_them_once(connector: str) -> None:
    fields = position_fields(connector) + optional_position_fields(connector)
    sql = position_sql(connector, "d1.`source`", fields)
    for name in fields:
        assert f"d1.`source`.`{name}`" in sql
    assert sql.count(" RLIKE ") == 1
    assert not any(slow in sql for slow in ("from_json", "split_part", "regexp_extract"))
