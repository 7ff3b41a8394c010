"""The schema in a JSON record becomes what an Avro converter would have registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.debezium.avro_schema import SOURCE_NAME, parse_tree
from cdc_sink.debezium.envelope import Envelope, parse_key
from cdc_sink.debezium.wire.connect_json import (
    NotConnect,
    avro_of,
    schema_id_of,
    what_is_read,
    writer_json,
)
from cdc_sink.debezium.wire.json_payload_sql import LONE_SURROGATE, misfit_sql, read_type
from cdc_sink.errors import SchemaError
from tests.connect_json import connect_of

SAMPLES = Path(__file__).parent / "samples"
LINES = (SAMPLES / "json_converter_records.tsv").read_text(encoding="utf-8").split("\n")[:-1]
RECORDS = [tuple(line.split("\t")) for line in LINES]
RECORDED = {kind: json.loads(text)["schema"] for kind, text in reversed(RECORDS) if kind != "plain"}
ENVELOPE = json.dumps(RECORDED["value"])


def without_names(tree: Any) -> Any:
    """Apicurio calls a record in an array after its field; `connect.name` is what is read."""
    if isinstance(tree, list):
        return [without_names(one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    name = {"name": tree.get("connect.name", tree["name"])} if "name" in tree else {}
    return {key: without_names(value) for key, value in tree.items()} | name


@pytest.mark.parametrize("name", sorted(path.stem for path in SAMPLES.glob("*.json")))
def test_a_recorded_avro_schema_comes_out_of_its_connect_schema(name: str) -> None:
    recorded = (SAMPLES / f"{name}.json").read_text()
    connect = connect_of(json.loads(recorded))
    made = parse_tree(writer_json(avro_of(json.dumps(connect))))
    assert without_names(made) == without_names(parse_tree(recorded))


def test_what_the_real_converter_wrote_is_an_envelope_with_the_sources_own_names() -> None:
    envelope = Envelope.parse(writer_json(avro_of(ENVELOPE)))
    columns = {one.name: one for one in envelope.columns}
    assert (envelope.connector, list(columns)[:7]) == (
        "postgresql",
        ["id", "i8", "i16", "flag", "f", "d", "my-text"],
    )
    assert columns["my-text"].decoded_name == "_my_2d_text"
    assert columns["n"].avro_type["precision"] == 12
    assert columns["m"].avro_type["precision"] == 64
    assert (
        columns["o"].semantic == columns["o2"].semantic == "io.debezium.data.VariableScaleDecimal"
    )
    assert [one.name for one in parse_key(writer_json(avro_of(json.dumps(RECORDED["key"]))))] == [
        "id"
    ]


def test_only_what_is_read_of_an_envelope_is_encoded() -> None:
    full = avro_of(ENVELOPE)
    cut = what_is_read(full)
    names = {one["name"]: one["type"] for one in cut["fields"]}
    assert list(names) == ["after", "source", "op"]
    assert [one["name"] for one in names["source"]["fields"]] == [
        "name",
        "ts_ms",
        "snapshot",
        "db",
        "sequence",
        "ts_us",
        "schema",
        "table",
    ]
    assert Envelope.parse(writer_json(cut)).columns == Envelope.parse(writer_json(full)).columns


def test_what_is_no_envelope_stays_whole() -> None:
    tree = avro_of(json.dumps(RECORDED["key"]))
    assert what_is_read(tree) is tree


def struct(*fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "struct", "fields": list(fields), "optional": False, "name": "a.B", **more}


def text(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "optional": True, "field": name, **more}


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True))
def test_any_field_names_come_back_and_none_is_shared(names: list[str]) -> None:
    tree = avro_of(json.dumps(struct(*map(text, names))))
    entries = tree["fields"]
    assert [one.get(SOURCE_NAME, one["name"]) for one in entries] == names
    assert len({one["name"] for one in entries}) == len(names)
    if all(name.isprintable() for name in names):
        assert [one.name for one in parse_key(writer_json(tree))] == names


def test_a_made_name_gives_way_to_a_field_that_has_it() -> None:
    tree = avro_of(json.dumps(struct(text("a-b"), text("_a_2d_b"))))
    assert [one["name"] for one in tree["fields"]] == ["_a_2d_b_", "_a_2d_b"]


def test_records_of_one_name_that_differ_are_told_apart() -> None:
    inner = struct(text("x"), name="Point", field="p")
    other = {**inner, "field": "q", "doc": "another"}
    same = {**inner, "field": "r", "optional": True}
    made = json.loads(writer_json(avro_of(json.dumps(struct(inner, other, same)))))
    types = [one["type"] for one in made["fields"]]
    assert types[0]["name"] == "connect.Point"
    assert types[1]["name"] == "connect.Point_2"
    assert types[2] == ["null", "connect.Point"]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "{",
        "null",
        "5",
        "[]",
        "{}",
        '{"type": "record"}',
        '{"type": {}}',
        '{"type": "struct"}',
        '{"type": "struct", "fields": [5]}',
        '{"type": "struct", "fields": [{"type": "string"}]}',
        json.dumps(struct(text("a"), text("a"))),
        json.dumps(struct(text("a", parameters={"a": 1}))),
        json.dumps(struct(text("a", version="1"))),
        json.dumps(struct({"type": "array", "field": "a"})),
        json.dumps(struct({"type": "map", "field": "a"})),
        json.dumps(
            struct({"type": "bytes", "field": "a", "name": "org.apache.kafka.connect.data.Decimal"})
        ),
        json.dumps(struct({"type": "bytes", "field": "a", "default": "%"})),
        '{"type":"array","items":' * 200 + '{"type":"string"}' + "}" * 200,
        "[" * 100_000,
    ],
)
def test_a_text_that_is_no_connect_schema_is_the_records_own_fault(bad: str) -> None:
    with pytest.raises(NotConnect):
        avro_of(bad)


def test_a_map_of_other_keys_than_texts_is_refused_by_column() -> None:
    number, word = ({"type": kind, "optional": False} for kind in ("int32", "string"))
    column = {"type": "map", "keys": number, "values": word, "field": "m"}
    with pytest.raises(SchemaError, match="column m: a map whose keys are not plain texts"):
        avro_of(json.dumps(struct(column)))


@given(st.text())
def test_an_id_fits_a_frame_and_an_int_column(schema: str) -> None:
    assert 0 < schema_id_of(schema) < 2**31
    assert schema_id_of(schema) == schema_id_of(schema)


def test_an_id_is_the_same_in_every_release() -> None:
    """Ledgers hold ids: another number for the same key schema would look like another key."""
    assert schema_id_of('{"type":"string","optional":false}') == 432_170_217


def test_texts_are_read_as_what_they_are_and_the_rest_by_type() -> None:
    row = next(one for one in avro_of(ENVELOPE)["fields"] if one["name"] == "after")
    kinds = read_type(row["type"])
    assert kinds.startswith(
        "struct<`id`: bigint, `i8`: int, `i16`: int, `flag`: boolean, `f`: float"
    )
    assert "`my-text`: variant, `raw`: binary, `n`: binary" in kinds
    assert "`tags`: array<variant>" in kinds
    assert "`h`: map<string, variant>" in kinds


def test_a_schema_that_from_json_enforces_alone_asks_for_no_more() -> None:
    assert misfit_sql(["null", "long"], "x", None, "p") is None
    assert misfit_sql("long", "x", None, "p") == "(x IS NULL)"


def test_half_a_surrogate_pair_is_told_from_a_whole_one_and_from_a_backslash() -> None:
    """The pattern is Java's; Python's `re` agrees on all that it uses."""
    import re

    halves = [r"\uD83D", r"a\uDE00", r"\\\uD83D", r"\uDE00\uD83D", r"\uD83D\uD83D\uDE00"]
    wholes = [r"\uD83D\uDE00", r"\\uD83D", r"\\\\uDE00", r"\u00e9", r"\uD7FF", r"\\\uD83D\uDE00"]
    assert [one for one in halves if not re.search(LONE_SURROGATE, one)] == []
    assert [one for one in wholes if re.search(LONE_SURROGATE, one)] == []
