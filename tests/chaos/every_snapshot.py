"""Every snapshot a table ever had, read past our own path: the keys in it, its ledger, its counters.

Each manifest, data file and deletion vector is read once, however many table snapshots share it, and each
table snapshot is looked at once, however often one looks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
from pyiceberg.manifest import DataFileContent, ManifestEntry, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.deletion_vector import deletion_vectors_from_puffin_file
from pyiceberg.table.puffin import PuffinFile
from pyiceberg.table.snapshots import Snapshot

from cdc_sink.table.ledger.ledger import BATCH_KEY, LEDGER_KEY, Ledger


@dataclass(frozen=True)
class Seen:
    """What one table snapshot holds."""

    snapshot_id: int
    rows: int
    duplicates: int  # rows whose key another row of the same table snapshot has too
    ledger: Ledger | None
    parent_ledger: Ledger | None
    batch: dict[str, Any] | None


@dataclass
class EverySnapshot:
    """All snapshots of one table, in the order of their sequence numbers."""

    key: tuple[str, ...]
    seen: dict[int, Seen] = field(default_factory=dict)
    _entries: dict[str, list[ManifestEntry]] = field(default_factory=dict)
    _keys: dict[str, list[int]] = field(default_factory=dict)
    _vectors: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    _live: dict[tuple[str, ...], list[int]] = field(default_factory=dict)

    def look(self, table: Table) -> None:
        """Look at those that are new since the last look."""
        by_id = {snapshot.snapshot_id: snapshot for snapshot in table.snapshots()}
        for snapshot in sorted(by_id.values(), key=lambda s: s.sequence_number or 0):
            if snapshot.snapshot_id in self.seen:
                continue
            keys = self._keys_in(table, snapshot)
            self.seen[snapshot.snapshot_id] = Seen(
                snapshot_id=snapshot.snapshot_id,
                rows=len(keys),
                duplicates=len(keys) - len(set(keys)),
                ledger=_ledger(snapshot),
                parent_ledger=self._inherited(by_id, snapshot),
                batch=_batch(snapshot),
            )

    def _inherited(self, by_id: dict[int, Snapshot], snapshot: Snapshot) -> Ledger | None:
        parent = snapshot.parent_snapshot_id
        while parent is not None:
            ledger = _ledger(by_id[parent])
            if ledger is not None:
                return ledger
            parent = by_id[parent].parent_snapshot_id
        return None

    def _keys_in(self, table: Table, snapshot: Snapshot) -> list[int]:
        data: list[str] = []
        puffins: dict[str, list[str]] = {}
        for manifest in snapshot.manifests(table.io):
            for entry in self._entries_of(table, manifest):
                path = entry.data_file.file_path
                if entry.data_file.content == DataFileContent.DATA:
                    data.append(path)
                    continue
                assert path.endswith(".puffin"), f"{path} holds no deletion vectors"
                for referenced in self._vectors_in(table, path):
                    # A file may hold an older vector too; vectors of a data file only grow.
                    puffins.setdefault(referenced, []).append(path)
        live = (self._live_keys(table, path, *sorted(puffins.get(path, ()))) for path in data)
        return list(chain.from_iterable(live))

    def _entries_of(self, table: Table, manifest: ManifestFile) -> list[ManifestEntry]:
        path = manifest.manifest_path
        if path not in self._entries:
            self._entries[path] = manifest.fetch_manifest_entry(table.io)
        return self._entries[path]

    def _live_keys(self, table: Table, path: str, *puffins: str) -> list[int]:
        if (path, *puffins) not in self._live:
            gone = set(chain.from_iterable(self._vectors_in(table, p)[path] for p in puffins))
            keys = enumerate(self._keys_of(path))
            self._live[path, *puffins] = [key for place, key in keys if place not in gone]
        return self._live[path, *puffins]

    def _keys_of(self, path: str) -> list[int]:
        """One number per row: hashes of 64 bits stand for the keys."""
        if path not in self._keys:
            columns = pq.read_table(urlsplit(path).path, columns=list(self.key), partitioning=None)
            rows = zip(*(columns[name].to_pylist() for name in self.key), strict=True)
            self._keys[path] = [hash(row) for row in rows]
        return self._keys[path]

    def _vectors_in(self, table: Table, puffin: str) -> dict[str, list[int]]:
        if puffin not in self._vectors:
            with table.io.new_input(puffin).open() as stream:
                vectors = deletion_vectors_from_puffin_file(PuffinFile(stream.read()))
            self._vectors[puffin] = {
                vector.referenced_data_file: vector.to_vector().to_pylist() for vector in vectors
            }
        return self._vectors[puffin]


def _ledger(snapshot: Snapshot) -> Ledger | None:
    summary = snapshot.summary
    text = summary.additional_properties.get(LEDGER_KEY) if summary else None
    return Ledger.from_json(text) if text else None


def _batch(snapshot: Snapshot) -> dict[str, Any] | None:
    summary = snapshot.summary
    text = summary.additional_properties.get(BATCH_KEY) if summary else None
    return json.loads(text) if text else None
