"""MariaDB through every part of the chain; it differs from MySQL where this file says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdc_sink.clients.catalog import load_table
from cdc_sink.clients.connect import ConnectClient
from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import Database, Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.errors import UnavailableError
from cdc_sink.observe.table_facts import read_ledger
from cdc_sink.verification.databases.open_database import open_database
from tests.chain import databases
from tests.chain.pipelines import Lake, require_equal, streaming, wait, wait_for_records
from tests.chain.settings import database_of

ORDERS = "maria.shop.maria_orders"
LINES = "maria.shop.maria_lines"
TABLES = (
    {"topic": ORDERS, "source": {"database": "mariadb", "table": "shop.maria_orders"}},
    {"topic": LINES, "source": {"database": "mariadb", "table": "shop.maria_lines"}},
)
ROWS = 200


def execute(chain: Chain, *statements: str, side: str = "mariadb") -> None:
    databases.execute(chain, side, *statements)


@pytest.fixture(scope="module")
def source(chain: Chain) -> Iterator[Chain]:
    execute(
        chain,
        """CREATE TABLE maria_orders (
             id bigint PRIMARY KEY, name varchar(40) NOT NULL, visits int, total decimal(12,2),
             token uuid, meta json, raw varbinary(20), state enum('new','paid'), flag tinyint(1),
             weight double, placed datetime(6), seen timestamp(6) NULL, slot time(6), note longtext,
             big bigint unsigned,
             made timestamp DEFAULT current_timestamp(), part int DEFAULT (1 + 1))""",
        f"""INSERT INTO maria_orders (id, name, visits, total, token, meta, raw, state, flag,
              weight, placed, seen, slot, note, big) SELECT seq, concat('naïve ', seq), seq, seq * 1.25,
              concat('123e4567-e89b-12d3-a456-', lpad(hex(seq + 1e6), 10, '0'), '42'),
              concat('{{"n": ', seq, ', "a":  1.0}}'), unhex(lpad(hex(seq), 4, '0')), 'paid', seq % 2,
              seq / 3, '2020-01-01 10:00:00.123456', '2020-01-01 10:00:00.5', '-10:00:00.25',
              repeat('x', 3000),
              18446744073709551615 - seq FROM seq_1_to_{ROWS}""",
        """CREATE TABLE maria_lines (sku varchar(20), line smallint unsigned, price decimal(10,2),
             PRIMARY KEY (sku, line)) COLLATE utf8mb4_bin""",
        f"INSERT INTO maria_lines SELECT concat('s', seq % 40), seq, seq FROM seq_1_to_{ROWS}",
    )
    settings = chain.mariadb_connector(
        "maria", "shop", ["shop.maria_orders", "shop.maria_lines"], partitions=2
    )
    chain.add_connector("maria", settings)
    wait_for_records(chain, ORDERS, ROWS)
    wait_for_records(chain, LINES, ROWS)
    yield chain
    chain.remove_connector("maria")


def churn(chain: Chain, first: int) -> None:
    """Each kind of change; what one transaction does to one row stands at one position."""
    execute(
        chain,
        f"UPDATE maria_orders SET visits = visits + 1, state = NULL WHERE id > {first + 30}",
        f"DELETE FROM maria_orders WHERE id BETWEEN {first} AND {first + 2}",
        f"INSERT INTO maria_orders (id, name) VALUES ({first + 1000}, 'new')",
        f"UPDATE maria_orders SET id = {first + 2000} WHERE id = {first + 3}",
        "BEGIN",
        f"DELETE FROM maria_orders WHERE id = {first + 4}",
        f"INSERT INTO maria_orders (id, name) VALUES ({first + 4}, 'again')",
        f"UPDATE maria_orders SET name = 'first' WHERE id = {first + 5}",
        f"UPDATE maria_orders SET name = 'second' WHERE id = {first + 5}",
        f"UPDATE maria_orders SET id = {first + 3000} WHERE id = {first + 5}",
        f"UPDATE maria_orders SET id = {first + 5} WHERE id = {first + 3000}",
        f"UPDATE maria_orders SET name = 'third', total = NULL WHERE id = {first + 5}",
        f"INSERT INTO maria_orders (id, name) VALUES ({first + 4000}, 'gone')",
        f"DELETE FROM maria_orders WHERE id = {first + 4000}",
        f"UPDATE maria_lines SET line = line + 1000 WHERE line = {first + 6}",
        f"DELETE FROM maria_lines WHERE line = {first + 7}",
        "COMMIT",
        "BEGIN",  # the second statement counts its rows anew, and so does the third
        f"UPDATE maria_orders SET name = 'many' WHERE id BETWEEN {first + 8} AND {first + 14}",
        f"UPDATE maria_orders SET name = 'few' WHERE id BETWEEN {first + 12} AND {first + 14}",
        f"UPDATE maria_orders SET name = 'one' WHERE id = {first + 14}",
        f"DELETE FROM maria_orders WHERE id = {first + 13}",
        "COMMIT",
        "BEGIN",
        "UPDATE maria_orders SET name = 'never'",
        "DELETE FROM maria_lines",
        "ROLLBACK",
        "BEGIN",
        f"UPDATE maria_orders SET name = 'kept' WHERE id = {first + 8}",
        "SAVEPOINT here",
        "UPDATE maria_orders SET name = 'never'",
        "ROLLBACK TO SAVEPOINT here",
        "COMMIT",
    )


def test_tables_equal_mariadb_under_changes_and_after_connect_was_killed(
    source: Chain, lake: Lake
) -> None:
    pipeline = lake.pipeline(*TABLES)
    with streaming(pipeline, lake.spark) as running:
        require_equal(pipeline)
        churn(source, 1)
        require_equal(pipeline)
        again = kill_connect_until_it_delivers_again(source, pipeline)
        churn(source, 101)
        require_equal(pipeline)
        assert [query.error for query in running.queries] == [None, None]
    assert again > 0


def kill_connect_until_it_delivers_again(chain: Chain, pipeline: Pipeline) -> int:
    """Return how many records came twice.

    Connect writes its offsets down each second: a kill right after a record arrived finds them
    behind, nearly always. Nobody changes anything while it is down.
    """
    cluster = Cluster(pipeline.kafka)
    for attempt in range(5):
        before = records(cluster)
        churn(chain, 20 * attempt + 11)
        wait(lambda before=before: records(cluster) >= before + 40, "changes in the topics")  # type: ignore[misc]
        chain.kill("connect")
        require_applied(pipeline, cluster)
        delivered = records(cluster)
        chain.restart("connect")
        ConnectClient(chain.connect_url).wait_running("maria", 60)
        execute(chain, f"INSERT INTO maria_orders (id, name) VALUES ({-attempt}, 'mark')")
        require_equal(pipeline)
        if (again := records(cluster) - delivered - 1) > 40:
            return again
    return 0


def records(cluster: Cluster) -> int:
    """Records in both topics; they may have no leader for a moment."""
    try:
        return sum(sum(cluster.end_offsets(topic).values()) for topic in (ORDERS, LINES))
    except UnavailableError:
        return 0


def require_applied(pipeline: Pipeline, cluster: Cluster) -> None:
    """Wait until the ledgers stand at the ends of the topics."""

    def is_applied() -> bool:
        ends = [cluster.end_offsets(table.topic) for table in pipeline.tables]
        tables = [load_table(pipeline.catalog, table.name) for table in pipeline.tables]
        ledgers = [read_ledger(table) for table in tables if table]
        return [dict(found[0].next_offsets) for found in ledgers if found] == ends

    wait(is_applied, "all records to be applied")


@pytest.mark.parametrize("side", ["mysql", "mariadb"])
def test_only_computed_columns_are_told_to_be_computed(
    chain: Chain, tmp_path: Path, side: str
) -> None:
    """MySQL calls a column with a default expression DEFAULT_GENERATED, which it is not."""
    execute(
        chain,
        """CREATE TABLE defaults (id int PRIMARY KEY, made timestamp DEFAULT CURRENT_TIMESTAMP,
             changed datetime(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
             twice int GENERATED ALWAYS AS (id * 2) STORED, thrice int AS (id * 3) VIRTUAL)""",
        side=side,
    )
    with open_database(database(chain, tmp_path, side)) as opened:
        columns = opened.columns("shop.defaults")
    execute(chain, "DROP TABLE defaults", side=side)
    assert {column.name: column.is_generated for column in columns} == {
        "id": False,
        "made": False,
        "changed": False,
        "twice": True,
        "thrice": True,
    }


def test_mariadb_prints_every_type_without_loss(chain: Chain, tmp_path: Path) -> None:
    execute(
        chain,
        """CREATE TABLE odd (`a.b``c%d` bigint unsigned, part int, f float, f4 float(7,4),
             d double, t time(6), y year, z int zerofill, c char(3), fixed binary(3), one bit(1),
             bits bit(10), s set('x','y'), doc json, ts timestamp(6) NULL, flag boolean, u uuid,
             i4 inet4, i6 inet6, hidden int INVISIBLE DEFAULT 3, PRIMARY KEY (part, `a.b``c%d`))""",
        """INSERT INTO odd (`a.b``c%d`, part, f, f4, d, t, y, z, c, fixed, one, bits, s, doc, ts,
             flag, u, i4, i6) VALUES (18446744073709551615, 1, 16777217, 0.1, -0e0, '-838:59:59',
             2024, 7, 'x', x'00', 1, b'1000000001', 'y,x', '{"b": 1.0,  "a": 1}',
             '2024-06-01 12:00:00.000001', true, '123E4567-e89b-12d3-a456-426655440000', '10.0.0.1',
             '2001:DB8::1')""",
    )
    with open_database(database(chain, tmp_path, "mariadb")) as opened:
        columns = opened.columns("shop.odd")
        (rows,) = list(opened.rows("shop.odd", columns))
        key = opened.key_columns("shop.odd")
    execute(chain, "DROP TABLE odd")
    kinds = {column.name: column.kind for column in columns if column.kind != "plain"}
    assert kinds == {
        "f": "real",
        "f4": "real",
        "t": "time",
        "one": "bits",
        "bits": "bits",
        "fixed": "bytes",
        "ts": "stamp",
    }
    # JSON is a text with a check here: kept, sent and compared as it was written.
    assert [" | ".join(map(str, row)) for row in rows] == [
        "18446744073709551615 | 1 | 16777216 | 0.10000000149011612 | -0 | -838:59:59.000000 | 2024 "
        '| 0000000007 | x | b\'\\x00\\x00\\x00\' | 1 | 1000000001 | x,y | {"b": 1.0,  "a": 1} | '
        "2024-06-01 12:00:00.000001 | 1 | 123e4567-e89b-12d3-a456-426655440000 | 10.0.0.1 | "
        "2001:db8::1 | 3"
    ]
    assert key == ("part", "a.b`c%d")


def database(chain: Chain, folder: Path, side: str) -> Database:
    return Database.model_validate(database_of(getattr(chain, side), "shop", folder))
