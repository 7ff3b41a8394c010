from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.errors import ConfigError, SchemaError
from cdc_sink.table.schema.column_placement import promoted, second_name
from cdc_sink.table.schema.columns import Column
from cdc_sink.table.schema.evolution import (
    AddColumn,
    RelaxColumn,
    RenameColumn,
    SchemaChange,
    WidenColumn,
    describe,
    merge_columns,
    plan_evolution,
    require_key,
)
from cdc_sink.table.schema.policy import TablePolicy

ID = Column("id", "long", required=True)
TABLE = "`lake`.`shop`.`orders`"

types = st.one_of(
    st.sampled_from(["boolean", "int", "long", "float", "double", "string", "date", "timestamp"]),
    st.integers(1, 38).flatmap(
        lambda p: st.integers(0, p).map(lambda scale: f"decimal({p},{scale})")
    ),
)
columns = st.lists(
    st.builds(Column, st.sampled_from(["a", "b", "C", "d.e", "f`g"]), types, st.booleans()),
    unique_by=lambda column: column.name,
)


policies = st.builds(
    TablePolicy,
    on_incompatible=st.sampled_from(["stop", "second_column"]),
    renames=st.sampled_from([{}, {"a": "b"}, {"a": "new"}, {"a": "new", "b": "new"}]),
)


@given(columns, columns, policies)
def test_a_plan_applied_and_planned_again_is_empty(
    current: list[Column], wanted: list[Column], policy: TablePolicy
) -> None:
    held, asked = [ID, *current], [ID, *wanted]
    try:
        after = merge_columns(held, asked, ["id"], policy)
    except SchemaError:
        return
    assert plan_evolution(after, asked, ["id"], policy) == ()
    assert merge_columns(after, asked, ["id"], policy) == after
    assert plan_evolution(after, after, ["id"], policy, in_place=True) == ()


@given(columns, columns, policies, st.data())
def test_a_plan_cut_short_anywhere_is_completed_by_planning_again(
    current: list[Column], wanted: list[Column], policy: TablePolicy, data: st.DataObject
) -> None:
    held, asked = [ID, *current], [ID, *wanted]
    try:
        plan = plan_evolution(held, asked, ["id"], policy)
    except SchemaError:
        return
    ran = data.draw(st.integers(0, len(plan)))
    half = applied(held, plan[:ran])
    rest = plan_evolution(half, asked, ["id"], policy)
    assert set(rest) == set(plan[ran:])
    assert applied(half, rest) == merge_columns(held, asked, ["id"], policy)


@given(columns, columns, policies)
def test_no_column_is_ever_lost_moved_or_narrowed(
    current: list[Column], wanted: list[Column], policy: TablePolicy
) -> None:
    held = [ID, *current]
    try:
        after = merge_columns(held, [ID, *wanted], ["id"], policy)
    except SchemaError:
        return
    for old, new in zip(held, after, strict=False):
        assert new.name in (old.name, policy.renames.get(old.name))
        assert promoted(new.type, old.type) == new.type


def applied(held: Sequence[Column], plan: Sequence[SchemaChange]) -> tuple[Column, ...]:
    """What a table's columns are once statements ran; written apart from merge_columns."""
    columns = list(held)
    for change in plan:
        name = None if isinstance(change, AddColumn) else change.name
        place_of = [column.name for column in columns].index(name) if name else len(columns)
        match change:
            case AddColumn(column):
                columns.append(column)
            case WidenColumn(new_type=new_type):
                columns[place_of] = dataclasses.replace(columns[place_of], type=new_type)
            case RelaxColumn():
                columns[place_of] = dataclasses.replace(columns[place_of], required=False)
            case RenameColumn(new_name=new_name):
                columns[place_of] = dataclasses.replace(columns[place_of], name=new_name)
    return tuple(columns)


def test_a_new_column_is_added_at_the_end_and_optional() -> None:
    wanted = [Column("new", "int", required=True), ID]
    assert plan_evolution([ID], wanted, ["id"]) == (AddColumn(Column("new", "int")),)
    assert merge_columns([ID], wanted, ["id"]) == (ID, Column("new", "int"))


def test_a_dropped_column_stays() -> None:
    held = [ID, Column("gone", "int")]
    assert plan_evolution(held, [ID], ["id"]) == ()


