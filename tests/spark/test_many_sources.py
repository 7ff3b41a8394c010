"""`sources: many`: shards that a transform routes into one topic fill one table, each by its own log."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from debezium import ITEMS, ROUTED, Event, SourceTable, Topic, item
from lake import Lake, Writer
from seeds import seeds

from cdc_sink.errors import CdcSinkError, StateError
from cdc_sink.table.ledger.many_sources import SOURCE_COLUMN

SHARDS = ("eu", "us", "asia")
Rows = dict[tuple[str, int], str | None]


def shard(name: str, *, routed: bool = True, **more: Any) -> SourceTable:
    """One of the source tables, as Debezium's router sends it, or another transform without a key field."""
    origin = {"db": name}
    physical = f"shop.{name}.items"
    if routed:  # the router names the schemas after the topic that it makes
        return dataclasses.replace(ITEMS, origin=origin, routed=physical, **more)
    return dataclasses.replace(ITEMS, origin=origin, name=f"shop.{name}.items", **more)


def told(routed: bool) -> str:
    return ROUTED if routed else SOURCE_COLUMN


def name_of(name: str, routed: bool) -> str:
    return f"shop.{name}.items" if routed else f"shop.{name}.{name}.items"


def rows_of(writer: Writer, column: str) -> dict[tuple[str, int], str | None]:
    found = writer.table.scan().to_arrow().to_pylist()
    rows = {(row[column], row["id"]): row["name"] for row in found}
    assert len(rows) == len(found), "a key twice"
    return rows


def send(topic: Topic, table: SourceTable, *events: Event, partition: int = 0) -> None:
    topic.written_by(table)
    topic.send_all(events, partition)


@pytest.mark.parametrize("routed", [True, False], ids=["router", "own_column"])
def test_shards_keep_their_own_rows_and_marks(lake: Lake, name: str, routed: bool) -> None:
    """The slower shard's positions lie far below the other's: nothing of it is dropped as redelivered."""
    eu, us = shard("eu", routed=routed), shard("us", routed=routed)
    topic = Topic(eu)
    writer = lake.writer(name, topic, sources="many", on_resnapshot="keep")
    send(topic, eu, Event("c", item(1, "eu"), (900, 1)), Event("c", item(2, "eu"), (901, 1)))
    send(topic, us, Event("c", item(1, "us"), (5, 1)))
    writer.write()
    first = len(topic.records)
    send(topic, us, Event("u", item(1, "us again"), (6, 1)), Event("c", item(3, "us"), (7, 1)))
    send(topic, eu, Event("d", item(2), (902, 1)))
    writer.write(first)
    eu_name, us_name = name_of("eu", routed), name_of("us", routed)
    assert rows_of(writer, told(routed)) == {
        (eu_name, 1): "eu",
        (us_name, 1): "us again",
        (us_name, 3): "us",
    }
    again = len(topic.records)
    send(topic, us, Event("u", item(1, "us again"), (6, 1)), Event("c", item(3, "us"), (7, 1)))
    send(topic, eu, Event("c", item(2, "eu"), (901, 1)), Event("d", item(2), (902, 1)))
    facts = writer.write(again)
    assert facts is not None
    assert facts.redelivered == 2, "what lies below the mark of its own source"
    assert (eu_name, 2) not in rows_of(writer, told(routed))
    assert [known.origin.database for known in writer.ledger.sources] == ["eu", "us"]


@pytest.mark.parametrize("routed", [True, False], ids=["router", "own_column"])
@pytest.mark.parametrize("seed", seeds(0))
def test_any_interleaving_of_any_shards_ends_equal(
    lake: Lake, name: str, seed: int, routed: bool
) -> None:
    draw = random.Random(seed)
    tables = {one: shard(one, routed=routed) for one in SHARDS}
    topic = Topic(tables["eu"])
    writer = lake.writer(name, topic, sources="many", on_resnapshot="keep")
    expected: Rows = {}
    logs: dict[str, list[Event]] = {one: [] for one in SHARDS}
    clocks = {one: draw.randrange(1, 2_000) for one in SHARDS}
    applied = 0
    for _ in range(4):
        for _ in range(25):
            one = draw.choice(SHARDS)
            if logs[one] and draw.random() < 0.1:  # the connector was killed: its tail comes again
                tail = logs[one][-draw.randrange(1, 6) :]
            else:
                tail = [_change(draw, one, clocks, expected, name_of(one, routed))]
                logs[one] += tail
            for event in tail:
                partition = (event.row["id"] + len(one)) % 2
                send(topic, tables[one], event, partition=partition)
                if event.op == "d":
                    topic.tombstone(event.row, partition)
        writer.write(applied)
        applied = len(topic.records)
        if draw.random() < 0.4:  # a new driver knows what the ledger knows
            writer = dataclasses.replace(writer)
    assert rows_of(writer, told(routed)) == expected


def _change(
    draw: random.Random, one: str, clocks: dict[str, int], rows: Rows, called: str
) -> Event:
    clocks[one] += draw.randrange(1, 3)
    key = draw.randrange(5)
    exists = (called, key) in rows
    text = f"{one} {clocks[one]}"
    if exists and draw.random() < 0.4:
        del rows[called, key]
        return Event("d", item(key), (clocks[one], 1))
    rows[called, key] = text
    return Event("u" if exists else "c", item(key, text), (clocks[one], 1))


