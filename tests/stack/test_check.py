"""check and status on the real chain: what goes wrong upstream of a table is said, and ends with an error."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from cdc_sink.cli.main import run as command
from cdc_sink.cli.status import exit_code, read_statuses
from cdc_sink.clients.connect import Connect
from cdc_sink.clients.preflight import check_pipeline
from cdc_sink.config import Pipeline
from cdc_sink.stack.connectors import with_signals
from cdc_sink.stack.stack import Stack
from cdc_sink.table.findings import Finding
from cdc_sink.table.refusals import refusals
from tests.stack.pipelines import Lake, run_once, wait, wait_for_records

TABLE = "checked"
NAME, TOPIC = f"shop.{TABLE}", f"{TABLE}_pg.public.{TABLE}"
NOW_MS = 0


@pytest.fixture
def connector(stack: Stack) -> Iterator[str]:
    name = f"{TABLE}_pg"
    sql(
        stack,
        f"CREATE TABLE {TABLE} (id int PRIMARY KEY, name text)",
        f"INSERT INTO {TABLE} SELECT i, 'first' FROM generate_series(1, 30) i",
    )
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    admin.create_topics([NewTopic(f"{name}_signals", 1, 1)])[f"{name}_signals"].result(30)
    settings = stack.postgres_connector(name, "shop", [f"public.{TABLE}"], slot=TABLE)
    stack.add_connector(name, with_signals(settings, stack.bootstrap_servers))
    wait_for_records(stack, TOPIC, 30)
    yield name
    stack.remove_connector(name)
    sql(stack, f"DROP TABLE {TABLE}")


def sql(stack: Stack, *statements: str) -> None:
    with stack.postgres.connect("shop") as connection:
        for statement in statements:
            connection.execute(statement)


def errors(pipeline: Pipeline) -> list[Finding]:
    return [one for one in check_pipeline(pipeline) if one.level == "error"]


def troubles(pipeline: Pipeline, now_ms: int) -> tuple[list[str], int]:
    statuses = read_statuses(pipeline, now_ms)
    return [said for one in statuses for said in one.troubles], exit_code(statuses)


def stop(stack: Stack, name: str) -> None:
    httpx2.put(f"{stack.connect_url}/connectors/{name}/stop").raise_for_status()
    states = Connect(stack.connect_url)
    wait(lambda: states.status(name) == {"connector": "STOPPED"}, f"{name} to stop")


def signal(stack: Stack, name: str) -> None:
    data = {"data-collections": [f"public.{TABLE}"], "type": "INCREMENTAL"}
    text = json.dumps({"type": "execute-snapshot", "data": data})
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    producer.produce(f"{name}_signals", key=name, value=text)
    assert producer.flush(30) == 0


def test_what_goes_wrong_upstream_is_an_error_of_check_and_status(
    stack: Stack, connector: str, lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"database": "postgres", "table": f"public.{TABLE}"}
    pipeline = lake.pipeline(
        {"topic": TOPIC, "target": NAME, "source": source}, connect={"url": stack.connect_url}
    )
    # A signal brings a source snapshot of the one table, and no signal table is needed.
    signal(stack, connector)
    wait_for_records(stack, TOPIC, 60)
    assert run_once(pipeline, lake.spark).exit_code == 0
    assert errors(pipeline) == []
    assert troubles(pipeline, NOW_MS) == ([], 0)
    assert command(["-v", "check", str(lake.config)]) == 0

    stop(stack, connector)
    assert [(one.saw, one.lets_start) for one in errors(pipeline)] == [
        ("connector is STOPPED: it writes nothing", True)
    ]
    assert troubles(pipeline, NOW_MS) == (
        [f"connector {connector} does not run: connector STOPPED"],
        1,
    )
    sql(
        stack,
        f"INSERT INTO {TABLE} VALUES (99, 'lost')",
        f"SELECT pg_replication_slot_advance('{TABLE}', pg_current_wal_lsn())",
    )
    assert any("somebody else advanced it" in one.saw for one in errors(pipeline))

    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    admin.delete_topics([TOPIC])[TOPIC].result(30)
    assert any(f"topic {TOPIC} is gone" in said for said in troubles(pipeline, NOW_MS)[0])
    assert "is gone" in refusals(check_pipeline(pipeline))[NAME].saw
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(30)
    said, code = troubles(pipeline, NOW_MS)
    assert (code, "was deleted and made again" in said[0]) == (1, True)
    assert "topic id" in refusals(check_pipeline(pipeline))[NAME].saw
    assert command(["check", str(lake.config)]) == 1
    print(capsys.readouterr().out)
