"""`verify` names the rows that changed at the source without any change event.

The copies are written by pyiceberg from the rows as they were before; then the source loses its events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import DateType, IcebergType, IntegerType, LongType, NestedField, StringType

from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.verification.range_sums import KeyDifference
from cdc_sink.verification.verify import Verification, verify
from tests.chain.settings import database_of, surroundings_of

NAME = "lost_changes"
COLUMNS: dict[str, dict[str, IcebergType]] = {
    "ev": {"id": LongType(), "at": DateType(), "kind": StringType()},
    "part_my": {"id": IntegerType(), "n": StringType()},
    "js": {"id": IntegerType(), "j": StringType()},
    "child_del": {"id": IntegerType(), "pid": IntegerType(), "n": StringType()},
    "child_null": {"id": IntegerType(), "pid": IntegerType(), "n": StringType()},
}
KEYS = {"ev": ("id", "at")}
SIDES = {"ev": "postgres"}


@pytest.fixture(scope="module")
def execute(chain: Chain) -> Iterator[Callable[..., list[Any]]]:
    def run(side: str, *statements: str) -> list[Any]:
        server: Any = getattr(chain, side)
        with closing(server.connect(NAME)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    for server in (chain.postgres, chain.mysql):
        server.create_database(NAME)
    yield run
    with closing(chain.postgres.connect()) as connection:
        connection.execute(f"DROP DATABASE {NAME}")
    with closing(chain.mysql.connect()) as opened, opened.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {NAME}")


@pytest.fixture
def copied(
    execute: Callable[..., list[Any]], chain: Chain, tmp_path: Path
) -> Iterator[Callable[..., Pipeline]]:
    catalog = SqlCatalog(
        "lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse"
    )
    catalog.create_namespace("copy")

    def copy(*names: str) -> Pipeline:
        for name in names:
            fields = [
                NestedField(at, column, kind, required=column in KEYS.get(name, ("id",)))
                for at, (column, kind) in enumerate(COLUMNS[name].items(), start=1)
            ]
            keys = [field.field_id for field in fields if field.required]
            schema = Schema(*fields, identifier_field_ids=keys)
            columns = ", ".join(COLUMNS[name])
            rows = execute(SIDES.get(name, "mysql"), f"SELECT {columns} FROM {name}")
            written = [dict(zip(COLUMNS[name], row, strict=True)) for row in rows]
            catalog.create_table(f"copy.{name}", schema).append(
                pa.Table.from_pylist(written, schema=schema.as_arrow())
            )
        return _pipeline(chain, tmp_path, names)

    yield copy
    catalog.close()


def _pipeline(chain: Chain, folder: Path, names: tuple[str, ...]) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "copy",
            **surroundings_of(chain, folder, "lake"),
            "defaults": {"namespace": "copy"},
            "databases": {
                "postgres": database_of(chain.postgres, NAME, folder),
                "mysql": database_of(chain.mysql, NAME, folder),
            },
            "tables": [
                {
                    "topic": f"copy.{name}",
                    "target": f"copy.{name}",
                    "source": {
                        "database": SIDES.get(name, "mysql"),
                        "table": f"{'public' if name in SIDES else NAME}.{name}",
                    },
                }
                for name in names
            ],
        }
    )


def found(pipeline: Pipeline) -> dict[str, dict[int, str]]:
    """By table: what is said of each key's `id`."""
    return {one.table.removeprefix("copy."): _said(one) for one in verify(pipeline)}


def _said(one: Verification) -> dict[int, str]:
    assert one.failure is None
    return {
        int(str(each.key["id"])): " ".join((each.kind, *each.columns)) for each in one.differences
    }


def test_rows_of_partitions_that_were_attached_or_dropped_are_named(
    execute: Callable[..., list[Any]], copied: Callable[..., Pipeline]
) -> None:
    execute(
        "postgres",
        "CREATE TABLE ev (id bigint, at date NOT NULL, kind text, PRIMARY KEY (id, at)) "
        "PARTITION BY RANGE (at)",
        "CREATE TABLE ev_01 PARTITION OF ev FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "CREATE TABLE ev_02 PARTITION OF ev FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
        "INSERT INTO ev SELECT g, date '2026-01-10' + (g % 30), 'k' FROM generate_series(1, 60) g",
    )
    pipeline = copied("ev")
    assert found(pipeline) == {"ev": {}}
    execute(
        "postgres",
        "CREATE TABLE ev_04 (LIKE ev INCLUDING ALL)",
        "INSERT INTO ev_04 VALUES (5000, '2026-04-02', 'attached')",
        "ALTER TABLE ev ATTACH PARTITION ev_04 FOR VALUES FROM ('2026-04-01') TO ('2026-05-01')",
        "DROP TABLE ev_01",
    )
    (one,) = verify(pipeline)
    january = {k for k in range(1, 61) if k % 30 < 22}
    assert {e.key["id"] for e in one.differences if e.kind == "extra"} == january
    missing = [e for e in one.differences if e.kind != "extra"]
    assert missing == [KeyDifference({"id": 5000, "at": date(2026, 4, 2).isoformat()}, "missing")]


def test_rows_that_mysql_changed_without_an_event_are_named(
    execute: Callable[..., list[Any]], copied: Callable[..., Pipeline]
) -> None:
    foreign = "FOREIGN KEY (pid) REFERENCES parent(id) ON UPDATE CASCADE ON DELETE"
    execute(
        "mysql",
        "CREATE TABLE parent (id int PRIMARY KEY)",
        f"CREATE TABLE child_del (id int PRIMARY KEY, pid int, n text, {foreign} CASCADE)",
        f"CREATE TABLE child_null (id int PRIMARY KEY, pid int, n text, {foreign} SET NULL)",
        "INSERT INTO parent VALUES (1), (2), (3)",
        "INSERT INTO child_del VALUES (11, 1, 'a'), (12, 1, 'b'), (21, 2, 'c'), (31, 3, 'd')",
        "INSERT INTO child_null VALUES (11, 1, 'a'), (21, 2, 'c'), (31, 3, 'd')",
        "CREATE TABLE part_my (id int PRIMARY KEY, n text) PARTITION BY RANGE (id) "
        "(PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)",
        "INSERT INTO part_my VALUES (1, 'a'), (9, 'b'), (10, 'c')",
        "CREATE TABLE js (id int PRIMARY KEY, j json)",
        """INSERT INTO js VALUES (1, '{"k": 1}'), (2, '{"k": 2}')""",
    )
    names = ("child_del", "child_null", "part_my", "js")
    pipeline = copied(*names)
    assert found(pipeline) == {name: {} for name in names}
    execute(
        "mysql",
        "DELETE FROM parent WHERE id = 1",
        "UPDATE parent SET id = 20 WHERE id = 2",
        "ALTER TABLE part_my TRUNCATE PARTITION p0",
        "SET SESSION binlog_row_value_options = 'PARTIAL_JSON'",
        "UPDATE js SET j = JSON_SET(j, '$.k', 333) WHERE id = 1",
    )
    assert found(pipeline) == {
        "child_del": {11: "extra", 12: "extra", 21: "different pid"},
        "child_null": {11: "different pid", 21: "different pid"},
        "part_my": {1: "extra", 9: "extra"},
        "js": {1: "different j"},
    }
