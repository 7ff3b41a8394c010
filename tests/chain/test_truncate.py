"""A TRUNCATE at the source is noticed: with Debezium's defaults it would not even be sent."""

from __future__ import annotations

from cdc_sink.demo.chain.chain import Chain
from tests.chain.databases import SCHEMAS, connector, execute
from tests.chain.pipelines import Lake, require_equal, streaming, wait, wait_for_records


def test_a_truncated_source_stops_its_table(stack: Chain, lake: Lake) -> None:
    """On each database: the three tables are one pipeline's."""
    tables = {side: f"{schema}.cut" for side, schema in SCHEMAS.items()}
    topics = {side: f"cut_{side}.{table}" for side, table in tables.items()}
    made = ("CREATE TABLE cut (id int PRIMARY KEY)", "INSERT INTO cut VALUES (1), (2)")
    for side, table in tables.items():
        execute(stack, side, *made)
        stack.add_connector(f"cut_{side}", connector(stack, side, f"cut_{side}", [table]))
        wait_for_records(stack, topics[side], 2)
    pipeline = lake.pipeline(
        *(
            {
                "topic": topics[side],
                "target": f"shop.cut_{side}",
                "source": {"database": side, "table": table},
            }
            for side, table in tables.items()
        )
    )
    with streaming(pipeline, lake.spark) as running:
        require_equal(pipeline)
        for side in tables:
            execute(stack, side, "TRUNCATE TABLE cut", "INSERT INTO cut VALUES (3)")
        for query in running.queries:
            wait(lambda query=query: query.state == "parked", f"{query.target.name} to stop")  # type: ignore[misc]
            assert "the source table was truncated" in str(query.error)
    for side in tables:
        stack.remove_connector(f"cut_{side}")
