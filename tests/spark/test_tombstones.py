"""A tombstone whose delete the topic no longer has: its row is never left behind without a word."""

from __future__ import annotations

import pytest
from debezium import ITEMS, Event, Topic, item
from lake import Lake, Writer
from put_back import put_back, snapshot_id

from cdc_sink.errors import RecordError
from cdc_sink.table.ledger.ledger import Totals

LOST = "a tombstone without its delete, and its row is in the table"


def names(writer: Writer) -> dict[int, str]:
    return {row["id"]: row["name"] for row in writer.rows()}


def begun(lake: Lake, name: str, *keys: int, **settings: object) -> tuple[Writer, Topic]:
    """A table that has these keys already."""
    topic = Topic(ITEMS)
    writer = lake.writer(name, topic, **settings)
    topic.send_all(Event("c", item(key, "first"), (1, key)) for key in keys)
    writer.write()
    return writer, topic


@pytest.fixture(scope="module")
def prepared(lake: Lake) -> tuple[Writer, int]:
    """A table that has four keys already, and its table snapshot."""
    writer, _ = begun(lake, "tombstones", 1, 2, 3, 4)
    return writer, snapshot_id(writer)


@pytest.fixture
def writer(prepared: tuple[Writer, int]) -> Writer:
    """A driver of the same table as it was, whatever another test did with it."""
    return put_back(*prepared)


@pytest.mark.parametrize("buckets", [0, 4])
def test_a_stored_row_whose_tombstone_has_no_delete_stops_the_table(
    lake: Lake, name: str, buckets: int, request: pytest.FixtureRequest
) -> None:
    if buckets:
        writer, topic = begun(lake, name, 1, 2, buckets=buckets)
    else:
        writer = request.getfixturevalue("writer")
        topic = writer.topic
    before = names(writer)
    first = len(topic.records)
    topic.tombstone(item(1))
    with pytest.raises(RecordError, match=LOST) as stopped:
        writer.write(first)
    assert (stopped.value.record.partition, stopped.value.record.offset) == (0, first)
    assert names(writer) == before
    assert writer.ledger.next_offsets[0] == first  # not applied


def test_a_tombstone_behind_a_change_of_its_batch_stops_the_table_too(writer: Writer) -> None:
    topic = writer.topic
    first = len(topic.records)
    topic.send(Event("u", item(1, "second"), (1, 8)))
    topic.tombstone(item(1))
    with pytest.raises(RecordError, match=LOST):
        writer.write(first)


def test_tombstones_that_concern_no_stored_row_are_counted_and_change_nothing(
    writer: Writer,
) -> None:
    topic = writer.topic
    first = len(topic.records)
    topic.tombstone(item(9))  # never stored
    topic.tombstone(item(1))  # the row came again
    topic.send(Event("c", item(1, "again"), (2, 1)))
    topic.send(Event("d", item(2), (2, 2)))
    topic.tombstone(item(2))  # as the connector sends it
    topic.send(Event("d", item(3), (2, 3)))
    topic.send(Event("c", item(3, "again"), (2, 4)))
    topic.tombstone(item(8), partition=1)  # the first record of its partition
    facts = writer.write(first)
    assert facts is not None
    assert (facts.tombstones, facts.bare_keys) == (4, 2)
    assert names(writer) == {1: "again", 3: "again", 4: "first"}
    assert writer.ledger.totals == Totals(applied=8, tombstones=4)
    writer.write(0)  # once more
    assert names(writer) == {1: "again", 3: "again", 4: "first"}


def test_a_first_batch_has_nothing_that_a_tombstone_could_miss(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    writer = lake.writer(name, topic)
    topic.tombstone(item(1))
    topic.send(Event("c", item(2, "lives"), (1, 1)))
    writer.write()
    assert names(writer) == {2: "lives"}


def test_a_batch_may_be_cut_between_a_delete_and_its_tombstone(writer: Writer) -> None:
    """Also inside a redelivered tail, where a newer row of the key lives."""
    topic = writer.topic
    delete = Event("d", item(1), (2, 1))
    newer = [Event("c", item(1, "again"), (2, 2)), Event("u", item(2, "second"), (2, 3))]
    # The second time is a redelivery. None is the tombstone.
    for batch in ([delete], [None], [*newer, delete], [None], newer):
        first = len(topic.records)
        for event in batch:
            topic.tombstone(item(1)) if event is None else topic.send(event)
        writer.write(first)
    assert names(writer) == {1: "again", 2: "second", 3: "first", 4: "first"}
    first = len(topic.records)
    topic.send(Event("d", item(2), (3, 1)))
    writer.write(first)
    topic.tombstone(item(1))  # not the delete's own
    with pytest.raises(RecordError, match=LOST):
        writer.write(first + 1)


def test_a_whole_redelivered_tail_in_one_batch_misses_no_delete(writer: Writer) -> None:
    topic = writer.topic
    first = len(topic.records)
    for _ in range(2):
        topic.send(Event("u", item(2, "second"), (2, 1)))
        topic.send(Event("d", item(1), (2, 2)))
        topic.tombstone(item(1))
        topic.send(Event("c", item(1, "again"), (2, 3)))
    topic.send(Event("u", item(2, "second"), (2, 1)))
    topic.send(Event("d", item(1), (2, 2)))
    topic.tombstone(item(1))
    writer.write(first)
    assert names(writer) == {1: "again", 2: "second", 3: "first", 4: "first"}


def test_a_delete_among_the_dead_letters_is_one_for_its_tombstone(lake: Lake, name: str) -> None:
    writer, topic = begun(lake, name, 1, 2)
    first = len(topic.records)
    topic.raw(topic.key(item(1)), topic.value(Event("d", item(1), (2, 1)))[:9])  # can't be read
    topic.tombstone(item(1))
    topic.send(Event("u", item(2, "second"), (2, 2)))
    facts = writer.write(first)
    assert facts is not None
    assert (facts.dead_letters, facts.bare_keys) == (1, 0)
    assert names(writer) == {1: "first", 2: "second"}


def test_tables_that_take_tombstones_otherwise_are_as_they_were(lake: Lake, name: str) -> None:
    writer, topic = begun(lake, name, 1, 2, order="kafka")
    first = len(topic.records)
    topic.tombstone(item(1))
    writer.write(first)
    assert names(writer) == {2: "first"}
    events, topic = begun(lake, f"{name}_events", 1, mode="append")
    first = len(topic.records)
    topic.tombstone(item(1))
    events.write(first)
    assert names(events) == {1: "first"}
