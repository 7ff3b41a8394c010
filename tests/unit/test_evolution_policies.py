"""What a table's settings make of a schema change: frozen, stop, second column, text, renames."""

from __future__ import annotations

import pytest

from cdc_sink.errors import SchemaError
from cdc_sink.table.schema.column_placement import ColumnPlacement, place
from cdc_sink.table.schema.columns import Column
from cdc_sink.table.schema.evolution import (
    AddColumn,
    RenameColumn,
    WidenColumn,
    merge_columns,
    plan_evolution,
    require_key,
)
from cdc_sink.table.schema.policy import TablePolicy

ID = Column("id", "long", required=True)
N = Column("n", "int")


@pytest.mark.parametrize(
    "wanted",
    [
        [ID, N, Column("extra", "string")],
        [ID, Column("n", "long")],
        [ID, Column("m", "int")],
        [ID, Column("n", "string")],
    ],
)
def test_a_frozen_table_refuses_every_change(wanted: list[Column]) -> None:
    frozen = TablePolicy(schema_change="frozen", renames={"n": "m"})
    with pytest.raises(SchemaError, match=r"schema_change: additive"):
        plan_evolution([ID, N], wanted, ["id"], frozen)


def test_a_frozen_table_names_the_columns_and_what_is_asked() -> None:
    with pytest.raises(SchemaError) as caught:
        plan_evolution(
            [ID, N],
            [ID, Column("n", "long"), Column("x", "date")],
            ["id"],
            TablePolicy(schema_change="frozen"),
        )
    assert caught.value.where == "column n"
    assert caught.value.saw.endswith("asks to widen n from int to long; add x date")


def test_a_frozen_table_that_lacks_nothing_goes_on_and_one_that_is_not_there_is_made() -> None:
    frozen = TablePolicy(schema_change="frozen")
    assert plan_evolution([ID, N], [ID, N], ["id"], frozen) == ()
    assert plan_evolution([ID, N], [ID], ["id"], frozen) == ()
    assert merge_columns([], [ID, N], ["id"], frozen) == (Column("id", "long"), N)


@pytest.mark.parametrize(
    ("policy", "held", "asked", "expected"),
    [
        ("stop", "int", "string", None),
        ("stop", "int", "long", ColumnPlacement("n", "long")),
        ("second_column", "int", "long", ColumnPlacement("n", "long")),
        ("second_column", "int", "string", ColumnPlacement("n__string", "string")),
        (
            "second_column",
            "decimal(10,2)",
            "decimal(12,4)",
            ColumnPlacement("n__decimal_12_4", "decimal(12,4)"),
        ),
        ("second_column", "int", "binary", ColumnPlacement("n__binary", "binary")),
    ],
)
def test_where_a_new_type_goes(
    policy: str, held: str, asked: str, expected: ColumnPlacement | None
) -> None:
    assert place("n", asked, {"n": held}, policy) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "second", "kind", "asked", "expected"),
    [
        ("second_column", "n__int", "int", "long", ColumnPlacement("n__int", "long")),
        ("second_column", "n__date", "date", "int", ColumnPlacement("n__int", "int")),
        ("second_column", "n__old", "int", "int", ColumnPlacement("n__int", "int")),
        ("second_column", "n__int", "string", "int", None),
    ],
)
def test_a_second_column_is_used_again_by_types_it_can_hold_and_never_by_others(
    policy: str, second: str, kind: str, asked: str, expected: ColumnPlacement | None
) -> None:
    assert place("n", asked, {"n": "boolean", second: kind}, policy) == expected  # type: ignore[arg-type]


def test_a_second_column_is_added_and_the_first_one_stays() -> None:
    policy = TablePolicy(on_incompatible="second_column")
    wanted = [ID, Column("n", "string")]
    assert plan_evolution([ID, N], wanted, ["id"], policy) == (
        AddColumn(Column("n__string", "string")),
    )
    assert merge_columns([ID, N], wanted, ["id"], policy) == (ID, N, Column("n__string", "string"))


