"""Hostile records and tables: they land, or are refused by name, with bounded memory and time."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from random import Random

import pytest
from debezium import ITEMS, Event, SourceTable, Topic, decimal, item, optional
from lake import Lake, Writer
from pyspark.sql import DataFrame

from cdc_sink.debezium.wire.confluent import (
    FramingError,
    frame_prefix,
    framing_fault_sql,
    parse_frame,
)
from cdc_sink.errors import RecordError, SchemaError
from cdc_sink.spark.micro_batch import MOST_SCHEMAS
from cdc_sink.spark.read.decode import FEW_SCHEMAS
from cdc_sink.table.schema.metadata_columns import metadata_columns
from cdc_sink.table.schema.policy import TableMode

MIB = 1 << 20
BLOBS = SourceTable({**ITEMS.columns, "raw": optional("bytes")})


def test_a_table_of_1600_columns_lands_and_is_merged(lake: Lake, name: str) -> None:
    """As many as PostgreSQL allows."""
    names = [f"c{i:04d}" for i in range(1_599)]
    kinds = ("string", "long", "double", decimal(10, 2))
    columns = {c: optional(kinds[i % 4]) for i, c in enumerate(names)}
    blank = dict.fromkeys(names)
    topic = Topic(SourceTable({"id": "long", **columns}))
    row = {"id": 1, **blank, "c0000": "a", "c0003": Decimal("1.25"), "c1597": 7}
    topic.send(Event("c", row, (1, 1)))
    writer = lake.writer(name, topic)
    writer.write()
    topic.send(Event("u", {**row, "c1596": "z", "c0000": None}, (1, 2)))
    topic.send(Event("c", {**row, "id": 2}, (1, 3)))
    writer.write(1)
    assert writer.rows() == [{**row, "c1596": "z", "c0000": None}, {**row, "id": 2}]


def test_texts_and_bytes_of_ten_megabytes_land_whole(lake: Lake, name: str) -> None:
    text, raw = "\u05e9x" * (5 * MIB), Random(1).randbytes(10 * MIB)
    topic = Topic(BLOBS)
    topic.send(Event("c", {**item(1, text), "raw": raw}, (1, 1)))
    topic.send(Event("c", {**item(2, "small"), "raw": None}, (1, 2)))
    writer = lake.writer(name, topic)
    writer.write()
    topic.send(Event("u", {**item(2, text[1:]), "raw": raw[1:]}, (1, 3)))
    writer.write(2)
    first, second = writer.rows()
    assert (first["name"], first["raw"]) == (text, raw)
    assert (second["name"], second["raw"]) == (text[1:], raw[1:])


def varint(number: int) -> bytes:
    """Avro's long: zigzag, seven bits a byte."""
    rest, out = (number << 1) ^ (number >> 63), bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*out, rest))


@pytest.fixture(scope="module")
def stocked(lake: Lake) -> Writer:
    topic = Topic(BLOBS)
    topic.send(Event("c", {**item(1, "kept"), "raw": None}, (1, 1)))
    writer = lake.writer("hostile", topic, bad_record="stop")
    writer.write()
    return writer


# 2^31 - 9 is the greatest length that Avro itself would set memory aside for.
LENGTHS = [1 << 40, (1 << 31) - 9, 1 << 31, -1, -(1 << 63), (1 << 63) - 1]


@pytest.mark.parametrize(("field", "length"), [*zip(["name", "raw"] * 3, LENGTHS, strict=True)])
def test_a_length_that_the_record_does_not_have_is_refused_before_memory_is_set_aside(
    stocked: Writer, field: str, length: int
) -> None:
    topic = dataclasses.replace(stocked.topic, records=list(stocked.topic.records))
    head = frame_prefix(topic.value_id) + b"\x00\x02" + varint(7)
    body = {"name": b"\x02", "raw": b"\x00\x02"}[field] + varint(length) + b"some of it"
    topic.raw(topic.key(item(7)), head + body)
    writer = dataclasses.replace(stocked, topic=topic)
    with pytest.raises(
        RecordError, match=r"items\[0\]@1: the bytes after the schema id do not fit"
    ):
        writer.write(1)
    assert stocked.rows() == [{**item(1, "kept"), "raw": None}]


