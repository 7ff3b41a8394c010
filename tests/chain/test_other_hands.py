"""Under a running stream, on the real chain: other hands on the table and on the topic, then one command."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from pyspark.sql import SparkSession

from cdc_sink.cli.verbs.status import read_statuses
from cdc_sink.clients.catalog import load_table
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.spark.run.backfill import backfill, backfill_target
from cdc_sink.spark.run.checkpoint import Files
from cdc_sink.spark.run.pipeline import RunningPipeline, start
from tests.chain.databases import connector, execute
from tests.chain.pipelines import Lake, require_equal, streaming, wait, wait_for_records

NAME = "shop.hands"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Source:
    """A source table of thirty rows with a connector and a topic, of one test alone."""

    chain: Chain
    table: str

    @property
    def connector(self) -> str:
        return f"{self.table}_pg"

    @property
    def topic(self) -> str:
        return f"{self.connector}.public.{self.table}"

    @property
    def settings(self) -> dict[str, object]:
        source = {"database": "postgres", "table": f"public.{self.table}"}
        return {"topic": self.topic, "target": NAME, "source": source}

    def sql(self, *statements: str) -> None:
        execute(self.chain, "postgres", *(one.format(t=self.table) for one in statements))

    def churn(self, word: str) -> None:
        self.sql(
            f"UPDATE {{t}} SET name = '{word}' WHERE id % 3 = 0",
            "DELETE FROM {t} WHERE id = (SELECT min(id) FROM {t})",
            "INSERT INTO {t} SELECT max(id) + 1, 'more' FROM {t}",
        )


@pytest.fixture
def source(chain: Chain) -> Iterator[Source]:
    made = Source(chain, f"hands{next(_numbers)}")
    made.sql(
        "CREATE TABLE {t} (id int PRIMARY KEY, name text)",
        "INSERT INTO {t} SELECT i, 'first' FROM generate_series(1, 30) i",
    )
    settings = connector(chain, "postgres", made.connector, [f"public.{made.table}"])
    chain.add_connector(made.connector, settings)
    wait_for_records(chain, made.topic, 30)
    yield made
    chain.remove_connector(made.connector)


def other_program(lake: Lake, statement: str) -> None:
    """Run a statement in a session that shares nothing with the stream's but the catalog."""
    session: SparkSession = lake.spark.newSession()
    for key, value in lake.spark.conf.getAll.items():
        if key.startswith(f"spark.sql.catalog.{lake.name}"):
            session.conf.set(key, value)
    session.sql(statement.format(catalog=lake.name, table=f"{lake.name}.{NAME}"))


def parked(running: RunningPipeline) -> str:
    wait(lambda: running.queries[0].state == "parked", "the table to stop")
    return str(running.queries[0].error)


def take_over(pipeline: Pipeline, lake: Lake) -> None:
    """The one command that the sentence names: one round."""
    running = start(pipeline, lake.spark, once=True, take_over=True)
    assert running.run(threading.Event()) == 0, running.queries[0].error


def test_a_run_of_what_is_there_does_not_wait_for_a_topic(lake: Lake) -> None:
    """Debezium makes a topic with the first row, so a table without rows has none."""
    pipeline = lake.pipeline({"topic": "shop.public.empty", "target": NAME})
    running = start(pipeline, lake.spark, once=True)
    assert running.run(threading.Event()) == 0
    assert running.queries[0].state == "stopped"
    assert load_table(pipeline.catalog, NAME) is None


def test_a_rollback_or_a_drop_under_the_stream_is_named_and_one_command_goes_on(
    source: Source, lake: Lake
) -> None:
    pipeline = lake.pipeline(source.settings)
    with streaming(pipeline, lake.spark) as running:
        require_equal(pipeline)
        older = snapshot(pipeline)
        source.churn("second")
        require_equal(pipeline)
        other_program(lake, f"CALL {{catalog}}.system.rollback_to_snapshot('{NAME}', {older})")
        source.churn("third")
        assert "the table was rolled back or restored" in parked(running)
    take_over(pipeline, lake)
    require_equal(pipeline)
    with streaming(pipeline, lake.spark) as running:
        wait(lambda: running.queries[0].state == "running", "the query to run")
        other_program(lake, "DROP TABLE {table}")
        source.churn("fourth")
        assert "the table is gone: it was dropped or renamed" in parked(running)
    refused = start(pipeline, lake.spark, once=True)
    assert refused.run(threading.Event()) == 1
    assert "the table was dropped or replaced" in str(refused.queries[0].error)
    take_over(pipeline, lake)
    require_equal(pipeline)


def snapshot(pipeline: Pipeline) -> int:
    table = load_table(pipeline.catalog, NAME)
    current = table.current_snapshot() if table else None
    assert current is not None
    return current.snapshot_id


