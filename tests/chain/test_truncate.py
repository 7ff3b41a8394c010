"""A TRUNCATE at the source is noticed: with Debezium's defaults it would not even be sent."""

from __future__ import annotations

from cdc_sink.demo.chain.chain import Chain
from tests.chain.databases import SCHEMAS, connector, execute
from tests.chain.pipelines import Lake, require_equal, streaming, wait, wait_for_records


def test_a_truncated_source_stops_its_table(chain: Chain, lake: Lake) -> None:
    """On each database: the three tables are one pipeline's."""
    tables = {side: f"{schema}.cut" for side, schema in SCHEMAS.items()}
    topics = {side: f"cut_{side}.{table}" for side, table in tables.items()}
    made = ("CREATE TABLE cut (id int PRIMARY KEY)", "INSERT INTO cut VALUES (1), (2)")
    for side, table in tables.items():
        execute(chain, side, *made)
        chain.add_connector(f"cut_{side}", connector(chain, side, f"cut_{side}", [table]))
        wait_for_records(chain, topics[side], 2)
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
            execute(chain, side, "TRUNCATE TABLE cut", "INSERT INTO cut VALUES (3)")
        for query in running.queries:
            wait(lambda query=query: query.state == "parked", f"{query.target.name} to stop")  # type: ignore[misc]
            assert "the source table was truncated" in str(query.error)
    for side in tables:
        chain.remove_connector(f"cut_{side}")