def versions(count: int) -> Topic:
    """A topic on which every record comes with a new version of the table."""
    topic = Topic(ITEMS)
    topic.send(Event("c", item(0, "a"), (1, 1)))
    for i in range(1, count):
        topic.write_as(SourceTable({**ITEMS.columns, f"c{i % 3}": optional("string")}))
        topic.send(Event("c", {**item(i, "a"), f"c{i % 3}": str(i)}, (1, i + 1)))
    return topic


def test_of_many_writer_schemas_only_those_of_the_batch_are_decoded(lake: Lake, name: str) -> None:
    topic = versions(FEW_SCHEMAS + 2)
    writer = lake.writer(name, topic)
    writer.write()
    topic.send(Event("u", {**item(0, "b"), f"c{(FEW_SCHEMAS + 1) % 3}": "x"}, (2, 1)))
    topic.tombstone(item(99))
    plans = lake.plans_of(lambda: writer.write(FEW_SCHEMAS + 2))
    counts = {node.count("from_avro(") for plan in plans for node in plan.split("\n\n")}
    assert counts == {0, 2}  # of the value, of the key
    topic.tombstone(item(99))
    writer.write(FEW_SCHEMAS + 4)
    assert [row["name"] for row in writer.rows()] == ["b", *["a"] * (FEW_SCHEMAS + 1)]
    assert writer.ledger.next_offsets[0] == FEW_SCHEMAS + 5


def test_a_batch_of_more_writer_schemas_than_can_be_planned_is_refused(
    lake: Lake, name: str
) -> None:
    topic = versions(MOST_SCHEMAS)  # and one of the key
    writer = lake.writer(name, topic)
    with pytest.raises(SchemaError, match="of 301 writer schemas, more than 300") as refused:
        writer.write()
    assert "registers a schema per record" in refused.value.remedy
    assert not writer.exists


ODD = [
    *("Order", "select", "a__b", "_x", "\u00fc\u00f1\u00ee"),
    *("\u05e9\u05dc\u05d5\u05dd", "\u540d\u524d", "n" * 250),
]


def test_names_that_need_quoting_are_kept_through_create_merge_and_evolution(lake: Lake) -> None:
    columns = {"Key-".replace("-", "\u00e9"): "long", **{c: optional("string") for c in ODD}}
    key = next(iter(columns))
    topic = Topic(SourceTable(columns, key=(key,), name="my-shop.public.order-items"))
    writer = lake.writer("order-items", topic, buckets=2)
    row = {key: 1, **{c: f"{i}'`\"\\" for i, c in enumerate(ODD)}}
    topic.send(Event("c", row, (1, 1)))
    writer.write()
    topic.write_as(
        dataclasses.replace(topic.table, columns={**columns, "\u00e4nder": optional("int")})
    )
    changed = {**row, "Order": "by; --", "\u00e4nder": 5}
    topic.send(Event("u", changed, (1, 2)))
    topic.send(Event("c", {**changed, key: 2}, (1, 3)))
    topic.send(Event("d", {**changed, key: 2}, (1, 4)))
    writer.write(1)
    assert writer.rows() == [changed]
    fields = [field.name for field in writer.table.schema().fields]
    assert fields == [key, *ODD, *metadata_columns(TableMode.MIRROR), "\u00e4nder"]


def test_python_and_spark_find_the_same_faults_in_any_bytes(lake: Lake) -> None:
    random = Random(7)
    heads = (b"", b"\x00", b"\x01", bytes(4), bytes(5), bytes(8), bytes(9), b"\x00\x00\x00\x00\x07")
    values: list[bytes | None] = [None, *heads]
    values += [random.choice(heads) + random.randbytes(random.randrange(12)) for _ in range(500)]
    frame: DataFrame = lake.spark.createDataFrame([(v,) for v in values], "value binary").coalesce(
        1
    )
    found = [row[0] for row in frame.selectExpr(framing_fault_sql("value")).collect()]
    assert found == [fault_of(value) for value in values]


def fault_of(value: bytes | None) -> str | None:
    try:
        parse_frame(value)
    except FramingError as fault:
        return fault.code
    return None
