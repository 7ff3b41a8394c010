"""ALTERs on both databases while rows change: two tables follow at once, and one that can't is explained."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial

import httpx2
import pytest

from cdc_sink.check.rules.table import Finding
from cdc_sink.cli.verbs import check
from cdc_sink.clients.catalog import load_table
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from tests.chain.databases import execute
from tests.chain.pipelines import Lake, require_equal, run_once, streaming, wait, wait_for_records
from tests.chain.surroundings import let_through

ITEMS = "sc_pg.public.sc_items"
TYPED = "sc_pg.public.sc_typed"
LINES = "sc_my.shop.sc_lines"
REFUSED = "sc_no.public.sc_refused"
TABLES = (
    {
        "topic": ITEMS,
        "source": {"database": "postgres", "table": "public.sc_items"},
        "renames": {"note": "remark"},
    },
    {"topic": TYPED, "on_incompatible": "second_column"},
    {
        "topic": LINES,
        "source": {"database": "mysql", "table": "shop.sc_lines"},
        "renames": {"label": "tag"},
    },
)
ADDED = (
    {
        "topic": "sc_pg.public.sc_added",
        "target": "shop.added",
        "source": {"database": "postgres", "table": "public.sc_added"},
    },
    *(
        {
            "topic": f"sc_my.shop.sc_{name}",
            "target": f"shop.my_{name}",
            "source": {"database": "mysql", "table": f"shop.sc_{name}"},
        }
        for name in ("added", "copied")
    ),
)
MADE = (
    "CREATE TABLE sc_added (id int PRIMARY KEY, name varchar(255))",
    "INSERT INTO sc_added VALUES (1, '1'), (5, 'five')",
)
GIVEN = (
    "INSERT INTO sc_added VALUES (2, '1')",
    "ALTER TABLE sc_added ADD COLUMN c1 int DEFAULT 11",
    "ALTER TABLE sc_added ADD COLUMN price decimal(10,2) DEFAULT -12.3",
    "ALTER TABLE sc_added ADD COLUMN day date DEFAULT '2024-01-02'",
    "ALTER TABLE sc_added ADD COLUMN at timestamp(6) DEFAULT '2024-01-02 03:04:05.123456'",
    "ALTER TABLE sc_added ADD COLUMN st varchar(10) NOT NULL DEFAULT 'new'",
)
CHANGED = (
    "INSERT INTO sc_added (id, name, c1, st) VALUES (3, '1', 22, 'old')",
    "UPDATE sc_added SET name = 'five5' WHERE id = 5",
)
COPIED = (  # as gh-ost and pt-online-schema-change do it
    "CREATE TABLE _sc_copied_gho LIKE sc_copied",
    "ALTER TABLE _sc_copied_gho ADD COLUMN c int DEFAULT 5",
    "INSERT INTO _sc_copied_gho (id, name) SELECT * FROM sc_copied",
    "RENAME TABLE sc_copied TO _sc_copied_del, _sc_copied_gho TO sc_copied",
    "UPDATE sc_copied SET name = 'changed' WHERE id = 5",
)


@pytest.fixture(scope="module")
def sources(chain: Chain) -> Iterator[Chain]:
    execute(
        chain,
        "postgres",
        "CREATE TABLE sc_items (id int PRIMARY KEY, changes int, note text, seen timestamp(3), gone int)",
        "INSERT INTO sc_items SELECT i, 0, 'note ' || i, timestamp '2020-01-01' + i * interval '1.001 s', i "
        "FROM generate_series(1, 50) i",
        "CREATE TABLE sc_typed (id int PRIMARY KEY, n int, price numeric(10,2))",
        "INSERT INTO sc_typed SELECT i, i, i + 0.25 FROM generate_series(1, 20) i",
    )
    execute(
        chain,
        "mysql",
        "CREATE TABLE sc_lines (id int PRIMARY KEY, changes int, label varchar(20), at datetime(3))",
        "INSERT INTO sc_lines VALUES "
        + ", ".join(f"({i}, 0, 'label {i}', '2020-01-01 10:00:00.123')" for i in range(1, 51)),
    )
    execute(chain, "postgres", *MADE)
    execute(chain, "mysql", *MADE, "CREATE TABLE sc_copied LIKE sc_added")
    execute(chain, "mysql", "INSERT INTO sc_copied SELECT * FROM sc_added")
    tables = ["public.sc_items", "public.sc_typed", "public.sc_added"]
    lines = ["shop.sc_lines", "shop.sc_added", "shop.sc_copied"]
    chain.add_connector("sc_pg", chain.postgres_connector("sc_pg", "shop", tables, slot="sc_pg"))
    chain.add_connector("sc_my", chain.mysql_connector("sc_my", "shop", lines))
    wait_for_records(chain, ITEMS, 50)
    wait_for_records(chain, TYPED, 20)
    wait_for_records(chain, LINES, 50)
    yield chain
    chain.remove_connector("sc_pg")
    chain.remove_connector("sc_my")


@contextmanager
def traffic(chain: Chain) -> Iterator[Callable[[], int]]:
    """Rows that change in both databases all the while, by columns that no ALTER touches."""
    stop, rounds = threading.Event(), [0]

    def run() -> None:
        with (
            closing(chain.postgres.connect("shop")) as left,
            closing(chain.mysql.connect("shop")) as right,
        ):
            while not stop.wait(0.02):
                key = rounds[0] % 50 + 1
                left.execute(f"UPDATE sc_items SET changes = changes + 1 WHERE id = {key}")
                with right.cursor() as cursor:
                    cursor.execute(f"UPDATE sc_lines SET changes = changes + 1 WHERE id = {key}")
                rounds[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda: rounds[0]
    finally:
        stop.set()
        thread.join()


def field_ids(pipeline: Pipeline, target: str) -> dict[str, int]:
    table = load_table(pipeline.catalog, target)
    return {} if table is None else {f.name: f.field_id for f in table.schema().fields}


def alter(chain: Chain) -> None:
    execute(
        chain,
        "postgres",
        "ALTER TABLE sc_items RENAME COLUMN note TO remark",
        "ALTER TABLE sc_items ALTER COLUMN seen TYPE timestamp(6), DROP COLUMN gone, ADD COLUMN new date",
        "UPDATE sc_items SET seen = seen + interval '0.000007 s', new = '2020-02-29' WHERE id < 9",
        "ALTER TABLE sc_typed ALTER COLUMN n TYPE text USING 'n' || n, "
        "ALTER COLUMN price TYPE numeric(12,4)",
        "UPDATE sc_typed SET price = price + 0.0001 WHERE id <= 5",
    )
    execute(
        chain,
        "mysql",
        "ALTER TABLE sc_lines CHANGE label tag varchar(30), MODIFY changes bigint, MODIFY at datetime(6)",
        "UPDATE sc_lines SET tag = 'new', at = '2020-01-01 10:00:00.123456', "
        "changes = changes + 3000000000 WHERE id < 9",
    )


def has_table(pipeline: Pipeline, target: str) -> bool:
    return bool(field_ids(pipeline, target))


def test_renames_types_and_units_change_under_traffic_on_both_databases(
    sources: Chain, lake: Lake
) -> None:
    pipeline = lake.pipeline(*TABLES)
    with streaming(pipeline, lake.spark) as running:
        with let_through(sources), traffic(sources) as rounds:
            for target in ("shop.sc_items", "shop.sc_typed", "shop.sc_lines"):
                wait(partial(has_table, pipeline, target), f"table {target}")
            items, lines = (field_ids(pipeline, f"shop.sc_{name}") for name in ("items", "lines"))
            alter(sources)
            before = rounds()
            wait(lambda: rounds() > before + 50, "traffic after the ALTERs")
            wait_for_records(sources, TYPED, 25)
        require_equal(pipeline)
        wait(lambda: typed(pipeline) == expected_typed(), "the second columns")
        assert [q.error for q in running.queries] == [None, None, None]
    after = field_ids(pipeline, "shop.sc_items")
    assert after["remark"] == items["note"]
    assert "gone" in after
    assert field_ids(pipeline, "shop.sc_lines")["tag"] == lines["label"]


def typed(pipeline: Pipeline) -> list[tuple[object, ...]]:
    table = load_table(pipeline.catalog, "shop.sc_typed")
    assert table is not None
    names = ("id", "n", "price", "n__string", "price__decimal_12_4")
    rows = table.scan().to_arrow().to_pylist()
    texts = [tuple(None if row.get(n) is None else str(row[n]) for n in names) for row in rows]
    return sorted(texts, key=lambda row: int(str(row[0])))


def expected_typed() -> list[tuple[object, ...]]:
    """Rows changed since the ALTER stand in the second columns, all others where they were."""
    return [
        (str(i), None, None, f"n{i}", f"{i}.2501")
        if i <= 5
        else (str(i), str(i), f"{i}.25", None, None)
        for i in range(1, 21)
    ]


def test_a_schema_the_registry_refuses_is_explained_by_check_and_its_remedy_helps(
    chain: Chain, lake: Lake
) -> None:
    execute(
        chain,
        "postgres",
        "CREATE TABLE sc_refused (id int PRIMARY KEY, grade int DEFAULT 3)",
        "INSERT INTO sc_refused SELECT i, i FROM generate_series(1, 5) i",
    )
    settings = chain.postgres_connector("sc_no", "shop", ["public.sc_refused"], slot="sc_no")
    chain.add_connector("sc_no", settings)
    try:
        wait_for_records(chain, REFUSED, 5)
        table = {"topic": REFUSED, "source": {"database": "postgres", "table": "public.sc_refused"}}
        pipeline = lake.pipeline(table, connect={"url": chain.connect_url})
        before = findings(lake)
        assert ("connector sc_no", "ok") in [(one.where, one.level) for one in before]
        assert [one.where for one in before if one.level == "warning" and "NULL" in one.saw] == [
            "table shop.sc_refused column grade"
        ]

        execute(
            chain,
            "postgres",
            "ALTER TABLE sc_refused ADD COLUMN must int NOT NULL DEFAULT 1",
            "ALTER TABLE sc_refused ALTER COLUMN must DROP DEFAULT",
            "UPDATE sc_refused SET must = id",
        )
        wait(lambda: bool(failed(lake)), "the task to fail")
        (found,) = failed(lake)
        assert found.where == "connector sc_no task 0"
        assert (
            f"the registry refused the table's new schema (409), subject {REFUSED}-value"
            in found.saw
        )
        assert "compatibility level BACKWARD" in found.saw

        with let_through(chain):
            restart = (
                f"{chain.connect_url}/connectors/sc_no/restart?includeTasks=true&onlyFailed=true"
            )
            assert httpx2.post(restart).status_code < 300
            wait_for_records(chain, REFUSED, 10)
        assert failed(lake) == []
        with streaming(pipeline, lake.spark):
            require_equal(pipeline)
    finally:
        chain.remove_connector("sc_no")


def findings(lake: Lake) -> list[Finding]:
    return check.check(lake.config)


def failed(lake: Lake) -> list[Finding]:
    return [
        one for one in findings(lake) if one.where.startswith("connector") and one.level == "error"
    ]


def test_older_rows_have_the_default_that_an_alter_gave_them(sources: Chain, lake: Lake) -> None:
    pipeline = lake.pipeline(*ADDED)
    for table in ADDED:
        wait_for_records(sources, str(table["topic"]), 2)
    assert [q.error for q in run_once(pipeline, lake.spark).queries] == [None] * 3
    execute(
        sources,
        "postgres",
        *GIVEN,
        "ALTER TABLE sc_added ADD COLUMN flag boolean NOT NULL DEFAULT true",
        *CHANGED,
    )
    execute(sources, "mysql", *GIVEN, *CHANGED, *COPIED)
    for table, records in zip(ADDED, (5, 5, 3), strict=True):
        wait_for_records(sources, str(table["topic"]), records)
    assert [q.error for q in run_once(pipeline, lake.spark).queries] == [None] * 3
    require_equal(pipeline)
