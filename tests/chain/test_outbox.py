"""Events of the outbox router, from a real connector: each id once, whatever is delivered again."""

from __future__ import annotations

from contextlib import closing

from cdc_sink.clients.catalog import load_table
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from tests.chain.pipelines import Lake, run_once, wait_for_records


def events(pipeline: Pipeline) -> list[tuple[str, str, str]]:
    table = load_table(pipeline.catalog, "shop.order_events")
    assert table is not None
    rows = table.scan().to_arrow().to_pylist()
    return sorted((row["event_id"], row["aggregate_id"], row["payload"]) for row in rows)


def test_events_of_the_outbox_router_are_kept_once(chain: Chain, lake: Lake) -> None:
    name = "outbox"
    with closing(chain.postgres.connect("shop")) as opened, opened.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE outbox (id uuid PRIMARY KEY, aggregatetype varchar(40), "
            "aggregateid varchar(40), type varchar(40), payload text)"
        )
        settings = {
            **chain.postgres_connector(name, "shop", ["public.outbox"], slot=name),
            "provide.transaction.metadata": "false",
            "transforms": "outbox",
            "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
            "transforms.outbox.table.fields.additional.placement": "type:header:eventType",
        }
        chain.add_connector(name, settings)
        cursor.execute(
            "INSERT INTO outbox SELECT gen_random_uuid(), 'order', 'order-' || n % 3, 'placed', "
            "'{\"total\": ' || n || '}' FROM generate_series(1, 20) n"
        )
        cursor.execute("SELECT id::text, aggregateid, payload FROM outbox")
        sent = sorted(cursor.fetchall())
        topic = "outbox.event.order"
        wait_for_records(chain, topic, 20)
        pipeline = lake.pipeline({"topic": topic, "outbox": True, "target": "shop.order_events"})
        run_once(pipeline, lake.spark)
        assert events(pipeline) == sent
        # The same rows by a connector that begins anew: as after a lost offset, all is sent again.
        chain.remove_connector(name)
        again = {**settings, "slot.name": "outbox_again", "topic.prefix": "outbox_again"}
        chain.add_connector("outbox_again", again)
        wait_for_records(chain, topic, 40)
    running = run_once(pipeline, lake.spark)
    assert [query.state for query in running.queries] == ["stopped"]
    assert events(pipeline) == sent
    chain.remove_connector("outbox_again")