def test_a_refusal_under_a_policy_that_could_not_help_does_not_name_it_as_a_remedy() -> None:
    held = [ID, Column("n", "boolean"), Column("n__int", "date")]
    policy = TablePolicy(on_incompatible="second_column")
    with pytest.raises(SchemaError) as caught:
        plan_evolution(held, [ID, Column("n", "int")], ["id"], policy)
    assert "on_incompatible" not in caught.value.remedy


def test_two_columns_of_the_source_never_share_one_of_the_table() -> None:
    held = [ID, Column("n", "string"), Column("n__int", "int")]
    wanted = [ID, Column("n", "int"), Column("n__int", "int")]
    with pytest.raises(SchemaError, match="those of n would both go to the column n__int"):
        plan_evolution(held, wanted, ["id"], TablePolicy(on_incompatible="second_column"))


def test_a_key_column_never_moves_to_another_column() -> None:
    rules = TablePolicy(on_incompatible="second_column")
    for held in ("int", "string"):
        other = {"int": "string", "string": "int"}[held]
        with pytest.raises(SchemaError, match="key column id") as caught:
            plan_evolution([Column("id", held)], [Column("id", other)], ["id"], rules)
        assert "on_incompatible" not in caught.value.remedy


def test_rows_that_have_the_tables_shape_already_are_never_moved() -> None:
    rules = TablePolicy(on_incompatible="second_column")
    with pytest.raises(SchemaError, match="column n: the table holds int, the writer sends string"):
        plan_evolution([ID, N], [ID, Column("n", "string")], ["id"], rules, in_place=True)


# --- renames --------------------------------------------------------------------------------------

RENAMED = TablePolicy(renames={"n": "m"})


def test_a_rename_by_hint_keeps_the_column_and_may_widen_it() -> None:
    wanted = [Column("id", "long"), Column("m", "long"), Column("new", "date")]
    assert plan_evolution([ID, N], wanted, ["id"], RENAMED) == (
        RenameColumn("n", "m"),
        WidenColumn("m", "int", "long"),
        AddColumn(Column("new", "date")),
    )
    assert merge_columns([N, ID], wanted, ["id"], RENAMED) == (
        Column("m", "long"),
        ID,
        Column("new", "date"),
    )


def test_a_hint_does_nothing_before_the_source_has_the_new_name_and_nothing_after() -> None:
    assert plan_evolution([ID, N], [ID, N], ["id"], RENAMED) == ()
    assert plan_evolution([ID, Column("m", "int")], [ID, Column("m", "int")], ["id"], RENAMED) == ()


@pytest.mark.parametrize(
    ("held", "wanted", "said"),
    [
        (["n", "m"], ["m"], "n in the table, m in the table and at the source"),
        (["n"], ["n", "m"], "n in the table and at the source, m at the source"),
        (["m"], ["n", "m"], "n at the source, m in the table and at the source"),
    ],
)
def test_a_hint_is_refused_where_both_names_are(
    held: list[str], wanted: list[str], said: str
) -> None:
    def columns_of(names: list[str]) -> list[Column]:
        return [ID, *(Column(name, "int") for name in names)]

    with pytest.raises(SchemaError, match="remove the hint") as caught:
        plan_evolution(columns_of(held), columns_of(wanted), ["id"], RENAMED)
    assert caught.value.where == "column n"
    assert caught.value.saw.endswith(said)


def test_two_old_names_may_lead_to_one_new_name_but_not_from_two_columns() -> None:
    policy = TablePolicy(renames={"a": "c", "b": "c"})
    b, c = Column("b", "int"), Column("c", "int")
    assert plan_evolution([ID, b], [ID, c], ["id"], policy) == (RenameColumn("b", "c"),)
    with pytest.raises(SchemaError, match="column b: `renames` says that it is called c now"):
        plan_evolution([ID, Column("a", "int"), b], [ID, c], ["id"], policy)


def test_a_renamed_key_column_stays_required_and_is_the_same_key() -> None:
    policy = TablePolicy(renames={"id": "uid"})
    uid = Column("uid", "long", required=True)
    assert plan_evolution([ID, N], [uid, N], ["uid"], policy) == (RenameColumn("id", "uid"),)
    assert merge_columns([ID, N], [uid, N], ["uid"], policy) == (uid, N)
    require_key(["id"], ["uid"], policy)
    require_key(["uid"], ["uid"], policy)
    require_key([], ["anything"], policy)
