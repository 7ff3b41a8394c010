"""What PostgreSQL and Debezium really send in the hard cases; the database itself says what is right."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from cdc_sink.cli.main import run
from cdc_sink.clients.dead_letters import read_letters
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.spark.run.replay import release, replay
from tests.chain.databases import connector, execute, query
from tests.chain.pipelines import (
    Lake,
    ledger_of,
    require_equal,
    run_once,
    streaming,
    wait,
    wait_for_records,
)

TOASTED, TIMES, GROWING, MARKS = (
    f"hard.public.hard_{name}" for name in ("toasted", "times", "growing", "marks")
)


ROWS = 25  # of the table whose topic grows


def table(topic: str, **settings: object) -> dict[str, object]:
    source = {"database": "postgres", "table": topic.removeprefix("hard.")}
    return {"topic": topic, "source": source, **settings}


@pytest.fixture(scope="module")
def sources(chain: Chain) -> Iterator[Chain]:
    # External storage: a text that compresses well would not be left out of an update.
    large = "repeat(md5(i::text), 200)"
    execute(
        chain,
        "postgres",
        "CREATE TABLE hard_toasted (id int PRIMARY KEY, title text, body text, scan bytea, tags text[])",
        "ALTER TABLE hard_toasted ALTER body SET STORAGE EXTERNAL, ALTER scan SET STORAGE EXTERNAL",
        f"INSERT INTO hard_toasted SELECT i, 't', {large}, ({large})::bytea, NULL "
        "FROM generate_series(1, 20) i",
        "ALTER TABLE hard_toasted DROP COLUMN tags",
        "CREATE TABLE hard_times (id int PRIMARY KEY, name text, seen timestamp)",
        "INSERT INTO hard_times SELECT i, 'n', '2020-01-01' FROM generate_series(1, 10) i",
        "CREATE TABLE hard_growing (id int PRIMARY KEY, name text)",
        f"INSERT INTO hard_growing SELECT i, 'n' FROM generate_series(1, {ROWS}) i",
        "CREATE TABLE hard_marks (id serial PRIMARY KEY)",
    )
    tables = [topic.removeprefix("hard.") for topic in (TOASTED, TIMES, GROWING, MARKS)]
    chain.add_connector("hard", connector(chain, "postgres", "hard", tables, partitions=2))
    wait_for_records(chain, TOASTED, 20)
    wait_for_records(chain, GROWING, ROWS)
    yield chain
    chain.remove_connector("hard")


def test_large_values_that_updates_and_key_updates_leave_out_are_there(
    sources: Chain, lake: Lake
) -> None:
    """Default replica identity. Small batches tear the halves of key updates apart."""
    pipeline = lake.pipeline(table(TOASTED, max_records_per_batch=20))
    run_once(pipeline, lake.spark)
    execute(
        sources,
        "postgres",
        "UPDATE hard_toasted SET title = 'second'",
        "UPDATE hard_toasted SET body = repeat('new', 3000) WHERE id % 4 = 0",
        "UPDATE hard_toasted SET id = id + 100, title = 'moved' WHERE id % 2 = 0",
        "UPDATE hard_toasted SET title = 'after it' WHERE id > 100",
        "UPDATE hard_toasted SET id = id + 100 WHERE id > 110",
        "BEGIN; UPDATE hard_toasted SET id = 900 WHERE id = 1; UPDATE hard_toasted SET id = 901 "
        "WHERE id = 900; UPDATE hard_toasted SET scan = NULL WHERE id = 901; COMMIT",
        "DELETE FROM hard_toasted WHERE id = 3",
    )
    require_equal_when_applied(pipeline, lake)
    assert read_letters(pipeline, None, None) == []


def require_equal_when_applied(pipeline: Pipeline, lake: Lake) -> None:
    with streaming(pipeline, lake.spark) as running:
        require_equal(pipeline)
        assert [query.error for query in running.queries] == [None] * len(running.queries)


def test_an_infinite_time_is_set_aside_and_comes_back_when_the_operator_says_so(
    sources: Chain, lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = lake.pipeline(table(TIMES))
    run_once(pipeline, lake.spark)
    execute(
        sources,
        "postgres",
        "UPDATE hard_times SET seen = 'infinity' WHERE id IN (1, 2)",
        "UPDATE hard_times SET seen = '2021-01-01' WHERE id IN (1, 2)",
        "UPDATE hard_times SET name = 'goes on' WHERE id = 3",
        "DELETE FROM hard_times WHERE id = 2",
    )
    wait_for_records(sources, TIMES, 17)
    run_once(pipeline, lake.spark)
    waiting = read_letters(pipeline, "shop.hard_times", None)
    assert sorted(one["reason"] for one in waiting) == ["key_quarantined"] * 3 + ["value"] * 2
    assert all(one["headers"] for one in waiting)
    totals = ledger_of(pipeline, "shop.hard_times").totals
    assert (totals.records, totals.applied, totals.tombstones, totals.dead_letters) == (
        17,
        11,
        1,
        5,
    )

    capsys.readouterr()
    assert run(["dead-letters", "list", str(lake.config), "--output", "json"]) == 1
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) == 5
    assert {"key", "value"}.isdisjoint(listed[0])
    assert run(["status", str(lake.config)]) == 0
    account = "17 records = 11 applied + 1 tombstones + 5 dead letters; 5 wait"
    assert account in " ".join(capsys.readouterr().out.split())

    report = replay(pipeline, "shop.hard_times", spark=lake.spark)
    assert (report.replayed, report.waiting) == (0, 5)  # an infinity is still one
    released = release(pipeline, "shop.hard_times", record=None, spark=lake.spark)
    assert released == 5
    execute(sources, "postgres", "UPDATE hard_times SET name = 'again' WHERE id = 1")
    execute(sources, "postgres", "INSERT INTO hard_times VALUES (2, 'again', NULL)")
    wait_for_records(sources, TIMES, 19)
    require_equal_when_applied(pipeline, lake)
    assert run(["dead-letters", "list", str(lake.config)]) == 0


def churn(chain: Chain, rounds: int) -> None:
    """Updates, deletes, and inserts of what was deleted."""
    for number in range(rounds):
        execute(
            chain,
            "postgres",
            f"UPDATE hard_growing SET name = 'round {number}' WHERE id % 3 <> 0",
            "DELETE FROM hard_growing WHERE id % 5 = 0",
            f"INSERT INTO hard_growing SELECT i, 'again {number}' FROM generate_series(5, {ROWS}, 5) i",
        )


def wait_for_the_slot(chain: Chain) -> None:
    """Wait until the slot has confirmed everything that is written now.

    PostgreSQL 18 itself fails ("compressed pglz data is corrupt") when a slot decodes changes of before an
    ALTER after it. The slot moves only with changes that come later, so each look makes one.
    """
    ((written,),) = query(chain, "postgres", "SELECT pg_current_wal_lsn()")
    slot = f"SELECT confirmed_flush_lsn >= '{written}' FROM pg_replication_slots WHERE slot_name = 'hard'"

    def has_confirmed() -> bool:
        execute(chain, "postgres", "INSERT INTO hard_marks DEFAULT VALUES")
        return query(chain, "postgres", slot) == [(True,)]

    wait(has_confirmed, "the slot to be behind all changes")


def test_a_topic_may_grow_and_its_keys_change_their_schema_while_people_write(
    sources: Chain, lake: Lake
) -> None:
    pipeline = lake.pipeline(table(GROWING, max_records_per_batch=40))
    run_once(pipeline, lake.spark)

    churn(sources, 2)
    admin = AdminClient({"bootstrap.servers": sources.bootstrap_servers})
    admin.create_partitions([NewPartitions(GROWING, 5)])[GROWING].result(30)
    churn(sources, 2)
    sources.restart("connect")  # its producer learns of the new partitions
    churn(sources, 2)
    wait_for_the_slot(sources)
    execute(
        sources, "postgres", "ALTER TABLE hard_growing ALTER id TYPE bigint"
    )  # each key's bytes
    churn(sources, 2)
    require_equal_when_applied(pipeline, lake)
    ledger = ledger_of(pipeline, "shop.hard_growing")
    assert len(ledger.next_offsets) == 5
    assert len(ledger.key_schema_ids) == 2
    assert sum(ledger.next_offsets[p] for p in (2, 3, 4)) > 0

    def settled() -> bool:
        execute(sources, "postgres", "UPDATE hard_growing SET name = 'still here'")
        run_once(pipeline, lake.spark)
        return ledger_of(pipeline, "shop.hard_growing").moving is None

    wait(settled, "the end of moving keys")
    require_equal(pipeline)
