"""A delete whose key the source's log did not carry stops the table; a key that is a zero does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from debezium import ITEMS, Event, SourceTable, Topic, item, optional, semantic
from lake import Lake, Writer
from put_back import put_back, snapshot_id

from cdc_sink.errors import RecordError

MAILS = SourceTable(
    {"id": "int", "email": "string", "state": "string", "v": optional("int")},
    key=("email",),
    defaults={"state": "new"},
)


def mail(key: int, email: str, state: str = "old") -> dict[str, Any]:
    return {"id": key, "email": email, "state": state, "v": None}


def stocked(lake: Lake, name: str, table: SourceTable, *rows: Any, **settings: Any) -> Writer:
    topic = Topic(table)
    topic.send_all(Event("r", row, (1, 1), "true") for row in rows)
    writer = lake.writer(name, topic, **settings)
    writer.write()
    return writer


@pytest.mark.parametrize(
    ("key", "gone"),
    [
        (("email",), mail(2, "")),  # message.key.columns, with the primary key as replica identity
        (("id",), mail(0, "b@x")),  # another index as replica identity
        (("id", "email"), mail(2, "")),
        (("state",), mail(2, "", "new")),  # the connector fills in the column's default
    ],
)
def test_a_delete_whose_key_was_filled_in_stops_the_table(
    lake: Lake, name: str, key: tuple[str, ...], gone: Any
) -> None:
    table = dataclasses.replace(MAILS, key=key)
    rows = [mail(1, "a@x", "one"), mail(2, "b@x", "two"), mail(3, "c@x", "three")]
    writer = stocked(lake, name, table, *rows)
    before = writer.rows()
    writer.topic.send(Event("u", rows[0] | {"v": 1}, (2, 1)))
    writer.topic.send(Event("d", gone, (2, 2)))
    writer.topic.tombstone(gone)
    with pytest.raises(RecordError, match="replica identity lacks a column of the key") as stop:
        writer.write(3)
    assert "[0]@4" in str(stop.value)
    assert "REPLICA IDENTITY FULL" in str(stop.value)
    assert writer.rows() == before


def test_a_key_that_is_zero_at_the_source_is_a_key(lake: Lake, name: str) -> None:
    """Of a stored row, of one that came and went in the batch, and in a second delivery of the delete."""
    writer = stocked(lake, name, ITEMS, item(0, "stored"), item(1, "other"))
    topic = writer.topic
    topic.send(Event("d", item(0), (2, 1)))
    writer.write(2)
    assert writer.rows() == [item(1, "other")]
    topic.send(Event("d", item(0), (2, 1)))
    writer.write(3)
    topic.send(Event("c", item(0, "new"), (2, 2)))
    topic.send(Event("d", item(0), (2, 3)))
    topic.send(Event("u", item(1, "changed"), (2, 4)))
    topic.send(Event("d", item(7), (2, 5)))  # never seen, but a key
    writer.write(4)
    assert writer.rows() == [item(1, "changed")]


def test_a_zero_that_the_operator_vouches_for_is_a_key(lake: Lake, name: str) -> None:
    option = {"constant_default": True}
    writer = stocked(lake, name, ITEMS, item(1, "other"), columns={"id": option})
    writer.topic.send(Event("d", item(0), (2, 1)))
    writer.write(1)
    assert writer.rows() == [item(1, "other")]


@pytest.mark.parametrize("connector", ["mysql", "mariadb"])
def test_a_binlog_has_the_whole_key_of_a_deleted_row(lake: Lake, name: str, connector: str) -> None:
    writer = stocked(lake, name, dataclasses.replace(ITEMS, connector=connector), item(1, "other"))
    writer.topic.send(Event("d", item(0), (2, 1)))
    writer.write(1)
    assert writer.rows() == [item(1, "other")]


@pytest.fixture(scope="module")
def nullable(lake: Lake) -> Writer:
    """A table with a key of two columns, one of which may be NULL."""
    text = optional(semantic("string", "io.debezium.data.Uuid"))
    table = NullableKey({"id": "int", "code": text}, key=("id", "code"))
    return stocked(lake, "nullable", table, {"id": 1, "code": "a"})


@pytest.mark.parametrize("bad_record", ["stop", "quarantine_key"])
def test_a_null_in_a_key_column_stops_the_table(nullable: Writer, bad_record: str) -> None:
    """Also where only message.key.columns makes the column a key; a NULL is no key to go by."""
    writer = put_back(nullable, snapshot_id(nullable), bad_record=bad_record)
    writer.topic.send(Event("c", {"id": 1, "code": None}, (2, 1)))
    with pytest.raises(RecordError, match=r"the key has NULL in a column, .* \(code\)") as stop:
        writer.write(1)
    assert "message.key.columns" in str(stop.value)
    assert writer.rows() == [{"id": 1, "code": "a"}]


class NullableKey(SourceTable):
    """A key of columns that may be NULL, which message.key.columns allows."""

    def key_schema(self) -> dict[str, Any]:
        schema = super().key_schema()
        for entry in schema["fields"]:
            entry["type"] = self.columns[entry["name"]]
        return schema
