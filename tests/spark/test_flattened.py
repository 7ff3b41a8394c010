"""Rows that a transform flattened become the table that whole envelopes would have become."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
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
from cdc_sink.table.ledger.ledger import Totals
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
MODES_IN_ONE_BATCH = [
    ("tombstone", (), [Event("c", row(k), None) for k in (1, 2, 3)] + [Event("d", row(1), None)]),
    (
        "rewrite-with-tombstone",
        (),
        [Event("d", row(2), None), Event("c", row(1, "back"), None)],
    ),
    ("delete-to-tombstone", ("op",), [Event("d", row(1), None), Event("c", row(4), None)]),
]  # fmt: skip
RESULT = [row(1, "changed", 7), row(3, "again")]


def decoded(lake: Lake, topic: FlatTopic, order: Any) -> list[Row]:
    texts = topic.registry.texts
    keys = {i: text for i, text in texts.items() if '"name": "Key"' in text}
    values = {i: text for i, text in texts.items() if i not in keys}
    schemas = WriterSchemas(values, keys, TablePolicy(order=order))
    return decode(topic.batch(lake.spark, tasks=1), schemas, schemas.extend(())).collect()


def lot(number: int, events: list[Event]) -> list[Event]:
    """The same with keys of their own: cases that share a table share no key, and no partition."""
    return [replace(e, row={**e.row, "id": e.row["id"] + 10 * number}) for e in events]


def rows_of(writer: Writer, number: int) -> list[dict[str, Any]]:
    """Those of one case, with the keys that it knows them by."""
    found = [one for one in writer.rows() if one["id"] // 10 == number]
    return [one | {"id": one["id"] - 10 * number} for one in found]


def flat_writer(lake: Lake, name: str, topic: FlatTopic, order: str) -> Writer:
    return replace(lake.writer(name, topic, order=order), partitions=range(len(MODES)))


@pytest.fixture(scope="module")
def histories(lake: Lake) -> dict[str, Writer]:
    """For each order a table of one history in all modes that it can read, cut into two batches."""
    writers = {}
    for order in ("source", "kafka"):
        topic = FlatTopic(items())
        for number, (of, mode, add) in enumerate(MODES):
            if of == order:
                topic.write_as(items(mode, add))
                topic.send_all(lot(number, HISTORY), number)
        topic.records.sort(key=lambda record: record[4] >= 5)
        writers[order] = flat_writer(lake, f"flattened_{order}", topic, order)
        first = sum(record[4] < 5 for record in topic.records)
        writers[order].write(0, first)
        writers[order].write(first)
    return writers


@pytest.mark.parametrize(("order", "mode", "add"), MODES)
def test_a_history_ends_in_its_rows_in_every_mode(
    histories: dict[str, Writer], order: str, mode: str, add: tuple[str, ...]
) -> None:
    writer = histories[order]
    assert rows_of(writer, MODES.index((order, mode, add))) == RESULT
    totals = writer.ledger.totals
    assert totals.records == len(writer.topic.records)
    # By position a tombstone is none of the changes, by Kafka order it is a delete in every mode.
    # Of the modes by position, the one with tombstones has sent two.
    assert totals.tombstones == (2 if order == "source" else 0)


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


LOG = [
    Event("c", row(1, "first"), (1, 1)),
    Event("d", row(1), (1, 2)),
    Event("c", row(1, "second"), (1, 3)),
    Event("c", row(2), (1, 4)),
]
REDELIVERED, LEFT_OUT, WHOLE_LAST, WHOLE_FIRST, MIXED = range(5)


@dataclass
class Shared:
    """A table of some cases after two batches, and the totals after each of them."""

    writer: Writer
    totals: list[Totals]


@pytest.fixture(scope="module")
def shared(lake: Lake) -> dict[str, Shared]:
    """By order."""
    return {order: _shared(lake, order) for order in ("source", "kafka")}


def _shared(lake: Lake, order: str) -> Shared:
    topic = FlatTopic(items())
    topic.send_all(lot(REDELIVERED, LOG), REDELIVERED)
    topic.send_all(lot(LEFT_OUT, [Event("c", row(1, "large"), (1, 1))]), LEFT_OUT)
    for number, kinds in ((WHOLE_LAST, (items(), WHOLE)), (WHOLE_FIRST, (WHOLE, items()))):
        topic.write_as(kinds[0])
        topic.send_all(lot(number, HISTORY[:5]), number)
        topic.write_as(kinds[1])
        topic.send_all(lot(number, HISTORY[3:]), number)
    if order == "kafka":
        for mode, add, events in MODES_IN_ONE_BATCH:
            topic.write_as(items(mode, add))
            topic.send_all(lot(MIXED, events), MIXED)
    shared = Shared(flat_writer(lake, f"flattened_shared_{order}", topic, order), [])
    shared.writer.write()
    shared.totals.append(shared.writer.ledger.totals)
    first = len(topic.records)
    topic.write_as(items())
    topic.send_all(lot(REDELIVERED, LOG[:2]), REDELIVERED)  # and the connector is killed once more
    update = Event("u", row(1, "__debezium_unavailable_value", 2), (1, 2))
    topic.send_all(lot(LEFT_OUT, [update]), LEFT_OUT)
    shared.writer.write(first)
    shared.totals.append(shared.writer.ledger.totals)
    return shared


def test_what_is_redelivered_is_dropped_by_its_position(shared: dict[str, Shared]) -> None:
    by_source = shared["source"]
    assert rows_of(by_source.writer, REDELIVERED) == [row(1, "second"), row(2)]
    assert by_source.totals[1].redelivered - by_source.totals[0].redelivered == 2
    assert by_source.writer.marks[REDELIVERED] == SourcePosition(1, 4)


@pytest.mark.parametrize("order", ["source", "kafka"])
@pytest.mark.parametrize("first_is_whole", [True, False])
def test_a_transform_that_came_or_went_makes_no_difference(
    shared: dict[str, Shared], order: str, first_is_whole: bool
) -> None:
    """Both kinds in one batch; what was sent as one kind is redelivered as the other."""
    number = WHOLE_FIRST if first_is_whole else WHOLE_LAST
    assert rows_of(shared[order].writer, number) == RESULT
    # One change of each: another one stands at the mark.
    assert shared[order].totals[0].redelivered == (2 if order == "source" else 0)


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


def test_modes_may_change_within_a_batch_in_kafkas_order(shared: dict[str, Shared]) -> None:
    assert rows_of(shared["kafka"].writer, MIXED) == [row(3), row(4)]


@pytest.mark.parametrize("order", ["source", "kafka"])
def test_a_value_that_was_left_out_comes_from_the_row_before(
    shared: dict[str, Shared], order: str
) -> None:
    assert rows_of(shared[order].writer, LEFT_OUT) == [row(1, "large", 2)]


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
        for first, end in fewer(micro_batches(dice, events)):
            writer.write(first, end)
        heard = changes
        if order == "kafka":
            heard = [replace(change, position=None) for change in changes]
        expected = apply_images({}, oracle.fold(heard, {}))
        assert table_of(writer) == expected
        assert writer.ledger.totals.records == len(events)


def fewer(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Two batches of four, unless somebody looks for faults."""
    return spans if MORE else [(spans[0][0], spans[1][1]), (spans[2][0], spans[3][1])]


def table_of(writer: Writer) -> dict[Any, Any]:
    return {one["id"]: one for one in writer.rows()} if writer.exists else {}
