"""What Connect sends again after a kill changes no table: of flattened rows, and of MariaDB.

tests/chaos holds it for envelopes of PostgreSQL and MySQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from pyspark.sql import SparkSession

from cdc_sink.check.check import check_pipeline
from cdc_sink.check.rules.table import Finding
from cdc_sink.clients.catalog import load_table
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.table.schema.metadata_columns import metadata_columns
from cdc_sink.table.schema.policy import TableMode
from tests.chain.flattened_sources import FLATTENED, Flattened
from tests.chain.maria_tables import MariaTables
from tests.chain.pipelines import Lake, ledger_of, require_equal, streaming
from tests.chain.redelivery import (
    KILLS,
    Source,
    kill_connect_until_all_comes_again,
)

MARIA = MariaTables()
SOURCES: list[Source] = [*FLATTENED, MARIA]


@dataclass(frozen=True)
class Delivered:
    """All sources in one pipeline, after Connect was killed; `again` counts what came twice by source."""

    pipeline: Pipeline
    found: list[Finding]
    errors: dict[str, str]
    again: Mapping[str, int]


@pytest.fixture(scope="module")
def delivered(
    chain: Chain, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Delivered]:
    """Every table was equal to its source whenever it was compared, or this fails."""
    lake = Lake(tmp_path_factory.mktemp("redelivery"), chain, spark)
    with ExitStack() as connectors:
        for source in SOURCES:
            connectors.enter_context(source.connected(chain))
        tables = [table for source in SOURCES for table in source.tables]
        pipeline = lake.pipeline(*tables, connect={"url": chain.connect_url})
        found = list(check_pipeline(pipeline))
        with streaming(pipeline, spark) as running:
            require_equal(pipeline)
            churn(chain, 0)
            require_equal(pipeline)
            again = kill_connect_until_all_comes_again(chain, pipeline, SOURCES)
            churn(chain, KILLS + 1)
            require_equal(pipeline)
            errors = {one.target.name: str(one.error) for one in running.queries if one.error}
        yield Delivered(pipeline, found, errors, again)


def churn(chain: Chain, number: int) -> None:
    for source in SOURCES:
        source.churn(chain, number)


def test_tables_equal_mariadb_under_changes_and_after_connect_was_killed(
    delivered: Delivered,
) -> None:
    assert delivered.errors == {}
    assert delivered.again[MARIA.name] > MARIA.least


@pytest.mark.parametrize("case", FLATTENED, ids=[case.name for case in FLATTENED])
def test_a_flattened_table_equals_its_source_also_after_connect_was_killed(
    delivered: Delivered, case: Flattened
) -> None:
    pipeline, name = delivered.pipeline, f"shop.{case.name}"
    where = f"connector {case.name} transform flat"
    said = [(one.level, one.saw) for one in delivered.found if one.where == where]
    assert [level for level, _ in said] == ["ok"], said
    assert delivered.errors == {}
    assert delivered.again[case.name] > 0
    redelivered = ledger_of(pipeline, name).totals.redelivered
    assert (redelivered > 0) == (case.order == "source")
    loaded = load_table(pipeline.catalog, name)
    assert loaded is not None
    assert [field.name for field in loaded.schema().fields] == [
        *("id", "name", "amount", "price", "flag", "__mine"),
        *metadata_columns(TableMode.MIRROR),
    ]