def test_events_of_many_sources_say_their_source(lake: Lake, name: str) -> None:
    eu, us = shard("eu"), shard("us")
    topic = Topic(eu)
    writer = lake.writer(name, topic, sources="many", mode="append")
    send(topic, eu, Event("c", item(1, "eu"), (900, 1)))
    send(topic, us, Event("c", item(1, "us"), (5, 1)), Event("d", item(1), (6, 1)))
    writer.write()
    found = writer.table.scan().to_arrow().to_pylist()
    seen = sorted((row[SOURCE_COLUMN], row["_cdc_op"], row["name"] or "") for row in found)
    assert [one[1:] for one in seen] == [("c", "eu"), ("c", "us"), ("d", "")]
    assert {one[0] for one in seen} == {"shop.eu.public.items", "shop.us.public.items"}


def stopped(writer: Writer, first: int) -> CdcSinkError:
    before, ledger = rows_of(writer, ROUTED), writer.ledger
    with pytest.raises(CdcSinkError) as found:
        writer.write(first)
    assert (rows_of(writer, ROUTED), writer.ledger) == (before, ledger)
    return found.value


@pytest.fixture(scope="module")
def began(lake: Lake) -> Writer:
    return two_shards(lake, "many_sources")


def two_shards(lake: Lake, name: str, **settings: Any) -> Writer:
    topic = Topic(shard("eu"))
    writer = lake.writer(name, topic, sources="many", **settings)
    send(topic, shard("eu"), Event("c", item(1, "eu"), (900, 1)))
    send(topic, shard("us"), Event("c", item(1, "us"), (5, 1)))
    writer.write()
    return writer


@pytest.fixture
def started(began: Writer) -> Iterator[tuple[Writer, Topic, int]]:
    """The same table, its next driver and the topic's end; whatever follows leaves no trace."""
    topic = dataclasses.replace(began.topic, records=list(began.topic.records))
    before = began.table.metadata
    yield dataclasses.replace(began, topic=topic), topic, len(topic.records)
    assert began.table.metadata == before


CHANGED: Mapping[str, tuple[SourceTable, str]] = {
    "another table's bytes": (
        dataclasses.replace(
            shard("us"), name="shop.public.labels", origin={"db": "us", "table": "items"}
        ),
        "are not what they were: writer schema",
    ),
    "another value of the router": (
        dataclasses.replace(shard("us"), routed="shop.us2.items"),
        "hold two values in the router's field",
    ),
    "one value for two sources": (
        dataclasses.replace(shard("asia"), routed="shop.eu.items"),
        "have one value in the router's key field, 'shop.eu.items'",
    ),
    "two sources of one text": (
        dataclasses.replace(
            ITEMS,
            origin={"name": "shop.eu", "db": "", "schema": "public"},
            routed="shop.eu..items",
        ),
        "names both",
    ),
}


@pytest.mark.parametrize("case", CHANGED)
def test_sources_that_cannot_be_told_apart_stop_the_table(
    started: tuple[Writer, Topic, int], case: str
) -> None:
    writer, topic, first = started
    table, sentence = CHANGED[case]
    send(topic, table, Event("c", item(2, "theirs"), (1, 1)))
    found = stopped(writer, first)
    assert isinstance(found, StateError)
    assert sentence in str(found)


def test_a_log_that_began_again_is_seen_although_other_sources_are_newer(
    started: tuple[Writer, Topic, int],
) -> None:
    writer, topic, first = started
    newer = Event("u", item(1, "restored"), (4, 1), ts_ms=1_770_000_000_000 + 6_000)
    send(topic, shard("us"), newer)  # newer than all of us, older than eu
    assert "log began again" in str(stopped(writer, first))


def test_a_second_snapshot_of_one_source_stops_unless_rows_too_many_may_stay(
    lake: Lake, name: str
) -> None:
    topic = Topic(shard("eu"))
    writer = lake.writer(name, topic, sources="many")
    send(topic, shard("eu"), Event("r", item(1, "eu"), (900, 1), snapshot="true"))
    send(topic, shard("us"), Event("r", item(1, "us"), (5, 1), snapshot="last"))
    writer.write()
    first = len(topic.records)
    send(topic, shard("us"), Event("r", item(2, "us"), (9, 1), snapshot="last"))
    assert "sent a source snapshot" in str(stopped(writer, first))
    keeps = lake.writer(name, topic, sources="many", on_resnapshot="keep")
    keeps.write(first)
    assert (name_of("us", True), 2) in rows_of(keeps, ROUTED)


def test_the_truncate_of_one_source_does_not_empty_the_others(lake: Lake, name: str) -> None:
    writer = two_shards(lake, name, truncate="apply")
    topic, first = writer.topic, len(writer.topic.records)
    topic.written_by(shard("us"))
    value = topic.value(Event("t", item(1), (8, 1)))
    topic.raw(None, value)
    assert "a truncate of one source is not applied" in str(stopped(writer, first))


def test_a_table_of_many_sources_is_not_taken_for_one_of_a_single_one(
    lake: Lake, name: str
) -> None:
    topic = Topic(shard("eu"))
    many = lake.writer(name, topic, sources="many", mode="append")
    send(topic, shard("eu"), Event("c", item(1, "eu"), (900, 1)))
    many.write()
    one = lake.writer(name, topic, mode="append")
    send(topic, shard("eu"), Event("c", item(2, "eu"), (901, 1)))
    with pytest.raises(StateError, match="set `sources: many` for this table again"):
        one.write(1)


def test_a_tombstone_without_its_delete_is_seen_where_the_key_tells_the_source(
    started: tuple[Writer, Topic, int],
) -> None:
    writer, topic, first = started
    topic.written_by(shard("us"))
    topic.tombstone(item(1))
    assert "tombstone" in str(stopped(writer, first))