@pytest.mark.parametrize(
    ("held", "asked", "grown"),
    [
        ("int", "long", "long"),
        ("float", "double", "double"),
        ("decimal(10,2)", "decimal(12,2)", "decimal(12,2)"),
        ("decimal(10,2)", "decimal(10,0)", "decimal(12,2)"),
        ("decimal(38,2)", "decimal(36,0)", "decimal(38,2)"),
        ("list<int>", "list<long>", "list<long>"),
        ("list<decimal(10,2)>", "list<decimal(12,2)>", "list<decimal(12,2)>"),
    ],
)
def test_a_type_grows_as_iceberg_allows(held: str, asked: str, grown: str) -> None:
    assert promoted(held, asked) == grown


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ("long", "int"),
        ("list<long>", "list<int>"),
        ("double", "float"),
        ("decimal(12,2)", "decimal(10,2)"),
        ("date", "date"),
    ],
)
def test_a_narrower_writer_changes_nothing(held: str, asked: str) -> None:
    current, wanted = [ID, Column("a", held)], [ID, Column("a", asked)]
    assert plan_evolution(current, wanted, ["id"]) == ()


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ("int", "string"),
        ("string", "int"),
        ("long", "double"),
        ("int", "decimal(10,0)"),
        ("decimal(10,2)", "decimal(10,3)"),
        ("decimal(38,2)", "decimal(38,0)"),
        ("timestamp", "timestamptz"),
        ("date", "timestamp"),
        ("binary", "string"),
    ],
)
def test_any_other_change_is_refused_with_column_both_types_and_remedy(
    held: str, asked: str
) -> None:
    with pytest.raises(SchemaError) as caught:
        plan_evolution([ID, Column("a", held)], [ID, Column("a", asked)], ["id"])
    assert caught.value.where == "column a"
    assert held in caught.value.saw
    assert asked in caught.value.saw
    assert "on_incompatible: second_column" in caught.value.remedy
    assert second_name("a", asked) in caught.value.remedy
    assert "a new name at the source" in caught.value.remedy
    assert "a new source snapshot" in caught.value.remedy


def test_a_widened_key_column_stays_required() -> None:
    held, asked = [Column("id", "int", required=True)], [Column("id", "long")]
    assert plan_evolution(held, asked, ["id"]) == (WidenColumn("id", "int", "long"),)
    assert merge_columns(held, asked, ["id"]) == (ID,)


@pytest.mark.parametrize("wanted", [[ID], [ID, Column("must", "int")]])
def test_a_required_column_the_source_may_leave_empty_becomes_optional(
    wanted: list[Column],
) -> None:
    held = [ID, Column("must", "int", required=True)]
    assert plan_evolution(held, wanted, ["id"]) == (RelaxColumn("must"),)
    assert merge_columns(held, wanted, ["id"])[1] == Column("must", "int")


def test_a_column_still_filled_stays_required() -> None:
    held = [ID, Column("must", "int", required=True)]
    assert plan_evolution(held, held, ["id"]) == ()


def test_a_metadata_column_is_passed_over_in_the_table() -> None:
    held = [ID, Column("_cdc_op", "string")]
    assert plan_evolution(held, [ID], ["id"]) == ()
    assert merge_columns(held, [ID], ["id"]) == tuple(held)


def test_the_name_of_a_metadata_column_is_refused_from_a_source() -> None:
    with pytest.raises(ConfigError, match="_cdc_op"):
        plan_evolution([ID], [ID, Column("_cdc_op", "int")], ["id"])


def test_a_column_renamed_only_in_case_is_refused() -> None:
    with pytest.raises(SchemaError, match="columns email and Email"):
        plan_evolution([ID, Column("email", "string")], [ID, Column("Email", "string")], ["id"])


def test_a_new_key_column_is_refused_once_the_table_has_rows_by_another_key() -> None:
    wanted = [ID, Column("line", "int", required=True)]
    with pytest.raises(SchemaError, match="the key changed"):
        plan_evolution([ID], wanted, ["id", "line"])


def test_a_key_column_the_row_does_not_have_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"key column line: .* the row does not have"):
        plan_evolution([ID], [ID], ["id", "line"])


@pytest.mark.parametrize(
    ("change", "sql"),
    [
        (AddColumn(Column("a`b", "timestamptz")), "ADD COLUMN `a``b` timestamp_ltz"),
        (WidenColumn("a.b", "int", "long"), "ALTER COLUMN `a.b` TYPE bigint"),
        (WidenColumn("a.b", "list<int>", "list<long>"), "ALTER COLUMN `a.b`.element TYPE bigint"),
        (RelaxColumn("é"), "ALTER COLUMN `é` DROP NOT NULL"),
        (RenameColumn("a`b", "c.d"), "RENAME COLUMN `a``b` TO `c.d`"),
    ],
)
def test_each_change_is_one_quoted_statement(change: SchemaChange, sql: str) -> None:
    assert change.sql(TABLE) == f"ALTER TABLE {TABLE} {sql}"


def statements(name: str) -> list[str]:
    changes: tuple[SchemaChange, ...] = (
        AddColumn(Column(name, "int")),
        WidenColumn(name, "int", "long"),
        RelaxColumn(name),
        RenameColumn(name, name),
    )
    return [re.sub(r"(?s)`(?:[^`]|``)*`", "", change.sql(TABLE)) for change in changes]


@given(st.text(min_size=1))
def test_names_stay_inside_their_quotes(name: str) -> None:
    assert statements(name) == statements("x")


@pytest.mark.parametrize("asked", [["id", "line"], ["line"], ["uid"]])
def test_another_key_than_the_tables_is_refused(asked: list[str]) -> None:
    with pytest.raises(SchemaError, match=r"the table's rows have the key \(id\)"):
        require_key(["id"], asked)


def test_each_change_is_said_in_words() -> None:
    assert [
        describe(change)
        for change in (RenameColumn("n", "m"), RelaxColumn("n"), AddColumn(Column("x", "date")))
    ] == ["rename n to m", "let n be null", "add x date"]
