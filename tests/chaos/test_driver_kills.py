"""The driver is killed with -9, Python and JVM, between every two steps of a batch and of a replay.

One history: the tests run in the order of the file, on tables that lived through all the tests before, and
test_kills.py goes on with them. Each ends with every row of every table compared with its database, unless
letters wait.
"""

from __future__ import annotations

import random

import pytest

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
from tests.chaos.history import READINGS, TABLES, History
from tests.chaos.readings import GREW, GROW, GROWN, SPOIL, SPOILT, Readings


def passing(history: History, failpoint: str, most: int = 6) -> int:
    """Which passing of a failpoint ends the driver: drawn from the seed, never the very first."""
    return random.Random(f"{history.seed}/{failpoint}").randrange(2, most)


def test_driver_killed_after_create_table_before_its_key_was_named(history: History) -> None:
    history.kill_at(TABLE_HALF_CREATED, 1)
    history.settle()
    for table in TABLES:
        assert history.key_of(table.name) == sorted(table.key)


@pytest.mark.parametrize(
    ("failpoint", "again"),
    [
        pytest.param(BATCH_STARTED, 1, id="after the offset log, before the batch"),
        pytest.param(TABLE_OPENED, 4, id="after the ledger was read"),
        pytest.param(BATCH_FOLDED, 2, id="after the fold, before its plan is carried out"),
        pytest.param(BEFORE_TABLE_COMMIT, 3, id="before the table commit"),
        pytest.param(AFTER_TABLE_COMMIT, 1, id="after the table commit, before the commit log"),
    ],
)
def test_driver_killed_in_a_batch_and_the_next_one_at_its_replay(
    history: History, failpoint: str, again: int
) -> None:
    history.kill_at(failpoint, passing(history, failpoint))
    history.kill_at(failpoint, again)
    history.settle()


def test_driver_killed_after_writer_schemas_were_fetched(history: History) -> None:
    history.kill_somewhere()
    history.kill_at(SCHEMAS_FETCHED, passing(history, SCHEMAS_FETCHED, most=len(TABLES)))
    history.settle()


def test_driver_killed_after_columns_changed_before_their_rows(history: History) -> None:
    history.kill_somewhere()
    history.alter_tables()
    history.kill_at(TABLE_EVOLVED, 1)
    history.settle()
    assert history.has_altered()


def test_driver_killed_between_the_changes_of_three_columns_of_one_table(
    history: History, readings: Readings
) -> None:
    history.settle()
    before = readings.ledger
    history.kill_at(TABLE_HALF_EVOLVED, 1, *GROW)
    assert len(readings.grown) == 1
    history.kill_at(TABLE_HALF_EVOLVED, 1)  # the next driver, which goes on from there
    assert len(readings.grown) == 2
    assert readings.ledger == before
    history.settle()
    assert readings.grown == set(GROWN)
    assert readings.ledger.totals == before.totals.plus(GREW)


def test_driver_killed_after_letters_were_put_before_the_table_commit(
    history: History, readings: Readings
) -> None:
    history.settle()
    before, rows = readings.ledger, readings.rows
    history.kill_at(LETTERS_PUT, 1, *SPOIL)
    put = readings.letters
    assert put
    history.kill_at(LETTERS_PUT, 1)  # the next driver, at its replay
    assert readings.letters == put
    assert readings.ledger == before
    readings.wait_for(before.totals.plus(SPOILT))
    assert readings.states == {"quarantined"}
    assert len(readings.letters) == readings.ledger.quarantined == SPOILT.dead_letters
    kept = {key: row for key, row in readings.rows.items() if key % 4 == 0}
    assert kept == {key: row for key, row in rows.items() if key % 4 == 0}


def test_replay_of_letters_killed_on_both_sides_of_its_table_commit(
    history: History, readings: Readings
) -> None:
    """Between two replays the stream goes on: with letters that wait, then with letters that are applied."""
    history.close()
    history.driver.stop()
    before = readings.ledger
    # From here on no value is bad: a replay can apply all letters.
    history.configure(READINGS, columns={"seen": {"on_infinity": "null"}})
    readings.kill_replay_at(LETTERS_REPLAYING)
    assert readings.states == {"replaying"}
    assert readings.ledger == before
    history.execute("UPDATE readings SET note = 'one more' WHERE id IN (7, 8)")
    waiting = before.totals.plus(Totals(applied=1, dead_letters=1))  # of 7, and of 8
    readings.wait_for(waiting)
    history.driver.stop()
    readings.kill_replay_at(AFTER_TABLE_COMMIT)
    assert readings.states == {"replaying"}
    letters = waiting.dead_letters
    applied = waiting.plus(Totals(applied=letters, dead_letters=-letters))
    assert readings.ledger.totals == applied
    history.execute("UPDATE readings SET note = 'newer than all letters' WHERE id IN (7, 8)")
    history.settle()
    history.driver.stop()
    after = readings.ledger
    replay = readings.replay()
    assert replay.wait_end("the last replay to end") == 0, replay.tail()
    assert "0 letters applied, 0 still wait" in replay.log.read_text()
    assert readings.states == {"replayed"}
    assert len(readings.letters) == letters
    assert readings.ledger == after
    assert after.totals == applied.plus(Totals(applied=2))


def test_driver_killed_at_random_instants_again_and_again(history: History) -> None:
    for _ in range(3):
        history.kill_somewhere()
    history.settle()


def test_driver_killed_between_a_lease_and_its_checksum(history: History) -> None:
    history.kill_somewhere()
    for lease in history.leases():
        lease.write_text(lease.read_text() + "\n")  # its .crc beside it is of the text before
    history.settle()
