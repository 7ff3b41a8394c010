"""Source tables that a transform routes into one topic fill one table, each by its own log."""

from __future__ import annotations

from cdc_sink.check.check import check_pipeline
from cdc_sink.clients.catalog import load_table
from cdc_sink.clients.connect import ConnectClient
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from tests.chain.databases import connector, execute, query
from tests.chain.pipelines import Lake, streaming, wait, wait_for_records

ROWS = 40
Rows = dict[tuple[str, int], str]


def begun(table: str, of: str) -> list[str]:
    rows = ", ".join(f"({i}, '{of} {i}')" for i in range(1, ROWS + 1))
    return [
        f"CREATE TABLE {table} (id int PRIMARY KEY, name varchar(40) NOT NULL)",
        f"INSERT INTO {table} VALUES {rows}",
    ]


def changed(table: str, of: str) -> list[str]:
    return [
        f"UPDATE {table} SET name = '{of} again' WHERE id % 3 = 0",
        f"DELETE FROM {table} WHERE id % 4 = 0",
        f"INSERT INTO {table} VALUES (4, '{of} came back'), (1000, '{of} new')",
        f"UPDATE {table} SET id = 2000 WHERE id = 5",
    ]


def in_source(chain: Chain, side: str, tables: dict[str, str]) -> Rows:
    """The rows of tables, each under the name that its records have for it."""
    return {
        (said, row[0]): row[1]
        for said, table in tables.items()
        for row in query(chain, side, f"SELECT id, name FROM {table}")
    }


def in_table(pipeline: Pipeline, column: str) -> Rows:
    loaded = load_table(pipeline.catalog, pipeline.tables[0].name)
    if loaded is None:
        return {}
    found = loaded.scan().to_arrow().to_pylist()
    rows = {(row[column], row["id"]): row["name"] for row in found}
    assert len(rows) == len(found), "a key twice"
    return rows


def require_unparked(pipeline: Pipeline, errors: list[object]) -> None:
    assert errors == [None]
    assert [one.saw for one in check_pipeline(pipeline) if one.level == "error"] == []


def test_shards_behind_debeziums_router_fill_one_table(chain: Chain, lake: Lake) -> None:
    shards = {"routed.eu.items": "eu.items", "routed.us.items": "us.items"}
    for table in shards.values():
        schema = table.partition(".")[0]
        execute(chain, "postgres", f"CREATE SCHEMA {schema}", *begun(table, schema))
    settings = connector(chain, "postgres", "routed", list(shards.values()), partitions=2)
    route = {
        "type": "io.debezium.transforms.ByLogicalTableRouter",
        "topic.regex": r"routed\.(.*)\.items",
        "topic.replacement": "routed.all.items",
    }
    settings |= {"transforms": "route"} | {f"transforms.route.{k}": v for k, v in route.items()}
    chain.add_connector("routed", settings)
    wait_for_records(chain, "routed.all.items", 2 * ROWS)
    asked: dict[str, object] = {"topic": "routed.all.items", "sources": "many"}
    pipeline = lake.pipeline(asked, connect={"url": chain.connect_url})
    with streaming(pipeline, lake.spark) as running:
        for one in shards.values():
            execute(chain, "postgres", *changed(one, one))
        column = "__dbz__physicalTableIdentifier"
        wait(
            lambda: in_table(pipeline, column) == in_source(chain, "postgres", shards), "equal rows"
        )
        chain.kill("connect")  # what it had delivered last comes again
        chain.restart("connect")
        ConnectClient(chain.connect_url).wait_running("routed", 60)
        execute(
            chain,
            "postgres",
            "DELETE FROM eu.items WHERE id = 1000",
            "DELETE FROM us.items WHERE id = 7",
        )
        wait(
            lambda: in_table(pipeline, column) == in_source(chain, "postgres", shards), "equal rows"
        )
        require_unparked(pipeline, [query.error for query in running.queries])
    chain.remove_connector("routed")


def test_two_servers_whose_topics_are_renamed_fill_one_table(chain: Chain, lake: Lake) -> None:
    """Their logs have nothing in common, and their keys have no field that tells them apart."""
    sides = {"one": "mysql", "two": "mariadb"}
    rename = {
        "transforms": "rename",
        "transforms.rename.type": "org.apache.kafka.connect.transforms.RegexRouter",
        "transforms.rename.regex": r"[^.]+\.shop\.renamed",
        "transforms.rename.replacement": "all.renamed",
    }
    for prefix, side in sides.items():
        execute(chain, side, *begun("renamed", prefix))
        settings = connector(chain, side, prefix, ["shop.renamed"])
        chain.add_connector(prefix, settings | rename)
    wait_for_records(chain, "all.renamed", 2 * ROWS)
    asked: dict[str, object] = {"topic": "all.renamed", "sources": "many"}
    pipeline = lake.pipeline(asked, connect={"url": chain.connect_url})

    def expected() -> Rows:
        one = in_source(chain, "mysql", {"one.shop.renamed": "renamed"})
        return one | in_source(chain, "mariadb", {"two.shop.renamed": "renamed"})

    with streaming(pipeline, lake.spark) as running:
        for prefix, side in sides.items():
            execute(chain, side, *changed("renamed", prefix))
        wait(lambda: in_table(pipeline, "_cdc_source") == expected(), "equal rows")
        require_unparked(pipeline, [query.error for query in running.queries])
    for name in sides:
        chain.remove_connector(name)
