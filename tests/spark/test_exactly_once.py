"""A replay changes nothing, the ledger never goes back, and of two drivers one is stopped."""

from __future__ import annotations

import dataclasses

import pytest
from debezium import ITEMS, Event, Topic, item
from lake import Lake, Writer
from put_back import put_back, snapshot_id

from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import CommitConflictError, StateError
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.spark.write.sink import Sink
from cdc_sink.table.ledger.ledger import LEDGER_KEY
from cdc_sink.table.schema.metadata_columns import metadata_columns
from cdc_sink.table.schema.policy import TableMode

CREATED = [Event("c", item(n, "first"), (1, n)) for n in range(1, 4)]


@pytest.fixture(scope="module")
def prepared(lake: Lake) -> tuple[Writer, int]:
    """Three rows in partition 0, one in partition 1, written by one batch; and its table snapshot."""
    topic = Topic(ITEMS)
    topic.send_all(CREATED)
    topic.send(Event("c", item(4, "other partition"), (1, 9)), partition=1)
    writer = lake.writer("exactly_once", topic)
    writer.write()
    return writer, snapshot_id(writer)


@pytest.fixture
def writer(prepared: tuple[Writer, int]) -> Writer:
    """A driver of the same table as it was, whatever another test did with it."""
    return put_back(*prepared)


def test_a_replay_whole_or_in_part_changes_nothing_and_makes_no_table_snapshot(
    writer: Writer,
) -> None:
    first = writer.table.current_snapshot()
    writer.write()
    assert writer.table.current_snapshot() == first

    writer.topic.send(Event("u", item(1, "second"), (2, 1)))
    writer.topic.send(Event("d", item(2), (2, 2)))
    writer.topic.send(Event("u", item(4, "second"), (2, 3)), partition=1)
    expected = [item(1, "second"), item(3, "first"), item(4, "second")]
    facts = writer.write(2)  # begins with two records that the table has
    assert facts is not None
    assert facts.counters()["records"] == 3
    assert writer.rows() == expected
    second = writer.table.current_snapshot()
    for first_record, end in ((0, 4), (1, 3), (0, None), (5, 6)):
        writer.write(first_record, end)
    fresh = dataclasses.replace(writer)  # as after a crash: nothing remembered
    fresh.write(4)
    assert writer.table.current_snapshot() == second
    assert writer.rows() == expected


def test_the_ledger_moves_with_the_rows_and_never_back(writer: Writer) -> None:
    writer.topic.send(Event("u", item(1, "second"), (2, 1)))
    writer.write(4)
    writer.topic.send(Event("u", item(1, "first"), (1, 1)))  # redelivered: below the mark
    writer.write(5)
    assert [dict(ledger.next_offsets) for ledger in writer.ledgers] == [
        {0: 0, 1: 0},
        {0: 3, 1: 1},
        {0: 4, 1: 1},
        {0: 5, 1: 1},
    ]
    of_second = SourcePosition(1, 9)
    assert [dict(ledger.high_water) for ledger in writer.ledgers] == [
        {},
        {0: SourcePosition(1, 3), 1: of_second},
        {0: SourcePosition(2, 1), 1: of_second},
        {0: SourcePosition(2, 1), 1: of_second},
    ]
    assert [ledger.schema_ids for ledger in writer.ledgers] == [(), (1,), (1,), (1,)]
    assert writer.rows()[0] == item(1, "second")


def test_every_row_says_which_record_wrote_it(writer: Writer) -> None:
    (row,) = writer.table.scan("id = 3").to_arrow().to_pylist()
    written = {name: row[name] for name in metadata_columns(TableMode.MIRROR)}
    assert str(written.pop("_cdc_source_ts")) == "2026-02-02 02:40:01.003007+00:00"
    assert written == {
        "_cdc_op": "c",
        "_cdc_position_hi": 1,
        "_cdc_position_lo": 3,
        "_cdc_partition": 0,
        "_cdc_offset": 2,
        "_cdc_generation": 0,
    }


def test_tombstones_alone_move_the_ledger_and_no_row(writer: Writer) -> None:
    rows = writer.rows()
    writer.write()  # it knows the schemas now
    writer.topic.tombstone(item(9))
    writer.write(4)
    assert writer.ledger.next_offsets == {0: 4, 1: 1}
    writer.topic.tombstone(item(9))
    # A driver that was just started knows no schema yet; Spark's offsets move on all the same.
    dataclasses.replace(writer).write(5)
    assert writer.ledger.next_offsets == {0: 5, 1: 1}
    assert writer.rows() == rows


