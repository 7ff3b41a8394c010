"""Drivers that live on by half or meet each other, servers that are killed, and what all of it left.

One history: the tests run in the order of the file, on tables that lived through all the tests before, and
through those of test_driver_kills.py. Each ends with every row of every table compared with its database.
The last tests look at every table snapshot that this history left.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping

import pytest

from cdc_sink.clients.catalog import load_table
from cdc_sink.clients.connect import ConnectClient
from cdc_sink.spark.failpoints import ALL, TABLE_CREATED
from tests.chaos.driver import Driver, wait_until
from tests.chaos.every_snapshot import EverySnapshot, Seen
from tests.chaos.history import NAME, READINGS, TABLES, VISITS, History
from tests.chaos.readings import Readings

VISITS_ROWS = 50_000
GONE = 40  # of the rows that an interrupted snapshot delivered
KILLS = 20
KINDS = ("applied", "redelivered", "tombstones", "dead_letters")


# --- zombies and twins ---------------------------------------------------------------------------


def test_python_killed_while_its_jvm_finishes_and_the_next_driver_starts(history: History) -> None:
    history.live()
    zombie = history.keep_running()
    wait_until("a first batch", lambda: zombie.applied() > 0, zombie.tail)
    history.open_batch(zombie)
    zombie.signal(signal.SIGKILL, zombie.pid)
    history.kills["Python only"] += 1
    history.start()
    zombie.wait_end("the JVM to end after its Python was killed")
    history.settle()


def test_jvm_frozen_in_a_batch_wakes_after_the_next_driver_went_on(history: History) -> None:
    history.live()
    zombie = history.keep_running()
    wait_until("a first batch", lambda: zombie.applied() > 0, zombie.tail)
    table = history.open_batch(zombie)
    jvms = zombie.jvms
    zombie.signal(signal.SIGSTOP, *jvms)
    zombie.signal(signal.SIGKILL, zombie.pid)
    history.kills["Python only"] += 1
    driver = history.start()
    # Frozen while it held the catalog's lock, the zombie keeps everybody waiting, which is said.
    wait_until(
        f"{table} to go on",
        lambda: driver.applied(table) > 1 or bool(driver.said("backing_off")),
        driver.tail,
    )
    zombie.signal(signal.SIGCONT, *jvms)
    zombie.wait_end("the JVM to end after it woke up without its Python")
    history.settle()


def test_a_second_driver_on_the_same_checkpoints_is_refused(history: History) -> None:
    history.live()
    first = history.keep_running()
    wait_until("a first batch", lambda: first.applied() > 0, first.tail)
    second = history.start()
    held = [entry["table"] for entry in first.said("applied")]
    wait_until("a refusal", lambda: len(second.said("parked")) >= len(set(held)), second.tail)
    assert second.stop() == 1, second.tail()
    assert second.applied() == 0
    assert all("is in use by another driver" in entry["error"] for entry in second.said("parked"))
    history.drivers.remove(second)
    applied = first.applied()
    wait_until("the first driver to go on", lambda: first.applied() > applied, first.tail)
    history.settle()


def test_of_two_drivers_started_at_one_moment_one_gets_each_table(history: History) -> None:
    history.live()
    history.keep_running().kill()
    one, other = twins = (history.start(), history.start())
    tables = {table.name for table in history.pipeline.tables}

    def tell() -> str:
        return one.tail() + other.tail()

    def both_decided() -> bool:
        return sum(len(_refused(driver)) for driver in twins) >= len(tables)

    wait_until("each table to be refused to one of two drivers", both_decided, tell)
    assert not _refused(one).keys() & _refused(other).keys(), tell()
    for driver, holder in ((one, other), (other, one)):
        who = f"in use by another driver, process {holder.pid} on host {socket.gethostname()};"
        assert all(who in said for said in _refused(driver).values()), tell()
    traffic = {f"{NAME}.{table.name}" for table in TABLES}
    wait_until(
        "each table to go on",
        lambda: all(d.applied(table) > 0 for d in twins for table in traffic - _refused(d).keys()),
        tell,
    )
    assert not any(d.applied(table) for d in twins for table in _refused(d)), tell()
    for driver in twins:
        if _refused(driver).keys() == tables:
            assert driver.wait_end("a driver without a table to end") == 1
            history.drivers.remove(driver)
    history.settle()
    for driver in twins:
        if driver.is_running:
            driver.stop()


def _refused(driver: Driver) -> Mapping[str, str]:
    """The tables that another driver has, with the sentence about each."""
    said = {entry["table"]: entry["error"] for entry in driver.said("parked")}
    return {table: error for table, error in said.items() if "in use by another" in error}


def test_of_two_live_drivers_one_gives_way_and_no_row_comes_twice(history: History) -> None:
    history.live()
    first = history.keep_running()
    wait_until("a first batch", lambda: first.applied() > 0, first.tail)
    table = history.open_batch(first)
    first.signal(signal.SIGSTOP)
    for lease in history.leases():
        lease.unlink()
    second = history.start()
    wait_until(
        f"{table} to go on",
        lambda: second.applied(table) > 1 or bool(second.said("backing_off")),
        second.tail,
    )
    first.signal(signal.SIGCONT)

    both = (first, second)

    def gave_way() -> list[Driver]:
        return [d for d in both if any(entry["table"] == table for entry in d.said("parked"))]

    wait_until(
        f"one of two drivers to give way on {table}",
        lambda: bool(gave_way()),
        lambda: first.tail() + second.tail(),
    )
    assert len(gave_way()) == 1, first.tail() + second.tail()
    (other,) = (driver for driver in both if driver not in gave_way())
    applied = other.applied(table)
    wait_until("the other one to go on", lambda: other.applied(table) > applied, other.tail)
    first.kill()
    second.kill()
    history.start()
    history.settle()


# --- the servers around it -----------------------------------------------------------------------


def test_connect_killed_in_the_initial_snapshot_and_the_driver_at_the_new_table(
    history: History,
) -> None:
    history.kill_somewhere()
    topic = history.pipeline.table(f"{NAME}.{VISITS}").topic
    history.execute(
        f"INSERT INTO visits SELECT i, md5(i::text), i % 900 FROM generate_series(1, {VISITS_ROWS}) i"
    )
    history.connect("late_pg", ["public.visits"])
    wait_until("the first records of visits", lambda: history.has_records(topic, 501), history.tell)
    history.stack.kill("connect")
    delivered = history.records(topic)
    assert delivered < VISITS_ROWS, "the initial snapshot was over: it needs more rows"
    # Rows that the interrupted snapshot delivered and the next one does not name are deleted at its end.
    history.execute(
        f"DELETE FROM visits WHERE id <= {GONE}",
        "UPDATE visits SET seconds = -1 WHERE id % 7 = 0",
        "INSERT INTO visits VALUES (-1, 'while Connect was down', 0)",
    )
    history.kill_at(TABLE_CREATED, 1)  # before the first ledger of visits
    history.stack.restart("connect")
    wait_until(
        "the whole of visits",
        lambda: history.records(topic) > delivered + VISITS_ROWS - GONE,
        history.tell,
    )
    history.execute(
        "DELETE FROM visits WHERE id % 5 = 0",
        "UPDATE visits SET id = -id WHERE id % 11 = 1 AND id > 1",
        "UPDATE visits SET page = 'seen again' WHERE id % 3 = 0",
    )
    history.settle()
    assert history.key_of(VISITS) == ["id"]


def test_connect_killed_while_streaming_redelivers_and_nothing_changes(history: History) -> None:
    history.live()
    driver = history.keep_running()
    for _ in range(2):
        history.more_batches(10)
        history.stack.kill("connect")
        history.stack.restart("connect")
        _wait_connectors(history)
    history.settle()
    assert history.driver is driver
    assert sum(entry["redelivered"] for entry in driver.said("applied")) > 0


def test_broker_killed_under_traffic_is_survived_without_a_restart(history: History) -> None:
    history.live()
    driver = history.keep_running()
    history.more_batches(5)
    history.stack.kill("kafka")
    history.stack.restart("kafka")
    history.more_batches(12)
    history.settle()
    assert history.driver is driver


def _wait_connectors(history: History) -> None:
    connect = ConnectClient(history.stack.connect_url)
    for name in history.connectors:
        connect.wait_running(name, 120)


# --- what the whole history left -----------------------------------------------------------------


@pytest.fixture(scope="module")
def left(history: History) -> Mapping[str, list[Seen]]:
    """Every table snapshot of every table, after everything above."""
    history.settle()
    history.driver.stop()
    keys = {t.name: t.key for t in TABLES} | {VISITS: ("id",), READINGS: ("id",)}
    found = {}
    for table in history.pipeline.tables:
        loaded = load_table(history.pipeline.catalog, table.name)
        assert loaded is not None, table.name
        found[table.name] = list(EverySnapshot(loaded, keys[table.table_name]))
    return found


def test_the_driver_was_killed_often_enough_and_at_every_instant(
    history: History, left: Mapping[str, list[Seen]]
) -> None:
    assert history.kills.total() >= KILLS
    assert set(ALL) <= set(history.kills)
    assert (
        sum(len(snapshots) for snapshots in left.values()) > 100
    )  # else the next tests would say little


def test_no_table_snapshot_has_a_key_twice(left: Mapping[str, list[Seen]]) -> None:
    twice = {
        name: [(seen.snapshot_id, seen.duplicates) for seen in snapshots if seen.duplicates]
        for name, snapshots in left.items()
    }
    assert not any(twice.values()), twice


def test_no_letter_is_there_twice_in_any_table_snapshot(readings: Readings) -> None:
    assert not readings.twice()


def test_ledgers_only_move_forward(left: Mapping[str, list[Seen]]) -> None:
    back = []
    for name, snapshots in left.items():
        for seen in snapshots:
            before, after = seen.parent_ledger, seen.ledger
            assert after is not None, f"{name}: table snapshot {seen.snapshot_id} has no ledger"
            if before is None:
                continue
            offsets = all(after.next_offsets[p] >= o for p, o in before.next_offsets.items())
            marks = all(after.high_water[p] >= m for p, m in before.high_water.items())
            if not (offsets and marks):
                back.append((name, seen.snapshot_id, before, after))
    assert not back


def test_every_record_is_in_exactly_one_table_commit(
    history: History, left: Mapping[str, list[Seen]]
) -> None:
    ends = {name: one.end_offsets for name, one in history.facts().items()}
    for name, snapshots in left.items():
        total = 0
        for seen in snapshots:
            if seen.batch is None:
                continue  # the opening of the ledger
            assert seen.ledger is not None
            assert seen.parent_ledger is not None
            # A replay of letters, or rows that a source snapshot did not name: no new records.
            reads = "records" in seen.batch
            assert reads or seen.batch.keys() & {"replayed", "left_over"}, f"{name}: {seen}"
            records = seen.batch["records"] if reads else 0
            parts = [seen.batch[kind] for kind in KINDS] if reads else []
            moved = sum(seen.ledger.next_offsets.values()) - sum(
                seen.parent_ledger.next_offsets.values()
            )
            assert records == sum(parts) == moved, f"{name}: {seen}"
            total += records
            assert seen.ledger.totals.records == total, f"{name}: {seen}"
        assert total == sum((ends[name] or {}).values()), name
