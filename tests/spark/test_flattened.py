"""Rows that a transform flattened become the table that whole envelopes would have become."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest
from debezium import Event
from flattened_rows import ORDERED, WHOLE, FlatTopic, items, row
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lake import Lake, Writer
from pyspark.sql import Row
from seeds import MORE
from test_history import Upstream, as_change, micro_batches

from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import SchemaError
from cdc_sink.spark.read.decode import decode
from cdc_sink.table.schema.policy import TablePolicy
from cdc_sink.table.schema.writer_schemas import WriterSchemas
from cdc_sink.testing import fold as oracle
from cdc_sink.testing.fold import apply_images

REWRITES = ["rewrite", "rewrite-with-tombstone"]
TOMBSTONES = ["tombstone", "delete-to-tombstone"]
MODES = [("source", mode, ORDERED) for mode in REWRITES]
MODES += [("kafka", mode, add) for mode in REWRITES + TOMBSTONES for add in (ORDERED, ())]

_numbers = itertools.count()

HISTORY = [
    Event("r", row(1, "read"), (0, 1), "first"),
    Event("r", row(2, "read"), (0, 1), "last"),
    Event("c", row(3, "new"), (1, 2)),
    Event("u", row(1, "changed", 7), (1, 3)),
    Event("d", row(2), (2, 4)),
    Event("d", row(3), (2, 5)),
    Event("c", row(3, "again"), (3, 6)),
]
RESULT = [row(1, "changed", 7), row(3, "again")]


def decoded(lake: Lake, topic: FlatTopic, order: Any) -> list[Row]:
    texts = topic.registry.texts
    keys = {i: text for i, text in texts.items() if '"name": "Key"' in text}
    values = {i: text for i, text in texts.items() if i not in keys}
    schemas = WriterSchemas(values, keys, TablePolicy(order=order))
    return decode(topic.batch(lake.spark, tasks=1), schemas, schemas.extend(())).collect()


@pytest.mark.parametrize(("order", "mode", "add"), MODES)
def test_a_history_ends_in_its_rows_in_every_mode(
    lake: Lake, name: str, order: str, mode: str, add: tuple[str, ...]
) -> None:
    topic = FlatTopic(items(mode, add))
    topic.send_all(HISTORY)
    writer = lake.writer(name, topic, order=order)
    writer.write(0, 5)
    writer.write(5)
    assert writer.rows() == RESULT
    totals = writer.ledger.totals
    assert totals.records == len(topic.records)
    # By position a tombstone is none of the changes, by Kafka order it is a delete in every mode.
    assert totals.tombstones == (2 if (order, mode) == ("source", "rewrite-with-tombstone") else 0)


def test_a_row_says_what_its_envelope_said(lake: Lake) -> None:
    topic = FlatTopic(
        items(add=(*ORDERED, "source.snapshot", "source.ts_us", "ts_ms", "source.lsn"))
    )
    topic.send(Event("u", row(1, "n"), (3, 4)))
    topic.send(Event("r", row(2, "n"), (0, 1), "first"))
    topic.send(Event("d", row(1), (3, 5)))
    update, read, delete = decoded(lake, topic, "source")
    assert (update["op"], read["op"], delete["op"]) == ("u", "r", "d")
    assert (update["position"]["hi"], update["position"]["lo"]) == (3, 4)
    assert update["after"].asDict() == row(1, "n")
    assert (update["snapshot"], read["snapshot"]) == (None, "first")
    assert update["source_ts"].microsecond == 4007  # ts_us, not when the connector saw it
    assert (delete["key"]["id"], delete["after"], delete["unavailable"]) == (1, None, [])


def test_in_kafkas_order_no_position_is_read_and_a_row_without_op_is_an_update(lake: Lake) -> None:
    topic = FlatTopic(items())
    topic.send(Event("c", row(1), (3, 4)))
    topic.write_as(items("tombstone", ()))
    topic.send(Event("c", row(2), (3, 4)))
    topic.send(Event("d", row(2), (3, 4)))
    topic.write_as(WHOLE)
    topic.send(Event("c", row(3), (3, 4)))
    changes = decoded(lake, topic, "kafka")
    assert [change["op"] for change in changes] == ["c", "u", "d", "c"]
    assert [change["position"] for change in changes] == [None] * 4
    assert [change["source_ts"] is None for change in changes] == [False, True, True, False]


def test_missing_fields_stop_the_table_by_name_before_anything_is_written(
    lake: Lake, name: str
) -> None:
    topic = FlatTopic(items("tombstone", ("op", "lsn")))
    topic.send(Event("c", row(1), (1, 1)))
    writer = lake.writer(name, topic)
    with pytest.raises(SchemaError) as caught:
        writer.write()
    assert "without __source_ts_ms, __source_sequence, __deleted" in caught.value.saw
    assert "add.fields=op,source.ts_ms,source.snapshot,source.sequence" in caught.value.remedy
    assert not writer.exists


def test_what_is_redelivered_is_dropped_by_its_position(lake: Lake, name: str) -> None:
    topic = FlatTopic(items())
    log = [
        Event("c", row(1, "first"), (1, 1)),
        Event("d", row(1), (1, 2)),
        Event("c", row(1, "second"), (1, 3)),
        Event("c", row(2), (1, 4)),
    ]
    topic.send_all(log)
    writer = lake.writer(name, topic)
    writer.write()
    topic.send_all(log[:2])  # and the connector is killed once more
    writer.write(4)
    assert writer.rows() == [row(1, "second"), row(2)]
    assert writer.ledger.totals.redelivered == 2
    assert writer.marks == {0: SourcePosition(1, 4)}


@pytest.mark.parametrize("order", ["source", "kafka"])
@pytest.mark.parametrize("first_is_whole", [True, False])
def test_a_transform_that_came_or_went_makes_no_difference(
    lake: Lake, name: str, order: str, first_is_whole: bool
) -> None:
    """Both kinds in one batch; what was sent as one kind is redelivered as the other."""
    kinds = (WHOLE, items()) if first_is_whole else (items(), WHOLE)
    topic = FlatTopic(kinds[0])
    topic.send_all(HISTORY[:5])
    topic.write_as(kinds[1])
    topic.send_all(HISTORY[3:])
    writer = lake.writer(name, topic, order=order)
    writer.write()
    assert writer.rows() == RESULT
    assert (writer.ledger.totals.redelivered > 0) == (order == "source")


def test_tombstones_alone_delete_in_kafkas_order_also_after_a_restart(
    lake: Lake, name: str
) -> None:
    """A driver that starts has seen no value yet, and so no schema that could tell the mode."""
    topic = FlatTopic(items("tombstone", ()))
    topic.tombstone(row(1))
    lake.writer(name, topic, order="kafka").write()
    topic.send_all([Event("c", row(1), None), Event("c", row(2), None)])
    first = lake.writer(name, topic, order="kafka")
    first.write(1)
    assert first.rows() == [row(1), row(2)]
    topic.tombstone(row(1))
    lake.writer(name, topic, order="kafka").write(3)
    assert first.rows() == [row(2)]


def test_modes_may_change_within_a_batch_in_kafkas_order(lake: Lake, name: str) -> None:
    topic = FlatTopic(items("tombstone", ()))
    topic.send_all([Event("c", row(k), None) for k in (1, 2, 3)] + [Event("d", row(1), None)])
    topic.write_as(items("rewrite-with-tombstone", ()))
    topic.send_all([Event("d", row(2), None), Event("c", row(1, "back"), None)])
    topic.write_as(items("delete-to-tombstone", ("op",)))
    topic.send_all([Event("d", row(1), None), Event("c", row(4), None)])
    writer = lake.writer(name, topic, order="kafka")
    writer.write()
    assert writer.rows() == [row(3), row(4)]


@pytest.mark.parametrize("order", ["source", "kafka"])
def test_a_value_that_was_left_out_comes_from_the_row_before(
    lake: Lake, name: str, order: str
) -> None:
    topic = FlatTopic(items())
    topic.send(Event("c", row(1, "large"), (1, 1)))
    writer = lake.writer(name, topic, order=order)
    writer.write()
    topic.send(Event("u", row(1, "__debezium_unavailable_value", 2), (1, 2)))
    writer.write(1)
    assert writer.rows() == [row(1, "large", 2)]


def test_a_value_that_was_left_out_of_a_key_update_comes_from_the_old_key(
    lake: Lake, name: str
) -> None:
    topic = FlatTopic(items())
    topic.send(Event("c", row(1, "large"), (1, 1)))
    writer = lake.writer(name, topic)
    writer.write()
    topic.send(Event("d", row(1), (1, 2)))
    moved = Event("c", row(2, "__debezium_unavailable_value"), (1, 2))
    topic.send_moved(moved, {"id": 1})
    writer.write(1)
    assert writer.rows() == [row(2, "large")]


def test_a_tombstone_of_a_quarantined_key_waits_with_it_in_kafkas_order(
    lake: Lake, name: str
) -> None:
    """Else the letters, replayed behind it, would bring the row back."""
    topic = FlatTopic(items("tombstone", ()))
    topic.send_all([Event("c", row(k), None) for k in (1, 2)])
    writer = lake.writer(name, topic, order="kafka")
    writer.write()
    topic.raw(topic.key(row(1)), topic.value(Event("u", row(1), None))[:6])
    topic.tombstone(row(1))
    topic.tombstone(row(2))
    facts = writer.write(2)
    assert facts is not None
    assert (facts.dead_letters, facts.bad_records) == (2, 1)
    assert writer.rows() == [row(1)]


def test_every_row_is_decoded_once(lake: Lake, name: str) -> None:
    topic = FlatTopic(items())
    topic.send_all(HISTORY[2:4])
    topic.write_as(WHOLE)
    topic.send_all(HISTORY[4:])
    plans = lake.plans_of(lake.writer(name, topic).write)
    nodes = [node.count("from_avro(") for plan in plans for node in plan.split("\n\n")]
    assert [count for count in nodes if count] == [len(topic.registry.texts)] * 2


def play(dice: random.Random, history: int, with_reads: bool) -> list[Event]:
    events = Upstream(dice, history, with_reads).play()
    return [replace(e, row={**row(e.row["id"], e.row["name"]), "__mine": None}) for e in events]


@pytest.mark.parametrize("with_reads", [True, False])
@settings(
    max_examples=1 + MORE,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_any_history_with_redelivered_tails_is_what_the_oracle_says(
    lake: Lake, with_reads: bool, seed: int
) -> None:
    """By position, and by Kafka's order, where tails replay and the last word is right again."""
    dice = random.Random(seed)
    events = play(dice, next(_numbers), with_reads)
    changes = [as_change(event, 0, offset) for offset, event in enumerate(events)]
    by_source, by_kafka = FlatTopic(items()), FlatTopic(items(dice.choice(TOMBSTONES), ()))
    for topic, order in ((by_source, "source"), (by_kafka, "kafka")):
        topic.send_all(events)
        writer = lake.writer(f"flat{next(_numbers)}", topic, order=order)
        for first, end in micro_batches(dice, events):
            writer.write(first, end)
        heard = changes
        if order == "kafka":
            heard = [replace(change, position=None) for change in changes]
        expected = apply_images({}, oracle.fold(heard, {}))
        assert table_of(writer) == expected
        assert writer.ledger.totals.records == len(events)


def table_of(writer: Writer) -> dict[Any, Any]:
    return {one["id"]: one for one in writer.rows()} if writer.exists else {}
