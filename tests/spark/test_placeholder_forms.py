"""Debezium's placeholder in each form that a type of column carries it in, told from any value beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from debezium import Event, SourceTable, Topic, decimal, optional, semantic
from lake import Lake
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro
from type_rows import DATA, TIME, array

from cdc_sink.debezium.envelope import Envelope, reader_schema, spark_schema, with_options
from cdc_sink.debezium.options import TableOptions
from cdc_sink.debezium.types.mapping import UNAVAILABLE, unavailable_sql

RAW = UNAVAILABLE.encode()
ITSELF = {UNAVAILABLE: UNAVAILABLE}
AS_JSON = json.dumps(ITSELF, separators=(",", ":"))
BASE64 = "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="
# java.util.UUID.nameUUIDFromBytes("__debezium_unavailable_value"), as Java 17 prints it
NAME_UUID = "b68a35a7-17ad-35b3-af2a-ae46edb4545a"


@dataclass(frozen=True)
class Form:
    """A column's Avro type, the values that stand for an unchanged one, and values that are data."""

    node: Any
    placeholders: list[Any] = field(default_factory=list)
    data: list[Any] = field(default_factory=list)


def texts(name: str) -> Any:
    return semantic("string", name)


def listed(node: Any, *placeholder: Any, data: list[Any]) -> Form:
    """An array: the placeholder is told from fewer, more and absent elements too."""
    more = [*placeholder, placeholder[0]] if placeholder else []
    return Form(
        array(optional(node)),
        [[*placeholder]] if placeholder else [],
        [*data, [], [None], *([more, [*placeholder[:-1], None]] if more else [])],
    )


NUMBERS = [*RAW]
FORMS: dict[str, Form] = {
    "text": Form("string", [UNAVAILABLE, BASE64, RAW.hex()], [f"{UNAVAILABLE} ", AS_JSON, ""]),
    "json": Form(texts(f"{DATA}.Json"), [UNAVAILABLE, AS_JSON], [BASE64, f'"{UNAVAILABLE}"', "{}"]),
    "xml": Form(texts(f"{DATA}.Xml"), [UNAVAILABLE], [BASE64, RAW.hex(), AS_JSON]),
    "ltree": Form(texts(f"{DATA}.Ltree"), [UNAVAILABLE], [UNAVAILABLE.upper()]),
    "tsvector": Form(texts(f"{DATA}.Tsvector"), [UNAVAILABLE], [f"'{UNAVAILABLE}'"]),
    "bytes": Form("bytes", [RAW], [RAW + b"\0", RAW[1:], b""]),
    "bits": Form(semantic("bytes", f"{DATA}.Bits"), [RAW], [RAW[::-1]]),
    "hstore": Form(
        {"type": "map", "values": optional("string")},
        [ITSELF],
        [{}, {"a": UNAVAILABLE}, {UNAVAILABLE: None}, {UNAVAILABLE: "a"}, ITSELF | {"a": "b"}],
    ),
    "texts": listed("string", UNAVAILABLE, data=[["a"]]),
    "jsons": listed(texts(f"{DATA}.Json"), UNAVAILABLE, data=[["{}"]]),
    "uuids": listed(texts(f"{DATA}.Uuid"), NAME_UUID, data=[[UNAVAILABLE], ["0" * 8]]),
    "blobs": listed("bytes", RAW, data=[[b""], [RAW[1:]]]),
    "ints": listed("int", *NUMBERS, data=[NUMBERS[::-1]]),
    "longs": listed("long", *NUMBERS, data=[[1]]),
    "dates": listed(semantic("int", f"{TIME}.Date"), *NUMBERS, data=[[95]]),
    "connect_dates": listed(
        semantic("int", "org.apache.kafka.connect.data.Date"), *NUMBERS, data=[[95]]
    ),
    # Of these PostgreSQL can leave none out, or the connector has no form for them.
    "uuid": Form(texts(f"{DATA}.Uuid"), data=[NAME_UUID, UNAVAILABLE]),
    "enum": Form(texts(f"{DATA}.Enum"), data=[UNAVAILABLE]),
    "zoned": Form(texts(f"{TIME}.ZonedTimestamp"), data=[UNAVAILABLE]),
    "zoned_time": Form(texts(f"{TIME}.ZonedTime"), data=[UNAVAILABLE]),
    "iso_date": Form(texts(f"{TIME}.IsoDate"), data=[UNAVAILABLE]),
    "iso_time": Form(texts(f"{TIME}.IsoTime"), data=[UNAVAILABLE]),
    "iso_stamp": Form(texts(f"{TIME}.IsoTimestamp"), data=[UNAVAILABLE]),
    "interval": Form(texts(f"{TIME}.Interval"), data=[UNAVAILABLE]),
    "enums": listed(texts(f"{DATA}.Enum"), data=[[UNAVAILABLE]]),
    "zoneds": listed(texts(f"{TIME}.ZonedTimestamp"), data=[[UNAVAILABLE]]),
    "stamps": listed(semantic("long", f"{TIME}.MicroTimestamp"), data=[NUMBERS]),
    "clocks": listed(semantic("int", f"{TIME}.Time"), data=[NUMBERS]),
    "numbers": listed(decimal(38, 0), data=[]),
    "int": Form("int", data=[95]),
}


