"""Two values have the same bytes exactly if they are equal; two sets of rows the same sums."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_sink.verification.canonical.values import (
    Canonical,
    CheckedColumn,
    Kind,
    is_comparable,
    of_source,
    of_table,
    row_bytes,
)
from cdc_sink.verification.range_sums import (
    RANGES,
    Comparison,
    KeyDifference,
    RangeSums,
    SourceBatch,
    TableBatch,
    collect_rows,
    compare_rows,
    differing_ranges,
    sum_ranges,
    within_limit,
)

UUID_TEXT = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


def source(printed: Any, type_: str, kind: Kind = "plain") -> bytes:
    return row_bytes([of_source([printed], CheckedColumn("c", type_, kind))])[0]


def table(value: Any, arrow: pa.DataType, type_: str, kind: Kind = "plain") -> bytes:
    return row_bytes([of_table(pa.array([value], arrow), CheckedColumn("c", type_, kind))])[0]


# printed by the database, how it prints | in the table, as Arrow has it | Iceberg type
EQUAL: list[tuple[Any, Kind, Any, pa.DataType, str]] = [
    ("t", "plain", True, pa.bool_(), "boolean"),
    ("0", "plain", False, pa.bool_(), "boolean"),
    ("1", "bits", True, pa.bool_(), "boolean"),
    ("1000000001", "bits", b"\x01\x02", pa.binary(), "binary"),
    ("0001101101", "bits", b"m", pa.binary(), "binary"),  # as PostgreSQL's connector sends it
    ("1101101", "bits", b"m\0", pa.binary(), "binary"),  # as MySQL's does
    ("0000000000", "bits", b"", pa.binary(), "binary"),
    ("", "bits", b"", pa.binary(), "binary"),
    ("-7", "plain", -7, pa.int32(), "int"),
    ("-7", "plain", -7, pa.int64(), "long"),
    ("00012", "plain", 12, pa.int32(), "int"),
    ("1.50", "plain", Decimal("1.5"), pa.decimal128(12, 2), "decimal(12,2)"),
    ("1.5", "plain", Decimal("1.5"), pa.decimal128(12, 4), "decimal(12,4)"),
    ("7" * 38, "plain", Decimal("7" * 38), pa.decimal128(38, 0), "decimal(38,0)"),
    ("0.1", "real", 0.1, pa.float32(), "float"),
    ("0.10000000149011612", "real", 0.1, pa.float32(), "float"),
    ("0.1", "real", 0.10000000149011612, pa.float64(), "double"),
    ("0.1", "plain", 0.1, pa.float64(), "double"),
    ("-0", "plain", -0.0, pa.float64(), "double"),
    ("NaN", "plain", math.nan, pa.float64(), "double"),
    ("NaN", "real", -math.nan, pa.float32(), "float"),
    ("-Infinity", "plain", -math.inf, pa.float64(), "double"),
    ("2024-02-29", "plain", date(2024, 2, 29), pa.date32(), "date"),
    (
        "2024-02-29 12:00:00.5",
        "plain",
        datetime(2024, 2, 29, 12, 0, 0, 500_000),
        pa.timestamp("us"),
        "timestamp",
    ),
    (
        "2024-02-29 12:00:00.000001+00",
        "zoned",
        datetime(2024, 2, 29, 12, 0, 0, 1, UTC),
        pa.timestamp("us", "UTC"),
        "timestamptz",
    ),
    (
        "2024-02-29 12:00:00",
        "plain",
        datetime(2024, 2, 29, 12, tzinfo=UTC),
        pa.timestamp("us", "UTC"),
        "timestamptz",
    ),
    ("12:00:00.5", "time", 43_200_500_000, pa.int64(), "long"),
    ("-838:59:59", "time", -3_020_399_000_000, pa.int64(), "long"),
    ("24:00:00", "time", 86_400_000_000, pa.int64(), "long"),
    ("é", "plain", "é", pa.large_string(), "string"),
    (b"\x00\xff", "plain", b"\x00\xff", pa.large_binary(), "binary"),
    (b"\x01\x02", "plain", b"\x01\x02", pa.binary(2), "fixed[2]"),
    (
        UUID_TEXT,
        "plain",
        UUID(UUID_TEXT).bytes,
        pa.uuid(),
        "uuid",
    ),
    ('{"b": [1, 2.50], "a": null}', "json", '{"a":null,"b":[1.0,2.5]}', pa.string(), "string"),
    ("1e20", "json", "100000000000000000000.0", pa.string(), "string"),
    ("10e99999999999999999998", "json", "1E+99999999999999999999", pa.string(), "string"),
    ("0.5", "json", "5e-1", pa.string(), "string"),
    ("-0.0", "json", "0", pa.string(), "string"),
    (
        '{"z": 0.000268}',
        "json_doubles",
        '{"z":0.000268000000000000009048317650695025804452598094940185546875}',
        pa.string(),
        "string",
    ),
    ("1.2345678901234567e25", "json_doubles", "12345678901234566879313920", pa.string(), "string"),
    ("18446744073709551615", "json_doubles", "18446744073709551615", pa.string(), "string"),
    ('"\\u00e9"', "json", '"é"', pa.string(), "string"),
]


@pytest.mark.parametrize(("printed", "kind", "value", "arrow", "type_"), EQUAL)
def test_equal_values_have_equal_bytes_on_both_sides(
    printed: Any, kind: Kind, value: Any, arrow: pa.DataType, type_: str
) -> None:
    assert source(printed, type_, kind) == table(value, arrow, type_, kind)


@pytest.mark.parametrize("type_", sorted({case[4] for case in EQUAL}))
def test_null_equals_null_and_nothing_else(type_: str) -> None:
    printed, kind, _, arrow, _ = next(case for case in EQUAL if case[4] == type_)
    assert source(None, type_, kind) == table(None, arrow, type_, kind)
    assert source(None, type_, kind) != source(printed, type_, kind)


@pytest.mark.parametrize(
    ("one", "other", "type_", "kind"),
    [
        ("0", "-0", "double", "plain"),
        ("", None, "string", "plain"),
        ("0", None, "long", "plain"),
        ("00:00:00", None, "long", "time"),
        ("null", None, "string", "json"),
        ('{"a": "1"}', '{"a": 1}', "string", "json"),
        ("18446744073709551615", "18446744073709551614", "string", "json_doubles"),
        ("0.1", "0.10000000000000002", "string", "json_doubles"),
        ("1.00000000000000000000000000000000001", "1", "string", "json"),
        ("a ", "a", "string", "plain"),
        ("A", "a", "string", "plain"),
        ("1.01", "1.02", "decimal(12,2)", "plain"),
        ("2024-01-01 00:00:00.000001", "2024-01-01 00:00:00", "timestamp", "plain"),
    ],
)
def test_different_values_have_different_bytes(
    one: Any, other: Any, type_: str, kind: Kind
) -> None:
    assert source(one, type_, kind) != source(other, type_, kind)


@pytest.mark.parametrize(
    ("printed", "type_", "kind"),
    [
        ("infinity", "timestamp", "plain"),
        ("-infinity", "date", "plain"),
        ("0000-00-00", "date", "plain"),
        ("2024-00-10", "date", "plain"),
        ("2024-10-00 00:00:00", "timestamp", "plain"),
        ("NaN", "decimal(12,2)", "plain"),
        ("1.005", "decimal(12,2)", "plain"),
        ("18446744073709551615", "long", "plain"),
        ("1 day", "long", "plain"),
        ("2", "boolean", "plain"),
    ],
)
def test_a_value_the_type_cannot_hold_equals_neither_null_nor_a_value(
    printed: str, type_: str, kind: Kind
) -> None:
    found = source(printed, type_, kind)
    arrow = next(case[3] for case in EQUAL if case[4] == type_)
    assert found != table(None, arrow, type_)
    assert len(found) == len(table(None, arrow, type_))  # flagged, without a value


def test_one_unusual_value_leaves_its_neighbours_as_they_are() -> None:
    column = CheckedColumn("c", "timestamp")
    usual = row_bytes([of_source(["2024-01-01 00:00:00", None], column)])
    mixed = row_bytes([of_source(["2024-01-01 00:00:00", None, "infinity"], column)])
    assert mixed[:2] == usual


def test_dates_that_arrow_cannot_parse_are_counted_in_the_same_calendar() -> None:
    assert of_source(["0001-01-01 BC"], CheckedColumn("c", "date")).values.to_pylist() == [-719_528]
    assert of_source(["10000-01-01"], CheckedColumn("c", "date")).values.to_pylist() == [2_932_897]
    far = of_source(["10000-01-01 00:00:01+00"], CheckedColumn("c", "timestamptz", "zoned"))
    assert far.values.to_pylist() == [2_932_897 * 86_400_000_000 + 1_000_000]


@given(st.dates())
def test_far_dates_and_usual_dates_are_counted_alike(day: date) -> None:
    column = CheckedColumn("c", "date")
    beside_a_far_one = of_source([day.isoformat(), "10000-01-01"], column).values[0]
    assert beside_a_far_one == of_source([day.isoformat()], column).values[0]


def test_bits_at_other_places_are_other_values() -> None:
    values = ("1", "10", "100000000", "1000000000000000", "0")
    assert len({source(value, "binary", "bits") for value in values}) == len(values)


@given(st.decimals(-(10**40), 10**40))
def test_json_numbers_are_equal_exactly_if_their_values_are(number: Decimal) -> None:
    one, other = f"[{number}]", f"[{number:f}]"  # 1E+5 and 100000
    assert source(one, "string", "json") == source(other, "string", "json")
    assert source(f"{number:f}1" if "." in other else f"{number:f}.1", "string", "json") != source(
        f"{number:f}", "string", "json"
    )


@pytest.mark.parametrize("text", ["{oops", "[" * 100_000, "1" * 5_000])
def test_what_python_cannot_read_as_json_is_compared_as_text(text: str) -> None:
    assert source(text, "string", "json") == source(text, "string")


@pytest.mark.parametrize("columns", [1, 32, 33, 70])
def test_a_null_is_seen_in_whichever_column_it_is(columns: int) -> None:
    full = of_source(["0"], CheckedColumn("c", "long"))
    null = of_source([None], CheckedColumn("c", "long"))
    seen = {
        row_bytes([null if at == place else full for at in range(columns)])[0]
        for place in range(columns)
    }
    assert len(seen) == columns


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), min_size=2, max_size=2))
def test_text_never_runs_from_one_column_into_the_next(rows: list[tuple[str, str]]) -> None:
    columns = [
        of_source([row[at] for row in rows], CheckedColumn("c", "string")) for at in range(2)
    ]
    one, other = row_bytes(columns)
    assert (one == other) == (rows[0] == rows[1])


@pytest.mark.parametrize("type_", ["list<int>", "struct<1:a:int>", "variant", "timestamp_ns", ""])
def test_types_without_a_canonical_form_are_said_to_have_none(type_: str) -> None:
    assert not is_comparable(type_)


def test_a_column_without_rows_has_no_bytes() -> None:
    assert row_bytes([Canonical(pa.array([], pa.int64()))]) == []


# --- sets of rows ---------------------------------------------------------------------------------

COMPARISON = Comparison(
    (CheckedColumn("id", "long"), CheckedColumn("name", "string"), CheckedColumn("n", "int")),
    ("id",),
)
NAMES = ("id", "name", "n")
Rows = list[tuple[int, str | None, int | None]]

texts = st.one_of(st.none(), st.text(max_size=4))
numbers = st.one_of(st.none(), st.integers(-3, 3))
row_sets = st.dictionaries(st.integers(0, 50), st.tuples(texts, numbers), min_size=1, max_size=30)


def as_source(rows: Rows) -> SourceBatch:
    printed = [tuple(None if value is None else str(value) for value in row) for row in rows]
    return SourceBatch.of_rows(NAMES, printed)


def as_table(rows: Rows) -> TableBatch:
    types = (pa.int64(), pa.string(), pa.int32())
    cells = zip(*rows, strict=True)
    columns = [pa.array(values, type_) for values, type_ in zip(cells, types, strict=True)]
    return TableBatch(pa.RecordBatch.from_arrays(columns, names=list(NAMES)))


def differences(source: Rows, table: Rows) -> list[KeyDifference]:
    everything = range(RANGES)
    return compare_rows(
        collect_rows([as_source(source)] if source else [], COMPARISON, everything),
        collect_rows([as_table(table)] if table else [], COMPARISON, everything),
        COMPARISON,
    )


@settings(max_examples=30)
@given(row_sets, st.randoms(use_true_random=False), st.integers(1, 7))
def test_sums_depend_on_neither_order_nor_batches_nor_side(
    rows: dict[int, tuple[str | None, int | None]], random: Any, size: int
) -> None:
    ordered: Rows = [(key, *values) for key, values in rows.items()]
    shuffled = random.sample(ordered, len(ordered))
    batches = [as_table(shuffled[at : at + size]) for at in range(0, len(shuffled), size)]
    left, right = (
        sum_ranges([as_source(ordered)], COMPARISON),
        sum_ranges(batches, COMPARISON),
    )
    assert differing_ranges(left, right) == []
    assert left.rows == right.rows == len(ordered)


@settings(max_examples=30)
@given(row_sets, row_sets)
def test_sums_differ_in_exactly_the_ranges_of_keys_that_differ(
    one: dict[int, Any], other: dict[int, Any]
) -> None:
    left: Rows = [(key, *values) for key, values in one.items()]
    right: Rows = [(key, *values) for key, values in other.items()]
    found = differing_ranges(
        sum_ranges([as_source(left)], COMPARISON), sum_ranges([as_table(right)], COMPARISON)
    )
    keys = [each.key["id"] for each in differences(left, right)]
    expected = sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k))
    assert keys == expected
    assert bool(found) == bool(expected)


def test_each_kind_of_difference_is_named() -> None:
    source: Rows = [(1, "a", 1), (2, "b", None), (3, "c", 3), (4, "d", 4), (5, None, 5)]
    table: Rows = [(2, "x", 0), (3, "c", 3), (4, "d", 4), (4, "d", 4), (5, "", 5), (6, "f", 6)]
    assert differences(source, table) == [
        KeyDifference({"id": 1}, "missing"),
        KeyDifference({"id": 2}, "different", ("name", "n")),
        KeyDifference({"id": 4}, "duplicate"),
        KeyDifference({"id": 5}, "different", ("name",)),
        KeyDifference({"id": 6}, "extra"),
    ]


def test_a_duplicate_is_seen_by_the_sums() -> None:
    once = sum_ranges([as_source([(1, "a", 1)])], COMPARISON)
    twice = sum_ranges([as_table([(1, "a", 1), (1, "a", 1)])], COMPARISON)
    assert len(differing_ranges(once, twice)) == 1
    assert (once.rows, twice.rows, twice.ranges) == (1, 2, 1)


def test_a_whole_table_can_be_missing() -> None:
    assert [each.kind for each in differences([(1, "a", 1)], [])] == ["missing"]
    assert [each.kind for each in differences([], [(1, "a", 1)])] == ["extra"]


def test_only_rows_of_the_asked_ranges_are_kept() -> None:
    rows: Rows = [(key, "a", 1) for key in range(200)]
    sums = sum_ranges([as_source(rows)], COMPARISON)
    first = next(number for number, count in enumerate(sums.counts) if count)
    kept = collect_rows([as_table(rows)], COMPARISON, {first})
    assert len(kept) == sums.counts[first] < 200


def test_examined_ranges_stay_within_the_limit_but_are_never_none() -> None:
    left, right = RangeSums(), RangeSums()
    left.counts[3], left.counts[5], right.counts[5], left.counts[9] = 10, 1, 10, 10
    assert within_limit([3, 5, 9], left, right, 20) == [3, 5]
    assert within_limit([3, 5, 9], left, right, 1) == [3]
    assert within_limit([], left, right, 1) == []


@pytest.mark.parametrize(
    ("printed", "type_", "kind", "shown"),
    [
        ("7", "long", "plain", 7),
        ("t", "boolean", "plain", True),
        ("é", "string", "plain", "é"),
        (b"\x00\xff", "binary", "plain", "00ff"),
        ("1e3", "decimal(12,2)", "plain", "1000.00"),
        ("2024-02-29", "date", "plain", "2024-02-29"),
        ("10000-01-01", "date", "plain", 2_932_897),
        ("2024-02-29 12:00:00", "timestamp", "plain", "2024-02-29T12:00:00"),
        ("2024-02-29 12:00:00+00", "timestamptz", "zoned", "2024-02-29T12:00:00+00:00"),
        ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "uuid", "plain", UUID_TEXT),
        ("0.5", "double", "plain", 0.5),
    ],
)
def test_keys_are_shown_as_people_write_them(
    printed: Any, type_: str, kind: Kind, shown: object
) -> None:
    comparison = Comparison((CheckedColumn("k", type_, kind),), ("k",))
    rows = collect_rows([SourceBatch({"k": [printed]})], comparison, range(RANGES))
    assert compare_rows(rows, {}, comparison)[0].key == {"k": shown}


def test_a_key_of_several_columns_is_told_from_its_parts() -> None:
    key = (CheckedColumn("a", "string"), CheckedColumn("b", "string"))
    comparison = Comparison(key, ("b", "a"))
    left = SourceBatch({"a": ["x", "xy"], "b": ["yz", "z"]})
    right = SourceBatch({"a": ["xy"], "b": ["z"]})
    found = compare_rows(
        collect_rows([left], comparison, range(RANGES)),
        collect_rows([right], comparison, range(RANGES)),
        comparison,
    )
    assert found == [KeyDifference({"b": "yz", "a": "x"}, "missing")]
