"""`verify` says which keys differ between a source and one snapshot of an Iceberg table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import LongType, NestedField, StringType, TimestamptzType

from cdc_sink.cli.main import run
from cdc_sink.cli.verbs.verify import exit_code, render_findings
from cdc_sink.config import Database, Pipeline, load_config
from cdc_sink.errors import ConfigError, SchemaError
from cdc_sink.verification.databases.source_database import Row, SourceColumn
from cdc_sink.verification.range_sums import KeyDifference
from cdc_sink.verification.verify import Verification, not_verifiable, verify

YAML = """
pipeline: shop
kafka: {bootstrap_servers: "127.0.0.1:9092"}
registry: {url: "http://127.0.0.1:8081"}
catalog: {type: jdbc, uri: "jdbc:sqlite:FOLDER/catalog.db", warehouse: "file://FOLDER/warehouse"}
checkpoints: file://FOLDER/checkpoints
defaults: {namespace: shop}
tables:
  - topic: pg.public.customers
    source: {database: postgres, table: public.customers}
  - topic: pg.public.orders
databases:
  postgres: {type: postgresql, host: 127.0.0.1, database: shop, user: reader}
"""
SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=True),
    NestedField(2, "name", StringType()),
    NestedField(3, "seen", TimestamptzType()),
    NestedField(4, "_cdc_offset", LongType()),
    identifier_field_ids=[1],
)
ID = SourceColumn("id", "bigint")
NAME = SourceColumn("name", "text")
SEEN = SourceColumn("seen", "timestamp with time zone", "zoned")
SOME: list[Row] = [
    ("1", "a", "1970-01-01 00:00:00.000001+00"),
    ("2", None, None),
    ("3", "ü", "1970-01-01 00:00:00+00"),
]


@dataclass
class InMemoryDatabase:
    """A source database of one table; each opening may show another state of it."""

    states: list[list[Row]]
    table: tuple[SourceColumn, ...] = (ID, NAME, SEEN)
    key: tuple[str, ...] = ("id",)
    opened: int = 0
    closed: int = 0
    asked: list[str] = field(default_factory=list)

    def open(self, database: Database) -> InMemoryDatabase:
        assert database.type == "postgresql"
        self.opened += 1
        return self

    def columns(self, table: str) -> tuple[SourceColumn, ...]:
        self.asked.append(table)
        return self.table

    def key_columns(self, table: str) -> tuple[str, ...]:
        assert table
        return self.key

    def rows(self, table: str, columns: Sequence[SourceColumn]) -> Iterator[list[Row]]:
        assert table
        places = [self.table.index(column) for column in columns]
        state = self.states[min(self.opened, len(self.states)) - 1]
        for row in state:
            yield [tuple(row[place] for place in places)]

    def close(self) -> None:
        self.closed += 1

    def __enter__(self) -> InMemoryDatabase:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    file = tmp_path / "shop.yaml"
    file.write_text(YAML.replace("FOLDER", str(tmp_path)))
    return load_config(file)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    opened = SqlCatalog(
        "lake",
        uri=f"sqlite:///{tmp_path}/catalog.db",
        warehouse=f"file://{tmp_path}/warehouse",
    )
    opened.create_namespace("shop")
    yield opened
    opened.close()


def append(table: Table, rows: list[dict[str, Any]]) -> None:
    table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))


IMAGES: list[dict[str, Any]] = [
    {"id": 1, "name": "a", "seen": 1, "_cdc_offset": 1},
    {"id": 2, "name": None, "seen": None, "_cdc_offset": 2},
    {"id": 3, "name": "ü", "seen": 0, "_cdc_offset": None},
]


@pytest.fixture
def customers(catalog: SqlCatalog) -> Table:
    table = catalog.create_table("shop.customers", SCHEMA)
    append(table, IMAGES[:2])
    append(table, IMAGES[2:])
    return table


def compare(pipeline: Pipeline, database: InMemoryDatabase, **more: Any) -> Verification:
    (found,) = verify(pipeline, ["shop.customers"], open_source=database.open, **more)
    return found


def test_equal_sides_are_equal_and_our_own_column_does_not_count(
    pipeline: Pipeline, customers: Table
) -> None:
    database = InMemoryDatabase([list(reversed(SOME))])
    found = compare(pipeline, database)
    assert found.equal
    assert (found.rows_source, found.rows_table, found.ranges_differing) == (3, 3, 0)
    assert found.snapshot_id == customers.metadata.current_snapshot_id
    assert found.columns_only_in_table == ()
    assert database.asked == ["public.customers"]
    assert database.closed == database.opened == 1


def test_differing_keys_are_named_with_their_columns(pipeline: Pipeline, customers: Table) -> None:
    append(customers, [IMAGES[2]])
    rows: list[Row] = [("1", "A", "1970-01-01 00:00:00+00"), SOME[2], ("4", "new", None)]
    found = compare(pipeline, InMemoryDatabase([rows]))
    assert not found.equal
    assert found.differences == (
        KeyDifference({"id": 1}, "different", ("name", "seen")),
        KeyDifference({"id": 2}, "extra"),
        KeyDifference({"id": 3}, "duplicate"),
        KeyDifference({"id": 4}, "missing"),
    )


def test_a_source_column_that_the_table_lacks_is_a_difference(
    pipeline: Pipeline, customers: Table
) -> None:
    assert customers
    extra = SourceColumn("level", "smallint")
    database = InMemoryDatabase([[(*row, "1") for row in SOME]], table=(ID, NAME, SEEN, extra))
    found = compare(pipeline, database)
    assert found.columns_missing == ("level",)
    assert found.ranges_differing == 0
    assert not found.equal


def test_a_column_that_the_source_dropped_is_reported_and_ignored(
    pipeline: Pipeline, customers: Table
) -> None:
    assert customers
    found = compare(pipeline, InMemoryDatabase([[row[:2] for row in SOME]], table=(ID, NAME)))
    assert found.columns_only_in_table == ("seen",)
    assert found.columns_compared == ("id", "name")
    assert found.equal


def test_a_column_added_to_the_table_since_its_last_snapshot_is_compared(
    pipeline: Pipeline, customers: Table
) -> None:
    with customers.update_schema() as update:
        update.add_column("level", LongType())
    level = SourceColumn("level", "int")
    rows: list[Row] = [(*SOME[0], "7"), (*SOME[1], None), (*SOME[2], None)]
    found = compare(pipeline, InMemoryDatabase([rows], table=(ID, NAME, SEEN, level)))
    assert found.differences == (KeyDifference({"id": 1}, "different", ("level",)),)


def test_a_column_that_cannot_be_compared_is_a_difference(
    pipeline: Pipeline, customers: Table
) -> None:
    assert customers
    own = SourceColumn("_cdc_offset", "timestamp with time zone", "zoned")
    database = InMemoryDatabase([[(*row, "()") for row in SOME]], table=(ID, NAME, SEEN, own))
    found = compare(pipeline, database)
    assert found.columns_not_comparable == ("_cdc_offset",)
    assert not found.equal


def test_a_table_that_was_never_made_equals_only_an_empty_source(pipeline: Pipeline) -> None:
    missing = compare(pipeline, InMemoryDatabase([SOME]))
    assert (missing.exists, missing.rows_source, missing.equal) == (False, 3, False)
    assert compare(pipeline, InMemoryDatabase([[]])).equal


def test_a_table_without_a_table_commit_is_empty(pipeline: Pipeline, catalog: SqlCatalog) -> None:
    catalog.create_table("shop.customers", SCHEMA)
    found = compare(pipeline, InMemoryDatabase([SOME]))
    assert (found.snapshot_id, found.rows_table) == (None, 0)
    assert [each.kind for each in found.differences] == ["missing"] * 3
    assert compare(pipeline, InMemoryDatabase([[]])).equal


def test_without_identifier_fields_the_source_says_what_the_key_is(
    pipeline: Pipeline, catalog: SqlCatalog
) -> None:
    plain = Schema(
        NestedField(1, "id", LongType(), required=True), NestedField(2, "name", StringType())
    )
    append(catalog.create_table("shop.customers", plain), [{"id": 1, "name": "a"}])
    database = InMemoryDatabase([[("1", "b")]], table=(ID, NAME), key=("id",))
    found = compare(pipeline, database)
    assert found.differences == (KeyDifference({"id": 1}, "different", ("name",)),)


@pytest.mark.parametrize("key", [(), ("gone",)])
def test_without_a_whole_key_nothing_is_compared(
    pipeline: Pipeline, catalog: SqlCatalog, key: tuple[str, ...]
) -> None:
    catalog.create_table("shop.customers", Schema(NestedField(1, "name", StringType())))
    found = compare(pipeline, InMemoryDatabase([[]], table=(NAME,), key=key))
    assert isinstance(found.failure, SchemaError)
    assert "its key is" in str(found.failure)
    assert (found.equal, exit_code([found])) == (False, found.failure.exit_code)


def test_a_table_that_cannot_be_compared_is_named_and_the_others_go_on(
    tmp_path: Path, catalog: SqlCatalog, customers: Table
) -> None:
    assert customers
    catalog.create_table("shop.orders", Schema(NestedField(1, "name", StringType())))
    file = tmp_path / "both.yaml"
    both = YAML.replace("  - topic: pg.public.orders\n", "").replace(
        "tables:\n",
        "tables:\n  - topic: pg.public.orders\n"
        "    source: {database: postgres, table: public.orders}\n",
    )
    file.write_text(both.replace("FOLDER", str(tmp_path)))
    database = InMemoryDatabase([SOME], key=("gone",))
    found = verify(load_config(file), open_source=database.open)
    assert [(one.table, one.equal) for one in found] == [
        ("shop.orders", False),
        ("shop.customers", True),
    ]
    (said,) = [line for line in render_findings(found, keys=1) if "could not be" in line]
    assert said.startswith("shop.orders: could not be compared: ")


def test_columns_are_compared_under_the_names_that_debezium_gave_them(
    pipeline: Pipeline, catalog: SqlCatalog
) -> None:
    schema = Schema(
        NestedField(1, "id", LongType(), required=True),
        NestedField(2, "full_name", StringType()),
        identifier_field_ids=[1],
    )
    table = catalog.create_table("shop.customers", schema)
    append(table, [{"id": 1, "full_name": "a"}, {"id": 2, "full_name": "b"}])
    odd = SourceColumn("full name", "text")
    found = compare(pipeline, InMemoryDatabase([[("1", "a"), ("2", "x")]], table=(ID, odd)))
    assert found.differences == (KeyDifference({"id": 2}, "different", ("full_name",)),)
    assert (found.columns_missing, found.columns_only_in_table) == ((), ())


def test_a_computed_column_is_compared_where_the_table_has_it_and_named_where_not(
    pipeline: Pipeline, customers: Table
) -> None:
    assert customers
    computed = SourceColumn("name", "text", is_generated=True)
    rows: list[Row] = [(*row, None) for row in SOME]
    rows[0] = ("1", "half filled", *rows[0][2:])
    table = (ID, computed, SEEN, SourceColumn("total", "int", is_generated=True))
    found = compare(pipeline, InMemoryDatabase([rows], table=table))
    assert found.differences == (KeyDifference({"id": 1}, "different", ("name",)),)
    assert (found.columns_computed, found.columns_missing) == (("total",), ())


def test_waiting_ends_when_the_sides_are_equal(pipeline: Pipeline, customers: Table) -> None:
    assert customers
    database = InMemoryDatabase([SOME[:2], SOME])
    told: list[str] = []
    found = compare(pipeline, database, wait_s=600, tell=told.append)
    assert found.equal
    assert database.opened == 2
    assert told == ["comparing shop.customers with postgres:public.customers"] * 2


def test_a_table_without_a_source_is_refused_by_name_and_listed_otherwise(
    pipeline: Pipeline,
) -> None:
    with pytest.raises(ConfigError, match=r"shop\.orders: it has no `source`"):
        verify(pipeline, ["pg.public.orders"])
    assert not_verifiable(pipeline) == ("shop.orders",)


def test_without_any_source_there_is_nothing_to_compare(pipeline: Pipeline) -> None:
    bare = pipeline.model_copy(update={"tables": pipeline.tables[1:]})
    with pytest.raises(ConfigError, match="no table has a `source`"):
        verify(bare)


def test_rows_beyond_the_limit_are_not_looked_at_one_by_one(
    pipeline: Pipeline, customers: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert customers
    monkeypatch.setattr("cdc_sink.verification.verify.EXAMINED_ROWS", 1)
    found = compare(pipeline, InMemoryDatabase([[]]))
    assert (found.ranges_differing, found.ranges_examined, len(found.differences)) == (3, 1, 1)
    assert not found.equal


@pytest.mark.usefixtures("customers", "pipeline")
@pytest.mark.parametrize(("rows", "code"), [(SOME, 0), (SOME[:1], 1)], ids=["equal", "different"])
def test_the_verb_ends_with_1_when_something_differs(
    rows: list[Row],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    in_memory = partial(verify, open_source=InMemoryDatabase([rows]).open)
    monkeypatch.setattr("cdc_sink.cli.verbs.verify.verify", in_memory)
    arguments = [str(tmp_path / "shop.yaml"), "--table", "shop.customers", "--output", "json"]
    assert run(["verify", *arguments]) == code
    printed = capsys.readouterr()
    assert json.loads(printed.out)["equal"] == (code == 0)
    assert printed.err == "comparing shop.customers with postgres:public.customers\n"