def found(lake: Lake, forms: dict[str, Form], placeholder: str) -> dict[str, list[bool]]:
    """For each column whether each of its values counts as unavailable, and last whether NULL does."""
    sent = {name: [*form.placeholders, *form.data, None] for name, form in forms.items()}
    nodes = {name: optional(form.node) for name, form in forms.items()}
    topic = Topic(SourceTable({"id": "int"} | nodes))
    for key in range(max(map(len, sent.values()))):
        row = {name: values[key] if key < len(values) else None for name, values in sent.items()}
        topic.send(Event("c", {"id": key} | row, (1, key)))
    text = topic.registry.texts[topic.value_id]
    fields = with_options(Envelope.parse(text).columns, TableOptions(placeholder=placeholder))
    tests = {f.name: unavailable_sql(f, f"v.after.`{f.name}`") or "false" for f in fields}
    records = topic.batch(lake.spark.newSession()).select(
        "offset",
        from_avro(
            F.substring("value", 6, 2**31 - 1),
            spark_schema(text),
            {"avroSchema": reader_schema(text, list(forms))},
        ).alias("v"),
    )
    judged = [f"{tests[name]} AS `{name}`" for name in forms]
    rows = records.selectExpr("offset", *judged).orderBy("offset").collect()
    return {name: [row[name] for row in rows[: len(values)]] for name, values in sent.items()}


def wanted(forms: dict[str, Form]) -> dict[str, list[bool]]:
    return {
        name: [True] * len(form.placeholders) + [False] * (len(form.data) + 1)
        for name, form in forms.items()
    }


def test_a_placeholder_is_told_from_data_in_every_form(lake: Lake) -> None:
    assert found(lake, FORMS, UNAVAILABLE) == wanted(FORMS)


@pytest.mark.parametrize(
    ("placeholder", "forms"),
    [
        (
            "hex:00ff7f",
            {
                "text": Form("string", ["\0\ufffd\x7f", "AP9/", "AP9_", "00ff7f"], [UNAVAILABLE]),
                "bytes": Form("bytes", [b"\x00\xff\x7f"], [b"hex:00ff7f", RAW]),
                "ints": listed("int", 0, -1, 127, data=[[0, 255, 127]]),
                "longs": listed("long", 0, -1, 127, data=[[0, 255, 127]]),
            },
        ),
        (
            "na\u00efve 'n\"",
            {
                "text": Form("string", ["na\u00efve 'n\""], [UNAVAILABLE, "naive 'n\""]),
                "json": Form(
                    texts(f"{DATA}.Json"),
                    ["na\u00efve 'n\"", '{"na\u00efve \'n\\"":"na\u00efve \'n\\""}'],
                    ['{"na\\u00efve \'n\\"":"na\\u00efve \'n\\""}'],
                ),
            },
        ),
    ],
)
def test_a_placeholder_of_the_connectors_own_setting_is_known_in_every_form(
    lake: Lake, placeholder: str, forms: dict[str, Form]
) -> None:
    assert found(lake, forms, placeholder) == wanted(forms)
