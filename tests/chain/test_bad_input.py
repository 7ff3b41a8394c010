"""What can be wrong around a pipeline: each stops one table with a whole sentence, and loses nothing.

A sentence has four parts: where, what was seen, what happened to the data, what to do. Faults in single
records are in tests/spark/test_bad_records.py, configuration files in tests/unit/test_config.py.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from cdc_sink.clients.catalog import load_table
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.errors import (
    CdcSinkError,
    ConfigError,
    RecordError,
    SchemaError,
    StateError,
    UnavailableError,
)
from cdc_sink.observe.status import DRIVER_GONE, table_status
from cdc_sink.observe.table_facts import Upstream, read_facts, read_ledger
from cdc_sink.spark.run import table_query as query
from cdc_sink.spark.run.table_query import TableQuery
from cdc_sink.table.lease import LEASE_S
from tests.chain.pipelines import Lake, run_once, streaming, wait, wait_for_records
from tests.chain.surroundings import nonsense_server, small_disk

ITEMS = "bad_pg.public.bad_items"
KEYLESS = "bad_pg.public.bad_keyless"
RESERVED = "bad_pg.public.bad_reserved"
TABLE = {"topic": ITEMS}
NEVER = "127.0.0.1:1"


@pytest.fixture(scope="module")
def sources(stack: Chain) -> Iterator[Chain]:
    with stack.postgres.connect("shop") as connection:
        connection.execute("CREATE TABLE bad_items (id int PRIMARY KEY, name text)")
        connection.execute("CREATE TABLE bad_keyless (name text)")
        connection.execute('CREATE TABLE bad_reserved (id int PRIMARY KEY, "_cdc_op" text)')
        connection.execute("INSERT INTO bad_items SELECT i, 'n' FROM generate_series(1, 20) i")
        connection.execute("INSERT INTO bad_keyless VALUES ('n')")
        connection.execute("INSERT INTO bad_reserved VALUES (1, 'n')")
    tables = ["public.bad_items", "public.bad_keyless", "public.bad_reserved"]
    stack.add_connector("bad_pg", stack.postgres_connector("bad_pg", "shop", tables, slot="bad"))
    wait_for_records(stack, ITEMS, 20)
    wait_for_records(stack, KEYLESS, 1)
    wait_for_records(stack, RESERVED, 1)
    yield stack
    stack.remove_connector("bad_pg")


def insert(stack: Chain, first: int, rows: int = 10) -> None:
    with stack.postgres.connect("shop") as connection:
        connection.execute(
            f"INSERT INTO bad_items SELECT i, 'n' FROM generate_series({first}, {first + rows - 1}) i"
        )


def rows_in(pipeline: Pipeline, target: str = "shop.bad_items") -> int:
    table = load_table(pipeline.catalog, target)
    return (
        0 if table is None or table.current_snapshot() is None else table.scan().to_arrow().num_rows
    )


def applied(pipeline: Pipeline, target: str = "shop.bad_items") -> int:
    """The next offset of partition 0 in the table's ledger."""
    table = load_table(pipeline.catalog, target)
    found = read_ledger(table) if table is not None else None
    return found[0].next_offsets[0] if found else 0


def only_error(lake: Lake, pipeline: Pipeline) -> CdcSinkError:
    """Run once; the one table must be parked."""
    running = run_once(pipeline, lake.spark)
    query = running.queries[0]
    assert query.state == "parked"
    assert query.error is not None
    assert running.exit_code == query.error.exit_code
    return query.error


def require_sentence(
    error: BaseException | None, kind: type[CdcSinkError], code: int, **parts: str
) -> None:
    """Where, what was seen, what happened to the data, what to do; and the exit code."""
    assert type(error) is kind
    assert error.exit_code == code
    for name, text in parts.items():
        assert text in getattr(error, name), (name, getattr(error, name))
    assert error.data
    assert error.remedy


def first_error(query: TableQuery) -> CdcSinkError:
    """Wait for the query's next error."""
    wait(lambda: query.error is not None, f"an error of {query.target.name}")
    assert query.error is not None
    return query.error


# --- registry ---------------------------------------------------------------------------------


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


def send_again(stack: Chain, copies: int) -> None:
    """Send the topic's first record once more; Connect itself would need the registry."""
    consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": "again"})
    consumer.assign([TopicPartition(ITEMS, 0, 0)])
    record = consumer.poll(30)
    consumer.close()
    assert record is not None
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
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


# --- topic, key, columns ----------------------------------------------------------------------


def test_a_topic_that_does_not_exist_fails_when_the_config_says_so(
    sources: Chain, lake: Lake
) -> None:
    pipeline = lake.pipeline({"topic": "bad_pg.public.nowhere", "missing_topic": "fail"})
    error = only_error(lake, pipeline)
    require_sentence(
        error,
        ConfigError,
        2,
        where="shop.nowhere",
        saw="does not exist",
        remedy="missing_topic: wait",
    )


def test_a_topic_that_does_not_exist_yet_is_waited_for(sources: Chain, lake: Lake) -> None:
    topic = "bad_late.public.bad_late"
    pipeline = lake.pipeline({"topic": topic})
    with streaming(pipeline, lake.spark) as running:
        wait(lambda: running.queries[0].attempts > 0, "the first look for the topic")
        assert running.queries[0].state == "waiting"
        with sources.postgres.connect("shop") as connection:
            connection.execute("CREATE TABLE bad_late (id int PRIMARY KEY)")
            connection.execute("INSERT INTO bad_late VALUES (1), (2)")
        sources.add_connector(
            "bad_late",
            sources.postgres_connector("bad_late", "shop", ["public.bad_late"], slot="bad_late"),
        )
        wait(lambda: rows_in(pipeline, "shop.bad_late") == 2, "the late topic's rows")
        assert running.queries[0].error is None
    sources.remove_connector("bad_late")


