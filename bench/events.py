"""Real events for the benchmark: a 10-column PostgreSQL table, filled and changed through the chain."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import Kafka
from cdc_sink.stack.stack import Stack

TOPIC = "bench.public.accounts"
PARTS = ("postgres", "kafka", "registry", "connect")
DDL = """
CREATE TABLE accounts (
  id bigint PRIMARY KEY, name text NOT NULL, email text, active boolean, visits int,
  balance numeric(12,2), score double precision, born date, seen timestamp, created timestamptz)
"""
INSERT = """
INSERT INTO accounts
SELECT i, 'name ' || i, 'user' || i || '@example.org', i % 2 = 0, i % 1000, (i % 100000) * 1.25, i / 3.0,
       date '1970-01-01' + (i % 20000)::int, timestamp '2020-01-01' + i * interval '1 second', now()
FROM generate_series({first}, {last}) i
"""
# A permutation step: hits keys all over the table, each at most once per statement.
UPDATE = """
UPDATE accounts SET visits = visits + 1, balance = balance + 0.25, seen = now()
WHERE id % {step} = {rest}
"""
DELETE = "DELETE FROM accounts WHERE id % 200 = {rest}"


@dataclass
class Source:
    """The table at the source and its topic."""

    stack: Stack

    def create(self) -> None:
        """Make the database, the table and the connector."""
        self.stack.postgres.create_database("bench")
        self.run(DDL)
        self.run(INSERT.format(first=1, last=10))
        settings = self.stack.postgres_connector(
            "bench", "bench", ["public.accounts"], slot="bench"
        )
        self.stack.add_connector(
            "bench", settings | {"max.batch.size": "8192", "max.queue.size": "32768"}
        )

    def run(self, statement: str) -> int:
        """Run one statement in a transaction of its own; returns the rows it touched."""
        with self.stack.postgres.connect("bench") as connection:
            return connection.execute(statement).rowcount

    def end_offset(self) -> int:
        """How many records the topic has."""
        cluster = Cluster(Kafka(bootstrap_servers=self.stack.bootstrap_servers))
        if cluster.topic(TOPIC) is None:
            return 0
        return sum(cluster.end_offsets(TOPIC).values())

    def wait_for(self, records: int, limit_s: float = 600) -> float:
        """Wait until the topic has so many records; returns the seconds it took."""
        started = time.monotonic()
        while self.end_offset() < records:
            if time.monotonic() - started > limit_s:
                raise TimeoutError(f"{TOPIC} has {self.end_offset()} of {records} records")
            time.sleep(0.5)
        return time.monotonic() - started


def start_stack(folder: Path) -> Stack:
    """The chain without MySQL, in a folder of its own."""
    return Stack(folder, parts=PARTS)
