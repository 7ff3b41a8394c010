"""A TRUNCATE at the source is noticed: with Debezium's defaults it would not even be sent."""

from __future__ import annotations

from contextlib import closing

import pytest

from cdc_sink.demo.chain.chain import Chain
from tests.chain.pipelines import Lake, require_equal, streaming, wait, wait_for_records

SCHEMAS = {"postgres": "public", "mysql": "shop", "mariadb": "shop"}


def execute(stack: Chain, side: str, *statements: str) -> None:
    with closing(getattr(stack, side).connect("shop")) as opened, opened.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.mark.parametrize("side", SCHEMAS)
def test_a_truncated_source_stops_its_table(stack: Chain, lake: Lake, side: str) -> None:
    name, table = f"cut_{side}", f"{SCHEMAS[side]}.cut"
    execute(stack, side, "CREATE TABLE cut (id int PRIMARY KEY)", "INSERT INTO cut VALUES (1), (2)")
    settings = {
        "postgres": lambda: stack.postgres_connector(name, "shop", [table], slot=name),
        "mysql": lambda: stack.mysql_connector(name, "shop", [table]),
        "mariadb": lambda: stack.mariadb_connector(name, "shop", [table]),
    }
    stack.add_connector(name, settings[side]())
    topic = f"{name}.{table}"
    wait_for_records(stack, topic, 2)
    pipeline = lake.pipeline({"topic": topic, "source": {"database": side, "table": table}})
    with streaming(pipeline, lake.spark) as running:
        require_equal(pipeline)
        execute(stack, side, "TRUNCATE TABLE cut", "INSERT INTO cut VALUES (3)")
        wait(lambda: running.queries[0].state == "parked", "the table to stop")
        assert "the source table was truncated" in str(running.queries[0].error)
    stack.remove_connector(name)
