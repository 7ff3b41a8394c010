"""Topics whose connector flattens its rows: the tables equal their sources, also after a redelivery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from pyspark.sql import SparkSession

from cdc_sink.check.check import check_pipeline
from cdc_sink.check.rules.table import Finding
from cdc_sink.clients.catalog import load_table
from cdc_sink.clients.connect import ConnectClient
from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.errors import UnavailableError
from cdc_sink.observe.table_facts import read_ledger
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.schema.metadata_columns import metadata_columns
from cdc_sink.table.schema.policy import TableMode
from tests.chain.databases import SCHEMAS, connector, execute
from tests.chain.pipelines import Lake, require_equal, streaming, wait, wait_for_records

ROWS = 60
# Records of one `churn`: 35 updates, 23 inserts, 17 deletes, one key update in two halves.
CHANGES = 77


@dataclass(frozen=True)
class Case:
    """A connector with the transform, and the order that its table is given."""

    name: str
    database: str
    mode: str
    order: str
    add_fields: str = ""

    @property
    def topic(self) -> str:
        return f"{self.name}.{self.source}"

    @property
    def source(self) -> str:
        return f"{SCHEMAS[self.database]}.{self.name}"

    @property
    def table(self) -> dict[str, object]:
        source = {"database": self.database, "table": self.source}
        return {"topic": self.topic, "source": source, "order": self.order}

    def execute(self, chain: Chain, *statements: str) -> None:
        execute(chain, self.database, *statements)

    def connector(self, chain: Chain) -> dict[str, str]:
        flatten = {
            "type": "io.debezium.transforms.ExtractNewRecordState",
            "delete.tombstone.handling.mode": self.mode,
            "add.fields": self.add_fields,
        }
        named = {f"transforms.flat.{name}": value for name, value in flatten.items() if value}
        settings = connector(chain, self.database, self.name, [self.source])
        return settings | {"transforms": "flat"} | named


BY_SEQUENCE = "op,source.ts_ms,source.snapshot,source.sequence"
CASES = [
    Case("flat_rewrite", "postgres", "rewrite", "source", BY_SEQUENCE),
    Case("flat_tombstone", "postgres", "tombstone", "kafka"),
    Case("flat_true", "postgres", "delete-to-tombstone", "kafka", "op,lsn"),
    Case("flat_mysql", "mysql", "rewrite", "source", "op,source.ts_ms,file,pos"),
]


@contextmanager
def connected(chain: Chain, case: Case) -> Iterator[None]:
    texts = "varchar(40)" if case.database == "mysql" else "text"
    case.execute(
        chain,
        f"CREATE TABLE {case.name} (id int PRIMARY KEY, name {texts} NOT NULL, amount int NOT NULL, "
        f"price decimal(10,2), flag boolean NOT NULL, __mine {texts})",
    )
    insert(chain, case, 1, ROWS)
    chain.add_connector(case.name, case.connector(chain))
    wait_for_records(chain, case.topic, ROWS)
    yield
    chain.remove_connector(case.name)


def insert(chain: Chain, case: Case, first: int, last: int) -> None:
    rows = ", ".join(f"({i}, 'n{i}', {i}, {i}.25, true, NULL)" for i in range(first, last + 1))
    case.execute(chain, f"INSERT INTO {case.name} VALUES {rows}")


def churn(chain: Chain, case: Case, number: int) -> None:
    """Each kind of change; what is deleted comes back in part, so that a late delete would show."""
    first, old = 100 * number + 1000, f"id BETWEEN 1 AND {ROWS}"
    insert(chain, case, first, first + 9)
    case.execute(
        chain,
        f"UPDATE {case.name} SET name = 'round {number}', price = NULL WHERE id % 3 = 0 AND {old}",
        f"UPDATE {case.name} SET __mine = 'mine {number}' WHERE id % 4 = 0 AND {old}",
        f"DELETE FROM {case.name} WHERE id BETWEEN {first} AND {first + 4}",
        f"UPDATE {case.name} SET id = {first + 50} WHERE id = {first + 6}",
        "BEGIN",
        f"DELETE FROM {case.name} WHERE id % 5 = 0 AND {old}",
        "COMMIT",
    )
    for i in range(5, ROWS + 1, 5):
        insert(chain, case, i, i)
    insert(chain, case, first + 1, first + 1)


@dataclass(frozen=True)
class Delivered:
    """All cases in one pipeline, after Connect was killed; `again` counts what came twice by case."""

    pipeline: Pipeline
    found: list[Finding]
    errors: dict[str, str]
    again: Mapping[str, int]


@pytest.fixture(scope="module")
def delivered(
    chain: Chain, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Delivered]:
    """Every table was equal to its source whenever it was compared, or this fails."""
    lake = Lake(tmp_path_factory.mktemp("flattened"), chain, spark)
    with ExitStack() as connectors:
        for case in CASES:
            connectors.enter_context(connected(chain, case))
        pipeline = lake.pipeline(
            *(case.table for case in CASES), connect={"url": chain.connect_url}
        )
        found = list(check_pipeline(pipeline))
        with streaming(pipeline, spark) as running:
            require_equal(pipeline)
            for case in CASES:
                churn(chain, case, 0)
            require_equal(pipeline)
            again = {
                case.name: kill_connect_until_it_delivers_again(chain, case, pipeline)
                for case in CASES
            }
            errors = {one.target.name: str(one.error) for one in running.queries if one.error}
        yield Delivered(pipeline, found, errors, again)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_flattened_table_equals_its_source_also_after_connect_was_killed(
    delivered: Delivered, case: Case
) -> None:
    pipeline, name = delivered.pipeline, f"shop.{case.name}"
    where = f"connector {case.name} transform flat"
    said = [(one.level, one.saw) for one in delivered.found if one.where == where]
    assert [level for level, _ in said] == ["ok"], said
    assert delivered.errors == {}
    assert delivered.again[case.name] > 0
    assert (redelivered(pipeline, case) > 0) == (case.order == "source")
    loaded = load_table(pipeline.catalog, name)
    assert loaded is not None
    assert [field.name for field in loaded.schema().fields] == [
        *("id", "name", "amount", "price", "flag", "__mine"),
        *metadata_columns(TableMode.MIRROR),
    ]


def kill_connect_until_it_delivers_again(chain: Chain, case: Case, pipeline: Pipeline) -> int:
    """Return how many records came twice; the tables are right each time.

    Connect writes its offsets down each second: a kill right after a record arrived finds them behind,
    nearly always. One that comes twice alone lies at the mark, where nothing is taken for redelivered.
    Nobody changes anything while it is down, and all that was delivered is applied then.
    """
    cluster = Cluster(pipeline.kafka)
    for attempt in range(1, 6):
        before = end(cluster, case.topic)
        churn(chain, case, attempt)
        wait(partial(has_grown, cluster, case.topic, before + CHANGES), "changes in the topic")
        chain.kill("connect")
        wait(lambda: is_applied(pipeline, cluster, case), "all to be applied")
        delivered = end(cluster, case.topic)
        chain.restart("connect")
        ConnectClient(chain.connect_url).wait_running(case.name, 60)
        insert(chain, case, -attempt, -attempt)
        require_equal(pipeline)
        again = end(cluster, case.topic) - delivered - 1
        if again > 0 and (case.order == "kafka" or redelivered(pipeline, case) > 0):
            return again
    return 0


def has_grown(cluster: Cluster, topic: str, to: int) -> bool:
    return end(cluster, topic) >= to


def ledger_of(pipeline: Pipeline, name: str) -> Ledger:
    loaded = load_table(pipeline.catalog, name)
    found = None if loaded is None else read_ledger(loaded)
    assert found is not None
    return found[0]


def redelivered(pipeline: Pipeline, case: Case) -> int:
    return ledger_of(pipeline, f"shop.{case.name}").totals.redelivered


def is_applied(pipeline: Pipeline, cluster: Cluster, case: Case) -> bool:
    applied = sum(ledger_of(pipeline, f"shop.{case.name}").next_offsets.values())
    return applied == end(cluster, case.topic)


def end(cluster: Cluster, topic: str) -> int:
    """Records in the topic; it may have no leader for a moment."""
    try:
        return sum(cluster.end_offsets(topic).values())
    except UnavailableError:
        return 0