def test_a_table_without_a_key_is_refused(sources: Chain, lake: Lake) -> None:
    pipeline = lake.pipeline({"topic": KEYLESS})
    error = only_error(lake, pipeline)
    require_sentence(
        error,
        RecordError,
        1,
        where=f"{KEYLESS}[0]@0",
        saw="the record has no key",
        data="not applied",
        remedy="primary key",
    )
    assert rows_in(pipeline, "shop.bad_keyless") == 0


def test_a_source_column_named_as_a_metadata_column_is_refused(sources: Chain, lake: Lake) -> None:
    pipeline = lake.pipeline({"topic": RESERVED})
    error = only_error(lake, pipeline)
    require_sentence(error, ConfigError, 2, saw="_cdc_op", remedy="rename")
    assert load_table(pipeline.catalog, "shop.bad_reserved") is None


# --- the table that is already there ----------------------------------------------------------


def test_a_table_of_somebody_else_is_refused_unless_adopted(sources: Chain, lake: Lake) -> None:
    pipeline = lake.pipeline(TABLE)
    make_foreign(lake, "id int NOT NULL, name string")
    error = only_error(lake, pipeline)
    require_sentence(
        error, StateError, 1, where="shop.bad_items", saw="no ledger", remedy="adopt: true"
    )
    adopted = lake.pipeline({**TABLE, "adopt": True})
    assert run_once(adopted, lake.spark).exit_code == 0
    assert rows_in(adopted) >= 20


def test_a_foreign_table_with_other_columns_is_refused_even_when_adopted(
    sources: Chain, lake: Lake
) -> None:
    pipeline = lake.pipeline({**TABLE, "adopt": True})
    make_foreign(lake, "id int NOT NULL, name boolean")
    error = only_error(lake, pipeline)
    require_sentence(error, SchemaError, 1, saw="boolean", remedy="")
    assert "name" in str(error)
    assert rows_in(pipeline) == 0


def make_foreign(lake: Lake, columns: str) -> None:
    lake.spark.sql(f"CREATE NAMESPACE {lake.name}.shop")
    lake.spark.sql(f"CREATE TABLE {lake.name}.shop.bad_items ({columns}) USING iceberg")


# --- the checkpoint ---------------------------------------------------------------------------


def change_identity(lake: Lake, **changes: object) -> None:
    file = lake.folder / "checkpoints" / "shop" / "shop.bad_items.identity.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("name", "saw"),
    [
        ("cluster_id", "belongs to cluster id"),
        ("topic", "belongs to topic"),
        ("topic_id", "belongs to topic id"),
        ("table_uuid", "belongs to a table with the uuid"),
    ],
)
def test_a_checkpoint_of_another_cluster_topic_or_table_is_refused(
    sources: Chain, lake: Lake, name: str, saw: str
) -> None:
    pipeline = lake.pipeline(TABLE)
    assert run_once(pipeline, lake.spark).exit_code == 0
    assert run_once(pipeline, lake.spark).exit_code == 0  # now the table's id is known, too
    before = applied(pipeline)
    change_identity(lake, **{name: "another"})
    error = only_error(lake, pipeline)
    require_sentence(
        error, StateError, 1, where="shop.bad_items", saw=f"{saw} 'another'", remedy=""
    )
    assert applied(pipeline) == before


def test_a_dropped_table_under_a_live_checkpoint_is_refused(sources: Chain, lake: Lake) -> None:
    pipeline = lake.pipeline(TABLE)
    assert run_once(pipeline, lake.spark).exit_code == 0
    lake.spark.sql(f"DROP TABLE {lake.name}.shop.bad_items")
    error = only_error(lake, pipeline)
    require_sentence(
        error, StateError, 1, saw="belongs to a table with the uuid", remedy="--take-over"
    )
    assert load_table(pipeline.catalog, "shop.bad_items") is None


# --- broker, warehouse ------------------------------------------------------------------------


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
        where="shop.bad_items",
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
        where="shop.bad_items",
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
    topic = "bad_gone.public.bad_gone"
    with sources.postgres.connect("shop") as connection:
        connection.execute("CREATE TABLE bad_gone (id int PRIMARY KEY)")
        connection.execute("INSERT INTO bad_gone VALUES (1)")
    sources.add_connector(
        "bad_gone",
        sources.postgres_connector("bad_gone", "shop", ["public.bad_gone"], slot="bad_gone"),
    )
    wait_for_records(sources, topic, 1)
    pipeline = lake.pipeline(TABLE, {"topic": topic})
    with streaming(pipeline, lake.spark) as running:
        wait(lambda: rows_in(pipeline, "shop.bad_gone") == 1, "the row")
        sources.remove_connector("bad_gone")
        admin = AdminClient({"bootstrap.servers": sources.bootstrap_servers})
        admin.delete_topics([topic])[topic].result(10)
        gone = next(q for q in running.queries if q.target.name == "shop.bad_gone")
        wait(lambda: gone.state == "parked" or gone.error is not None, "the deleted topic's table")
        insert(sources, 2000)
        before = rows_in(pipeline)
        wait(lambda: rows_in(pipeline) >= before, "the other table")
        other = next(q for q in running.queries if q is not gone)
        assert other.state == "running"
