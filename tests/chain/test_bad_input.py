"""What can be wrong with a topic, a table or a checkpoint: each stops one table with a whole sentence.

Nothing is lost. Faults in single records are in tests/spark/test_bad_records.py, configuration files in
tests/unit/test_config.py, servers and disks in test_bad_surroundings.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cdc_sink.clients.catalog import load_table
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.errors import ConfigError, RecordError, SchemaError, StateError
from tests.chain.databases import connector, execute
from tests.chain.items import applied, make, only_error, require_sentence, rows_in
from tests.chain.pipelines import Lake, run_once, streaming, wait, wait_for_records

ITEMS = "bad.public.bad_items"
KEYLESS = "bad.public.bad_keyless"
RESERVED = "bad.public.bad_reserved"
TABLE = {"topic": ITEMS}


@pytest.fixture(scope="module")
def sources(chain: Chain) -> Iterator[Chain]:
    make(chain, "bad_items")
    execute(
        chain,
        "postgres",
        "CREATE TABLE bad_keyless (name text)",
        'CREATE TABLE bad_reserved (id int PRIMARY KEY, "_cdc_op" text)',
        "INSERT INTO bad_keyless VALUES ('n')",
        "INSERT INTO bad_reserved VALUES (1, 'n')",
    )
    tables = ["public.bad_items", "public.bad_keyless", "public.bad_reserved"]
    chain.add_connector("bad", connector(chain, "postgres", "bad", tables))
    wait_for_records(chain, ITEMS, 20)
    wait_for_records(chain, KEYLESS, 1)
    wait_for_records(chain, RESERVED, 1)
    yield chain
    chain.remove_connector("bad")


# --- topic, key, columns ----------------------------------------------------------------------


def test_a_topic_that_does_not_exist_fails_when_the_config_says_so(
    sources: Chain, lake: Lake
) -> None:
    pipeline = lake.pipeline({"topic": "bad.public.nowhere", "missing_topic": "fail"})
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
        execute(
            sources,
            "postgres",
            "CREATE TABLE bad_late (id int PRIMARY KEY)",
            "INSERT INTO bad_late VALUES (1), (2)",
        )
        settings = connector(sources, "postgres", "bad_late", ["public.bad_late"])
        sources.add_connector("bad_late", settings)
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


OTHERS = {
    "cluster_id": "belongs to cluster id",
    "topic": "belongs to topic",
    "topic_id": "belongs to topic id",
    "table_uuid": "belongs to a table with the uuid",
}


@contextmanager
def changed_identity(lake: Lake, **changes: object) -> Iterator[None]:
    """Another identity beside the checkpoint, while the block runs."""
    file = lake.folder / "checkpoints" / "shop" / "shop.bad_items.identity.json"
    identity = file.read_text()
    file.write_text(json.dumps({**json.loads(identity), **changes}))
    yield
    file.write_text(identity)


def test_a_checkpoint_of_another_cluster_topic_or_table_is_refused(
    sources: Chain, lake: Lake
) -> None:
    pipeline = lake.pipeline(TABLE)
    assert run_once(pipeline, lake.spark).exit_code == 0
    assert run_once(pipeline, lake.spark).exit_code == 0  # now the table's id is known, too
    before = applied(pipeline)
    for name, saw in OTHERS.items():
        with changed_identity(lake, **{name: "another"}):
            error = only_error(lake, pipeline)
        require_sentence(
            error, StateError, 1, where="shop.bad_items", saw=f"{saw} 'another'", remedy=""
        )
    assert run_once(pipeline, lake.spark).exit_code == 0  # nothing but its identity was wrong
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
