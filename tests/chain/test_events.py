"""A table without a key keeps every change event: from each database, through the whole chain."""

from __future__ import annotations

from contextlib import closing

import pytest

from cdc_sink.clients.catalog import load_table
from cdc_sink.demo.chain.chain import Chain
from tests.chain.pipelines import Lake, run_once, wait_for_records

SCHEMAS = {"postgres": "public", "mysql": "shop", "mariadb": "shop"}


@pytest.mark.parametrize("side", SCHEMAS)
def test_all_events_of_a_table_without_a_key_are_kept(stack: Chain, lake: Lake, side: str) -> None:
    name, table = f"keyless_{side}", f"{SCHEMAS[side]}.visits"
    with closing(getattr(stack, side).connect("shop")) as opened, opened.cursor() as cursor:
        cursor.execute("CREATE TABLE visits (page varchar(20), at int)")
        if side == "postgres":
            cursor.execute("ALTER TABLE visits REPLICA IDENTITY FULL")
        cursor.execute("INSERT INTO visits VALUES ('home', 1), ('home', 1)")
        settings = {
            "postgres": lambda: stack.postgres_connector(name, "shop", [table], slot=name),
            "mysql": lambda: stack.mysql_connector(name, "shop", [table]),
            "mariadb": lambda: stack.mariadb_connector(name, "shop", [table]),
        }
        stack.add_connector(name, settings[side]())
        wait_for_records(stack, f"{name}.{table}", 2)
        cursor.execute("UPDATE visits SET at = 2")
        cursor.execute("DELETE FROM visits")
    wait_for_records(stack, f"{name}.{table}", 6)
    pipeline = lake.pipeline({"topic": f"{name}.{table}", "mode": "append"})
    run_once(pipeline, lake.spark)
    found = load_table(pipeline.catalog, "shop.visits")
    assert found is not None
    rows = found.scan().to_arrow().to_pylist()
    events = sorted((row["_cdc_offset"], row["_cdc_op"], row["page"], row["at"]) for row in rows)
    assert [event[1:] for event in events] == [
        *[("r", "home", 1)] * 2,
        *[("u", "home", 2)] * 2,
        *[("d", "home", 2)] * 2,
    ]
    stack.remove_connector(name)
