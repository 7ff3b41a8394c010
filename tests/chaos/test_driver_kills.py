"""The driver is killed with -9, Python and JVM, between every two steps of a batch and of a replay.

Tests need no order. Several kills may share one comparison of every row with its database: what fails then
prints all kills so far, with their tables and batches.
"""

from __future__ import annotations

import random
import zlib
from itertools import cycle
from pathlib import Path

from cdc_sink.demo.shop.tables import CUSTOMERS
from cdc_sink.spark.failpoints import (
    AFTER_TABLE_COMMIT,
    BATCH_FOLDED,
    BATCH_STARTED,
    BEFORE_TABLE_COMMIT,
    LETTERS_PUT,
    LETTERS_REPLAYING,
    SCHEMAS_FETCHED,
    TABLE_EVOLVED,
    TABLE_HALF_CREATED,
    TABLE_HALF_EVOLVED,
    TABLE_OPENED,
)
from cdc_sink.table.ledger.ledger import Totals
from tests.chaos.driver import wait_until
from tests.chaos.history import History
from tests.chaos.looks import altered_column, key_of, leases_of
from tests.chaos.readings import GREW, GROW, GROWN, SPOIL, SPOILT, Readings
from tests.chaos.shop import PARCELS, READINGS, TABLES

# Where a driver is killed in a new batch, and where the next one is killed in the replay of this batch. Each
# instant of a batch stands on both sides. Of a batch that was committed, a replay plans nothing to commit.
IN_A_NEW_BATCH_AND_AT_ITS_REPLAY = (
    (BATCH_STARTED, BEFORE_TABLE_COMMIT),
    (TABLE_OPENED, AFTER_TABLE_COMMIT),
    (BATCH_FOLDED, BATCH_STARTED),
    (BEFORE_TABLE_COMMIT, TABLE_OPENED),
    (AFTER_TABLE_COMMIT, BATCH_FOLDED),
)
RANDOM_KILLS = 2


def passing(history: History, failpoint: str) -> int:
    """Which passing of an instant ends the driver: drawn from the seed, the first may be of a replay."""
    return random.Random(f"{history.seed}/{failpoint}").randrange(2, 4)


# --- at instants of a table that only the test changes -------------------------------------------


def test_driver_killed_after_writer_schemas_were_fetched(
    history: History, readings: Readings
) -> None:
    readings.be_level()
    history.kill()  # only the first batch of a driver fetches them
    history.kill_in_new_batch(READINGS, SCHEMAS_FETCHED, readings.note("fetched"))
    history.settle(READINGS)


def test_driver_killed_between_the_changes_of_three_columns_of_one_table(
    history: History, readings: Readings
) -> None:
    readings.be_level()
    before = readings.ledger
    history.kill_in_new_batch(READINGS, TABLE_HALF_EVOLVED, lambda: history.execute(*GROW))
    assert len(readings.grown) == 1
    history.kill_at_replay(
        READINGS, TABLE_HALF_EVOLVED
    )  # the next driver, which goes on from there
    assert len(readings.grown) == 2
    assert readings.ledger == before
    history.settle(READINGS)
    assert readings.grown == set(GROWN)
    assert readings.ledger.totals == before.totals.plus(GREW)


def test_letters_are_put_once_and_replayed_once_wherever_a_kill_comes(
    history: History, readings: Readings
) -> None:
    """Between two replays the stream goes on: with letters that wait, then with letters that are applied."""
    readings.be_level()
    _kill_while_letters_are_put(history, readings)
    history.stop()
    _kill_replays(history, readings)
    history.stop()
    after, letters = readings.ledger, readings.letters
    replay = readings.replay()
    assert replay.wait_end("the last replay to end") == 0, replay.tail()
    assert "0 dead letters applied, 0 still wait" in replay.log.read_text()
    assert readings.states == {"replayed"}
    assert len(readings.letters) == len(letters)
    assert readings.ledger == after


