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
from large_values import DOCUMENTS, move, row
from put_back import put_back, snapshot_id
from trap_histories import HISTORIES, PARTITIONS, sent

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


@dataclasses.dataclass
class Played:
    """The table of all histories."""

    writer: Writer
    rows: list[list[dict[str, Any]]]  # after each batch
    snapshot_ids: list[int]  # after each batch, and after each batch that was delivered again

    def names(self, trap: int, batch: int = -1) -> dict[Any, str | None]:
        return names(self.rows[batch], trap)


def names(rows: list[dict[str, Any]], trap: int) -> dict[Any, str | None]:
    """Those of one trap, by its own keys."""
    return {r["id"] % 100: r["name"] for r in rows if r["id"] // 100 == trap}


def new_driver(lake: Lake, topic: Topic, **settings: Any) -> Writer:
    writer = lake.writer("traps", topic, buckets=4, **settings)
    return dataclasses.replace(writer, partitions=PARTITIONS)


@pytest.fixture(scope="module")
def played(lake: Lake) -> Played:
    topic = Topic(ITEMS)
    # The registry's newest schema is none that anything is written with.
    newer = SourceTable({"id": "long", "added": optional("string"), "name": optional("string")})
    topic.registry.register(newer.value_schema())
    played = Played(new_driver(lake, topic), [], [])
    writer = played.writer
    sent(topic, 7, item(5))  # a tombstone, even as the first record of all
    writer.write()
    end = 0
    for number in range(3):
        first = len(topic.records)
        for trap, batches in HISTORIES.items():
            sent(topic, trap, *batches[number] if number < len(batches) else ())
        writer.write(first)
        played.rows.append(writer.rows())
        played.snapshot_ids.append(snapshot_id(writer))
        if number == 0:
            end = len(topic.records)
        if number < 2:  # again what was first, after a crash, or of a checkpoint that is older
            writer.write(0, end)
            played.snapshot_ids.append(snapshot_id(writer))
    return played


@pytest.fixture
def writer(lake: Lake, played: Played) -> Writer:
    """A driver of the same table as it was, whatever another test did with it."""
    topic = put_back(played.writer, played.snapshot_ids[-1]).topic
    return new_driver(lake, topic)


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
    played: Played, batches: int
) -> None:
    assert played.names(batches - 1) == {1: "changed"}


def test_trap_02_insert_delete_insert_of_one_key_in_one_batch(played: Played) -> None:
    assert played.names(2) == {1: "second"}


def test_trap_03_a_delete_then_an_older_update_in_the_next_batch(played: Played) -> None:
    assert played.names(3, 1) == {}  # not even until the delete comes again
    assert played.names(3) == {2: "new"}


