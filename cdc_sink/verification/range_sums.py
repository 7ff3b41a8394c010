"""Compare two sets of rows without holding them: counts and sums of hashes, range by range.

The rules this file owns. A row is its canonical bytes (values.py), its hash is 16 bytes of
BLAKE2b. A range holds the rows whose key has the same 16 upper bits of CRC-32; per range only the
number of rows and the sum of their hashes are kept. Sums don't depend on the order of rows, so
neither side is sorted and no collation of a database matters. A row that is there twice counts
twice. Rows are looked at one by one only in the ranges that differ, in a second pass.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Literal, Protocol
from uuid import UUID

import pyarrow as pa

from cdc_sink.verification.canonical.nested import of_source, of_table
from cdc_sink.verification.canonical.values import Canonical, CheckedColumn, Printed, row_bytes

RANGES = 65_536  # 10 million rows: 150 a range, so one wrong row costs a look at 150
_HASH_BYTES = 16
_COLUMN_HASH_BYTES = 8

Difference = Literal["missing", "extra", "different", "duplicate"]
KeyValue = str | int | float | bool | None


@dataclass(frozen=True)
class Comparison:
    """What is compared: columns in an order both sides share, and which of them are the key."""

    columns: tuple[CheckedColumn, ...]
    key: tuple[str, ...]

    @property
    def key_columns(self) -> tuple[CheckedColumn, ...]:
        """The key columns, in the key's order."""
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name[name] for name in self.key)


@dataclass(frozen=True)
class KeyDifference:
    """One key that is not the same on both sides.

    `missing` in the table, `extra` in the table, `different` in the named columns, or `duplicate`:
    the table has it more often than the source.
    """

    key: Mapping[str, KeyValue]
    kind: Difference
    columns: tuple[str, ...] = ()


# --- batches --------------------------------------------------------------------------------------


class Batch(Protocol):
    """Some rows of one side."""

    def canonical(self, column: CheckedColumn) -> Canonical:
        """Return one column in canonical form."""

    def take(self, rows: Sequence[int]) -> Batch:
        """Return only the rows with these numbers."""


@dataclass(frozen=True)
class SourceBatch:
    """Rows as their database prints them, column by column."""

    columns: Mapping[str, Sequence[Printed]]

    @classmethod
    def of_rows(cls, names: Sequence[str], rows: Sequence[Sequence[Printed]]) -> SourceBatch:
        """Turn rows into columns."""
        return cls(dict(zip(names, zip(*rows, strict=True), strict=True)))

    def canonical(self, column: CheckedColumn) -> Canonical:
        """Return one column in canonical form."""
        return of_source(self.columns[column.name], column)

    def take(self, rows: Sequence[int]) -> SourceBatch:
        """Return only the rows with these numbers."""
        return SourceBatch(
            {name: [values[row] for row in rows] for name, values in self.columns.items()}
        )


@dataclass(frozen=True)
class TableBatch:
    """Rows of the Iceberg table."""

    rows: pa.RecordBatch

    def canonical(self, column: CheckedColumn) -> Canonical:
        """Return one column in canonical form."""
        return of_table(self.rows.column(column.name), column)

    def take(self, rows: Sequence[int]) -> TableBatch:
        """Return only the rows with these numbers."""
        return TableBatch(self.rows.take(pa.array(rows, pa.int64())))


# --- first pass: sums -----------------------------------------------------------------------------


@dataclass
class RangeSums:
    """Number of rows and sum of their hashes for each range of keys."""

    counts: list[int] = field(default_factory=lambda: [0] * RANGES)
    sums: list[int] = field(default_factory=lambda: [0] * RANGES)

    @property
    def rows(self) -> int:
        """Number of all rows."""
        return sum(self.counts)

    @property
    def ranges(self) -> int:
        """Number of ranges that have rows."""
        return sum(1 for count in self.counts if count)

    def add(self, keys: Sequence[bytes], rows: Sequence[bytes]) -> None:
        """Add rows with these key bytes and row bytes."""
        counts, sums = self.counts, self.sums
        for key, row in zip(keys, rows, strict=True):
            number = _range_of(key)
            counts[number] += 1
            sums[number] += int.from_bytes(blake2b(row, digest_size=_HASH_BYTES).digest(), "little")


def _range_of(key: bytes) -> int:
    return zlib.crc32(key) >> 16


def sum_ranges(batches: Iterable[Batch], comparison: Comparison) -> RangeSums:
    """Read one side once and keep only its sums."""
    sums = RangeSums()
    for batch in batches:
        columns = {column.name: batch.canonical(column) for column in comparison.columns}
        keys = row_bytes([columns[name] for name in comparison.key])
        sums.add(keys, row_bytes(list(columns.values())))
    return sums


def differing_ranges(source: RangeSums, table: RangeSums) -> list[int]:
    """Return the numbers of the ranges in which the two sides differ."""
    left = zip(source.counts, source.sums, strict=True)
    right = zip(table.counts, table.sums, strict=True)
    return [number for number, (a, b) in enumerate(zip(left, right, strict=True)) if a != b]