def _kill_while_letters_are_put(history: History, readings: Readings) -> None:
    before, rows = readings.ledger, readings.rows
    history.kill_in_new_batch(READINGS, LETTERS_PUT, lambda: history.execute(*SPOIL))
    put = readings.letters
    assert put
    history.kill_at_replay(READINGS, LETTERS_PUT)
    assert readings.letters == put
    assert readings.ledger == before
    readings.wait_for(before.totals.plus(SPOILT))
    assert readings.states == {"quarantined"}
    assert len(readings.letters) == readings.ledger.quarantined == SPOILT.dead_letters
    kept = {key: row for key, row in readings.rows.items() if key % 4 == 0}
    assert kept == {key: row for key, row in rows.items() if key % 4 == 0}


def _kill_replays(history: History, readings: Readings) -> None:
    before = readings.ledger
    # From here on no value is bad: a replay can apply all letters.
    history.configure(READINGS, columns={"seen": {"on_infinity": "null"}})
    readings.kill_replay_at(LETTERS_REPLAYING)
    assert readings.states == {"replaying"}
    assert readings.ledger == before
    readings.note("one more", 7, 8)()
    waiting = before.totals.plus(Totals(applied=1, dead_letters=1))  # of 7, and of 8
    readings.wait_for(waiting)
    history.stop()
    readings.kill_replay_at(AFTER_TABLE_COMMIT)
    assert readings.states == {"replaying"}
    letters = waiting.dead_letters
    applied = waiting.plus(Totals(applied=letters, dead_letters=-letters))
    assert readings.ledger.totals == applied
    readings.note("newer than all letters", 7, 8)()
    history.settle(READINGS)
    assert readings.ledger.totals == applied.plus(Totals(applied=2))


# --- at a table's beginning, and at its change ---------------------------------------------------


def test_driver_killed_after_create_table_before_its_key_was_named(history: History) -> None:
    first = "INSERT INTO parcels SELECT i, i * 10 FROM generate_series(1, 20) i"
    history.kill_in_new_batch(PARCELS, TABLE_HALF_CREATED, lambda: history.execute(first))
    assert key_of(history.pipeline, PARCELS) == []
    history.settle(PARCELS)
    assert key_of(history.pipeline, PARCELS) == ["id"]


def test_driver_killed_after_columns_changed_before_their_rows(history: History) -> None:
    # Then the table is there, and what comes is in new batches.
    history.keep_applying(CUSTOMERS.name)
    history.kill_in_new_batch(CUSTOMERS.name, TABLE_EVOLVED, history.alter_tables)
    history.settle(CUSTOMERS.name)
    assert altered_column(history.pipeline, CUSTOMERS.name) == "string"


# --- at instants of a batch ----------------------------------------------------------------------


def test_driver_killed_between_every_two_steps_of_a_new_batch_and_of_its_replay(
    history: History,
) -> None:
    pairs = zip(IN_A_NEW_BATCH_AND_AT_ITS_REPLAY, cycle(TABLES), strict=False)
    for (new, again), table in pairs:
        history.live()
        history.kill_in_new_batch(table.name, new, passing=passing(history, new))
        history.kill_at_replay(table.name, again)
    history.settle()
    for table in TABLES:
        assert key_of(history.pipeline, table.name) == sorted(table.key)


# --- anywhere ------------------------------------------------------------------------------------


def test_driver_killed_at_random_instants_and_between_a_lease_and_its_checksum(
    history: History,
) -> None:
    for _ in range(RANDOM_KILLS):
        history.kill_somewhere()
    leases = leases_of(history.pipeline)
    assert leases
    for lease in leases:
        _leave_checksum_of_another_text(lease)
    driver = history.start()
    held = len(leases)
    wait_until(
        "all leases to be taken again",
        lambda: sum(f'"pid": {driver.pid}' in lease.read_text() for lease in leases) == held,
        driver.tail,
    )
    history.settle()


def _leave_checksum_of_another_text(lease: Path) -> None:
    """As Hadoop writes it: its sign, the bytes that one sum is of, the sums."""
    sums = zlib.crc32(b"the text before").to_bytes(4, "big")
    checksum = lease.with_name(f".{lease.name}.crc")
    checksum.write_bytes(b"crc\0" + (512).to_bytes(4, "big") + sums)
