"""Bytes of several writer schemas become one shape, each by its own rules, decoded once."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from decimal import Decimal
from typing import Any

from debezium import ITEMS, Event, SourceTable, Topic, decimal, item, optional, semantic
from lake import Lake
from pyspark.sql import DataFrame

from cdc_sink.spark.fold.latest import latest_per_key, not_in
from cdc_sink.spark.read.decode import decode
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.ledger.stream_identity import StreamIdentity
from cdc_sink.table.schema.writer_schemas import WriterSchemas

WIDE = SourceTable(
    {
        "id": "long",
        "price": optional(decimal(12, 3)),
        "seen": optional(semantic("long", "io.debezium.time.MicroTimestamp")),
        "note": optional("string"),
    }
)
NARROW = SourceTable(
    {
        "id": "long",
        "seen": optional(semantic("long", "io.debezium.time.Timestamp")),
        "price": optional(decimal(8, 1)),
    }
)


def interleaved() -> Topic:
    """One table whose decimal scale and time unit changed, and whose note column came later."""
    topic = Topic(WIDE)
    wide = topic.value_id
    topic.send(Event("c", {"id": 1, "price": Decimal("1.125"), "seen": 1_000_001, "note": "n"}))
    narrow = topic.write_as(NARROW)
    topic.send(Event("u", {"id": 2, "seen": 1_001, "price": Decimal("2.5")}))
    topic.table, topic.value_id = WIDE, wide
    topic.send(Event("u", {"id": 1, "price": None, "seen": None, "note": None}))
    topic.table, topic.value_id = NARROW, narrow
    topic.send(Event("d", {"id": 2, "seen": None, "price": None}))
    topic.tombstone({"id": 2})
    return topic


def changes_of(lake: Lake, topic: Topic) -> DataFrame:
    keys = {i: t for i, t in topic.registry.texts.items() if '"Key"' in t}
    values = {i: t for i, t in topic.registry.texts.items() if i not in keys}
    schemas = WriterSchemas(values, keys)
    return decode(topic.batch(lake.spark, tasks=1), schemas, schemas.extend(()))


def as_dict(row: Any) -> Any:
    return row.asDict() if row is not None else None


def test_interleaved_writer_schemas_converge_to_the_tables_types(lake: Lake) -> None:
    changes = changes_of(lake, interleaved())
    after = {f.name: f.dataType.simpleString() for f in changes.schema["after"].dataType}  # type: ignore[attr-defined]
    assert after == {
        "id": "bigint",
        "price": "decimal(12,3)",
        "seen": "timestamp_ntz",
        "note": "string",
    }
    rows = changes.collect()
    assert [row["op"] for row in rows] == ["c", "u", "u", "d", None]
    assert [row["schema_id"] for row in rows] == [1, 3, 1, 3, None]
    assert [as_dict(row["after"]) for row in rows] == [
        {
            "id": 1,
            "price": Decimal("1.125"),
            "seen": datetime(1970, 1, 1, 0, 0, 1, 1),
            "note": "n",
        },
        {
            "id": 2,
            "price": Decimal("2.500"),
            "seen": datetime(1970, 1, 1, 0, 0, 1, 1000),
            "note": None,
        },
        {"id": 1, "price": None, "seen": None, "note": None},
        None,
        None,
    ]


def test_a_tombstone_has_a_key_and_coordinates_and_nothing_else(lake: Lake) -> None:
    tombstone = changes_of(lake, interleaved()).collect()[-1].asDict()
    assert tombstone.pop("key").asDict() == {"id": 2}
    assert {name: value for name, value in tombstone.items() if value is not None} == {
        "topic": "shop.public.items",
        "partition": 0,
        "offset": 4,
    }


def test_every_record_is_decoded_once_per_schema_id_up_to_the_fold(lake: Lake) -> None:
    topic = interleaved()
    ledger = dataclasses.replace(
        Ledger.opened(StreamIdentity("p", "q", "c", topic.table.name, "t"), [0, 1]),
        next_offsets={0: 2, 1: 3},
    )
    changes = not_in(ledger, changes_of(lake, topic))
    for frame in (changes, changes.where("op = 'u' AND after.note = 'n'"), latest_per_key(changes)):
        plan = frame._jdf.queryExecution().executedPlan().toString()
        assert plan.count("from_avro(") == len(topic.registry.texts) == 3, plan


def test_only_what_the_table_needs_is_decoded(lake: Lake) -> None:
    plan = changes_of(lake, interleaved())._jdf.queryExecution().analyzed()
    decoded = plan.child().schema()
    source = "source:struct<ts_ms:bigint,snapshot:string,sequence:string,ts_us:bigint,"
    source += "name:string,db:string,schema:string,table:string>,op:string"
    for name, row in {
        "v1": "after:struct<id:bigint,price:decimal(12,3),seen:bigint,note:string>",
        "v3": "after:struct<id:bigint,seen:bigint,price:decimal(8,1)>",
    }.items():
        kind = decoded.apply(name).dataType().simpleString()
        assert sorted(kind.removeprefix("struct<").removesuffix(">")) == sorted(f"{row},{source}")


def test_every_record_is_decoded_once_in_a_batch(lake: Lake, name: str) -> None:
    """As Spark ran it: the fold of the sink, not only a plan that is read here."""
    topic = interleaved()
    writer = lake.writer(name, topic)
    plans = lake.plans_of(writer.write)
    nodes = [node.count("from_avro(") for plan in plans for node in plan.split("\n\n")]
    # One node, shown twice: in the plan as it was first and in the one that ran.
    assert [count for count in nodes if count] == [len(topic.registry.texts)] * 2


def test_names_with_quotes_and_dots_and_spaces_keep_their_values(lake: Lake) -> None:
    """Avro forbids most of them; what Debezium lets through stays as it is."""
    odd = SourceTable({"id": "long", "Order": optional("string"), "_x1": optional("int")})
    topic = Topic(odd)
    topic.send(Event("c", {"id": 1, "Order": "a'b`c\\d", "_x1": 5}))
    assert as_dict(changes_of(lake, topic).collect()[0]["after"]) == {
        "id": 1,
        "Order": "a'b`c\\d",
        "_x1": 5,
    }


def test_text_that_only_contains_the_placeholder_is_data(lake: Lake) -> None:
    topic = Topic(ITEMS)
    topic.send(Event("c", item(1, "see __debezium_unavailable_value")))
    topic.send(Event("c", item(2, "__debezium_unavailable_value")))
    rows = changes_of(lake, topic).collect()
    assert [row["unavailable"] for row in rows] == [[], ["name"]]