def test_foreign_compaction_and_expiry_of_an_idle_table_take_nothing(
    source: Source, lake: Lake
) -> None:
    pipeline = lake.pipeline(source.settings)
    with streaming(pipeline, lake.spark):
        source.churn("second")
        require_equal(pipeline)
    other_program(lake, f"CALL {{catalog}}.system.rewrite_data_files(table => '{NAME}', "
                  "options => map('rewrite-all', 'true'))")  # fmt: skip
    other_program(lake, f"CALL {{catalog}}.system.expire_snapshots(table => '{NAME}', "
                  "retain_last => 1, older_than => TIMESTAMP '2099-01-01 00:00:00')")  # fmt: skip
    with streaming(pipeline, lake.spark) as running:
        source.churn("third")
        require_equal(pipeline)
        assert running.queries[0].error is None


def test_a_backfill_ends_at_its_end_and_is_harmless_at_any_moment_of_its_life(
    source: Source, lake: Lake
) -> None:
    pipeline = lake.pipeline(source.settings)
    target = backfill_target(pipeline, NAME, None)
    files, state = Files(lake.spark), f"{target.checkpoint}.backfill.json"
    # As a run leaves it that was killed at its begin, ten records before the topic's end of now.
    killed = {"first": {"0": 0}, "end": {"0": 20}, "hand_back_to": None}
    files.write(state, json.dumps(killed))
    for _ in range(2):  # once more after the batch that straddled the end
        report = backfill(pipeline, NAME, spark=lake.spark)
        assert (report.records, report.exit_code) == (20, 0)
        assert rows(pipeline, "shop.hands_backfill") == 20
        files.write(state, json.dumps(killed))  # killed before it wrote down that it is done
    report = backfill(pipeline, NAME, spark=lake.spark)
    assert json.loads(files.read(state) or "")["is_done"]
    source.churn("second")
    wait_for_records(source.chain, source.topic, 30 + 10 + 2 + 1)
    report = backfill(pipeline, NAME, spark=lake.spark)
    assert report.exit_code == 0
    require_equal(lake.pipeline({**source.settings, "target": "shop.hands_backfill"}))


def rows(pipeline: Pipeline, name: str) -> int:
    table = load_table(pipeline.catalog, name)
    return 0 if table is None else table.scan().to_arrow().num_rows


def test_records_of_an_aborted_transaction_are_not_read(source: Source, lake: Lake) -> None:
    copied = f"{source.table}_copied"
    records = consumed(source.chain, source.topic, 30)
    servers: dict[str, Any] = {"bootstrap.servers": source.chain.bootstrap_servers}
    admin = AdminClient(servers)
    admin.create_topics([NewTopic(copied, 1, 1)])[copied].result(30)
    for count, commits in ((30, False), (29, True)):
        producer = Producer({**servers, "transactional.id": source.table})
        producer.init_transactions(30)
        producer.begin_transaction()
        for key, value in records[:count]:
            producer.produce(copied, key=key, value=value)
        assert producer.flush(30) == 0
        (producer.commit_transaction if commits else producer.abort_transaction)(30)
    pipeline = lake.pipeline({"topic": copied, "target": NAME})
    running = start(pipeline, lake.spark, once=True)
    assert running.run(threading.Event()) == 0, running.queries[0].error
    assert rows(pipeline, NAME) == 29
    assert lag(pipeline) == 0  # in spite of two control records
    again = start(pipeline, lake.spark, once=True)
    assert again.run(threading.Event()) == 0, again.queries[0].error


def consumed(chain: Chain, topic: str, count: int) -> list[tuple[bytes, bytes]]:
    settings: Mapping[str, str | bool] = {
        "bootstrap.servers": chain.bootstrap_servers,
        "group.id": "hands",
        "enable.auto.commit": False,
    }
    consumer = Consumer(dict(settings))
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = consumer.consume(count, timeout=30)
    consumer.close()
    return [(bytes(one.key() or b""), bytes(one.value() or b"")) for one in found]


def lag(pipeline: Pipeline) -> int | None:
    return read_statuses(pipeline, 0)[0].lag_records


def test_a_topic_that_is_gone_is_an_error_where_records_of_it_were_applied(
    source: Source, lake: Lake
) -> None:
    pipeline = lake.pipeline(source.settings)
    with streaming(pipeline, lake.spark):
        require_equal(pipeline)
    source.chain.remove_connector(source.connector)
    admin = AdminClient({"bootstrap.servers": source.chain.bootstrap_servers})
    admin.delete_topics([source.topic])[source.topic].result(30)
    running = start(pipeline, lake.spark, once=True)
    assert running.run(threading.Event()) == 1
    assert f"topic {source.topic} is gone: 30 records of it were applied" in str(
        running.queries[0].error
    )
