"""The whole table of types: what each of Debezium's types holds at its extremes is what is stored."""

from __future__ import annotations

from typing import Any

import pytest
from debezium import Event, SourceTable, Topic, optional
from lake import Lake
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro
from schema_versions import types
from time_rows import TIMES
from type_rows import NESTED, NUMBERS, WORDS

from cdc_sink import config
from cdc_sink.debezium.envelope import Envelope, reader_schema, spark_schema, with_options
from cdc_sink.debezium.types.mapping import bad_value_sql, column_type
from cdc_sink.errors import RecordError

ROWS = {**NUMBERS, **TIMES, **WORDS, **NESTED}


@pytest.mark.parametrize("ansi", ["true", "false"])
def test_every_type_of_the_table_is_stored_exactly(lake: Lake, name: str, ansi: str) -> None:
    topic = Topic(SourceTable({"id": "int"} | {n: optional(r.node) for n, r in ROWS.items()}))
    longest = max(len(row.values) for row in ROWS.values())
    for key in range(longest + 1):
        sent = {n: r.values[key][0] if key < len(r.values) else None for n, r in ROWS.items()}
        topic.send(Event("c", {"id": key} | sent, (1, key)))
    options = {n: r.option for n, r in ROWS.items() if r.option}
    writer = lake.writer(name, topic, columns=options, bad_record="stop")
    writer.spark.conf.set("spark.sql.ansi.enabled", ansi)
    writer.write()
    # The second batch goes through MERGE into columns that hold something.
    topic.send(Event("u", {"id": longest} | {n: r.values[0][0] for n, r in ROWS.items()}, (2, 1)))
    writer.write(longest + 1)
    stored = writer.rows()
    for column, row in ROWS.items():
        wanted = [pair[1] for pair in row.values] + [None] * (longest - len(row.values))
        assert [line[column] for line in stored] == [*wanted, row.values[0][1]], column


def test_a_bad_value_is_told_from_every_good_one_and_from_null(lake: Lake, name: str) -> None:
    topic = Topic(SourceTable({"id": "int"} | {n: optional(r.node) for n, r in ROWS.items()}))
    sent = {n: [*(pair[0] for pair in r.values), *r.bad, None] for n, r in ROWS.items()}
    longest = max(map(len, sent.values()))
    for key in range(longest):
        row = {n: values[key] if key < len(values) else None for n, values in sent.items()}
        topic.send(Event("c", {"id": key} | row, (1, key)))
    options = config.Table(
        topic="t", target="a.b", columns={n: dict(r.option) for n, r in ROWS.items() if r.option}
    ).options
    text = topic.registry.texts[topic.value_id]
    fields = with_options(Envelope.parse(text).columns, options)
    tests = {
        f.name: bad_value_sql(f, f"v.after.`{f.name}`", column_type(f).iceberg) for f in fields
    }
    records = topic.batch(lake.spark.newSession()).select(
        "offset",
        from_avro(
            F.substring("value", 6, 2**31 - 1),
            spark_schema(text),
            {"avroSchema": reader_schema(text, list(ROWS))},
        ).alias("v"),
    )
    judged = [f"{sql or 'false'} AS `{column}`" for column, sql in tests.items()]
    found = records.selectExpr("offset", *judged).orderBy("offset").collect()
    for column, row in ROWS.items():
        wanted = [False] * len(row.values) + [True] * len(row.bad)
        assert [line[column] for line in found] == wanted + [False] * (longest - len(wanted)), (
            column
        )


@pytest.mark.parametrize("column", ["money", "stamps"])
def test_what_a_column_can_not_hold_stops_the_table_and_names_the_column(
    lake: Lake, name: str, column: str
) -> None:
    row = ROWS[column]
    topic = Topic(SourceTable({"id": "int", column: optional(row.node)}))
    writer = lake.writer(name, topic, bad_record="stop")
    topic.send(Event("c", {"id": 1, column: row.bad[0]}, (1, 1)))
    with pytest.raises(RecordError) as caught:
        writer.write()
    assert "@0" in caught.value.where
    assert caught.value.saw.startswith(f"column {column}: ")
    assert not writer.exists or writer.rows() == []


def test_the_elements_of_a_list_grow_as_a_column_does(lake: Lake, name: str) -> None:
    def table(items: Any) -> SourceTable:
        return SourceTable(
            {"id": "int", "list": optional({"type": "array", "items": optional(items)})}
        )

    topic = Topic(table("int"))
    topic.send(Event("c", {"id": 1, "list": [1, None]}, (1, 1)))
    writer = lake.writer(name, topic)
    writer.write()
    topic.write_as(table("long"))
    topic.send(Event("c", {"id": 2, "list": [2**40]}, (2, 1)))
    writer.write(1)
    assert types(writer)["list"] == "list<long>"
    assert [row["list"] for row in writer.rows()] == [[1, None], [2**40]]