def test_trap_04_an_insert_delivered_again_after_a_crash_between_data_and_offsets(
    played: Played,
) -> None:
    assert played.snapshot_ids[0] == played.snapshot_ids[1]
    own = [row for row in played.rows[-1] if row["id"] // 100 == 4]
    assert [(one["id"], one["name"]) for one in own] == [(401, "x")]


def test_trap_05_a_change_that_moves_the_row_to_another_partition_of_the_table(
    played: Played,
) -> None:
    assert played.names(5, 0) == dict.fromkeys(range(1, 9), "x")
    assert played.names(5) == {key + 50: "moved" for key in range(1, 9)}


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


def test_trap_07_tombstones(played: Played) -> None:
    assert [played.names(7, batch) for batch in range(3)] == [{1: "x"}] * 3


def test_trap_08_a_schema_change_in_the_middle_of_a_batch(played: Played) -> None:
    own = [row for row in played.rows[0] if row["id"] // 100 == 8]
    assert [one["size"] for one in own] == [1, 2, None]


@pytest.fixture(scope="module")
def large_rows(lake: Lake) -> tuple[Writer, int]:
    """A table of two rows with large values."""
    topic = Topic(DOCUMENTS)
    topic.send(Event("c", row(1, "first", "text", b"scan"), (1, 1)))
    topic.send(Event("c", row(2, "first", "text", b"scan"), (1, 1)))
    writer = lake.writer("traps_large", topic)
    writer.write()
    return writer, snapshot_id(writer)


@pytest.fixture
def large(large_rows: tuple[Writer, int]) -> Writer:
    """A driver of the same table as it was."""
    return put_back(*large_rows)


def test_trap_09_two_updates_of_one_row_that_leave_large_values_out(large: Writer) -> None:
    large.topic.send(Event("u", row(1, "second", body="new text"), (1, 2)))
    large.topic.send(Event("u", row(1, "third"), (1, 3)))
    large.write(2)
    assert large.rows()[0] == row(1, "third", "new text", b"scan")


def test_trap_10_truncates_and_logical_messages_are_no_row_changes(writer: Writer) -> None:
    first = len(writer.topic.records)
    sent(writer.topic, 10, Event("t", item(1), (2, 1)))
    with pytest.raises(RecordError, match="the source table was truncated"):
        writer.write(first)
    assert names(writer.rows(), 10) == {1: "x"}
    message = (
        '{"type": "record", "name": "io.debezium.connector.postgresql.MessageValue", "fields": []}'
    )
    assert record_kind(message) is RecordKind.MESSAGE
    heartbeat = (SAMPLES / "heartbeat_value.json").read_text()
    assert record_kind(heartbeat) is RecordKind.HEARTBEAT


def test_trap_11_a_changed_key(large: Writer) -> None:
    move(large.topic, row(2), row(7, "moved"), (2, 1), 0)
    large.write(2)
    assert large.rows()[1:] == [row(7, "moved", "text", b"scan")]


def test_trap_12_the_registrys_newest_schema_is_not_the_writers(played: Played) -> None:
    own = [row for row in played.rows[0] if row["id"] // 100 == 12]
    assert own == [{**item(1201, "x"), "size": None}]


def test_trap_13_a_commit_of_unknown_outcome_is_not_repeated_blindly(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = len(writer.topic.records)
    commit = writer.sink._commit

    def times_out(*given: Any, **named: Any) -> None:
        commit(*given, **named)
        raise CommitUnknownError("catalog", "no answer to the commit", remedy="look")

    sent(writer.topic, 13, Event("c", item(2, "x"), (2, 1)))
    with monkeypatch.context() as patched:
        patched.setattr(writer.sink, "_commit", times_out)
        with pytest.raises(CommitUnknownError):
            writer.write(first)
    after = writer.table.current_snapshot()
    writer.write(first)
    assert writer.table.current_snapshot() == after
    assert names(writer.rows(), 13) == {1: "x", 2: "x"}


def test_trap_14_a_checkpoint_that_is_lost_or_older_than_the_table(
    played: Played, writer: Writer
) -> None:
    assert played.snapshot_ids[2] == played.snapshot_ids[3]  # one batch older: it has them
    writer.sink.stream = dataclasses.replace(writer.sink.stream, query_id="q2")
    with pytest.raises(StateError, match="--take-over"):
        writer.write()
    assert names(writer.rows(), 14) == {}


def test_trap_15_a_key_of_the_configuration_that_means_nothing(tmp_path: Path) -> None:
    example = Path(__file__).parent.parent.parent / "conf" / "production.example.yaml"
    settings = yaml.safe_load(example.read_text())
    settings["defaults"]["bukets"] = 4
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=r"defaults\.bukets"):
        load_config(path)


def test_trap_16_a_late_writer_with_an_old_offset(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood still between reading the ledger and committing, while another went on."""
    zombie, first = writer, len(writer.topic.records)
    sent(zombie.topic, 16, Event("c", item(2, "x"), (2, 1)))
    other = dataclasses.replace(zombie)
    commit = zombie.sink._commit

    def late(*given: Any, **named: Any) -> None:
        other.write(first)
        commit(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(zombie.sink, "_commit", late)
        with pytest.raises(CommitConflictError):
            zombie.write(first)
    zombie.write(first)
    assert names(zombie.rows(), 16) == {1: "x", 2: "x"}


def test_trap_17_deletion_vectors_do_not_pile_up(lake: Lake, name: str) -> None:
    """One vector per data file, however often its rows change: what a reader has to load is bounded."""
    batches = [[Event("c", item(k, "x"), (1, k)) for k in range(8)]]
    # The first file loses a row in each of them, each other one a row in the next.
    batches += [[Event("u", item(k, str(n)), (2, n)) for k in (0, n)] for n in range(1, 4)]
    writer = applied(lake, name, *batches)
    lake.spark.sql(f"REFRESH TABLE {writer.target.identifier}")
    files = lake.spark.table(f"lake.shop.{name}.delete_files").collect()
    assert {file["file_format"] for file in files} == {"PUFFIN"}
    of_file = [file["referenced_data_file"] for file in files]
    assert len(of_file) == len(set(of_file)) == 3


def test_trap_18_compaction_at_the_same_time(
    lake: Lake, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = len(writer.topic.records)
    commit = writer.sink._commit

    def after_compaction(*given: Any, **named: Any) -> None:
        table = writer.target.identifier.replace("`", "").removeprefix("lake.")
        lake.spark.sql(  # another session: this one would see the new table snapshot at once
            f"CALL lake.system.rewrite_data_files(table => '{table}', "
            "options => map('rewrite-all', 'true'))"
        )
        commit(*given, **named)

    changes = Event("u", item(1, "changed"), (2, 1)), Event("d", item(2), (2, 2))
    sent(writer.topic, 18, *changes)
    with monkeypatch.context() as patched:
        patched.setattr(writer.sink, "_commit", after_compaction)
        with pytest.raises(CommitConflictError):
            writer.write(first)
    writer.write(first)
    assert names(writer.rows(), 18) == {1: "changed", 3: "x"}


def test_trap_19_a_source_whose_positions_fell(lake: Lake, name: str) -> None:
    writer = applied(lake, name, [Event("c", item(1, "x"), (900, 1))])
    writer.topic.send(Event("u", item(1, "after the failover"), (2, 1), ts_ms=TS_MS + 10_000_000))
    with pytest.raises(StateError, match="the source's log began again"):
        writer.write(1)
    assert writer.rows() == [item(1, "x")]
    # The operator opens a new generation: what the old log said of order no longer counts.
    own = dataclasses.replace(writer.sink.stream, query_id="q2", generation=1)
    next_one = lake.writer(name, writer.topic, generation=1)
    next_one.sink.stream = own
    next_one.open_generation()
    next_one.write(1)
    assert writer.rows() == [item(1, "after the failover")]
    with pytest.raises(StateError, match="belongs to generation 1, this query has 0"):
        writer.write(1)


def test_trap_20_equal_positions_of_one_key(played: Played) -> None:
    assert played.names(20) == {1: "fourth"}


def test_trap_21_the_target_scan_holds_keys_only(lake: Lake, writer: Writer) -> None:
    """Whole rows of the target in memory exhausted a peer's heap."""
    first = len(writer.topic.records)
    sent(writer.topic, 21, Event("u", item(1, "y"), (2, 1)))
    plans = lake.plans_of(lambda: writer.write(first))
    scanned = re.findall(r"\) BatchScan \S*traps\nOutput \[\d+\]: \[(.*)\]", "\n".join(plans))
    assert scanned
    for columns in scanned:
        assert re.findall(r"\b(id|name|size|_cdc_\w+)#", columns) == ["id"]
