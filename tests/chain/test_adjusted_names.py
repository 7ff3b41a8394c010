"""Names that Avro does not allow, as PostgreSQL's connector really sends them, by both of its modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cdc_sink.clients.catalog import load_table
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.table.schema.metadata_columns import is_metadata
from cdc_sink.verification.verify import verify
from tests.chain.databases import execute
from tests.chain.pipelines import Lake, require_equal, run_once, wait_for_records

DETAILS = {
    "OrderID": "OrderID",
    "Product ID": "Product_ID",
    "Unit Price": "Unit_Price",
    "qty%": "qty_",
    "1st": "_1st",
    "größe": "gr__e",
    "select": "select",
    "trail ": "trail_",
    "x-y": "x_y",
}
UNI = ["id", "XXX$123", "XXX#123", "with space", "under_score", "Ümlaut", "1digit"]
AVRO, UNICODE = "names_avro.public.Order_Details", "names_uni.public.uni"


@pytest.fixture(scope="module")
def sources(chain: Chain) -> Iterator[Chain]:
    texts = ", ".join(f'"{name}" text' for name in list(DETAILS)[2:])
    execute(
        chain,
        "postgres",
        f'CREATE TABLE "Order Details" ("OrderID" int, "Product ID" int, {texts}, '
        'PRIMARY KEY ("OrderID", "Product ID"))',
        f'INSERT INTO "Order Details" SELECT i, i {", i::text" * 7} FROM generate_series(1, 9) i',
        'CREATE TABLE uni (id int, "XXX$123" text, "XXX#123" text, "with space" text, '
        '"under_score" int, "Ümlaut" text, "1digit" int, PRIMARY KEY ("under_score", id))',
        "INSERT INTO uni SELECT i, 'a', 'b', 'c', i, 'd', i FROM generate_series(1, 9) i",
    )
    modes: dict[str, str]
    for name, table, modes in (
        ("avro", "public.Order Details", {}),
        ("uni", "public.uni", {"schema.name.adjustment.mode": "avro_unicode"}),
    ):
        settings = chain.postgres_connector(
            f"names_{name}", "shop", [table], slot=f"names_{name}", partitions=1
        )
        mode = modes.get("schema.name.adjustment.mode", "avro")
        chain.add_connector(
            f"names_{name}", {**settings, **modes, "field.name.adjustment.mode": mode}
        )
    for topic in (AVRO, UNICODE):
        wait_for_records(chain, topic, 9)
    execute(
        chain,
        "postgres",
        """UPDATE "Order Details" SET "größe" = 'new' WHERE "Product ID" = 3""",
        """DELETE FROM "Order Details" WHERE "Product ID" = 4""",
        """UPDATE uni SET "XXX$123" = 'new' WHERE under_score = 3""",
        "DELETE FROM uni WHERE under_score = 4",
    )
    for topic in (AVRO, UNICODE):
        wait_for_records(chain, topic, 12)  # a delete and its tombstone
    yield chain
    for name in ("avro", "uni"):
        chain.remove_connector(f"names_{name}")
    execute(chain, "postgres", 'DROP TABLE "Order Details", uni')


def table(topic: str, source: str, **settings: str) -> dict[str, object]:
    return {"topic": topic, "source": {"database": "postgres", "table": source}, **settings}


def names(pipeline: Pipeline, target: str) -> list[str]:
    loaded = load_table(pipeline.catalog, target)
    assert loaded is not None
    return [field.name for field in loaded.schema().fields if not is_metadata(field.name)]


def test_tables_are_compared_under_the_names_that_their_connectors_gave_the_columns(
    sources: Chain, lake: Lake
) -> None:
    assert sources
    gone = table("shop.public.gone", "public.gone", missing_topic="fail")
    pipeline = lake.pipeline(
        gone, table(AVRO, "public.Order Details"), table(UNICODE, "public.uni")
    )
    run_once(pipeline, lake.spark)
    assert names(pipeline, "shop.order_details") == list(DETAILS.values())
    assert "under_u005fscore" in names(pipeline, "shop.uni")
    found = verify(pipeline)
    assert [(one.table, one.equal, one.columns_missing) for one in found] == [
        ("shop.gone", False, ()),
        ("shop.order_details", True, ()),
        ("shop.uni", True, ()),
    ]
    assert "public.gone" in str(found[0].failure)
    assert [one.rows_table for one in found[1:]] == [8, 8]


def test_a_table_may_have_the_sources_own_names(
    sources: Chain, new_lake: Callable[[], Lake]
) -> None:
    lake = new_lake()
    pipeline = lake.pipeline(table(UNICODE, "public.uni", field_names="source"))
    run_once(pipeline, lake.spark)
    assert names(pipeline, "shop.uni") == UNI
    require_equal(pipeline, wait_s=0)
    execute(sources, "postgres", """UPDATE uni SET "XXX#123" = 'x'""")
    wait_for_records(sources, UNICODE, 20)
    run_once(pipeline, lake.spark)
    require_equal(pipeline, wait_s=0)
