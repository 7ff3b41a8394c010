"""Dead letters of shards that a router brings into one topic: each comes back into its own shard's row."""

from __future__ import annotations

import dataclasses
from typing import Any

from debezium import ROUTED, Event, Topic
from lake import Lake
from test_dead_letters import INFINITY, TIMED, row
from test_replayed_letters import mend, replay

from cdc_sink.spark.run.replay import ReplayReport

EU, US = (
    dataclasses.replace(TIMED, origin={"db": name}, routed=f"shop.{name}.items")
    for name in ("eu", "us")
)


def test_a_replay_puts_a_letter_into_the_row_of_its_shard(lake: Lake, name: str) -> None:
    """Both shards have the key 1, and the slower one's positions are far behind."""
    topic = Topic(EU)
    writer = lake.writer(name, topic, sources="many", on_resnapshot="keep")
    for table, position in ((EU, 900), (US, 5)):
        topic.written_by(table)
        topic.send(Event("c", row(1, "first"), (position, 1)))
    topic.written_by(US)
    topic.send(Event("u", row(1, "bad", INFINITY), (6, 1)))
    topic.send(Event("d", row(1, "later"), (6, 2)))
    topic.tombstone(row(1, "later"))
    topic.send(Event("c", row(1, "again"), (6, 3)))
    topic.written_by(EU)
    topic.send(Event("u", row(1, "goes on"), (901, 1)))
    writer.write()
    assert names(writer.table) == {"shop.eu.items": "goes on", "shop.us.items": "first"}
    assert writer.ledger.quarantined == 3

    topic.written_by(US)
    mend(writer, 1)
    fresh = dataclasses.replace(writer)  # as `dead-letters replay` starts
    assert replay(fresh) == ReplayReport(writer.target.name, 3, 0)
    assert names(writer.table) == {"shop.eu.items": "goes on", "shop.us.items": "again"}
    assert writer.ledger.quarantined == 0


def names(table: Any) -> dict[str, str]:
    found = table.scan().to_arrow().to_pylist()
    assert len(found) == 2, "a row for each shard"
    return {one[ROUTED]: one["name"] for one in found}
