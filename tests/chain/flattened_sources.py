"""Connectors that flatten their rows: each mode of the transform, with the order that its table is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cdc_sink.demo.chain.chain import Chain
from tests.chain.databases import SCHEMAS, connector, execute
from tests.chain.pipelines import wait_for_records
from tests.chain.redelivery import Source

ROWS = 60


@dataclass(frozen=True)
class Flattened(Source):
    """A connector with the transform, and the order that its table is given."""

    name: str
    database: str
    mode: str
    order: str
    add_fields: str = ""
    changes: int = 77  # 35 updates, 23 inserts, 17 deletes, one key update in two halves
    least: int = 0

    @property
    def _source(self) -> str:
        return f"{SCHEMAS[self.database]}.{self.name}"

    @property
    def tables(self) -> list[dict[str, object]]:
        source = {"database": self.database, "table": self._source}
        return [{"topic": f"{self.name}.{self._source}", "source": source, "order": self.order}]

    def _execute(self, chain: Chain, *statements: str) -> None:
        execute(chain, self.database, *statements)

    def _connector(self, chain: Chain) -> dict[str, str]:
        flatten = {
            "type": "io.debezium.transforms.ExtractNewRecordState",
            "delete.tombstone.handling.mode": self.mode,
            "add.fields": self.add_fields,
        }
        named = {f"transforms.flat.{name}": value for name, value in flatten.items() if value}
        settings = connector(chain, self.database, self.name, [self._source])
        return settings | {"transforms": "flat"} | named

    @contextmanager
    def connected(self, chain: Chain) -> Iterator[None]:
        texts = "varchar(40)" if self.database == "mysql" else "text"
        self._execute(
            chain,
            f"CREATE TABLE {self.name} (id int PRIMARY KEY, name {texts} NOT NULL, amount int NOT NULL, "
            f"price decimal(10,2), flag boolean NOT NULL, __mine {texts})",
        )
        self._insert(chain, 1, ROWS)
        chain.add_connector(self.name, self._connector(chain))
        for topic in self.topics:
            wait_for_records(chain, topic, ROWS)
        yield
        chain.remove_connector(self.name)

    def _insert(self, chain: Chain, first: int, last: int) -> None:
        rows = ", ".join(f"({i}, 'n{i}', {i}, {i}.25, true, NULL)" for i in range(first, last + 1))
        self._execute(chain, f"INSERT INTO {self.name} VALUES {rows}")

    def churn(self, chain: Chain, number: int) -> None:
        """What is deleted comes back in part, so that a late delete would show."""
        first, old = 100 * number + 1000, f"id BETWEEN 1 AND {ROWS}"
        self._insert(chain, first, first + 9)
        self._execute(
            chain,
            f"UPDATE {self.name} SET name = 'round {number}', price = NULL WHERE id % 3 = 0 AND {old}",
            f"UPDATE {self.name} SET __mine = 'mine {number}' WHERE id % 4 = 0 AND {old}",
            f"DELETE FROM {self.name} WHERE id BETWEEN {first} AND {first + 4}",
            f"UPDATE {self.name} SET id = {first + 50} WHERE id = {first + 6}",
            "BEGIN",
            f"DELETE FROM {self.name} WHERE id % 5 = 0 AND {old}",
            "COMMIT",
        )
        for i in range(5, ROWS + 1, 5):
            self._insert(chain, i, i)
        self._insert(chain, first + 1, first + 1)

    def mark(self, chain: Chain, number: int) -> None:
        self._insert(chain, -number, -number)


BY_SEQUENCE = "op,source.ts_ms,source.snapshot,source.sequence"
FLATTENED = [
    Flattened("flat_rewrite", "postgres", "rewrite", "source", BY_SEQUENCE),
    Flattened("flat_tombstone", "postgres", "tombstone", "kafka"),
    Flattened("flat_true", "postgres", "delete-to-tombstone", "kafka", "op,lsn"),
    Flattened("flat_mysql", "mysql", "rewrite", "source", "op,source.ts_ms,file,pos"),
]