def test_tombstones_before_the_first_event_make_no_table(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    topic.tombstone(item(1))
    writer = lake.writer(name, topic)
    assert writer.write() is None
    assert not writer.exists
    topic.send(CREATED[0])
    writer.write(1)
    assert writer.rows() == [item(1, "first")]


def test_deletes_of_keys_that_an_empty_table_never_had_move_the_ledger_only(
    lake: Lake, name: str
) -> None:
    topic = Topic(ITEMS)
    topic.send(Event("d", item(1), (1, 1)))
    writer = lake.writer(name, topic)
    writer.write()
    assert writer.rows() == []
    assert writer.ledger.next_offsets == {0: 1, 1: 0}


def test_the_first_batch_gives_the_table_that_merging_it_would(
    lake: Lake, name: str, writer: Writer
) -> None:
    topic = Topic(ITEMS)
    topic.send(Event("c", item(0, "already there"), (0, 1)), partition=1)
    merged = lake.writer(name, topic)
    merged.write()
    topic.send_all(CREATED)
    topic.send(Event("c", item(4, "other partition"), (1, 9)), partition=1)
    merged.write(1)
    assert merged.rows()[1:] == writer.rows()


class Overtaken(Sink):
    """A driver that is overtaken by another one just before its table commit."""

    other: Writer

    def _commit(self, *plan: object, **named: object) -> None:
        self.other.write(0)
        super()._commit(*plan, **named)  # type: ignore[arg-type]


def overtaken(writer: Writer) -> Writer:
    stale = dataclasses.replace(writer, kind=Overtaken)
    assert isinstance(stale.sink, Overtaken)
    stale.sink.other = writer
    return stale


def test_a_driver_that_was_overtaken_at_its_merge_writes_nothing(writer: Writer) -> None:
    writer.topic.send(Event("c", item(5, "new"), (2, 1)))
    with pytest.raises(CommitConflictError) as stale:
        overtaken(writer).write(0)
    assert stale.value.retry
    assert [row["id"] for row in writer.rows()] == [1, 2, 3, 4, 5]


def test_a_driver_that_was_overtaken_at_its_first_append_writes_nothing(
    lake: Lake, name: str
) -> None:
    topic = Topic(ITEMS)
    topic.send_all(CREATED)
    writer = lake.writer(name, topic)
    with pytest.raises(CommitConflictError):
        overtaken(writer).write()
    assert [row["id"] for row in writer.rows()] == [1, 2, 3]


@pytest.mark.parametrize("with_row", [True, False])
def test_a_driver_that_was_overtaken_turns_no_ledger_back(writer: Writer, with_row: bool) -> None:
    writer.topic.tombstone(item(9))
    stale = overtaken(writer)
    if with_row:
        writer.topic.send(Event("c", item(5, "new"), (2, 1)))
    else:
        writer.topic.tombstone(item(9))
    with pytest.raises(CommitConflictError):
        stale.write(0, 5)  # one tombstone alone; the other driver wrote all
    assert writer.ledger.next_offsets == {0: 5, 1: 1}


def test_a_second_query_on_the_table_is_refused(writer: Writer) -> None:
    before = writer.table.current_snapshot()
    writer.topic.send(Event("c", item(5), (2, 1)))
    with pytest.raises(StateError, match="belongs to query id 'q1', this query has 'q2'"):
        dataclasses.replace(writer, query_id="q2").write(4)
    assert writer.table.current_snapshot() == before


def test_after_a_take_over_the_new_query_goes_on_and_the_old_one_is_fenced(writer: Writer) -> None:
    old = writer
    old.write()  # it runs
    new = dataclasses.replace(old, query_id="q2")
    table = IcebergTable.load(new.spark, new.target)
    assert table is not None
    table.note({LEDGER_KEY: old.ledger.handed_to("q2").to_json()})
    old.topic.send(Event("u", item(1, "by the new one"), (2, 1)))
    with pytest.raises(StateError, match="belongs to query id 'q2', this query has 'q1'"):
        old.write()
    new.write()
    assert new.rows()[0] == item(1, "by the new one")
    assert new.ledger.next_offsets == {0: 4, 1: 1}


@pytest.mark.parametrize(
    ("other", "saw"),
    [
        ({"pipeline": "other"}, "belongs to pipeline 'shop', this query has 'other'"),
        ({"topic_id": "topic-2"}, "belongs to topic id 'topic-1', this query has 'topic-2'"),
    ],
)
def test_a_table_of_another_pipeline_or_topic_incarnation_is_refused(
    writer: Writer, other: dict[str, str], saw: str
) -> None:
    writer.sink.stream = dataclasses.replace(writer.sink.stream, **other)
    with pytest.raises(StateError, match=saw):
        writer.write()


def test_a_key_in_two_partitions_of_a_batch_stops_the_table(writer: Writer) -> None:
    before = writer.table.current_snapshot()
    writer.topic.send(Event("u", item(7), (3, 1)), partition=0)
    writer.topic.send(Event("u", item(7), (3, 2)), partition=1)
    with pytest.raises(StateError, match="1 keys have changes in more than one partition"):
        writer.write(4)
    assert writer.table.current_snapshot() == before


def test_what_else_the_session_writes_does_not_carry_the_ledger(writer: Writer) -> None:
    writer.topic.tombstone(item(9))
    writer.write(4)
    other = "lake.shop.of_the_user"
    writer.spark.sql(f"CREATE TABLE {other} AS SELECT 1 AS id")
    summary = writer.spark.sql(f"SELECT summary FROM {other}.snapshots").collect()[0][0]
    assert not [key for key in summary if key.startswith("cdc-sink.")]
