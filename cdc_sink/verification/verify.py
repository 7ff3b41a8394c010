"""Compare source tables with Iceberg tables, past our own path: database driver against pyiceberg.

    facts     one read-only transaction of the source, one Iceberg snapshot, pinned
    pass 1    one stream over each side into sums per range of keys (range_sums.py)
    pass 2    only if ranges differ: the same two states again, keeping the rows of these ranges

Reads only. Memory grows with the rows in differing ranges, at most EXAMINED_ROWS a side, plus one
data file of the table. Both sides have to be still, or the difference is what is under way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.table import FileScanTask
from pyiceberg.table import Table as IcebergTable

from cdc_sink.clients.catalog import load_table
from cdc_sink.config import Database, Pipeline, SourceTable, Table
from cdc_sink.debezium.adjusted_names import named_in
from cdc_sink.errors import CdcSinkError, ConfigError, SchemaError, UnavailableError
from cdc_sink.table.ledger.ledger import TRANSFORMED_PROPERTY
from cdc_sink.table.schema.columns import plain_type
from cdc_sink.table.schema.metadata_columns import is_metadata
from cdc_sink.verification.canonical.nested import is_comparable
from cdc_sink.verification.canonical.values import CheckedColumn, Kind
from cdc_sink.verification.databases.open_database import open_database
from cdc_sink.verification.databases.source_database import SourceColumn, SourceDatabase
from cdc_sink.verification.range_sums import (
    Comparison,
    KeyDifference,
    SourceBatch,
    TableBatch,
    collect_rows,
    compare_rows,
    differing_ranges,
    sum_ranges,
    within_limit,
)

EXAMINED_ROWS = 100_000
_POLL_S = 1.0  # that a table has caught up shows only in comparing it again


@dataclass(frozen=True)
class Verification:
    """What was found for one table; `equal` is the verdict."""

    table: str
    source: str  # database:schema.table
    snapshot_id: int | None = None  # the Iceberg snapshot that was read; None: there is none yet
    exists: bool = True  # whether the catalog has the table
    rows_source: int = 0
    rows_table: int = 0
    ranges: int = 0  # ranges of keys that hold rows
    ranges_differing: int = 0
    ranges_examined: int = 0  # fewer than differing: `differences` is only the beginning
    differences: tuple[KeyDifference, ...] = field(default=(), repr=False)
    columns_compared: tuple[str, ...] = ()  # the table's names for them
    columns_missing: tuple[str, ...] = ()  # in the source, not in the table
    columns_not_comparable: tuple[str, ...] = ()  # Iceberg types without a canonical form
    columns_only_in_table: tuple[str, ...] = ()  # dropped from the source: reported, ignored
    columns_masked: tuple[str, ...] = ()  # or changed by a transform: not compared
    columns_computed: tuple[
        str, ...
    ] = ()  # GENERATED at the source, and not in the table: not compared
    failure: CdcSinkError | None = field(default=None, repr=False)  # why nothing was compared

    @property
    def equal(self) -> bool:
        """Whether each row of the source is in the table once, with equal values, and no other."""
        if self.failure is not None:
            return False
        if not self.exists:
            return self.rows_source == 0  # Debezium makes the topic with the first row
        return not (self.ranges_differing or self.columns_missing or self.columns_not_comparable)


def verify(
    pipeline: Pipeline,
    tables: Sequence[str] | None = None,
    *,
    wait_s: float = 0,
    tell: Callable[[str], None] | None = None,
    open_source: Callable[[Database], SourceDatabase] = open_database,
) -> list[Verification]:
    """Compare tables of a pipeline with their sources, and say which keys differ.

    In:     names (targets or topics); none: every table that has a `source`. A difference is looked
            at again until it is gone or wait_s is over; `tell` gets a sentence per comparison.
    Out:    one for each; a table that can't be compared has a `failure`, and the others go on.
    Raises: ConfigError when a name or a `source` is missing.
    """
    deadline = time.monotonic() + wait_s
    asked = _require_sources(pipeline, tables)
    say = tell or (lambda _: None)
    found: dict[str, Verification] = {}
    while True:
        for table, source in asked:
            if table.name not in found or not found[table.name].equal:
                say(f"comparing {table.name} with {source.database}:{source.table}")
                found[table.name] = _attempt(pipeline, table, source, open_source)
        if time.monotonic() >= deadline or all(one.equal for one in found.values()):
            return list(found.values())
        time.sleep(_POLL_S)


def _attempt(
    pipeline: Pipeline,
    table: Table,
    source: SourceTable,
    open_source: Callable[[Database], SourceDatabase],
) -> Verification:
    """One table's fault is its own."""
    try:
        return verify_table(pipeline, table, open_source=open_source)
    except CdcSinkError as failure:
        return Verification(table.name, f"{source.database}:{source.table}", failure=failure)


