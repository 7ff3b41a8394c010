"""Servers and disks that fail around a pipeline: each is a whole sentence, and nothing is lost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.errors import CdcSinkError, ConfigError, UnavailableError
from cdc_sink.observe.status import DRIVER_GONE, table_status
from cdc_sink.observe.table_facts import Upstream, read_facts
from cdc_sink.spark.run import table_query as query
from cdc_sink.table.lease import LEASE_S
from tests.chain.databases import connector, execute
from tests.chain.items import applied, first_error, make, only_error, require_sentence, rows_in
from tests.chain.pipelines import Lake, streaming, wait, wait_for_records
from tests.chain.surroundings import nonsense_server, small_disk

ITEMS = "poor.public.poor_items"
TABLE = {"topic": ITEMS}
NEVER = "127.0.0.1:1"


@pytest.fixture(scope="module")
def sources(chain: Chain) -> Iterator[Chain]:
    make(chain, "poor_items")
    chain.add_connector("poor", connector(chain, "postgres", "poor", ["public.poor_items"]))
    wait_for_records(chain, ITEMS, 20)
    yield chain
    chain.remove_connector("poor")


def insert(chain: Chain, first: int, rows: int = 10) -> None:
    numbers = f"generate_series({first}, {first + rows - 1})"
    execute(chain, "postgres", f"INSERT INTO poor_items SELECT i, 'n' FROM {numbers} i")


def test_a_registry_that_is_down_at_the_start_is_waited_for(sources: Chain, lake: Lake) -> None:
    pipeline = lake.pipeline(TABLE, registry={"url": f"http://{NEVER}/", "timeout_s": 1})
    with streaming(pipeline, lake.spark) as running:
        error = first_error(running.queries[0])
        assert running.queries[0].state == "backing_off"
    require_sentence(error, UnavailableError, 3, where=NEVER, remedy="start the registry")
    assert rows_in(pipeline) == 0


def test_a_registry_that_goes_down_mid_stream_stops_nothing_that_it_is_not_needed_for(
    sources: Chain, lake: Lake
) -> None:
    pipeline = lake.pipeline(TABLE)
    with streaming(pipeline, lake.spark) as running:
        wait(lambda: rows_in(pipeline) >= 20, "the first rows")
        before = applied(pipeline)
        sources.kill("registry")
        try:
            send_again(sources, 10)
            wait(lambda: applied(pipeline) >= before + 10, "records of a known schema")
            assert running.queries[0].error is None
        finally:
            sources.restart("registry")


def send_again(chain: Chain, copies: int) -> None:
    """Send the topic's first record once more; Connect itself would need the registry."""
    consumer = Consumer({"bootstrap.servers": chain.bootstrap_servers, "group.id": "again"})
    consumer.assign([TopicPartition(ITEMS, 0, 0)])
    record = consumer.poll(30)
    consumer.close()
    assert record is not None
    producer = Producer({"bootstrap.servers": chain.bootstrap_servers})
    for _ in range(copies):
        producer.produce(ITEMS, record.value(), record.key(), partition=0)
    assert producer.flush(30) == 0


def test_a_malformed_registry_answer_is_a_sentence(sources: Chain, lake: Lake) -> None:
    with nonsense_server() as address:
        pipeline = lake.pipeline(TABLE, registry={"url": address, "timeout_s": 2})
        with streaming(pipeline, lake.spark) as running:
            error = first_error(running.queries[0])
    assert isinstance(error, CdcSinkError)
    assert address.removesuffix("/") in str(error)
    assert error.remedy
    assert rows_in(pipeline) == 0


def test_a_broker_that_is_down_at_the_start_is_waited_for(sources: Chain, lake: Lake) -> None:
    pipeline = lake.pipeline(TABLE, kafka={"bootstrap_servers": NEVER, "timeout_s": 1})
    with streaming(pipeline, lake.spark) as running:
        error = first_error(running.queries[0])
        assert running.queries[0].state == "backing_off"
    require_sentence(error, UnavailableError, 3, where=NEVER, saw="no answer", remedy="brokers")