def within_limit(
    differing: Sequence[int], source: RangeSums, table: RangeSums, limit: int
) -> list[int]:
    """Return as many of the differing ranges as hold up to `limit` rows; at least the first."""
    chosen: list[int] = []
    rows = 0
    for number in differing:
        rows += max(source.counts[number], table.counts[number])
        if chosen and rows > limit:
            break
        chosen.append(number)
    return chosen


# --- second pass: rows of the ranges that differ --------------------------------------------------


@dataclass(frozen=True)
class RowPrint:
    """What is kept of a row in a differing range: its key, and a hash per column."""

    key: tuple[object, ...]
    hashes: bytes


Rows = dict[bytes, list[RowPrint]]


def collect_rows(batches: Iterable[Batch], comparison: Comparison, ranges: Collection[int]) -> Rows:
    """Read one side again and keep the rows of some ranges, by their key bytes."""
    kept: Rows = {}
    for batch in batches:
        keys = row_bytes([batch.canonical(column) for column in comparison.key_columns])
        numbers = [number for number, key in enumerate(keys) if _range_of(key) in ranges]
        if numbers:
            prints = _prints(batch.take(numbers), comparison)
            for number, row in zip(numbers, prints, strict=True):
                kept.setdefault(keys[number], []).append(row)
    return kept


def _prints(batch: Batch, comparison: Comparison) -> Iterator[RowPrint]:
    columns = {column.name: batch.canonical(column) for column in comparison.columns}
    keys = zip(*(columns[name].values.to_pylist() for name in comparison.key), strict=True)
    hashes = zip(*(_column_hashes(column) for column in columns.values()), strict=True)
    for key, row in zip(keys, hashes, strict=True):
        yield RowPrint(key, b"".join(row))


def _column_hashes(column: Canonical) -> list[bytes]:
    return [
        blake2b(value, digest_size=_COLUMN_HASH_BYTES).digest() for value in row_bytes([column])
    ]


def compare_rows(source: Rows, table: Rows, comparison: Comparison) -> list[KeyDifference]:
    """Return the keys that differ, by key."""
    found = [
        (print_.key, kind, columns)
        for key in source.keys() | table.keys()
        for print_, kind, columns in _compare_key(
            source.get(key, []), table.get(key, []), comparison
        )
    ]
    found.sort(key=lambda difference: [(part is None, part) for part in difference[0]])
    return [
        KeyDifference(_render_key(key, comparison), kind, columns) for key, kind, columns in found
    ]


def _compare_key(
    source: list[RowPrint], table: list[RowPrint], comparison: Comparison
) -> Iterator[tuple[RowPrint, Difference, tuple[str, ...]]]:
    if not table or (source and len(table) < len(source)):
        yield source[0], "missing", ()
    elif not source:
        yield table[0], "extra", ()
    elif len(table) > len(source):
        yield table[0], "duplicate", ()
    else:
        pairs = zip(sorted(p.hashes for p in source), sorted(p.hashes for p in table), strict=True)
        columns = {name for a, b in pairs for name in _different_columns(a, b, comparison)}
        if columns:
            ordered = tuple(c.name for c in comparison.columns if c.name in columns)
            yield source[0], "different", ordered


def _different_columns(source: bytes, table: bytes, comparison: Comparison) -> list[str]:
    names = []
    for number, column in enumerate(comparison.columns):
        hash_ = slice(number * _COLUMN_HASH_BYTES, (number + 1) * _COLUMN_HASH_BYTES)
        if source[hash_] != table[hash_]:
            names.append(column.name)
    return names


# --- keys for people ------------------------------------------------------------------------------


def _render_key(key: tuple[object, ...], comparison: Comparison) -> dict[str, KeyValue]:
    parts = zip(comparison.key_columns, key, strict=True)
    return {column.name: _render(value, column.type) for column, value in parts}


def _render(value: object, iceberg_type: str) -> KeyValue:
    if isinstance(value, bytes):
        return _render_bytes(value, iceberg_type)
    if isinstance(value, int):
        return _render_integer(value, iceberg_type)
    if value is None or isinstance(value, float):
        return value
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _render_bytes(value: bytes, iceberg_type: str) -> str:
    if iceberg_type == "string":
        return value.decode()
    return str(UUID(bytes=value)) if iceberg_type == "uuid" else value.hex()


def _render_integer(value: int, iceberg_type: str) -> KeyValue:
    if iceberg_type == "boolean":
        return bool(value)
    try:
        if iceberg_type == "date":
            return (date(1970, 1, 1) + timedelta(days=value)).isoformat()
        if iceberg_type in ("timestamp", "timestamptz"):
            zone = UTC if iceberg_type == "timestamptz" else None
            return (datetime(1970, 1, 1, tzinfo=zone) + timedelta(microseconds=value)).isoformat()
    except OverflowError:  # outside the years 1 to 9999
        return value
    return value