def not_verifiable(pipeline: Pipeline) -> tuple[str, ...]:
    """Return the tables that have no `source`, and so are compared with nothing."""
    return tuple(table.name for table in pipeline.tables if table.source is None)


def verify_table(
    pipeline: Pipeline,
    table: Table,
    *,
    open_source: Callable[[Database], SourceDatabase] = open_database,
) -> Verification:
    """Compare one table with its source once.

    Raises: ConfigError without a source, or when it isn't there; UnavailableError when a side does
            not answer; SchemaError without key columns.
    """
    source = _require_source(table)
    target = load_table(pipeline.catalog, table.name)
    with open_source(pipeline.databases[source.database]) as database:
        columns = database.columns(source.table)
        name = f"{source.database}:{source.table}"
        if target is None:
            rows = sum(len(batch) for batch in database.rows(source.table, columns[:1]))
            return Verification(table.name, name, exists=False, rows_source=rows)
        here = plain_types(target)
        names = named_in([column.name for column in columns], here)
        left = _SourceRows(database, source.table, columns, source.binary, names)
        return _compare(left, _TableRows(table, target), name)


def _require_sources(
    pipeline: Pipeline, names: Sequence[str] | None
) -> list[tuple[Table, SourceTable]]:
    if names:
        asked = list(dict.fromkeys(pipeline.table(name).name for name in names))
    else:
        asked = [table.name for table in pipeline.tables if table.source is not None]
    if not asked:
        raise ConfigError(
            f"pipeline {pipeline.name}",
            "no table has a `source`, so there is nothing to compare with",
            data="nothing was compared",
            remedy="name database and table under `source` of each table",
        )
    tables = [pipeline.table(name) for name in asked]
    return [(table, _require_source(table)) for table in tables]


def _require_source(table: Table) -> SourceTable:
    if table.source is None:
        raise ConfigError(
            f"table {table.name}",
            "it has no `source`, so there is nothing to compare with",
            data="nothing was compared",
            remedy="name its database and table under `source`",
        )
    return table.source


# --- the two sides --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _SourceRows:
    database: SourceDatabase
    table: str
    columns: tuple[SourceColumn, ...]
    binary: Kind  # how the connector writes binary columns that arrive as text
    names: Mapping[str, str]  # what the table calls a column; Debezium adjusts names for Avro

    def batches(self, names: Sequence[str]) -> Iterator[SourceBatch]:
        by_name = {self.names[c.name]: c for c in self.columns if c.name in self.names}
        for rows in self.database.rows(self.table, [by_name[name] for name in names]):
            yield SourceBatch.of_rows(names, rows)


