"""Whatever text a registry holds: a schema in bounded time and memory, or a SchemaError that says why."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cdc_sink.debezium.avro_schema import (
    MAX_DEPTH,
    MAX_NAME_CHARS,
    MAX_SCHEMA_CHARS,
    MAX_TYPES,
    decimal_digits,
    parse_tree,
    render_tree,
)
from cdc_sink.debezium.envelope import AvroField, Envelope, parse_key, reader_schema, spark_schema
from cdc_sink.debezium.position import position_of
from cdc_sink.debezium.types.mapping import column_type, decimal_parts
from cdc_sink.errors import SchemaError
from cdc_sink.table.merge_sql import merge_sql
from cdc_sink.table.schema.columns import Column, iceberg_type, spark_type
from cdc_sink.table.schema.ddl import create_table_sql
from cdc_sink.table.schema.evolution import merge_columns, plan_evolution
from cdc_sink.table.schema.writer_schemas import WriterSchemas

SAMPLES = Path(__file__).parent / "samples"
RECORDED = (SAMPLES / "postgresql_customers_value.json").read_text()
BOUND_S = 10  # of processor time; work without a bound takes for ever, not longer


class Text(str):
    """Schema text as it is; anything else is written as JSON."""


def record(*fields: Any, name: str = "T") -> dict[str, Any]:
    entries = [{"name": f"f{i}", "type": node} for i, node in enumerate(fields)]
    return {"type": "record", "name": name, "fields": entries}


def refused(schema: Any, saw: str) -> SchemaError:
    text = schema if isinstance(schema, Text) else json.dumps(schema)
    with pytest.raises(SchemaError, match=saw) as caught:
        parse_tree(text)
    assert len(str(caught.value)) < 5 * MAX_NAME_CHARS
    assert not caught.value.retry
    return caught.value


def with_row(fields: list[dict[str, Any]]) -> str:
    """The recorded envelope over another row."""
    envelope = json.loads(RECORDED)
    row = envelope["fields"][0]["type"][1]
    row["fields"] = [{"name": "id", "type": "long"}, *fields]
    return json.dumps(envelope)


@pytest.mark.parametrize(
    "around",
    [
        lambda own: own,
        lambda own: ["null", own],
        lambda own: {"type": "array", "items": own},
        lambda own: {"type": "map", "values": own},
        lambda own: {"type": own},
        lambda own: ["null", {"type": "array", "items": record({"type": "map", "values": own}, name="U")}],
    ],
)  # fmt: skip
def test_a_record_that_holds_itself_is_refused(around: Callable[[str], Any]) -> None:
    error = refused(record(around("T")), "'T' holds itself")
    assert "column.exclude.list" in error.remedy


def test_two_records_that_hold_each_other_are_refused() -> None:
    refused(record(record("T", name="U")), "'T' holds itself")
    refused(record(record(["null", "a.T"], name="U"), name="a.T"), "holds itself")


def nested(depth: int) -> Any:
    node: Any = "long"
    for i in range(depth):
        node = record(["null", node], name=f"R{i}")
    return node


def test_fifty_levels_of_optional_records_are_read_and_written_back() -> None:
    text = render_tree(parse_tree(json.dumps(nested(50))))
    assert text.count('"record"') == 50


@pytest.mark.parametrize("depth", [MAX_DEPTH, 140])
def test_deeper_nesting_is_refused_with_the_bound(depth: int) -> None:
    error = refused(nested(depth), f"nested more than {MAX_DEPTH} deep")
    assert "column.exclude.list" in error.remedy


def test_depth_that_is_only_reached_through_references_is_refused() -> None:
    """Read one by one they are flat; the last of them alone is as deep as their number."""
    chain = [record("long", name="R0"), *(record(f"R{i}", name=f"R{i + 1}") for i in range(2_000))]
    refused(record(*chain), "deep")


@pytest.mark.parametrize("opened", ['{"type":', "[", '{"a":['])
def test_json_that_is_nested_too_deep_to_read_is_refused(opened: str) -> None:
    refused(Text(opened * 200_000), "not an Avro schema")


def doubling(levels: int) -> dict[str, Any]:
    parts = [record("long", "long", name="R0")]
    parts += [record(f"R{i}", f"R{i}", name=f"R{i + 1}") for i in range(levels)]
    return record(*parts)


def test_a_schema_that_doubles_at_each_level_is_refused_at_once() -> None:
    begin = time.process_time()
    error = refused(doubling(40), f"more than {MAX_TYPES:,} types")
    assert time.process_time() - begin < BOUND_S
    assert "column.exclude.list" in error.remedy


def test_a_schema_that_doubles_within_the_bound_is_rendered_once_per_name() -> None:
    text = render_tree(parse_tree(json.dumps(doubling(12))))
    assert text.count('"record"') == 14


def test_text_above_the_bound_is_refused_unread() -> None:
    error = refused(Text("7" * (MAX_SCHEMA_CHARS + 1)), f"more than {MAX_SCHEMA_CHARS:,}")
    assert "column.exclude.list" in error.remedy


@pytest.mark.parametrize("count", [1_600, 10_000])
def test_very_wide_rows_are_planned_in_bounded_time(count: int) -> None:
    long_name = "n" * 244
    columns = [{"name": f"{long_name}_{i:05d}", "type": ["null", "string"]} for i in range(count)]
    text, begin = with_row(columns), time.process_time()
    key = json.dumps({"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]})
    schemas = WriterSchemas({1: text, 2: text}, {3: key})
    wanted = schemas.extend(())
    assert len(wanted) == count + 1
    assert plan_evolution(wanted, schemas.columns(2), ("id",)) == ()
    names = [column.name for column in wanted]
    assert json.loads(reader_schema(text, names))["fields"][0]["name"] == "after"
    assert len(json.loads(spark_schema(text))["fields"]) == len(json.loads(text)["fields"])
    create_table_sql("t", wanted, ["id"], buckets=0, properties={})
    assert merge_sql("t", "v", wanted, ["id"]).count(long_name) == 4 * count
    assert time.process_time() - begin < BOUND_S


def test_thousands_of_record_names_that_fall_together_stay_apart_and_cheap() -> None:
    signs = {ord("0"): "-", ord("1"): "+"}
    names = ["n" + format(i, "016b").translate(signs) for i in range(20_000)]
    begin = time.process_time()
    schema = record(*(record("long", name=name) for name in names))
    rendered = json.loads(render_tree(parse_tree(json.dumps(schema))))
    assert len({entry["type"]["name"] for entry in rendered["fields"]}) == len(names)
    assert time.process_time() - begin < BOUND_S


@pytest.mark.parametrize(
    "items",
    [
        ["null", "long"],
        {"type": "enum", "name": "E", "symbols": ["A"]},
        {"type": "fixed", "name": "F", "size": 1},
        record("null", "long"),
        {"type": "array", "items": "long"},
    ],
)
def test_an_array_of_items_with_bytes_is_read(items: Any) -> None:
    assert parse_tree(json.dumps({"type": "array", "items": items}))["type"] == "array"


NO_TYPE = "neither an Avro type nor the name of one"
WRONG = {
    "a number": (7, NO_TYPE),
    "null": (None, NO_TYPE),
    "true": (True, NO_TYPE),
    "an empty object": ({}, NO_TYPE),
    "type null": ({"type": None}, NO_TYPE),
    "type a number": ({"type": 1.5}, NO_TYPE),
    "an undefined name": ("a.B", "refers to 'a.B', which is not defined"),
    "an undefined name as type": ({"type": "a.B"}, "refers to 'a.B'"),
    "an array of nothing": ({"type": "array"}, NO_TYPE),
    "a map of a number": ({"type": "map", "values": 3}, NO_TYPE),
    "no fields": ({"type": "record", "name": "T"}, "no list of fields"),
    "fields a text": ({"type": "record", "name": "T", "fields": "ab"}, "no list of fields"),
    "fields an object": ({"type": "record", "name": "T", "fields": {}}, "no list of fields"),
    "a field a text": ({"type": "record", "name": "T", "fields": ["a"]}, "no list of fields"),
    "a field without name": (
        {"type": "record", "name": "T", "fields": [{"type": "long"}]},
        "a NoneType is not a name",
    ),
    "a field without type": ({"type": "record", "name": "T", "fields": [{"name": "a"}]}, NO_TYPE),
    "no record name": ({"type": "record", "fields": []}, "no printable name"),
    "an empty record name": ({"type": "record", "name": "", "fields": []}, "no printable name"),
    "a number as record name": ({"type": "record", "name": 1, "fields": []}, "no printable name"),
    "a long record name": (
        {"type": "record", "name": "n" * 2_001, "fields": []},
        "no printable name",
    ),
    "a namespace a number": (
        {"type": "record", "name": "T", "namespace": 1, "fields": []},
        "no printable name",
    ),
    "a line end in a record name": (
        {"type": "record", "name": "T\n; all is well", "fields": []},
        "no printable name",
    ),
    "an enum without symbols": ({"type": "enum", "name": "E"}, "no list of symbols"),
    "a number as symbol": ({"type": "enum", "name": "E", "symbols": [1]}, "not a name that Avro"),
    "a symbol twice": ({"type": "enum", "name": "E", "symbols": ["A", "A"]}, "a symbol twice"),
    "a strange default": (
        {"type": "enum", "name": "E", "symbols": ["A"], "default": {"a": []}},
        "a default that is none of its symbols",
    ),
    "a size a text": ({"type": "fixed", "name": "F", "size": "4"}, "fixed type has no size"),
    "a negative size": ({"type": "fixed", "name": "F", "size": -1}, "fixed type has no size"),
    "a huge size": ({"type": "fixed", "name": "F", "size": 1 << 40}, "fixed type has no size"),
    "connect.name a list": ({"type": "long", "connect.name": ["a"]}, "connect.name is not"),
    "connect.name null": ({"type": "long", "connect.name": None}, "connect.name is not"),
    "logicalType a number": ({"type": "long", "logicalType": 1}, "logicalType is not"),
    "parameters a list": ({"type": "long", "connect.parameters": [["a", "b"]]}, "an object of texts"),
    "parameters null": ({"type": "long", "connect.parameters": None}, "an object of texts"),
    "parameters of lists": ({"type": "long", "connect.parameters": {"a": []}}, "an object of texts"),
    "a union in a union": ([["null", "long"]], "a union stands directly in a union"),
    "a wrapped union in a union": ([{"type": ["null", "long"]}], "a union stands directly"),
    "a union of one type twice": (["long", {"type": "long", "a": 1}], "two of one type"),
    "an empty union": ([], "no branches"),
    "an array of nulls": ({"type": "array", "items": "null"}, "items without bytes"),
    "an array of typed nulls": ({"type": "array", "items": {"type": "null", "a": 1}}, "without bytes"),
    "an array of empty records": (
        {"type": "array", "items": record(record(name="U"), "null")},
        "without bytes",
    ),
    "an array of no bytes": (
        {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}},
        "without bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_every_attribute_of_a_wrong_type_is_named(case: str) -> None:
    schema, saw = WRONG[case]
    refused(schema, saw)


@pytest.mark.parametrize("case", WRONG)
def test_the_same_is_refused_deep_inside_an_envelope(case: str) -> None:
    schema, _ = WRONG[case]
    with pytest.raises(SchemaError):
        Envelope.parse(with_row([{"name": "x", "type": schema}]))


@pytest.mark.parametrize(
    "text",
    [
        *('{"type":NaN}', '{"type":"long","a":Infinity}', '{"type":"long","a":-Infinity}'),
        *('{"type":"bytes","precision":' + "9" * 5_000 + "}", "\ufeff7", '"long" "long"', "\x00"),
    ],
)
def test_what_is_not_json_is_refused(text: str) -> None:
    refused(Text(text), "not an Avro schema")


def test_a_field_name_given_twice_is_refused() -> None:
    fields = [{"name": "a", "type": "long"}, {"name": "a", "type": "string"}]
    refused({"type": "record", "name": "T", "fields": fields}, "two fields are called 'a'")


def test_a_record_name_defined_twice_is_refused() -> None:
    """Else the second would be rendered as a reference to the first, and read as if it were it."""
    refused(record(record("long", name="U"), record("string", name="U")), "'U' is defined twice")


@pytest.mark.parametrize(
    "name",
    [
        *("a-b", "a b", "a.b", "1a", "a`b", "a'b", 'a"b', "a\nb", "a--", "a;DROP TABLE t", ""),
        *("a\u0301", "\u202ea", "a\u200f", "\U0001f600", "a\U0001f600", "\U0001d4b3", "\ud800"),
        *("a\u00b2", "\u216b", "$x", "n" * 2_001),
    ],
)
def test_a_field_name_that_java_avro_refuses_is_refused_by_name(name: str) -> None:
    schema = {"type": "record", "name": "T", "fields": [{"name": name, "type": "long"}]}
    error = refused(schema, "not a name")
    assert error.remedy == "set field.name.adjustment.mode=avro on the connector"
    assert str(error).isprintable()


@pytest.mark.parametrize("name", ["_", "ü", "ש", "名", "ªb", "a٣", "Order", "n" * 250])
def test_a_field_name_that_java_avro_takes_is_kept(name: str) -> None:
    schema = {"type": "record", "name": "T", "fields": [{"name": name, "type": "long"}]}
    rendered = json.loads(spark_schema(json.dumps(schema)))
    assert rendered["fields"] == schema["fields"]


def test_an_error_says_in_which_record_and_field() -> None:
    assert refused(record("long", record({"type": 1}, name="U")), NO_TYPE).where == "U.f0"


@pytest.mark.parametrize(
    ("precision", "scale"),
    [
        *(("10", 2), (10, "2"), (True, False), (10.0, 0), (1e400, 0), (None, 0), ([], {}), (0, 0)),
        *((39, 0), (10**4_000, 2), (10, -(10**4_000)), (-1, 0), (10, 11), ("9" * 10**6, 0)),
    ],
)
def test_a_decimal_with_attributes_that_make_no_sense_is_refused_by_column(
    precision: Any, scale: Any
) -> None:
    node = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
    assert decimal_digits(node) is None
    with pytest.raises(SchemaError, match="column price: type decimal") as caught:
        column_type(AvroField("price", node, nullable=True))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("kind", ["decimal(", "decimal(a,b)", "decimal(1)", "decimal(1,2,3)"])
def test_a_type_that_only_begins_like_a_decimal_is_unknown(kind: str) -> None:
    assert decimal_parts(kind) is None
    for name in (spark_type, iceberg_type):
        with pytest.raises(SchemaError, match="no source column"):
            name(kind)


@pytest.mark.parametrize("name", ["op", "sequence", "ts_ms", "snapshot"])
def test_an_envelope_field_of_another_type_is_refused(name: str) -> None:
    envelope = json.loads(RECORDED)
    source = next(entry for entry in envelope["fields"] if entry["name"] == "source")
    for entry in [*envelope["fields"], *source["type"]["fields"]]:
        if entry["name"] == name:
            entry["type"] = ["null", "double"]
    where = "Envelope" if name == "op" else "Source"
    with pytest.raises(SchemaError, match=f"{where}: the field {name} is not of type"):
        reader_schema(json.dumps(envelope), ["id"])


def test_a_key_of_nested_garbage_is_refused() -> None:
    for schema in (["null"], {"type": "record", "name": "K", "fields": []}, 7):
        with pytest.raises(SchemaError):
            parse_key(json.dumps(schema))


def test_columns_that_differ_only_in_case_are_refused_with_both_names() -> None:
    wanted = [Column("id", "long"), Column("ID", "long")]
    with pytest.raises(SchemaError, match="columns id and ID: two columns differ only in case"):
        merge_columns((), wanted, ("id",))


ODD_NAMES = ["a`b", "a.b", "a'b", 'a"b', "a b", "a\nb", "--", ";DROP TABLE t", "\u05e9", "\u202eb"]
ODD_NAMES += ["\U0001f600", "`", "``", "\\", "a\\`", "*/", "${x}", "n" * 250]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_reaches_every_statement_as_one_quoted_identifier(name: str) -> None:
    """Taken out where it is quoted, nothing of the name is left over."""
    quoted = "`" + name.replace("`", "``") + "`"
    columns = (Column("id", "long"), Column(name, "string"))
    (change,) = plan_evolution(columns[:1], columns, ("id",))
    plain = plan_evolution((columns[0],), (columns[0], Column("PLAIN", "string")), ("id",))[0]
    assert change.sql("t").replace(quoted, "`PLAIN`") == plain.sql("t")
    made = create_table_sql("t", columns, [name], buckets=4, properties={})
    simple = (columns[0], Column("PLAIN", "string"))
    expected = create_table_sql("t", simple, ["PLAIN"], buckets=4, properties={})
    assert [s.replace(quoted, "`PLAIN`") for s in made] == expected
    merged = merge_sql("t", "v", columns, [name])
    assert merged.replace(quoted, "`PLAIN`") == merge_sql("t", "v", simple, ["PLAIN"])


@pytest.mark.parametrize("end", ["\r", "\x85", "\u2028", "\u2029", "\n"])
def test_a_log_file_name_with_a_line_end_has_no_position_in_python_either(end: str) -> None:
    """Java's dot, which reads the same name in Spark, stands for none of them."""
    assert position_of("mysql", {"file": f"binlog{end}x.000007", "pos": 4, "row": 0}) is None


def test_schemas_are_cut_to_those_of_a_batch_and_a_key_is_always_known() -> None:
    schemas = WriterSchemas({1: "a", 2: "b", 3: "c"}, {4: "k", 5: "l"})
    assert schemas.only({2, 9}, {5}) == WriterSchemas({2: "b"}, {5: "l"})
    assert schemas.only(set(), set()) == WriterSchemas({}, {4: "k", 5: "l"})
