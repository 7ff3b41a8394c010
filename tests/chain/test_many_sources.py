"""Source tables that a transform routes into one topic fill one table, each by its own log."""

from __future__ import annotations

from contextlib import closing

from cdc_sink.check.check import check_pipeline
from cdc_sink.clients.catalog import load_table
from cdc_sink.clients.connect import ConnectClient
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.servers.mysql import MySql
from tests.chain.pipelines import Lake, streaming, wait, wait_for_records

ROWS = 40
Rows = dict[tuple[str, int], str]


def postgres(stack: Chain, *statements: str) -> None:
    with stack.postgres.connect("shop") as connection:
        for statement in statements:
            connection.execute(statement)


def execute(server: MySql, *statements: str) -> None:
    with closing(server.connect("shop")) as opened, opened.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


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


def in_postgres(stack: Chain, tables: dict[str, str]) -> Rows:
    with stack.postgres.connect("shop") as connection:
        return {
            (said, row[0]): row[1]
            for said, table in tables.items()
            for row in connection.execute(f"SELECT id, name FROM {table}").fetchall()
        }


def in_mysql(server: MySql, said: str, table: str) -> Rows:
    with closing(server.connect("shop")) as opened, opened.cursor() as cursor:
        cursor.execute(f"SELECT id, name FROM {table}")
        return {(said, row[0]): row[1] for row in cursor.fetchall()}


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


def test_shards_behind_debeziums_router_fill_one_table(stack: Chain, lake: Lake) -> None:
    shards = {"routed.eu.items": "eu.items", "routed.us.items": "us.items"}
    for table in shards.values():
        schema = table.partition(".")[0]
        postgres(stack, f"CREATE SCHEMA {schema}", *begun(table, schema))
    settings = stack.postgres_connector(
        "routed", "shop", list(shards.values()), slot="routed", partitions=2
    )
    route = {
        "type": "io.debezium.transforms.ByLogicalTableRouter",
        "topic.regex": r"routed\.(.*)\.items",
        "topic.replacement": "routed.all.items",
    }
    settings |= {"transforms": "route"} | {f"transforms.route.{k}": v for k, v in route.items()}
    stack.add_connector("routed", settings)
    wait_for_records(stack, "routed.all.items", 2 * ROWS)
    asked: dict[str, object] = {"topic": "routed.all.items", "sources": "many"}
    pipeline = lake.pipeline(asked, connect={"url": stack.connect_url})
    with streaming(pipeline, lake.spark) as running:
        for one in shards.values():
            postgres(stack, *changed(one, one))
        column = "__dbz__physicalTableIdentifier"
        wait(lambda: in_table(pipeline, column) == in_postgres(stack, shards), "equal rows")
        stack.kill("connect")  # what it had delivered last comes again
        stack.restart("connect")
        ConnectClient(stack.connect_url).wait_running("routed", 60)
        postgres(stack, "DELETE FROM eu.items WHERE id = 1000", "DELETE FROM us.items WHERE id = 7")
        wait(lambda: in_table(pipeline, column) == in_postgres(stack, shards), "equal rows")
        require_unparked(pipeline, [query.error for query in running.queries])
    stack.remove_connector("routed")


def test_two_servers_whose_topics_are_renamed_fill_one_table(stack: Chain, lake: Lake) -> None:
    """Their logs have nothing in common, and their keys have no field that tells them apart."""
    servers = {"one": stack.mysql, "two": stack.mariadb}
    rename = {
        "transforms": "rename",
        "transforms.rename.type": "org.apache.kafka.connect.transforms.RegexRouter",
        "transforms.rename.regex": r"[^.]+\.shop\.renamed",
        "transforms.rename.replacement": "all.renamed",
    }
    for prefix, server in servers.items():
        execute(server, *begun("renamed", prefix))
    of_mysql = stack.mysql_connector("one", "shop", ["shop.renamed"])
    of_mariadb = stack.mariadb_connector("two", "shop", ["shop.renamed"])
    stack.add_connector("one", of_mysql | rename)
    stack.add_connector("two", of_mariadb | rename)
    wait_for_records(stack, "all.renamed", 2 * ROWS)
    asked: dict[str, object] = {"topic": "all.renamed", "sources": "many"}
    pipeline = lake.pipeline(asked, connect={"url": stack.connect_url})

    def expected() -> Rows:
        return in_mysql(stack.mysql, "one.shop.renamed", "renamed") | in_mysql(
            stack.mariadb, "two.shop.renamed", "renamed"
        )

    with streaming(pipeline, lake.spark) as running:
        for prefix, server in servers.items():
            execute(server, *changed("renamed", prefix))
        wait(lambda: in_table(pipeline, "_cdc_source") == expected(), "equal rows")
        require_unparked(pipeline, [query.error for query in running.queries])
    for name in servers:
        stack.remove_connector(name)