class _TableRows:
    """One snapshot of one Iceberg table."""

    def __init__(self, configured: Table, table: IcebergTable) -> None:
        self.name = configured.name
        self.options = configured.columns
        made = json.loads(table.properties.get(TRANSFORMED_PROPERTY, "[]"))
        self.masks = frozenset([*configured.masks, *made])
        self._table = table
        snapshot = table.current_snapshot()
        self.snapshot_id = snapshot.snapshot_id if snapshot else None
        self.types = plain_types(table)
        identifiers = table.schema().identifier_field_ids
        self.key = tuple(table.schema().find_column_name(id_) or "" for id_ in identifiers)
        self._tasks: list[FileScanTask] = []
        if self.snapshot_id is not None:
            with self._translated():
                self._tasks = list(table.scan(snapshot_id=self.snapshot_id).plan_files())

    def batches(self, names: Sequence[str]) -> Iterator[TableBatch]:
        """Read file by file: pyiceberg would otherwise read ahead without a limit."""
        projected = self._table.schema().select(*names)
        with self._translated():
            for task in self._tasks:
                scan = ArrowScan(self._table.metadata, self._table.io, projected, AlwaysTrue())
                for rows in scan.to_record_batches([task]):
                    yield TableBatch(rows)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            raise UnavailableError(
                f"table {self.name}",
                "a file of the table can't be read",
                data="nothing was compared",
                remedy="check the storage and its credentials, then verify again",
            ) from cause


def plain_types(table: IcebergTable) -> dict[str, str]:
    """The type of each column of a table, in our words."""
    return {field.name: plain_type(str(field.field_type)) for field in table.schema().fields}


# --- comparing ------------------------------------------------------------------------------------


def _compare(source: _SourceRows, target: _TableRows, source_name: str) -> Verification:
    comparison = _plan_comparison(source, target)
    names = [column.name for column in comparison.columns]
    left = sum_ranges(source.batches(names), comparison)
    right = sum_ranges(target.batches(names), comparison)
    differing = differing_ranges(left, right)
    examined = within_limit(differing, left, right, EXAMINED_ROWS)
    chosen = frozenset(examined)
    differences: list[KeyDifference] = []
    if chosen:
        differences = compare_rows(
            collect_rows(source.batches(names), comparison, chosen),
            collect_rows(target.batches(names), comparison, chosen),
            comparison,
        )
    here = set(source.names.values())
    lacking = [column for column in source.columns if column.name not in source.names]
    return Verification(
        table=target.name,
        source=source_name,
        snapshot_id=target.snapshot_id,
        rows_source=left.rows,
        rows_table=right.rows,
        ranges=max(left.ranges, right.ranges),
        ranges_differing=len(differing),
        ranges_examined=len(examined),
        differences=tuple(differences),
        columns_compared=tuple(names),
        columns_missing=tuple(
            one.name for one in lacking if not one.is_generated and one.name not in target.masks
        ),
        columns_computed=tuple(one.name for one in lacking if one.is_generated),
        columns_not_comparable=tuple(
            column.name
            for column in source.columns
            if column.name in source.names and not is_comparable(_checked(column, source, target))
        ),
        columns_masked=tuple(
            one.name
            for one in source.columns
            if source.names.get(one.name, one.name) in target.masks
        ),
        columns_only_in_table=tuple(
            name for name in target.types if name not in here and not is_metadata(name)
        ),
    )


def _plan_comparison(source: _SourceRows, target: _TableRows) -> Comparison:
    common = [column for column in source.columns if column.name in source.names]
    checked = [_checked(column, source, target) for column in common]
    columns = tuple(c for c in checked if is_comparable(c) and c.name not in target.masks)
    of_source = source.database.key_columns(source.table)
    key = target.key or tuple(source.names.get(name, name) for name in of_source)
    compared = {column.name for column in columns}
    if not key or not compared.issuperset(key):
        raise SchemaError(
            f"table {target.name}",
            f"its key is ({', '.join(key)}), and not all of it is in {source.table}",
            data="nothing was compared",
            remedy="set the table's identifier fields to the source's primary key",
        )
    return Comparison(columns, key)


def _checked(column: SourceColumn, source: _SourceRows, target: _TableRows) -> CheckedColumn:
    name = source.names[column.name]
    kind, held = column.kind, target.types[name]
    if kind == "bytes" and "string" in held:
        kind = source.binary
    option = target.options.get(name)
    return CheckedColumn(
        name=name,
        type=held,
        kind=kind,
        infinity_is_null=option is not None and option.on_infinity == "null",
    )