def test_a_warehouse_that_can_not_be_written_parks_the_table(sources: Chain, lake: Lake) -> None:
    lake.folder.mkdir()
    (lake.folder / "warehouse").write_text("a file where the folder should be")
    pipeline = lake.pipeline(TABLE)
    error = only_error(lake, pipeline)
    require_sentence(
        error,
        ConfigError,
        2,
        where="shop.poor_items",
        saw="can't be written",
        data="not committed",
        remedy="warehouse",
    )


def test_a_full_disk_backs_off_and_goes_on_when_there_is_room(
    sources: Chain, new_lake: Callable[[], Lake], tmp_path: Path
) -> None:
    lake = new_lake()
    with small_disk(tmp_path / "disk", "512k") as disk:
        settings = {
            "name": lake.name,
            "type": "jdbc",
            "uri": f"jdbc:sqlite:{tmp_path}/catalog.db",
            "warehouse": f"{disk}/warehouse",
        }
        pipeline = lake.pipeline(TABLE, catalog=settings)
        filler = disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(disk).free - 2048))
        with streaming(pipeline, lake.spark) as running:
            error = first_error(running.queries[0])
            assert rows_in(pipeline) == 0
            filler.unlink()
            wait(lambda: rows_in(pipeline) >= 20, "the rows, once there was room")
    require_sentence(
        error,
        UnavailableError,
        3,
        where="shop.poor_items",
        saw="no space is left",
        data="replayed",
        remedy="free space",
    )


def test_a_full_disk_under_the_checkpoint_backs_off_and_goes_on_when_there_is_room(
    sources: Chain, new_lake: Callable[[], Lake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "RENEW_S", 1)
    lake = new_lake()
    with small_disk(tmp_path / "disk", "2m") as disk:
        pipeline = lake.pipeline(TABLE, checkpoints=f"{disk}/checkpoints")
        with streaming(pipeline, lake.spark) as running:
            wait(lambda: applied(pipeline) > 0, "the first rows")
            before = rows_in(pipeline)
            filler = disk / "filler"
            with suppress(OSError):  # what is written at this moment takes some of it
                filler.write_bytes(bytes(shutil.disk_usage(disk).free))
            error = first_error(running.queries[0])
            assert running.queries[0].state == "backing_off"
            assert state_of(pipeline, in_s=LEASE_S + 1) == DRIVER_GONE
            insert(sources, 3000)
            filler.unlink()
            wait(lambda: rows_in(pipeline) >= before + 10, "the rows, once there was room")
            wait(lambda: state_of(pipeline) == "running", "the lease, once there was room")
        assert not [one for one in (disk / "checkpoints").iterdir() if ".tmp" in one.name]
    require_sentence(error, UnavailableError, 3, saw="no space is left", remedy="free space")


def state_of(pipeline: Pipeline, in_s: int = 0) -> str:
    """What `cdc-sink status` says of the one table, now or so much later."""
    (facts,) = read_facts(pipeline, Upstream.of(pipeline))
    return table_status(facts, time.time_ns() // 1_000_000 + in_s * 1000).state


def test_a_deleted_topic_stops_its_table_and_no_other(
    sources: Chain, new_lake: Callable[[], Lake]
) -> None:
    lake = new_lake()
    topic = "poor_gone.public.poor_gone"
    execute(
        sources,
        "postgres",
        "CREATE TABLE poor_gone (id int PRIMARY KEY)",
        "INSERT INTO poor_gone VALUES (1)",
    )
    settings = connector(sources, "postgres", "poor_gone", ["public.poor_gone"])
    sources.add_connector("poor_gone", settings)
    wait_for_records(sources, topic, 1)
    pipeline = lake.pipeline(TABLE, {"topic": topic})
    with streaming(pipeline, lake.spark) as running:
        wait(lambda: rows_in(pipeline, "shop.poor_gone") == 1, "the row")
        sources.remove_connector("poor_gone")
        admin = AdminClient({"bootstrap.servers": sources.bootstrap_servers})
        admin.delete_topics([topic])[topic].result(10)
        gone = next(q for q in running.queries if q.target.name == "shop.poor_gone")
        wait(lambda: gone.state == "parked" or gone.error is not None, "the deleted topic's table")
        before = rows_in(pipeline)
        insert(sources, 2000)
        wait(lambda: rows_in(pipeline) >= before + 10, "the other table")
        other = next(q for q in running.queries if q is not gone)
        assert other.state == "running"
