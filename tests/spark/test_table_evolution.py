"""A table follows its source while it runs, and stops before it would guess."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from debezium import ITEMS, Event, SourceTable, Topic, decimal, item, optional
from lake import PIPELINE, Lake, Writer

from cdc_sink.errors import ConfigError, SchemaError, StateError

BEFORE = SourceTable({"id": "int", "n": optional("int"), "price": optional(decimal(6, 2))})
AFTER = SourceTable(
    {
        "id": "int",
        "n": optional("long"),
        "price": optional(decimal(12, 2)),
        "extra": optional("string"),
    }
)
OLD = [{"id": 1, "n": 1, "price": None}, {"id": 2, "n": 2, "price": None}]
NEW = {"id": 3, "n": 2**40, "price": None, "extra": "e"}


def stocked(lake: Lake, name: str, table: SourceTable = BEFORE, **settings: Any) -> Writer:
    topic = Topic(table)
    topic.send_all(Event("c", row, (1, n)) for n, row in enumerate(OLD))
    writer = lake.writer(name, topic, **settings)
    writer.write()
    return writer


def grow(writer: Writer) -> None:
    """The source grows in the middle of a batch, and one old record comes late."""
    topic, old = writer.topic, writer.topic.value_id
    topic.send(Event("u", OLD[0] | {"n": 10}, (2, 1)))
    new = topic.write_as(AFTER)
    topic.send(Event("c", NEW, (2, 2)))
    topic.table, topic.value_id = BEFORE, old
    topic.send(Event("u", OLD[1] | {"n": 20}, (2, 3)))
    topic.table, topic.value_id = AFTER, new


GROWN: list[Mapping[str, object]] = [
    {"id": 1, "n": 10, "price": None, "extra": None},
    {"id": 2, "n": 20, "price": None, "extra": None},
    NEW,
]


def types(writer: Writer) -> dict[str, str]:
    return {f.name: str(f.field_type) for f in writer.table.schema().fields if f.name != "_cdc"}


def test_a_table_grows_in_the_middle_of_a_batch(lake: Lake, name: str) -> None:
    writer = stocked(lake, name)
    assert types(writer) == {"id": "int", "n": "int", "price": "decimal(6, 2)"}
    grow(writer)
    writer.write(2)
    assert types(writer) == {"id": "int", "n": "long", "price": "decimal(12, 2)", "extra": "string"}
    assert writer.rows() == GROWN
    assert writer.topic.registry.asked == [1, 2, 3]
    assert writer.ledger.schema_ids == (1, 3)

    writer.topic.write_as(SourceTable({"id": "int", "extra": optional("string")}))
    writer.topic.send(Event("u", {"id": 3, "extra": "alone"}, (3, 1)))
    writer.write(5)
    assert writer.rows()[2] == {"id": 3, "n": None, "price": None, "extra": "alone"}
    assert types(writer) == {"id": "int", "n": "long", "price": "decimal(12, 2)", "extra": "string"}


def test_a_kill_between_two_statements_and_the_rows_is_repaired(lake: Lake, name: str) -> None:
    writer = stocked(lake, name)
    grow(writer)
    writer.spark.sql(f"ALTER TABLE {writer.target.identifier} ADD COLUMN extra string")
    assert writer.rows()[0] == {"id": 1, "n": 1, "price": None, "extra": None}
    dataclasses.replace(writer).write(2)
    assert writer.rows() == GROWN


def test_a_column_that_cannot_become_the_other_type_stops_the_table(lake: Lake, name: str) -> None:
    writer = stocked(lake, name)
    before = writer.table.metadata
    writer.topic.send(Event("u", OLD[0] | {"n": 10}, (2, 1)))
    writer.topic.write_as(SourceTable({**AFTER.columns, "n": optional("string")}))
    writer.topic.send(Event("c", NEW | {"n": "text"}, (2, 2)))
    with pytest.raises(SchemaError) as refused:
        writer.write(2)
    assert str(refused.value) == (
        "column n: the table holds int, the writer sends string, and the one can't become the other "
        "without loss; nothing was written; give the column a new name at the source, or rebuild the "
        "table from its topic."
    )
    assert writer.table.metadata == before


def test_a_type_without_an_exact_column_stops_the_table(lake: Lake, name: str) -> None:
    writer = stocked(lake, name)
    before = writer.table.metadata
    tags = {"type": "array", "items": "string"}
    writer.topic.write_as(SourceTable({**BEFORE.columns, "tags": optional(tags)}))
    writer.topic.send(Event("c", OLD[0] | {"tags": ["a"]}, (2, 2)))
    with pytest.raises(SchemaError, match="column tags: type array has no exact table type"):
        writer.write(2)
    assert writer.table.metadata == before


@pytest.mark.parametrize("when", ["first", "later"])
def test_a_source_column_named_as_ours_is_refused(lake: Lake, name: str, when: str) -> None:
    bad = SourceTable({**BEFORE.columns, "_CDC": optional("string")})
    writer = stocked(lake, name) if when == "later" else lake.writer(name, Topic(bad))
    if when == "later":
        writer.topic.write_as(bad)
    writer.topic.send(Event("c", NEW | {"_CDC": "x", "n": 1}, (2, 2)))
    with pytest.raises(ConfigError, match=r"the name _cdc is kept .* ReplaceField transform\."):
        writer.write(writer.topic.end() - 1)
    assert writer.exists is (when == "later")


CREATE = (
    "CREATE TABLE {} (id bigint NOT NULL, name string, _cdc struct<op: string, source_ts: timestamp, \
pos_hi: bigint, pos_lo: bigint, `partition`: int, `offset`: bigint, schema_id: int, generation: int>) \
USING iceberg TBLPROPERTIES ('format-version' = '2'{})"
)


def made_by_hand(lake: Lake, name: str, *, owner: str | None, **settings: Any) -> Writer:
    topic = Topic(ITEMS)
    topic.send(Event("c", item(1, "a"), (1, 1)))
    writer = lake.writer(name, topic, **settings)
    writer.spark.sql("CREATE NAMESPACE IF NOT EXISTS lake.shop")
    owned = f", 'cdc-sink.pipeline' = '{owner}'" if owner else ""
    writer.spark.sql(CREATE.format(writer.target.identifier, owned))
    return writer


@pytest.mark.parametrize("owner", [None, "another"])
def test_a_table_without_our_ledger_is_not_touched(
    lake: Lake, name: str, owner: str | None
) -> None:
    writer = made_by_hand(lake, name, owner=owner)
    before = writer.table.metadata
    with pytest.raises(StateError, match="was not written by cdc-sink: it has no ledger"):
        writer.write()
    assert writer.table.metadata == before


@pytest.mark.parametrize("has_ours", [True, False])
def test_an_adopted_table_keeps_its_rows(lake: Lake, name: str, has_ours: bool) -> None:
    writer = made_by_hand(lake, name, owner=None, adopt=True)
    if not has_ours:
        writer.spark.sql(f"ALTER TABLE {writer.target.identifier} DROP COLUMN _cdc")
    writer.spark.sql(
        f"INSERT INTO {writer.target.identifier} VALUES (7, 'was here'{', NULL' * has_ours})"
    )
    writer.write()
    assert writer.rows() == [item(1, "a"), item(7, "was here")]


def test_a_kill_between_creating_the_table_and_its_first_ledger_is_repaired(
    lake: Lake, name: str
) -> None:
    writer = made_by_hand(lake, name, owner=PIPELINE)
    writer.write()
    assert writer.rows() == [item(1, "a")]
    assert writer.table.schema().identifier_field_names() == {"id"}
    assert writer.ledger.next_offsets == {0: 1, 1: 0}


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
