"""A column that source snapshots have and changes don't: the table stops before it turns NULL row by row."""

from __future__ import annotations

import dataclasses

import pytest
from debezium import Event, SourceTable, Topic, optional
from lake import Lake, Writer

from cdc_sink.errors import SchemaError

COMPUTED = SourceTable({"id": "long", "a": optional("int"), "total": optional("int")})
SENT = dataclasses.replace(COMPUTED, columns={"id": "long", "a": optional("int")})


def started(lake: Lake, name: str, **settings: object) -> tuple[Writer, Topic]:
    topic = Topic(COMPUTED)
    writer = lake.writer(name, topic, **settings)
    row = {"id": 1, "a": 1, "total": 2}
    topic.send(Event("r", row, (0, 5), snapshot="first_in_data_collection"))
    topic.send(Event("r", {**row, "id": 2}, (0, 5), snapshot="last"))
    return writer, topic


def change(topic: Topic, table: SourceTable = SENT, **more: object) -> None:
    topic.write_as(table)
    topic.send(Event("u", {"id": 1, "a": 9, **more}, (6, 7)))


@pytest.mark.parametrize("mode", ["mirror", "append"])
@pytest.mark.parametrize("batches", [1, 2])
def test_the_first_change_without_a_computed_column_stops_the_table(
    lake: Lake, name: str, batches: int, mode: str
) -> None:
    writer, topic = started(lake, name, mode=mode)
    if batches == 2:
        writer.write()
    change(topic)
    before = writer.rows() if batches == 2 else []
    with pytest.raises(SchemaError, match="column total: the rows of the source snapshot have it"):
        writer.write(2 * (batches - 1))
    assert writer.rows() == before
    again = dataclasses.replace(writer)  # a new driver knows it from the ledger
    with pytest.raises(SchemaError, match="column total"):
        again.write(2 * (batches - 1))


def test_a_column_that_is_said_to_be_dropped_turns_null(lake: Lake, name: str) -> None:
    writer, topic = started(lake, name, columns={"total": {"dropped": True}})
    writer.write()
    change(topic)
    writer.write(2)
    assert [row["total"] for row in writer.rows()] == [None, 2]


def test_a_column_that_a_change_had_may_be_dropped(lake: Lake, name: str) -> None:
    writer, topic = started(lake, name)
    change(topic, COMPUTED, total=18)
    writer.write()
    change(topic)
    writer.write(3)
    assert [row["total"] for row in writer.rows()] == [None, 2]


def test_a_column_that_is_renamed_behind_its_snapshot_is_no_computed_one(
    lake: Lake, name: str
) -> None:
    writer, topic = started(lake, name, renames={"total": "sum"})
    writer.write()
    later = {"id": "long", "a": optional("int"), "sum": optional("int")}
    change(topic, dataclasses.replace(COMPUTED, columns=later), sum=18)
    writer.write(2)
    assert [row["sum"] for row in writer.rows()] == [18, 2]
