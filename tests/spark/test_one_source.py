"""Changes of more than one source in one topic stop the table by name; none of them is applied."""

from __future__ import annotations

import dataclasses
import json

import pytest
from debezium import ITEMS, Event, SourceTable, Topic, item
from lake import Lake, Writer
from put_back import put_back, snapshot_id

from cdc_sink.errors import StateError

OTHERS = {
    "logical name": {"name": "shop2"},
    "database": {"db": "us"},
    "schema": {"schema": "archive"},
    "table": {"table": "items_2025"},
}


def stopped(writer: Writer, first: int) -> str:
    before = writer.rows()
    with pytest.raises(StateError) as found:
        writer.write(first)
    assert writer.rows() == before
    return str(found.value)


@pytest.fixture(scope="module")
def ours(lake: Lake) -> Writer:
    """A table of one row."""
    topic = Topic(ITEMS)
    writer = lake.writer("one_source", topic)
    topic.send(Event("c", item(1, "ours"), (5, 1)))
    writer.write()
    return writer


@pytest.fixture
def writer(ours: Writer) -> Writer:
    """A driver of the same, which is refused whatever it brings; its topic and registry are its own."""
    return put_back(ours, snapshot_id(ours))


@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_a_record_of_another_source_stops_the_table_by_name(
    lake: Lake, name: str, mode: str, request: pytest.FixtureRequest
) -> None:
    if mode == "mirror":
        writer = request.getfixturevalue("writer")
    else:
        writer = lake.writer(name, Topic(ITEMS), mode=mode)
        writer.topic.send(Event("c", item(1, "ours"), (5, 1)))
        writer.write()
    topic = writer.topic
    end = len(topic.records)
    for said, origin in OTHERS.items():
        topic.records = topic.records[:end]
        topic.table = dataclasses.replace(ITEMS, origin=origin)
        topic.send(Event("c", item(2, "theirs"), (1, 1)))  # a log of its own: far below the mark
        assert f"holds changes of more than one source: {said} " in stopped(writer, end)
        topic.table = ITEMS
        topic.send(Event("u", item(1, "ours again"), (5, 2)))
        assert f"source: {said} " in stopped(writer, end)


def test_a_table_does_not_begin_with_two_sources(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    writer = lake.writer(name, topic)
    topic.send(Event("c", item(1, "eu"), (5, 1)))
    topic.table = dataclasses.replace(ITEMS, origin={"db": "us"})
    topic.send(Event("c", item(1, "us"), (1, 1)))
    with pytest.raises(StateError, match="database 'shop' and 'us'"):
        writer.write()
    assert writer.rows() == []


def test_a_schema_id_of_another_table_stops_the_table(writer: Writer) -> None:
    """A registry that was rebuilt: records are framed with an id that now names a table of the same shape."""
    topic = writer.topic
    writer.write()  # it knows the table's schema
    sent = topic.value_id
    twin = SourceTable({"id": "long", "label": ["null", "string"]}, name="shop.public.labels")
    new_id = topic.registry.register(twin.value_schema())
    topic.value_id = new_id  # this table's bytes, the other one's id
    topic.send(Event("c", item(2, "decoded by the twin"), (5, 2)))
    assert "writer schema 'shop.public.items" in stopped(writer, 1)
    topic.registry.texts[sent] = json.dumps(twin.value_schema())  # an id that was used before
    restarted = dataclasses.replace(writer)
    topic.records.pop()
    topic.value_id = sent
    topic.send(Event("c", item(3, "decoded by the twin"), (5, 3)))
    assert f"schema id {sent} is another schema" in stopped(restarted, 1)


def test_a_rebuilt_registry_is_named_before_its_schemas_are_used(
    lake: Lake, name: str, writer: Writer
) -> None:
    """The id of the applied key now stands for a change: as a key's columns it would be nonsense."""
    topic = writer.topic
    topic.registry.texts[topic.key_id] = topic.registry.texts[topic.value_id]
    topic.send(Event("c", item(2, "later"), (5, 2)))
    assert f"schema id {topic.key_id} is another schema" in stopped(writer, 1)
    fresh = lake.writer(name, topic)
    with pytest.raises(StateError, match="stands in keys and is a change's schema"):
        fresh.write()
    assert not fresh.exists
