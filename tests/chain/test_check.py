"""check and status on the real chain: what goes wrong upstream of a table is said, and ends with an error."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from cdc_sink.check.at_start import StartCheck
from cdc_sink.check.check import check_pipeline
from cdc_sink.check.rules.refusals import refusals
from cdc_sink.check.rules.table import Finding
from cdc_sink.cli.main import run as command
from cdc_sink.cli.verbs.status import exit_code, read_statuses
from cdc_sink.clients.connect import ConnectClient
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.connectors import with_signals
from cdc_sink.spark.run.pipeline import start
from tests.chain.databases import execute
from tests.chain.pipelines import Lake, run_once, wait, wait_for_records

TABLE = "checked"
NAME, TOPIC = f"shop.{TABLE}", f"{TABLE}_pg.public.{TABLE}"
NOW_MS = 0


@pytest.fixture(scope="module")
def connector(chain: Chain) -> Iterator[str]:
    name = f"{TABLE}_pg"
    execute(
        chain,
        "postgres",
        f"CREATE TABLE {TABLE} (id int PRIMARY KEY, name text)",
        f"INSERT INTO {TABLE} SELECT i, 'first' FROM generate_series(1, 30) i",
    )
    admin = AdminClient({"bootstrap.servers": chain.bootstrap_servers})
    admin.create_topics([NewTopic(f"{name}_signals", 1, 1)])[f"{name}_signals"].result(30)
    settings = chain.postgres_connector(name, "shop", [f"public.{TABLE}"], slot=TABLE)
    chain.add_connector(name, with_signals(settings, chain.bootstrap_servers))
    wait_for_records(chain, TOPIC, 30)
    yield name
    chain.remove_connector(name)
    execute(chain, "postgres", f"DROP TABLE {TABLE}")


def test_a_sample_shows_the_newest_records_decoded(
    connector: str, lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    lake.pipeline({"topic": TOPIC, "columns": {"name": {"mask": "redact"}}}, {"topic": "absent"})
    command(["check", str(lake.config), "--output", "json", "--sample", "3"])
    samples = json.loads(capsys.readouterr().out)["samples"]
    assert samples["shop.absent"] == []
    rows = [one["value"]["after"] for one in samples[NAME]]
    assert [row["name"] for row in rows] == ["****"] * 3
    assert [one["key"] for one in samples[NAME]] == [{"id": row["id"]} for row in rows]
    assert samples[NAME][-1]["offset"] == max(one["offset"] for one in samples[NAME])


def errors(pipeline: Pipeline) -> list[Finding]:
    return [one for one in check_pipeline(pipeline) if one.level == "error"]


def troubles(pipeline: Pipeline, now_ms: int) -> tuple[list[str], int]:
    statuses = read_statuses(pipeline, now_ms)
    return [said for one in statuses for said in one.troubles], exit_code(statuses)


def stop(chain: Chain, name: str) -> None:
    httpx2.put(f"{chain.connect_url}/connectors/{name}/stop").raise_for_status()
    states = ConnectClient(chain.connect_url)
    wait(lambda: states.status(name) == {"connector": "STOPPED"}, f"{name} to stop")


def signal(chain: Chain, name: str) -> None:
    data = {"data-collections": [f"public.{TABLE}"], "type": "INCREMENTAL"}
    text = json.dumps({"type": "execute-snapshot", "data": data})
    producer = Producer({"bootstrap.servers": chain.bootstrap_servers})
    producer.produce(f"{name}_signals", key=name, value=text)
    assert producer.flush(30) == 0


def test_what_goes_wrong_upstream_is_an_error_of_check_and_status(
    chain: Chain, connector: str, lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"database": "postgres", "table": f"public.{TABLE}"}
    pipeline = lake.pipeline(
        {"topic": TOPIC, "target": NAME, "source": source}, connect={"url": chain.connect_url}
    )
    # A signal brings a source snapshot of the one table, and no signal table is needed.
    signal(chain, connector)
    wait_for_records(chain, TOPIC, 60)
    assert run_once(pipeline, lake.spark).exit_code == 0
    assert errors(pipeline) == []
    (fine,) = read_statuses(pipeline, time.time_ns() // 1_000_000)
    assert (fine.troubles, fine.exit_code, fine.writer) == ((), 0, "alive")
    assert fine.heartbeat_age_s is not None
    assert fine.heartbeat_age_s < 60
    assert command(["-v", "check", str(lake.config)]) == 0

    stop(chain, connector)
    assert [(one.saw, one.lets_start) for one in errors(pipeline)] == [
        ("connector is STOPPED: it writes nothing", True)
    ]
    assert troubles(pipeline, NOW_MS) == (
        [f"connector {connector} does not run: connector STOPPED"],
        1,
    )
    execute(
        chain,
        "postgres",
        f"INSERT INTO {TABLE} VALUES (99, 'lost')",
        f"SELECT pg_replication_slot_advance('{TABLE}', pg_current_wal_lsn())",
    )
    assert any("somebody else advanced it" in one.saw for one in errors(pipeline))

    admin = AdminClient({"bootstrap.servers": chain.bootstrap_servers})
    admin.delete_topics([TOPIC])[TOPIC].result(30)
    assert any(f"topic {TOPIC} is gone" in said for said in troubles(pipeline, NOW_MS)[0])
    assert "is gone" in refusals(check_pipeline(pipeline))[NAME].saw
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)
    said, code = troubles(pipeline, NOW_MS)
    assert (code, "was deleted and made again" in said[0]) == (1, True)
    assert "topic id" in refusals(check_pipeline(pipeline))[NAME].saw
    refused = start(pipeline, lake.spark, once=True, refused=StartCheck(pipeline).begin().refused())
    assert refused.run(threading.Event()) == 1
    (parked,) = read_statuses(pipeline, NOW_MS)
    assert (parked.state, "the table was not started" in str(parked.error)) == ("parked", True)
    capsys.readouterr()
    assert command(["check", str(lake.config)]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert [line[:5] for line in printed if line[:1].isalpha()][1:] == ["error"] * 3


SCHEMA = {
    "postgres": (
        "CREATE TABLE silent_parts (id int PRIMARY KEY, n int) PARTITION BY RANGE (id)",
        "CREATE TABLE silent_index (id int PRIMARY KEY, e text NOT NULL UNIQUE, "
        "l int GENERATED ALWAYS AS (length(e)) STORED)",
        "ALTER TABLE silent_index REPLICA IDENTITY USING INDEX silent_index_e_key",
        "CREATE TABLE silent_keyless (n int)",
    ),
    "mysql": (
        "CREATE TABLE silent_parents (id int PRIMARY KEY)",
        "CREATE TABLE silent_children (id int PRIMARY KEY, p int, "
        "CONSTRAINT silent_fk FOREIGN KEY (p) REFERENCES silent_parents (id) ON DELETE CASCADE)",
        "SET GLOBAL binlog_row_value_options = 'PARTIAL_JSON'",
    ),
    "mariadb": (
        "CREATE TABLE silent_parents (id int PRIMARY KEY)",
        "CREATE TABLE silent_children (id int PRIMARY KEY, p int, n int, g int AS (n + 1) STORED, "
        "CONSTRAINT silent_fk FOREIGN KEY (p) REFERENCES silent_parents (id) ON UPDATE SET NULL)",
        "SET GLOBAL binlog_row_image = 'MINIMAL'",
    ),
}
EXPECTED = [
    ("postgres", "public.silent_parts", "warning", "truncated sends no change event"),
    (
        "postgres",
        "public.silent_index",
        "error",
        "IDENTITY INDEX: a delete has the index's columns",
    ),
    ("postgres", "public.silent_index", "warning", "generated column(s) l"),
    ("postgres", "public.silent_keyless", "error", "REPLICA IDENTITY DEFAULT and no primary key"),
    ("mysql", "shop.silent_children", "warning", "silent_fk ON DELETE CASCADE"),
    ("mysql", "", "error", "PARTIAL_JSON"),
    ("mariadb", "shop.silent_children", "warning", "silent_fk ON UPDATE SET NULL"),
    ("mariadb", "shop.silent_children", "warning", "generated column(s) g"),
    ("mariadb", "", "error", "binlog_row_image is MINIMAL"),
]


def test_what_a_database_keeps_from_its_log_is_said_by_table(chain: Chain, lake: Lake) -> None:
    for name, statements in SCHEMA.items():
        execute(chain, name, *statements)
    tables = list(dict.fromkeys((name, table) for name, table, *_ in EXPECTED if table))
    numbers = itertools.count()
    pipeline = lake.pipeline(
        *(
            {
                "topic": f"silent.{next(numbers)}",
                "target": f"shop.t{name}_{table.rpartition('.')[2]}",
                "source": {"database": name, "table": table},
            }
            for name, table in tables
        )
    )
    try:
        found = check_pipeline(pipeline)
    finally:
        for name, statement in (
            ("mysql", "SET GLOBAL binlog_row_value_options = ''"),
            ("mariadb", "SET GLOBAL binlog_row_image = 'FULL'"),
        ):
            execute(chain, name, statement)
    for name, table, level, said in EXPECTED:
        where = f"source {table}" if table else f"database {name}"
        assert [one.level for one in found if where in one.where and said in one.saw] == [level], (
            said
        )
