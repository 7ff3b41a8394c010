"""One small source table, and what the tests around a pipeline's faults ask of the table that it fills.

A sentence has four parts: where, what was seen, what happened to the data, what to do.
"""

from __future__ import annotations

from cdc_sink.clients.catalog import load_table
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.errors import CdcSinkError
from cdc_sink.observe.table_facts import read_ledger
from cdc_sink.spark.run.table_query import TableQuery
from tests.chain.databases import execute
from tests.chain.pipelines import Lake, run_once, wait

ITEMS = (
    "CREATE TABLE {} (id int PRIMARY KEY, name text)",
    "INSERT INTO {} SELECT i, 'n' FROM generate_series(1, 20) i",
)


def make(chain: Chain, table: str) -> None:
    """Make a table of twenty rows in PostgreSQL."""
    execute(chain, "postgres", *(statement.format(table) for statement in ITEMS))


def rows_in(pipeline: Pipeline, target: str = "") -> int:
    """Count the rows of a table, the first one if none is named."""
    table = load_table(pipeline.catalog, target or pipeline.tables[0].name)
    return (
        0 if table is None or table.current_snapshot() is None else table.scan().to_arrow().num_rows
    )


def applied(pipeline: Pipeline) -> int:
    """The next offset of partition 0 in the first table's ledger."""
    table = load_table(pipeline.catalog, pipeline.tables[0].name)
    found = read_ledger(table) if table is not None else None
    return found[0].next_offsets[0] if found else 0


def only_error(lake: Lake, pipeline: Pipeline) -> CdcSinkError:
    """Run once; the one table must be parked."""
    running = run_once(pipeline, lake.spark)
    query = running.queries[0]
    assert query.state == "parked"
    assert query.error is not None
    assert running.exit_code == query.error.exit_code
    return query.error


def require_sentence(
    error: BaseException | None, kind: type[CdcSinkError], code: int, **parts: str
) -> None:
    """Where, what was seen, what happened to the data, what to do; and the exit code."""
    assert type(error) is kind
    assert error.exit_code == code
    for name, text in parts.items():
        assert text in getattr(error, name), (name, getattr(error, name))
    assert error.data
    assert error.remedy


def first_error(query: TableQuery) -> CdcSinkError:
    """Wait for the query's next error."""
    wait(lambda: query.error is not None, f"an error of {query.target.name}")
    assert query.error is not None
    return query.error
