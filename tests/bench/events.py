"""Real events for the benchmark: 10-column PostgreSQL tables, filled and changed through the chain."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import Kafka
from cdc_sink.demo.chain.chain import Chain

LARGE, SMALL = "accounts", "members"
SMALL_ROWS = 10_000
PARTS = ("postgres", "kafka", "registry", "connect")
DDL = """
CREATE TABLE {table} (
  id bigint PRIMARY KEY, name text NOT NULL, email text, active boolean, visits int,
  balance numeric(12,2), score double precision, born date, seen timestamp, created timestamptz)
"""
INSERT = """
INSERT INTO {table}
SELECT i, 'name ' || i, 'user' || i || '@example.org', i % 2 = 0, i % 1000, (i % 100000) * 1.25, i / 3.0,
       date '1970-01-01' + (i % 20000)::int, timestamp '2020-01-01' + i * interval '1 second', now()
FROM generate_series({first}, {last}) i
"""
# A permutation step: hits keys all over the table, each at most once per statement.
UPDATE = """
UPDATE {table} SET visits = visits + 1, balance = balance + 0.25, seen = now()
WHERE id % {step} = {rest}
"""
DELETE = "DELETE FROM {table} WHERE id % 200 = {rest}"


@dataclass(frozen=True)
class Source:
    """One of the tables at the source, and its topic."""

    chain: Chain
    table: str

    @property
    def topic(self) -> str:
        """The topic that Debezium writes the table's changes to."""
        return f"bench.public.{self.table}"

    def run(self, statement: str, **values: int) -> int:
        """Run one statement in a transaction of its own; returns the rows it touched."""
        with self.chain.postgres.connect("bench") as connection:
            return connection.execute(statement.format(table=self.table, **values)).rowcount

    def end_offset(self) -> int:
        """How many records the topic has."""
        cluster = Cluster(Kafka(bootstrap_servers=self.chain.bootstrap_servers))
        if cluster.topic(self.topic) is None:
            return 0
        return sum(cluster.end_offsets(self.topic).values())

    def wait_for(self, records: int, limit_s: float = 600) -> float:
        """Wait until the topic has so many records; returns the seconds it took."""
        started = time.monotonic()
        while self.end_offset() < records:
            if time.monotonic() - started > limit_s:
                raise TimeoutError(f"{self.topic} has {self.end_offset()} of {records} records")
            time.sleep(0.5)
        return time.monotonic() - started


def create(chain: Chain) -> tuple[Source, Source]:
    """Make the database, the large and the small table with their first rows, and the connector."""
    chain.postgres.create_database("bench")
    large, small = Source(chain, LARGE), Source(chain, SMALL)
    for source, rows in ((large, 10), (small, SMALL_ROWS)):
        source.run(DDL)
        source.run(INSERT, first=1, last=rows)
    tables = [f"public.{LARGE}", f"public.{SMALL}"]
    settings = chain.postgres_connector("bench", "bench", tables, slot="bench")
    chain.add_connector("bench", settings | {"max.batch.size": "8192", "max.queue.size": "32768"})
    return large, small


def start_chain(folder: Path) -> Chain:
    """The chain without MySQL, in a folder of its own."""
    return Chain(folder, parts=PARTS)
