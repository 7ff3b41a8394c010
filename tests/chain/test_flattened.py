"""Topics whose connector flattens its rows: the tables equal their sources, also after a redelivery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pytest

from cdc_sink.check.check import check_pipeline
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
from tests.chain.pipelines import Lake, require_equal, streaming, wait, wait_for_records

ROWS = 60
CHANGES = (
    77  # records of one `churn`: 35 updates, 23 inserts, 17 deletes, one key update in two halves
)


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
        return f"{self.name}.{self.table}"

    @property
    def table(self) -> str:
        schema = "public" if self.database == "postgres" else "shop"
        return f"{schema}.{self.name}"

    def execute(self, stack: Chain, *statements: str) -> None:
        if self.database == "postgres":
            with stack.postgres.connect("shop") as connection:
                for statement in statements:
                    connection.execute(statement)
            return
        with closing(stack.mysql.connect("shop")) as opened, opened.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def connector(self, stack: Chain) -> dict[str, str]:
        if self.database == "postgres":
            settings = stack.postgres_connector(self.name, "shop", [self.table], slot=self.name)
        else:
            settings = stack.mysql_connector(self.name, "shop", [self.table])
        flatten = {
            "type": "io.debezium.transforms.ExtractNewRecordState",
            "delete.tombstone.handling.mode": self.mode,
            "add.fields": self.add_fields,
        }
        named = {f"transforms.flat.{name}": value for name, value in flatten.items() if value}
        return settings | {"transforms": "flat"} | named


BY_SEQUENCE = "op,source.ts_ms,source.snapshot,source.sequence"
CASES = [
    Case("flat_rewrite", "postgres", "rewrite", "source", BY_SEQUENCE),
    Case("flat_tombstone", "postgres", "tombstone", "kafka"),
    Case("flat_true", "postgres", "delete-to-tombstone", "kafka", "op,lsn"),
    Case("flat_mysql", "mysql", "rewrite", "source", "op,source.ts_ms,file,pos"),
]


@contextmanager
def connected(stack: Chain, case: Case) -> Iterator[None]:
    texts = "varchar(40)" if case.database == "mysql" else "text"
    case.execute(
        stack,
        f"CREATE TABLE {case.name} (id int PRIMARY KEY, name {texts} NOT NULL, amount int NOT NULL, "
        f"price decimal(10,2), flag boolean NOT NULL, __mine {texts})",
    )
    insert(stack, case, 1, ROWS)
    stack.add_connector(case.name, case.connector(stack))
    wait_for_records(stack, case.topic, ROWS)
    yield
    stack.remove_connector(case.name)


def insert(stack: Chain, case: Case, first: int, last: int) -> None:
    rows = ", ".join(f"({i}, 'n{i}', {i}, {i}.25, true, NULL)" for i in range(first, last + 1))
    case.execute(stack, f"INSERT INTO {case.name} VALUES {rows}")


def churn(stack: Chain, case: Case, number: int) -> None:
    """Each kind of change; what is deleted comes back in part, so that a late delete would show."""
    first, old = 100 * number + 1000, f"id BETWEEN 1 AND {ROWS}"
    insert(stack, case, first, first + 9)
    case.execute(
        stack,
        f"UPDATE {case.name} SET name = 'round {number}', price = NULL WHERE id % 3 = 0 AND {old}",
        f"UPDATE {case.name} SET __mine = 'mine {number}' WHERE id % 4 = 0 AND {old}",
        f"DELETE FROM {case.name} WHERE id BETWEEN {first} AND {first + 4}",
        f"UPDATE {case.name} SET id = {first + 50} WHERE id = {first + 6}",
        "BEGIN",
        f"DELETE FROM {case.name} WHERE id % 5 = 0 AND {old}",
        "COMMIT",
    )
    for i in range(5, ROWS + 1, 5):
        insert(stack, case, i, i)
    insert(stack, case, first + 1, first + 1)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_flattened_table_equals_its_source_also_after_connect_was_killed(
    stack: Chain, lake: Lake, case: Case
) -> None:
    source = {"database": case.database, "table": case.table}
    with connected(stack, case):
        pipeline = lake.pipeline(
            {"topic": case.topic, "source": source, "order": case.order},
            connect={"url": stack.connect_url},
        )
        where = f"connector {case.name} transform flat"
        said = [(one.level, one.saw) for one in check_pipeline(pipeline) if one.where == where]
        assert [level for level, _ in said] == ["ok"], said
        with streaming(pipeline, lake.spark) as running:
            require_equal(pipeline)
            churn(stack, case, 0)
            require_equal(pipeline)
            again = kill_connect_until_it_delivers_again(stack, case, pipeline)
            assert [query.error for query in running.queries] == [None]
        ledger = ledger_of(pipeline)
    assert again > 0
    assert (ledger.totals.redelivered > 0) == (case.order == "source")
    loaded = load_table(pipeline.catalog, pipeline.tables[0].name)
    assert loaded is not None
    assert [field.name for field in loaded.schema().fields] == [
        *("id", "name", "amount", "price", "flag", "__mine"),
        *metadata_columns(TableMode.MIRROR),
    ]


def kill_connect_until_it_delivers_again(stack: Chain, case: Case, pipeline: Pipeline) -> int:
    """Return how many records came twice; the table is right each time.

    Connect writes its offsets down each second: a kill right after a record arrived finds them behind,
    nearly always. Nobody changes anything while it is down.
    """
    cluster = Cluster(pipeline.kafka)
    for attempt in range(1, 6):
        before = end(cluster, case.topic)
        churn(stack, case, attempt)
        wait(grown(cluster, case.topic, before + CHANGES), "changes in the topic")
        stack.kill("connect")
        wait(lambda: ledger_end(pipeline) == end(cluster, case.topic), "all to be applied")
        delivered = end(cluster, case.topic)
        stack.restart("connect")
        ConnectClient(stack.connect_url).wait_running(case.name, 60)
        insert(stack, case, -attempt, -attempt)
        require_equal(pipeline)
        if (again := end(cluster, case.topic) - delivered - 1) > 0:
            return again
    return 0


def ledger_of(pipeline: Pipeline) -> Ledger:
    loaded = load_table(pipeline.catalog, pipeline.tables[0].name)
    found = None if loaded is None else read_ledger(loaded)
    assert found is not None
    return found[0]


def ledger_end(pipeline: Pipeline) -> int:
    return sum(ledger_of(pipeline).next_offsets.values())


def grown(cluster: Cluster, topic: str, to: int) -> Callable[[], bool]:
    return lambda: end(cluster, topic) >= to


def end(cluster: Cluster, topic: str) -> int:
    """Records in the topic; it may have no leader for a moment."""
    try:
        return sum(cluster.end_offsets(topic).values())
    except UnavailableError:
        return 0
