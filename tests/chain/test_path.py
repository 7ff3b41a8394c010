"""From the source tables to Iceberg, through every part of the chain, in the steps a user takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import cdc_sink
from cdc_sink.clients.catalog import load_table
from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.spark.run.backfill import backfill
from cdc_sink.spark.run.pipeline import RunningPipeline
from tests.chain.databases import connector, execute
from tests.chain.pipelines import Lake, require_equal, run_once, streaming, wait, wait_for_records

CUSTOMERS = "path_pg.public.path_customers"
LINES = "path_my.shop.path_lines"
TABLES = (
    {
        "topic": CUSTOMERS,
        "source": {"database": "postgres", "table": "public.path_customers"},
    },
    {"topic": LINES, "source": {"database": "mysql", "table": "shop.path_lines"}},
)
IDLE_REPORTS_MS = "spark.sql.streaming.noDataProgressEventInterval"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sources(chain: Chain) -> Iterator[Chain]:
    execute(
        chain,
        "postgres",
        "CREATE TABLE path_customers (id bigint PRIMARY KEY, name text NOT NULL, visits int, "
        "balance numeric(12,2), token uuid, born date, seen timestamp, created timestamptz)",
        "INSERT INTO path_customers SELECT i, 'name ' || i, i, i * 1.25, gen_random_uuid(), "
        "date '2000-01-01' + i, timestamp '2020-01-01' + i * interval '1 s', now() "
        "FROM generate_series(1, 300) i",
    )
    execute(
        chain,
        "mysql",
        "CREATE TABLE path_lines (order_id int, line smallint, sku varchar(20), "
        "price decimal(10,2), kind enum('a','b'), meta json, raw varbinary(20), "
        "added datetime(6), changed timestamp(6) NULL, PRIMARY KEY (order_id, line))",
        *(
            f"INSERT INTO path_lines VALUES ({i}, {i % 3}, 's{i}', {i}.25, 'a', "
            f"'{{\"n\": {i}}}', x'0{i % 10}', '2020-01-01 10:00:00.123456', NOW(6))"
            for i in range(100)
        ),
    )
    settings = connector(chain, "postgres", "path_pg", ["public.path_customers"])
    chain.add_connector("path_pg", settings)
    settings = connector(chain, "mysql", "path_my", ["shop.path_lines"], partitions=3)
    chain.add_connector("path_my", settings)
    wait_for_records(chain, CUSTOMERS, 300)
    wait_for_records(chain, LINES, 100)
    yield chain
    chain.remove_connector("path_pg")
    chain.remove_connector("path_my")


def churn(chain: Chain, first: int) -> None:
    """Updates, deletes, inserts, a key update, delete and reinsert in one transaction, a rollback."""
    execute(
        chain,
        "postgres",
        f"UPDATE path_customers SET visits = visits + 1 WHERE id BETWEEN {first} AND {first + 20}",
        f"DELETE FROM path_customers WHERE id BETWEEN {first + 21} AND {first + 30}",
        f"INSERT INTO path_customers (id, name) VALUES ({first + 1000}, 'new')",
        f"UPDATE path_customers SET id = {first + 2000} WHERE id = {first + 31}",
        f"BEGIN; DELETE FROM path_customers WHERE id = {first + 32}; INSERT INTO path_customers "
        f"(id, name) VALUES ({first + 32}, 'again'); COMMIT",
        "BEGIN; UPDATE path_customers SET name = 'never'; ROLLBACK",
    )
    execute(
        chain,
        "mysql",
        f"UPDATE path_lines SET price = price + 1 WHERE order_id > {first % 100}",
        f"DELETE FROM path_lines WHERE order_id = {first % 100 + 1}",
        f"UPDATE path_lines SET line = line + 10 WHERE order_id = {first % 100 + 2}",
    )


def leave_a_torn_first_offset(pipeline: Pipeline) -> None:
    """As a driver does that was killed while Spark wrote it: Spark alone refuses such a folder for ever."""
    checkpoint = pipeline.checkpoint_of(pipeline.tables[0]).removeprefix("file://")
    offsets = Path(checkpoint) / "offsets"
    offsets.mkdir(parents=True)
    (offsets / ".0.9d3c.tmp").write_text("")


@dataclass(frozen=True)
class Stream:
    """A pipeline that runs while tests of this file change its sources."""

    lake: Lake
    pipeline: Pipeline
    running: RunningPipeline


@pytest.fixture(scope="module")
def stream(
    sources: Chain, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stream]:
    """Spark tells of an idle table every two seconds, not every ten."""
    lake = Lake(tmp_path_factory.mktemp("path"), sources, spark)
    pipeline = lake.pipeline(*TABLES)
    leave_a_torn_first_offset(pipeline)
    spark.conf.set(IDLE_REPORTS_MS, 2000)
    with streaming(pipeline, spark) as running:
        yield Stream(lake, pipeline, running)
    spark.conf.unset(IDLE_REPORTS_MS)


def test_tables_equal_their_sources_after_the_snapshot_and_under_changes(
    sources: Chain, stream: Stream
) -> None:
    for first in (1, 60, 120):
        churn(sources, first)
    require_equal(stream.pipeline)
    assert [q.state for q in stream.running.queries] == ["running", "running"]
    assert lake_files_are_in_buckets(stream.pipeline)


def lake_files_are_in_buckets(pipeline: Pipeline) -> bool:
    table = load_table(pipeline.catalog, "shop.path_customers")
    assert table is not None
    return {str(f.transform) for f in table.spec().fields} == {"bucket[2]"}


def test_added_columns_and_a_widened_integer_arrive_in_flight(
    sources: Chain, stream: Stream
) -> None:
    require_equal(stream.pipeline)
    execute(
        sources,
        "postgres",
        "ALTER TABLE path_customers ADD COLUMN note text, ALTER COLUMN visits TYPE bigint",
        "UPDATE path_customers SET note = 'n', visits = 3000000000 WHERE id < 10",
    )
    execute(
        sources,
        "mysql",
        "ALTER TABLE path_lines ADD COLUMN weight double",
        "UPDATE path_lines SET weight = 1.5 WHERE order_id > 90",
    )
    require_equal(stream.pipeline)
    assert [q.error for q in stream.running.queries] == [None, None]


def test_an_idle_table_starts_no_job(stream: Stream) -> None:
    require_equal(stream.pipeline)
    queries = [q.streaming_query for q in stream.running.queries]
    scheduler = stream.lake.spark.sparkContext._jsc.sc().dagScheduler()
    wait(lambda: all(_is_idle(query) for query in queries), "idle triggers")
    first_job = scheduler.nextJobId()
    seen = [query.lastProgress["timestamp"] for query in queries]
    wait(
        lambda: all(
            query.lastProgress["timestamp"] > then
            for query, then in zip(queries, seen, strict=True)
        ),
        "another progress report without records",
    )
    assert scheduler.nextJobId() == first_job


def _is_idle(query: object) -> bool:
    progress = query.lastProgress  # type: ignore[attr-defined]
    return progress is not None and progress["numInputRows"] == 0


def test_a_lost_checkpoint_is_taken_over_at_the_ledger(sources: Chain, lake: Lake) -> None:
    table = {**TABLES[0], "target": "shop.path_taken"}
    run_once(lake.pipeline(table), lake.spark)
    elsewhere = lake.pipeline(table, checkpoints=f"{lake.folder}/other")
    refused = run_once(elsewhere, lake.spark)
    assert "--take-over" in str(refused.queries[0].error)
    assert refused.exit_code == 1
    records = sum(Cluster(elsewhere.kafka).end_offsets(CUSTOMERS).values())
    execute(sources, "postgres", "UPDATE path_customers SET name = 'later' WHERE id = 5")
    wait_for_records(sources, CUSTOMERS, records + 1)
    require_taken = run_once(elsewhere, lake.spark, take_over=True)
    assert require_taken.exit_code == 0
    require_equal(elsewhere, wait_s=0)
    fenced = run_once(lake.pipeline(table), lake.spark)
    assert "query id" in str(fenced.queries[0].error)


def test_a_backfill_builds_a_second_table_and_refuses_one_that_a_stream_writes(
    stream: Stream,
) -> None:
    pipeline, spark = stream.pipeline, stream.lake.spark
    report = backfill(pipeline, CUSTOMERS, spark=spark)
    assert (report.table, report.exit_code) == ("shop.path_customers_backfill", 0)
    again = backfill(pipeline, CUSTOMERS, spark=spark)
    assert (again.records, again.exit_code) == (0, 0)  # from its end to the topic's end of now
    require_equal(pipeline)
    with pytest.raises(cdc_sink.CdcSinkError, match="a stream is writing this table"):
        backfill(pipeline, CUSTOMERS, into="shop.path_customers", spark=spark)
    copied = stream.lake.pipeline({**TABLES[0], "target": "shop.path_customers_backfill"})
    require_equal(copied)
