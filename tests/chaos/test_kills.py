"""Drivers that live on by half or meet each other, servers that are killed, and what all of it left.

Tests need no order. Each ends with every row of the tables that its drivers had compared with its database.
The last tests look at every table snapshot that there is by then, and each comparison at those that are new.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Mapping

import pytest

from cdc_sink.clients.connect import ConnectClient
from cdc_sink.demo.shop.tables import ORDER_LINES
from cdc_sink.spark.failpoints import TABLE_CREATED
from tests.chaos.driver import Driver, wait_until
from tests.chaos.history import History
from tests.chaos.left import Left
from tests.chaos.looks import facts_of, key_of, leases_of, records_in
from tests.chaos.shop import TABLES, VISITS, name_of

ALONE = ORDER_LINES.name  # the table of drivers that have one only
VISITS_ROWS = 15_000
GONE = 40  # of the rows that an interrupted snapshot delivered
CONNECT_KILLS = 3  # at most, until one of them comes between records and their offsets
KILLS = 3
SNAPSHOTS = 50  # fewer would say little


# --- zombies and twins ---------------------------------------------------------------------------


def test_python_killed_while_its_jvm_finishes_and_the_next_driver_starts(history: History) -> None:
    zombie = history.keep_applying()
    history.open_batch(zombie)
    zombie.signal(signal.SIGKILL, zombie.pid)
    history.kills.append("Python only")
    history.start()
    zombie.wait_end("the JVM to end after its Python was killed")
    history.settle()


def test_jvm_frozen_in_a_batch_wakes_after_the_next_driver_went_on(history: History) -> None:
    zombie = history.keep_applying()
    table = history.open_batch(zombie)
    jvms = zombie.jvms
    zombie.signal(signal.SIGSTOP, *jvms)
    zombie.signal(signal.SIGKILL, zombie.pid)
    history.kills.append("Python only, its JVM frozen")
    driver = history.start()
    # Frozen while it held the catalog's lock, the zombie keeps everybody waiting, which is said.
    wait_until(f"{table} to go on", lambda: _goes_on(driver, table), driver.tail)
    zombie.signal(signal.SIGCONT, *jvms)
    zombie.wait_end("the JVM to end after it woke up without its Python")
    history.settle()


def _goes_on(driver: Driver, table: str) -> bool:
    return driver.applied(table) > 1 or bool(driver.said("backing_off"))


def test_a_second_driver_on_the_same_checkpoints_is_refused(history: History) -> None:
    first = history.keep_applying(ALONE)
    second = history.start(ALONE)
    assert second.wait_end("a refused driver to end") == 1, second.tail()
    assert second.applied() == 0
    assert _refused(second).keys() == {name_of(ALONE)}, second.tail()
    history.drivers.remove(second)
    history.more_batches(first, 1)
    history.settle(ALONE)


def test_of_two_live_drivers_one_gives_way_and_no_row_comes_twice(history: History) -> None:
    first = history.keep_applying(ALONE)
    table = history.open_batch(first)
    first.signal(signal.SIGSTOP)
    for lease in leases_of(history.pipeline):
        lease.unlink()
    second = history.start(ALONE)
    wait_until(f"{table} to go on", lambda: _goes_on(second, table), second.tail)
    first.signal(signal.SIGCONT)
    both = (first, second)

    def gave_way() -> list[Driver]:
        return [d for d in both if any(entry["table"] == table for entry in d.said("parked"))]

    def tell() -> str:
        return first.tail() + second.tail()

    wait_until(f"one of two drivers to give way on {table}", lambda: bool(gave_way()), tell)
    assert len(gave_way()) == 1, tell()
    (loser,) = gave_way()
    (other,) = (driver for driver in both if driver is not loser)
    assert loser.wait_end("a driver that gave way on its only table to end") == 1
    history.drivers.remove(loser)
    history.more_batches(other, 1, table)
    history.settle(ALONE)


def test_of_two_drivers_started_at_one_moment_one_gets_each_table(history: History) -> None:
    history.live()
    history.kill()
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
    traffic = {name_of(table.name) for table in TABLES}
    wait_until(
        "each table to go on",
        lambda: all(d.applied(table) > 0 for d in twins for table in traffic - _refused(d).keys()),
        tell,
    )
    assert not any(d.applied(table) for d in twins for table in _refused(d)), tell()
    without = [driver for driver in twins if _refused(driver).keys() == tables]
    for driver in without:
        assert driver.wait_end("a driver without a table to end") == 1
        history.drivers.remove(driver)
    for driver in () if without else twins:  # each has some: one driver shall have all again
        driver.kill()
    history.settle()


def _refused(driver: Driver) -> Mapping[str, str]:
    """The tables that another driver has, with the sentence about each."""
    said = {entry["table"]: entry["error"] for entry in driver.said("parked")}
    return {table: error for table, error in said.items() if "in use by another" in error}


# --- the servers around it -----------------------------------------------------------------------


def test_connect_killed_in_the_initial_snapshot_and_the_driver_at_the_new_table(
    history: History,
) -> None:
    history.settle()  # so that no other table is new
    history.live()
    topic = history.pipeline.table(name_of(VISITS)).topic
    history.execute(
        f"INSERT INTO visits SELECT i, md5(i::text), i % 900 FROM generate_series(1, {VISITS_ROWS}) i"
    )
    # The driver ends before the first ledger of visits.
    history.kill_at(TABLE_CREATED, _cut_snapshot_short(history, topic))
    delivered = records_in(history.pipeline, topic)
    assert delivered < VISITS_ROWS, "the initial snapshot was over: it needs more rows"
    # Rows that the interrupted snapshot delivered and the next one does not name are deleted at its end.
    history.execute(
        f"DELETE FROM visits WHERE id <= {GONE}",
        "UPDATE visits SET seconds = -1 WHERE id % 7 = 0",
        "INSERT INTO visits VALUES (-1, 'while Connect was down', 0)",
    )
    history.chain.restart("connect")
    wait_until(
        "the whole of visits",
        lambda: records_in(history.pipeline, topic) > delivered + VISITS_ROWS - GONE,
        history.tell,
    )
    history.execute(
        "DELETE FROM visits WHERE id % 5 = 0",
        "UPDATE visits SET id = -id WHERE id % 11 = 1 AND id > 1",
        "UPDATE visits SET page = 'seen again' WHERE id % 3 = 0",
    )
    history.settle()
    assert key_of(history.pipeline, VISITS) == ["id"]


def _cut_snapshot_short(history: History, topic: str) -> Callable[[], None]:
    """What adds the connector of visits, and kills Connect once first records of it are there."""

    def cut() -> None:
        history.connect("late_pg", ["public.visits"])
        wait_until(
            "first records of visits",
            lambda: records_in(history.pipeline, topic) > 500,
            history.tell,
        )
        history.chain.kill("connect")

    return cut


def test_connect_killed_while_streaming_redelivers_and_nothing_changes(history: History) -> None:
    history.settle()
    driver, before = history.driver, _redelivered(history.driver)
    for _ in range(CONNECT_KILLS):
        history.live()
        history.more_batches(driver, 3)
        history.chain.kill("connect")
        history.chain.restart("connect")
        _wait_connectors(history)
        history.settle()
        if _redelivered(driver) > before:
            break
    assert history.driver is driver
    assert _redelivered(driver) > before


def _redelivered(driver: Driver) -> int:
    return sum(int(entry["redelivered"]) for entry in driver.said("applied"))


def test_broker_killed_under_traffic_is_survived_without_a_restart(history: History) -> None:
    driver = history.keep_applying()
    history.more_batches(driver, 2)
    history.chain.kill("kafka")
    history.chain.restart("kafka")
    history.more_batches(driver, 6)
    history.settle()
    assert history.driver is driver


def _wait_connectors(history: History) -> None:
    connect = ConnectClient(history.chain.connect_url)
    for name in history.connectors:
        connect.wait_running(name, 120)


# --- what the whole history left -----------------------------------------------------------------


@pytest.fixture
def left(history: History) -> Left:
    """All table snapshots of a history that is long enough: it goes on where it is not."""
    while len(history.kills) < KILLS:
        history.kill_somewhere()
    while history.left.snapshots < SNAPSHOTS:
        history.more_batches(history.keep_applying(), SNAPSHOTS // 5)
        history.left.look(history.pipeline)
    history.settle()
    return history.left


def test_no_table_snapshot_has_a_key_twice(left: Left) -> None:
    assert not left.keys_twice()


def test_ledgers_only_move_forward(left: Left) -> None:
    assert not left.gone_back()


def test_every_record_is_in_exactly_one_table_commit(history: History, left: Left) -> None:
    assert not left.uncounted(
        {name: one.end_offsets or {} for name, one in facts_of(history.pipeline).items()}
    )
