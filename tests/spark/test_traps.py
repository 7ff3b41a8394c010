"""Traps that other systems of this kind fell into: the table must come out as its source, or stop.

The list that the numbers are of. What went wrong elsewhere:
 1  order by timestamp: a snapshot row read late overwrote the changes after it
 2  order by timestamp and op: insert, delete, insert of a key in one batch left no row
 3  a late update after a delete brought the row back
 4  a crash between data and offsets wrote an insert twice
 5  a row that moved to another partition of the table stayed in the old one, too
 6  a delete without its row missed a table that was partitioned by another column than the key
 7  a tombstone stopped the job, or deleted a row that had come back
 8  a batch with two schemas was read by one of them
 9  the placeholder of a large value was stored as data
10  a truncate, or a logical message, was taken for a change of a row
11  a changed key left the row under its old key
12  the newest schema of the registry decoded records of an older one
13  a commit of unknown outcome was repeated, and rows stood twice
14  a lost checkpoint began at the newest offset, and rows in between were missing
15  a misspelled key of the configuration was ignored
16  a second writer with older offsets committed
17  deletion vectors piled up until reading took minutes
18  a compaction at the same time took the newest rows with it
19  a source that began again looked like redelivered history
20  of two changes at one position the first one won
21  whole rows of the target were held in memory
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from debezium import ITEMS, TS_MS, Event, SourceTable, Topic, item, optional
from lake import Lake, Writer
from large_values import documents, move, row

from cdc_sink.config import load_config
from cdc_sink.debezium.envelope import RecordKind, record_kind
from cdc_sink.errors import (
    CommitConflictError,
    CommitUnknownError,
    ConfigError,
    RecordError,
    StateError,
)
from cdc_sink.table.schema.columns import Column
from cdc_sink.table.schema.ddl import create_table_sql

SAMPLES = Path(__file__).parent.parent / "unit" / "samples"


def names(writer: Writer) -> dict[Any, str | None]:
    return {one["id"]: one["name"] for one in writer.rows()}


def applied(lake: Lake, name: str, *batches: list[Event], **settings: Any) -> Writer:
    """A table after these micro-batches."""
    topic = Topic(ITEMS)
    writer = lake.writer(name, topic, **settings)
    for events in batches:
        first = len(topic.records)
        topic.send_all(events)
        writer.write(first)
    return writer


@pytest.mark.parametrize("batches", [1, 2])
def test_trap_01_a_snapshot_row_with_a_later_timestamp_than_the_changes_after_it(
    lake: Lake, name: str, batches: int
) -> None:
    later = TS_MS + 60_000
    reads = [Event("r", item(k, "read"), (0, 9), "true", ts_ms=later) for k in (1, 2)]
    changes = [
        Event("u", item(1, "changed"), (1, 1), ts_ms=TS_MS),
        Event("d", item(2), (1, 2), ts_ms=TS_MS),
    ]
    history = [reads + changes] if batches == 1 else [reads, changes]
    assert names(applied(lake, name, *history)) == {1: "changed"}


def test_trap_02_insert_delete_insert_of_one_key_in_one_batch(lake: Lake, name: str) -> None:
    history = [
        Event("c", item(1, "first"), (1, 1)),
        Event("d", item(1), (1, 2)),
        Event("c", item(1, "second"), (1, 3)),
        Event("c", item(2, "first"), (1, 4)),
        Event("d", item(2), (1, 5)),
    ]
    assert names(applied(lake, name, history)) == {1: "second"}


def test_trap_03_a_delete_then_an_older_update_in_the_next_batch(lake: Lake, name: str) -> None:
    older = Event("u", item(1, "older"), (1, 2))
    first = [Event("c", item(1, "first"), (1, 1)), older, Event("d", item(1), (1, 3))]
    writer = applied(lake, name, first, [older])
    assert names(writer) == {}  # not even until the delete comes again
    writer.topic.send_all([first[2], Event("c", item(2, "new"), (1, 4))])
    writer.write(4)
    assert names(writer) == {2: "new"}


def test_trap_04_an_insert_delivered_again_after_a_crash_between_data_and_offsets(
    lake: Lake, name: str
) -> None:
    writer = applied(lake, name, [Event("c", item(1, "once"), (1, 1))])
    after = writer.table.current_snapshot()
    writer.write(0)  # the same offsets
    assert writer.table.current_snapshot() == after
    writer.topic.send(Event("c", item(1, "once"), (1, 1)))  # and once more from the connector
    writer.write(1)
    assert [(one["id"], one["name"]) for one in writer.rows()] == [(1, "once")]


def test_trap_05_a_change_that_moves_the_row_to_another_partition_of_the_table(
    lake: Lake, name: str
) -> None:
    keys = range(1, 9)
    moves = [
        event
        for key in keys
        for event in (
            Event("d", item(key), (2, key)),
            Event("c", item(key + 100, "moved"), (2, key)),
        )
    ]
    writer = applied(lake, name, [Event("c", item(k, "x"), (1, k)) for k in keys], moves, buckets=4)
    assert names(writer) == {key + 100: "moved" for key in keys}


def test_trap_06_a_delete_carries_only_the_key_so_only_the_key_may_partition(
    lake: Lake, name: str
) -> None:
    """A table partitioned by anything else would need a value that a delete does not have."""
    columns = [Column("id", "long", required=True), Column("name", "string")]
    with pytest.raises(ConfigError, match="not one of the key columns id"):
        create_table_sql("t", columns, ["id"], buckets=4, bucket_column="name", properties={})
    both = SourceTable(
        {"id": "long", "line": "int", "name": optional("string")}, key=("id", "line")
    )
    topic = Topic(both)
    rows = [{"id": 1, "line": n, "name": "x"} for n in range(6)]
    topic.send_all(Event("c", one, (1, one["line"])) for one in rows)
    writer = lake.writer(name, topic, buckets=4, bucket_column="line")
    writer.write()
    topic.send_all(Event("d", one, (2, one["line"])) for one in rows[1:])
    writer.write(6)
    assert writer.rows() == rows[:1]


def test_trap_07_tombstones(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    topic.tombstone(item(5))  # even as the first record of all
    writer = lake.writer(name, topic)
    writer.write()
    topic.send(Event("c", item(1, "x"), (1, 1)))
    topic.send(Event("c", item(2, "x"), (1, 2)))
    topic.send(Event("d", item(2), (1, 3)))
    topic.tombstone(item(2))
    writer.write(1)
    assert names(writer) == {1: "x"}
    topic.send(Event("c", item(3, "x"), (1, 4)))
    topic.tombstone(
        item(3)
    )  # its delete is lost: the row is gone at the source, and was never here
    writer.write(5)
    assert names(writer) == {1: "x"}


def test_trap_08_a_schema_change_in_the_middle_of_a_batch(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    wider = SourceTable({**ITEMS.columns, "size": optional("int")})
    topic.send(Event("c", item(1, "old"), (1, 1)))
    topic.write_as(wider)
    topic.send(Event("c", {**item(2, "new"), "size": 2}, (1, 2)))
    topic.write_as(ITEMS)
    topic.send(Event("c", item(3, "old again"), (1, 3)))
    topic.write_as(wider)
    topic.send(Event("u", {**item(1, "new"), "size": 1}, (1, 4)))
    writer = lake.writer(name, topic)
    writer.write()
    assert [one["size"] for one in writer.rows()] == [1, 2, None]


def test_trap_09_two_updates_of_one_row_that_leave_large_values_out(lake: Lake, name: str) -> None:
    writer = documents(lake, name, row(1, "first", "text", b"scan"))
    topic = writer.topic
    topic.send(Event("u", row(1, "second", body="new text"), (1, 2)))
    topic.send(Event("u", row(1, "third"), (1, 3)))
    writer.write(1)
    assert writer.rows() == [row(1, "third", "new text", b"scan")]


def test_trap_10_truncates_and_logical_messages_are_no_row_changes(lake: Lake, name: str) -> None:
    writer = applied(lake, name, [Event("c", item(1, "x"), (1, 1))])
    topic = writer.topic
    topic.raw(topic.key(item(1)), topic.value(Event("t", item(1), (1, 2))))
    with pytest.raises(RecordError, match="the source table was truncated"):
        writer.write(1)
    assert names(writer) == {1: "x"}
    message = (
        '{"type": "record", "name": "io.debezium.connector.postgresql.MessageValue", "fields": []}'
    )
    assert record_kind(message) is RecordKind.MESSAGE
    heartbeat = (SAMPLES / "heartbeat_value.json").read_text()
    assert record_kind(heartbeat) is RecordKind.HEARTBEAT


def test_trap_11_a_changed_key(lake: Lake, name: str) -> None:
    writer = documents(lake, name, row(1, "first", "text", b"scan"))
    topic = writer.topic
    move(topic, row(1), row(7, "moved"), (2, 1), 0)
    writer.write(1)
    assert writer.rows() == [row(7, "moved", "text", b"scan")]


def test_trap_12_the_registrys_newest_schema_is_not_the_writers(lake: Lake, name: str) -> None:
    topic = Topic(ITEMS)
    event = Event("c", item(1, "x"), (1, 1))
    value = topic.value(event)
    newer = SourceTable({"id": "long", "added": optional("string"), "name": optional("string")})
    topic.registry.register(newer.value_schema())
    topic.raw(topic.key(event.row), value)
    writer = lake.writer(name, topic)
    writer.write()
    assert writer.rows() == [item(1, "x")]


def test_trap_13_a_commit_of_unknown_outcome_is_not_repeated_blindly(
    lake: Lake, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = applied(lake, name, [Event("c", item(1, "x"), (1, 1))])
    commit = writer.sink._commit

    def times_out(*given: Any, **named: Any) -> None:
        commit(*given, **named)
        raise CommitUnknownError("catalog", "no answer to the commit", remedy="look")

    writer.topic.send(Event("c", item(2, "x"), (1, 2)))
    with monkeypatch.context() as patched:
        patched.setattr(writer.sink, "_commit", times_out)
        with pytest.raises(CommitUnknownError):
            writer.write(1)
    after = writer.table.current_snapshot()
    writer.write(1)
    assert writer.table.current_snapshot() == after
    assert names(writer) == {1: "x", 2: "x"}


def test_trap_14_a_checkpoint_that_is_lost_or_older_than_the_table(lake: Lake, name: str) -> None:
    writer = applied(lake, name, [Event("c", item(1, "x"), (1, 1))], [Event("d", item(1), (1, 2))])
    after = writer.table.current_snapshot()
    writer.write(0, 1)  # a checkpoint that is one batch older replays what the table has
    assert writer.table.current_snapshot() == after
    fresh = lake.writer(name, writer.topic)
    fresh.sink.stream = dataclasses.replace(fresh.sink.stream, query_id="q2")
    with pytest.raises(StateError, match="--take-over"):
        fresh.write()
    assert names(writer) == {}


def test_trap_15_a_key_of_the_configuration_that_means_nothing(tmp_path: Path) -> None:
    example = Path(__file__).parent.parent.parent / "conf" / "production.example.yaml"
    settings = yaml.safe_load(example.read_text())
    settings["defaults"]["bukets"] = 4
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=r"defaults\.bukets"):
        load_config(path)


def test_trap_16_a_late_writer_with_an_old_offset(
    lake: Lake, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood still between reading the ledger and committing, while another went on."""
    zombie = applied(lake, name, [Event("c", item(1, "x"), (1, 1))])
    zombie.topic.send(Event("c", item(2, "x"), (1, 2)))
    other = lake.writer(name, zombie.topic)
    commit = zombie.sink._commit

    def late(*given: Any, **named: Any) -> None:
        other.write(1)
        commit(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(zombie.sink, "_commit", late)
        with pytest.raises(CommitConflictError):
            zombie.write(1)
    zombie.write(1)
    assert names(zombie) == {1: "x", 2: "x"}


def test_trap_17_deletion_vectors_do_not_pile_up(lake: Lake, name: str) -> None:
    """One vector per data file, however often its rows change: what a reader has to load is bounded."""
    batches = [[Event("c", item(k, "x"), (1, k)) for k in range(8)]]
    batches += [
        [Event("u", item(0, str(n)), (2, n)), Event("u", item(1, str(n)), (2, n))] for n in range(5)
    ]
    writer = applied(lake, name, *batches)
    lake.spark.sql(f"REFRESH TABLE {writer.target.identifier}")
    files = lake.spark.table(f"lake.shop.{name}.delete_files").collect()
    assert {file["file_format"] for file in files} == {"PUFFIN"}
    of_file = [file["referenced_data_file"] for file in files]
    assert len(of_file) == len(set(of_file)) == 5


def test_trap_18_compaction_at_the_same_time(
    lake: Lake, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = applied(lake, name, *[[Event("c", item(k, "x"), (1, k))] for k in range(1, 4)])
    commit = writer.sink._commit

    def after_compaction(*given: Any, **named: Any) -> None:
        table = writer.target.identifier.replace("`", "").removeprefix("lake.")
        lake.spark.sql(  # another session: this one would see the new table snapshot at once
            f"CALL lake.system.rewrite_data_files(table => '{table}', "
            "options => map('rewrite-all', 'true'))"
        )
        commit(*given, **named)

    writer.topic.send(Event("u", item(1, "changed"), (2, 1)))
    writer.topic.send(Event("d", item(2), (2, 2)))
    with monkeypatch.context() as patched:
        patched.setattr(writer.sink, "_commit", after_compaction)
        with pytest.raises(CommitConflictError):
            writer.write(3)
    writer.write(3)
    assert names(writer) == {1: "changed", 3: "x"}


def test_trap_19_a_source_whose_positions_fell(lake: Lake, name: str) -> None:
    writer = applied(lake, name, [Event("c", item(1, "x"), (900, 1))])
    writer.topic.send(Event("u", item(1, "after the failover"), (2, 1), ts_ms=TS_MS + 10_000_000))
    with pytest.raises(StateError, match="the source's log began again"):
        writer.write(1)
    assert names(writer) == {1: "x"}
    # The operator opens a new generation: what the old log said of order no longer counts.
    own = dataclasses.replace(writer.sink.stream, query_id="q2", generation=1)
    next_one = lake.writer(name, writer.topic, generation=1)
    next_one.sink.stream = own
    next_one.open_generation()
    next_one.write(1)
    assert names(writer) == {1: "after the failover"}
    with pytest.raises(StateError, match="belongs to generation 1, this query has 0"):
        writer.write(1)


def test_trap_20_equal_positions_of_one_key(lake: Lake, name: str) -> None:
    """Several changes of a row in one MariaDB transaction or compressed binlog event: Kafka order decides."""
    at = (1, 5)
    history = [
        Event("c", item(1, "first"), at),
        Event("u", item(1, "second"), at),
        Event("d", item(1), at),
    ]
    again = [Event("c", item(1, "third"), at), Event("u", item(1, "fourth"), at)]
    writer = applied(lake, name, history, again)
    assert names(writer) == {1: "fourth"}


def test_trap_21_the_target_scan_holds_keys_only(lake: Lake, name: str) -> None:
    """Whole rows of the target in memory exhausted a peer's heap."""
    writer = applied(lake, name, [Event("c", item(1, "x"), (1, 1))])
    writer.topic.send(Event("u", item(1, "y"), (1, 2)))
    plans = lake.plans_of(lambda: writer.write(1))
    scanned = re.findall(rf"\) BatchScan \S*{name}\nOutput \[\d+\]: \[(.*)\]", "\n".join(plans))
    assert scanned
    for columns in scanned:
        assert re.findall(r"\b(id|name|_cdc_\w+)#", columns) == ["id"]
