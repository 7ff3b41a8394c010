"""What the writer schemas of one topic ask of a table, in whatever order they come."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_sink.debezium.options import TableOptions
from cdc_sink.debezium.types.mapping import convert_sql
from cdc_sink.errors import SchemaError
from cdc_sink.table.schema.column_placement import promoted
from cdc_sink.table.schema.columns import Column
from cdc_sink.table.schema.policy import DEFAULT_POLICY, TablePolicy
from cdc_sink.table.schema.writer_schemas import WriterSchemas

SAMPLE = Path(__file__).parent / "samples" / "postgresql_customers_value.json"
ID = Column("id", "long", required=True)


def decimal(precision: int, scale: int) -> dict[str, Any]:
    name = "org.apache.kafka.connect.data.Decimal"
    digits = {"precision": precision, "scale": scale}
    return {"type": "bytes", "logicalType": "decimal", "connect.name": name, **digits}


def time(base: str, name: str) -> dict[str, Any]:
    return {"type": base, "connect.name": f"io.debezium.time.{name}"}


def value_schema(columns: Mapping[str, Any]) -> str:
    envelope: dict[str, Any] = json.loads(SAMPLE.read_text())
    fields = [{"name": name, "type": ["null", node]} for name, node in columns.items()]
    envelope["fields"][0]["type"][1]["fields"] = fields
    return json.dumps(envelope)


def key_schema(*names: str) -> str:
    fields = [{"name": name, "type": "long"} for name in names]
    return json.dumps({"type": "record", "name": "Key", "fields": fields})


def schemas(
    *versions: Mapping[str, Any], policy: TablePolicy = DEFAULT_POLICY, keys: str = "id"
) -> WriterSchemas:
    """Values with ids from 1, one key schema of each column named in `keys`."""
    values = {i: value_schema({"id": "long", **v}) for i, v in enumerate(versions, 1)}
    return WriterSchemas(values, {100: key_schema(keys)}, policy)


TYPES: dict[str, Any] = {
    "boolean": "boolean",
    "int": "int",
    "long": "long",
    "float": "float",
    "double": "double",
    "string": "string",
    "binary": "bytes",
    "date": time("int", "Date"),
    "timestamp": time("long", "MicroTimestamp"),
    "timestamptz": time("string", "ZonedTimestamp"),
    "decimal(10,2)": decimal(10, 2),
    "decimal(12,2)": decimal(12, 2),
    "decimal(12,4)": decimal(12, 4),
}
NODES = st.sampled_from(list(TYPES.values()))
VERSIONS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), NODES, max_size=4),
    min_size=1,
    max_size=5,
)
POLICIES = st.builds(
    TablePolicy,
    on_incompatible=st.sampled_from(["stop", "second_column"]),
    renames=st.sampled_from([{}, {"a": "b"}, {"a": "c"}]),
)


def part(whole: WriterSchemas, ids: list[int]) -> WriterSchemas:
    return WriterSchemas({i: whole.values[i] for i in ids}, whole.keys, whole.policy)


@settings(deadline=None)
@given(VERSIONS, POLICIES, st.data())
def test_columns_do_not_depend_on_where_a_batch_or_a_run_ends(
    versions: list[dict[str, Any]], policy: TablePolicy, data: st.DataObject
) -> None:
    """New ids come in the order they were registered; old ones between them, as often as they like."""
    whole = schemas(*versions, policy=policy)
    try:
        expected = whole.extend(())
    except SchemaError:
        return
    columns: tuple[Column, ...] = ()
    done = 0
    while done < len(versions):
        new = data.draw(st.integers(1, len(versions) - done))
        late = data.draw(st.lists(st.integers(1, done), max_size=3)) if done else []
        columns = part(whole, [*late, *range(done + 1, done + new + 1)]).extend(columns)
        done += new
    assert {c.name: c for c in columns} == {c.name: c for c in expected}
    assert whole.extend(columns) == columns
    for late_id in whole.values:
        assert part(whole, [late_id]).extend(columns) == columns


def test_the_column_of_another_type_is_renamed_with_its_column() -> None:
    policy = TablePolicy(on_incompatible="second_column", renames={"a": "b"})
    versions = [{"a": "boolean"}, {"a": "int"}, {"b": "boolean"}]
    whole = schemas(*versions, policy=policy)
    before = part(whole, [1, 2]).extend(())
    assert [column.name for column in before] == ["id", "a", "a__int"]
    assert whole.extend(before) == whole.extend(())
    assert [column.name for column in whole.extend(before)] == ["id", "b", "b__int"]


def test_two_columns_that_became_one_are_refused_where_both_are_there() -> None:
    policy = TablePolicy(renames={"a": "c", "b": "c"})
    whole = schemas({"a": "boolean"}, {"b": "boolean"}, {"c": "boolean"}, policy=policy)
    held = part(whole, [1, 2]).extend(())
    with pytest.raises(SchemaError, match="both are there"):
        whole.extend(held)


COMPATIBLE = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "a": st.sampled_from(["int", "long"]),
            "b": st.sampled_from(["float", "double"]),
            "c": st.sampled_from([decimal(10, 2), decimal(12, 2), decimal(5, 2)]),
        },
    ),
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(COMPATIBLE, st.data())
def test_compatible_versions_give_the_same_columns_in_any_order(
    versions: list[dict[str, Any]], data: st.DataObject
) -> None:
    whole = schemas(*versions)
    order = data.draw(st.permutations(sorted(whole.values)))
    columns: tuple[Column, ...] = ()
    for schema_id in order:
        columns = part(whole, [schema_id]).extend(columns)
    assert set(columns) == set(whole.extend(()))


@settings(deadline=None)
@given(VERSIONS, POLICIES)
def test_every_field_fills_one_column_that_holds_its_type_exactly(
    versions: list[dict[str, Any]], policy: TablePolicy
) -> None:
    whole = schemas(*versions, policy=policy)
    try:
        columns = whole.extend(())
    except SchemaError:
        return
    types = {column.name: column.type for column in columns}
    for schema_id, version in enumerate(versions, 1):
        sources = whole.sources(schema_id, columns)
        assert {source.field.name for source in sources.values()} == {"id", *version}
        for name, source in sources.items():
            sent = whole.columns(schema_id)
            kind = next(
                c.type
                for c in sent
                if c.name in (source.field.name, policy.renames.get(source.field.name))
            )
            assert promoted(types[name], kind) == types[name]
            assert source.sql("x", types[name])


def test_a_field_of_the_old_name_fills_the_renamed_column_once_anything_has_the_new_name() -> None:
    old, new = {"n": "int"}, {"m": "int"}
    policy = TablePolicy(renames={"n": "m"})
    both = schemas(old, new, policy=policy)
    assert both.extend([ID, Column("n", "int")]) == (ID, Column("m", "int"))
    assert both.sources(1, both.extend(()))["m"].field.name == "n"
    assert both.sources(2, both.extend(()))["m"].field.name == "m"

    late = schemas(old, policy=policy)
    assert late.extend([ID, Column("m", "int")]) == (ID, Column("m", "int"))
    assert late.sources(1, [ID, Column("m", "int")])["m"].field.name == "n"
    assert late.extend([ID, Column("n", "int")]) == (ID, Column("n", "int"))


def test_a_writer_with_both_names_is_refused() -> None:
    both = schemas({"n": "int", "m": "int"}, policy=TablePolicy(renames={"n": "m"}))
    with pytest.raises(SchemaError, match="both are there"):
        both.extend([ID, Column("n", "int")])


def test_a_renamed_key_column_is_one_key_whichever_name_its_schemas_have() -> None:
    policy = TablePolicy(renames={"id": "uid"})
    values = {1: value_schema({"id": "long"}), 2: value_schema({"uid": "long"})}
    keys = {3: key_schema("id"), 4: key_schema("uid")}
    both = WriterSchemas(values, keys, policy)
    assert both.key_columns == ("uid",)
    columns = both.extend([ID])
    assert columns == (Column("uid", "long", required=True),)
    assert [both.key_sources(i, columns)["uid"].field.name for i in (3, 4)] == ["id", "uid"]

    late = WriterSchemas({1: values[1]}, {3: keys[3]}, policy)
    assert late.key_names([ID]) == ("id",)
    assert late.key_names(columns) == ("uid",)
    assert list(late.key_sources(3, columns)) == ["uid"]
    assert list(late.key_sources(3, [ID])) == ["id"]
    assert late.extend(columns) == columns


def test_two_key_schemas_that_disagree_are_refused_with_the_hint_as_a_remedy() -> None:
    both = WriterSchemas(
        {1: value_schema({"id": "long"})}, {3: key_schema("id"), 4: key_schema("no")}
    )
    with pytest.raises(SchemaError, match="say so in `renames`"):
        both.extend(())


@pytest.mark.parametrize("late_comes_alone", [True, False])
def test_an_old_version_fills_the_first_column_again(late_comes_alone: bool) -> None:
    both = schemas(
        {"n": "int"}, {"n": "string"}, policy=TablePolicy(on_incompatible="second_column")
    )
    columns = both.extend([ID])
    assert columns == (ID, Column("n", "int"), Column("n__string", "string"))
    asked = part(both, [1]) if late_comes_alone else both
    assert list(asked.sources(1, columns)) == ["id", "n"]
    assert list(both.sources(2, columns)) == ["id", "n__string"]


def test_a_table_cut_to_fewer_columns_gets_only_theirs() -> None:
    one = schemas({"n": "int", "tags": {"type": "array", "items": "string"}})
    assert list(one.sources(1, [ID, Column("n", "int")])) == ["id", "n"]


def test_a_field_whose_type_has_no_place_is_refused_by_its_conversion() -> None:
    one = schemas({"n": "string"})
    source = one.sources(1, [ID, Column("n", "int")])["n"]
    with pytest.raises(SchemaError, match="the writer sends string, the table holds int"):
        source.sql("x", "int")


def test_a_field_in_its_own_column_is_converted_as_ever() -> None:
    one = schemas({"n": time("long", "Timestamp")})
    source = one.sources(1, one.extend(()))["n"]
    assert source.sql("v1.after.n", "timestamp") == convert_sql(
        source.field, "v1.after.n", "timestamp"
    )


# --- names that the connector escaped -------------------------------------------------------------

OWN = TablePolicy(options=TableOptions(field_names="source"))
BESIDE = {"connect.parameters": {"__debezium.source.column.name": "order no"}}


def test_a_table_by_the_sources_names_has_them_for_escaped_fields_and_keys() -> None:
    found = WriterSchemas(
        {1: value_schema({"order_u005fno": "long", "XXX_u0024123": "string", "_u0031st": "int"})},
        {2: key_schema("order_u005fno")},
        OWN,
    )
    columns = found.columns(1)
    assert [(c.name, c.required) for c in columns] == [
        ("order_no", True),
        ("XXX$123", False),
        ("1st", False),
    ]
    assert {n: s.field.decoded_name for n, s in found.sources(1, columns).items()} == {
        "order_no": "order_u005fno",
        "XXX$123": "XXX_u0024123",
        "1st": "_u0031st",
    }
    assert [s.field.decoded_name for s in found.key_sources(2, columns).values()] == [
        "order_u005fno"
    ]


def test_a_name_that_the_connector_sends_beside_goes_before_every_reading() -> None:
    found = schemas({"order_no": {"type": "long", **BESIDE}}, policy=OWN)
    assert [column.name for column in found.columns(1)] == ["id", "order no"]


@pytest.mark.parametrize("sent", ["order_no", "_u44f1"])
def test_a_name_that_is_not_exactly_one_is_refused(sent: str) -> None:
    with pytest.raises(SchemaError, match=rf"column {sent}: .*own name.*as_sent"):
        schemas({sent: "long"}, policy=OWN).columns(1)


def test_names_stay_as_they_were_sent_where_nothing_else_is_asked() -> None:
    found = schemas({"order_u005fno": {"type": "long", **BESIDE}})
    assert [column.name for column in found.columns(1)] == ["id", "order_u005fno"]


@pytest.mark.parametrize(
    ("policy", "held", "sent"),
    [
        (OWN, "order_u005fno", "order_u005fno"),  # the setting was changed
        (DEFAULT_POLICY, "order_no", "order_u005fno"),  # … back, or the connector's mode was
        (DEFAULT_POLICY, "order_u005fno", "order_no"),
    ],
)
def test_a_column_that_the_table_has_under_its_other_name_gets_no_second_one(
    policy: TablePolicy, held: str, sent: str
) -> None:
    table = [ID, Column(held, "long")]
    with pytest.raises(
        SchemaError, match=f"the table has it as {held}.*`renames: {{{held}: "
    ) as stop:
        schemas({sent: "long"}, policy=policy).extend(table)
    new = str(stop.value).split(":")[0].removeprefix("column ")
    renamed = schemas({sent: "long"}, policy=replace(policy, renames={held: new})).extend(table)
    assert [column.name for column in renamed] == ["id", new]


def test_a_source_with_both_names_has_both_columns() -> None:
    both = schemas({"a_b": "long", "a_u005fb": "long"}).extend([ID, Column("a_b", "long")])
    assert [column.name for column in both] == ["id", "a_b", "a_u005fb"]
