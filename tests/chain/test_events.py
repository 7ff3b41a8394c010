"""A table without a key keeps every change event: from each database, through the whole chain."""

from __future__ import annotations

from cdc_sink.clients.catalog import load_table
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from tests.chain.databases import SCHEMAS, connector, execute
from tests.chain.pipelines import Lake, run_once, wait_for_records


def test_all_events_of_a_table_without_a_key_are_kept(chain: Chain, lake: Lake) -> None:
    topics = {side: f"keyless_{side}.{schema}.visits" for side, schema in SCHEMAS.items()}
    for side, topic in topics.items():
        execute(chain, side, "CREATE TABLE visits (page varchar(20), at int)")
        if side == "postgres":
            execute(chain, side, "ALTER TABLE visits REPLICA IDENTITY FULL")
        execute(chain, side, "INSERT INTO visits VALUES ('home', 1), ('home', 1)")
        name, _, table = topic.partition(".")
        chain.add_connector(name, connector(chain, side, name, [table]))
        wait_for_records(chain, topic, 2)
        execute(chain, side, "UPDATE visits SET at = 2", "DELETE FROM visits")
    for side, topic in topics.items():
        wait_for_records(chain, topic, 6)
        chain.remove_connector(f"keyless_{side}")
    pipeline = lake.pipeline(
        *(
            {"topic": topic, "mode": "append", "target": f"shop.visits_{side}"}
            for side, topic in topics.items()
        )
    )
    run_once(pipeline, lake.spark)
    expected = [*[("r", "home", 1)] * 2, *[("u", "home", 2)] * 2, *[("d", "home", 2)] * 2]
    found = {side: events(pipeline, f"shop.visits_{side}") for side in topics}
    assert found == dict.fromkeys(topics, expected)


def events(pipeline: Pipeline, target: str) -> list[tuple[str, str, int]]:
    """The events of a table in the order of their offsets."""
    loaded = load_table(pipeline.catalog, target)
    assert loaded is not None
    rows = sorted(loaded.scan().to_arrow().to_pylist(), key=lambda row: int(row["_cdc_offset"]))
    return [(row["_cdc_op"], row["page"], row["at"]) for row in rows]
