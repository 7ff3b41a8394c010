"""Where the policy is to stop, a record that can't be applied is named, explained, and nothing is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest
from debezium import ITEMS, Event, SourceTable, Topic, item, optional, semantic
from lake import Lake, Writer

from cdc_sink.errors import RecordError, SchemaError

TIMED = SourceTable(
    {
        **ITEMS.columns,
        "seen": optional(semantic("long", "io.debezium.time.MicroTimestamp")),
        "born": optional(semantic("int", "io.debezium.time.Date")),
    }
)
GOOD = Event("c", {**item(1, "kept"), "seen": 0, "born": 0}, (1, 1))
WHERE = "shop.public.items[0]@2"
STOPPED = "the batch was not applied, its offsets were not committed"


@pytest.fixture(scope="module")
def stocked(lake: Lake) -> Writer:
    """A table of one row, and the driver that wrote it."""
    topic = Topic(TIMED)
    topic.send(GOOD)
    writer = lake.writer("stocked", topic, bad_record="stop")
    writer.write()
    return writer


@pytest.fixture
def writer(stocked: Writer) -> Iterator[Writer]:
    """The same, with a topic that goes on with one good record; whatever follows leaves no trace."""
    topic = dataclasses.replace(stocked.topic, records=list(stocked.topic.records))
    topic.send(dataclasses.replace(GOOD, op="u", row={**GOOD.row, "name": "new"}, position=(1, 2)))
    before = stocked.table.current_snapshot(), stocked.rows()
    yield dataclasses.replace(stocked, topic=topic)
    assert (stocked.table.current_snapshot(), stocked.rows()) == before


def event(op: str = "u", position: tuple[int, int] | None = (1, 3), **columns: object) -> Event:
    return Event(op, {**GOOD.row, **columns}, position)


def value(change: Callable[[bytes], bytes]) -> Callable[[Topic], int]:
    return lambda topic: topic.raw(topic.key(GOOD.row), change(topic.value(event())))


FRAMES = {
    "short value": (
        value(lambda good: good[:3]),
        "the value is shorter than a framed Avro value (3 bytes, expected at least 5)",
        "look for another producer on this topic, or a converter other than Avro",
    ),
    "wrong magic": (
        value(lambda _good: b'{"a": 1}'),
        "the value does not begin with the magic byte 0x00 (it begins with 0x7B)",
        "check value.converter on the connector: it must write Avro with a 4-byte schema id",
    ),
    "8-byte id": (
        value(lambda good: good[:1] + bytes(4) + good[1:]),
        "the value has schema id 0 in its first 4 bytes: this is the 8-byte framing",
        "set `wire: apicurio_8_byte` for this table, or "
        "value.converter.apicurio.registry.as-confluent=true and use-id=contentId",
    ),
    "no key": (
        lambda topic: topic.raw(None, topic.value(event())),
        "the record has no key",
        "a table that mirrors its source needs a key: give the source table a primary key, set "
        "message.key.columns (on PostgreSQL together with REPLICA IDENTITY FULL), or keep "
        "every event with `mode: append`",
    ),
    "text as key": (
        lambda topic: topic.raw(b"1-1-1-1-1", topic.value(event())),
        "the key does not begin with the magic byte 0x00 (it begins with 0x31)",
        "check key.converter on the connector: it must write Avro with a 4-byte schema id",
    ),
    "tombstone without key": (
        lambda topic: topic.raw(None, None),
        "the record has no key",
        "a table that mirrors its source needs a key: give the source table a primary key, set "
        "message.key.columns (on PostgreSQL together with REPLICA IDENTITY FULL), or keep "
        "every event with `mode: append`",
    ),
}  # fmt: skip
EVENTS = {
    "truncate": (
        event("t"),
        "the source table was truncated (t)",
        "set `truncate: apply` or `ignore` for this table, or rebuild it with `cdc-sink backfill`",
    ),
    "unknown op": (
        event("x"),
        "the op is not one of r c u d (x)",
        "check the connector's transforms, and what else writes to this topic",
    ),
    "no position": (
        event(position=None),
        "the source block has no position",
        "check the connector's version and its transforms: the whole source block is needed",
    ),
    "infinity": (
        event(seen=9223372036825200000),
        "column seen: outside the years 0001 to 9999",
        "exclude the column on the connector, or correct the value at its source",
    ),
    "date out of range": (
        event(born=2932897),
        "column born: outside the years 0001 to 9999",
        "exclude the column on the connector, or correct the value at its source",
    ),
}  # fmt: skip
MALFORMED = {
    "cut body": lambda good: good[:-12],
    "body of another table": lambda good: (
        good[:5] + b"\x00\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff"
    ),
}


def require_refused(writer: Writer, saw: str, remedy: str) -> None:
    with pytest.raises(RecordError) as refused:
        writer.write(1)
    assert str(refused.value) == f"{WHERE}: {saw}; {STOPPED}; {remedy}."
    ref = refused.value.record
    assert (ref.topic, ref.partition, ref.offset) == ("shop.public.items", 0, 2)
    assert not refused.value.retry


@pytest.mark.parametrize("case", FRAMES)
def test_a_record_with_wrong_bytes_is_named_and_stops_the_table(writer: Writer, case: str) -> None:
    send, saw, remedy = FRAMES[case]
    send(writer.topic)
    require_refused(writer, saw, remedy)


@pytest.mark.parametrize("case", EVENTS)
def test_an_event_that_cannot_be_applied_is_named_and_stops_the_table(
    writer: Writer, case: str
) -> None:
    bad, saw, remedy = EVENTS[case]
    writer.topic.send(bad)
    writer.topic.send(event(position=(1, 4)))
    require_refused(writer, saw, remedy)


@pytest.mark.parametrize("case", MALFORMED)
def test_a_body_that_does_not_fit_its_schema_is_found_among_good_ones(
    writer: Writer, case: str
) -> None:
    value(MALFORMED[case])(writer.topic)
    for lo in range(4, 9):
        writer.topic.send(event(position=(1, lo)))
    require_refused(
        writer,
        "the bytes after the schema id do not fit its writer schema",
        "look for another producer on this topic, or a registry that was rebuilt with other ids",
    )


def test_of_two_bad_values_the_first_is_named_with_its_own_column(writer: Writer) -> None:
    writer.topic.send(event(born=2932897))
    for lo in range(4, 9):
        writer.topic.send(event(seen=9223372036825200000, position=(1, lo)))
    with pytest.raises(RecordError, match=r"@2: column born: outside"):
        writer.write(1, tasks=1)


def test_a_row_event_without_a_row_is_refused(writer: Writer) -> None:
    """Otherwise an update would turn every column null."""
    gutted = dataclasses.replace(event(), op="d")
    body = writer.topic.value(gutted)
    assert body.count(b"\x02d") == 1
    writer.topic.raw(writer.topic.key(GOOD.row), body.replace(b"\x02d", b"\x02u"))
    require_refused(
        writer,
        "the row after the change is missing (u)",
        "check the connector's transforms, and what else writes to this topic",
    )


@pytest.mark.parametrize("schema_id", [77, 2**32 - 1])
def test_an_unknown_schema_id_is_asked_for_and_refused(writer: Writer, schema_id: int) -> None:
    value(lambda good: good[:1] + schema_id.to_bytes(4, "big") + good[5:])(writer.topic)
    with pytest.raises(SchemaError, match=f"unknown schema id {schema_id}") as refused:
        writer.write(1)
    assert not refused.value.retry
    assert writer.topic.registry.asked[-1] == schema_id


def test_a_first_batch_of_unreadable_values_is_not_taken_for_an_empty_one(
    lake: Lake, name: str
) -> None:
    topic = Topic(ITEMS)
    topic.raw(topic.key(item(1)), b'{"schema": {}}')
    writer = lake.writer(name, topic)
    with pytest.raises(
        RecordError,
        match=r"items\[0\]@0: the value does not begin .* 0x7B",
    ):
        writer.write()
    assert not writer.exists


def test_a_first_batch_without_keys_names_its_first_record(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    topic.raw(None, topic.value(Event("c", item(1))))
    writer = lake.writer(name, topic)
    with pytest.raises(RecordError, match=r"items\[0\]@0: the record has no key; "):
        writer.write()
    assert not writer.exists


def test_a_first_batch_of_another_kind_of_record_is_refused(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    other = topic.registry.register({"type": "record", "name": "shop.Heartbeat", "fields": []})
    topic.raw(topic.key(item(1)), b"\x00" + other.to_bytes(4, "big"))
    writer = lake.writer(name, topic)
    with pytest.raises(SchemaError, match="a heartbeat, not a table change"):
        writer.write()
    assert not writer.exists
