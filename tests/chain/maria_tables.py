"""Two tables in MariaDB, with what one transaction does to one row more than once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cdc_sink.demo.chain.chain import Chain
from tests.chain.databases import execute
from tests.chain.pipelines import wait_for_records
from tests.chain.redelivery import Source

ROWS = 400  # more than the last round of changes reaches


class MariaTables(Source):
    """What one transaction does to one row stands at one position."""

    name = "maria"
    changes = 40
    least = 40

    @property
    def tables(self) -> list[dict[str, object]]:
        names = ("shop.maria_orders", "shop.maria_lines")
        return [
            {"topic": f"maria.{name}", "source": {"database": "mariadb", "table": name}}
            for name in names
        ]

    @contextmanager
    def connected(self, chain: Chain) -> Iterator[None]:
        execute(
            chain,
            "mariadb",
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
        for topic in self.topics:
            wait_for_records(chain, topic, ROWS)
        yield
        chain.remove_connector("maria")

    def churn(self, chain: Chain, number: int) -> None:
        first = 20 * number + 1
        execute(
            chain,
            "mariadb",
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

    def mark(self, chain: Chain, number: int) -> None:
        execute(chain, "mariadb", f"INSERT INTO maria_orders (id, name) VALUES ({-number}, 'mark')")
