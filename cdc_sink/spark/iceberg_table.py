"""The Iceberg table behind a target, through the JVM that Spark already runs.

The instance is the one in the batch session's own catalog cache. Spark's MERGE scans that same instance, so
the ledger read here and the rows read there belong to one table snapshot; what was committed after it makes
the table commit fail (serializable isolation). This is what fences a second driver.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import uuid4

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from cdc_sink.config import Target
from cdc_sink.errors import CommitConflictError
from cdc_sink.spark.column_defaults import read_added
from cdc_sink.spark.foreign_errors import JOB_FAILED
from cdc_sink.table.ledger.history import FoundLedger, LedgerCopy, TableSnapshot, find_ledger
from cdc_sink.table.ledger.ledger import LEDGER_KEY, OWNER_PROPERTY, TRANSFORMED_PROPERTY, Ledger
from cdc_sink.table.schema.columns import Column, plain_type
from cdc_sink.table.schema.metadata_columns import OLD_FIELD, OP, UNAVAILABLE, is_metadata, old_form

# Iceberg stages what a session with `spark.wap.id` writes only into tables that say so.
STAGING = "write.wap.enabled"
_NO_TABLE = ("TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND")
SNAPSHOT_PROPERTY = "spark.sql.iceberg.snapshot-property."


@dataclass(frozen=True)
class _Held:
    """The columns of a schema, and its identifier fields in table order."""

    columns: tuple[Column, ...]
    keys: tuple[str, ...]

    @classmethod
    def of(cls, schema: Any) -> _Held:
        columns = tuple(
            Column(
                str(f.name()),
                plain_type(str(f.type().toString())),
                f.isRequired(),
                added=read_added(f),
            )
            for f in schema.columns()
            if not is_metadata(str(f.name()))
        )
        names = set(schema.identifierFieldNames())
        return cls(columns, tuple(c.name for c in columns if c.name in names))


_known: dict[str, _Held] = {}  # by the schema's JSON


@dataclass(frozen=True)
class IcebergTable:
    """A loaded table, pinned at the snapshot of its last refresh."""

    target: Target
    spark: SparkSession
    java: Any
    jvm: Any

    @classmethod
    def load(cls, spark: SparkSession, target: Target) -> IcebergTable | None:
        """Load the newest state of the table; None when there is no such table.

        A table that was dropped, or made anew by others, is still in the session's cache, and can't be
        refreshed there: it is taken out, and looked for once more.
        Raises: StateError for a table of an earlier build.
        """
        jvm: Any = spark._jvm
        try:
            java = _refreshed(spark, target)
        except JOB_FAILED:
            _forget(spark, target)
            try:
                java = _refreshed(spark, target)
            except AnalysisException as error:
                if error.getCondition() in _NO_TABLE:
                    return None
                raise
        if java.schema().findField(OLD_FIELD) is not None:
            raise old_form(target.name)
        return cls(target, spark, java, jvm)

    @property
    def snapshot_id(self) -> int | None:
        """Id of the table snapshot this instance is pinned at."""
        current = self.java.currentSnapshot()
        return None if current is None else int(current.snapshotId())

    @property
    def uuid(self) -> str:
        """The table's identity, which a re-created table does not share."""
        return str(self.java.uuid())

    @property
    def owner(self) -> str | None:
        """The pipeline that created the table, or None."""
        owner = self.java.properties().get(OWNER_PROPERTY)
        return None if owner is None else str(owner)

    @property
    def transformed(self) -> frozenset[str] | None:
        """Columns that a transform changed, added or left out; None where none made its rows."""
        names = self.java.properties().get(TRANSFORMED_PROPERTY)
        return None if names is None else frozenset(json.loads(str(names)))

    def set_transformed(self, columns: Iterable[str]) -> None:
        """Say in its properties that a transform makes its rows, and which columns of them."""
        names = json.dumps(sorted(columns))
        self.java.updateProperties().set(TRANSFORMED_PROPERTY, names).commit()

    @property
    def is_empty(self) -> bool:
        """No data file is in the current table snapshot."""
        current = self.java.currentSnapshot()
        return current is None or current.summary().get("total-data-files") == "0"

    def columns(self) -> tuple[Column, ...]:
        """The source's columns as the table holds them, without the metadata columns."""
        return self._held().columns

    @property
    def has_metadata(self) -> bool:
        """The table has the metadata columns."""
        return self.java.schema().findField(OP) is not None

    @property
    def keeps_events(self) -> bool:
        """The table holds every change event instead of the current rows."""
        return self.java.schema().findField(UNAVAILABLE) is not None

    def key_columns(self) -> tuple[str, ...]:
        """Names of the identifier fields, in table order."""
        return self._held().keys

    def _held(self) -> _Held:
        """What the schema says, read once for each text of it: each field is some calls to the JVM."""
        schema = self.java.schema()
        text = str(self.jvm.org.apache.iceberg.SchemaParser.toJson(schema))
        if text not in _known:
            _known[text] = _Held.of(schema)
        return _known[text]

    def ledger(self) -> Ledger | None:
        """The ledger that holds for the rows of this instance; None when there never was one."""
        found = self.found_ledger()
        return found.ledger if found else None

    def own_ledger(self) -> Ledger | None:
        """The ledger, where nobody else changed rows since; unless the table's settings accept that.

        Raises: StateError that names the foreign table snapshot.
        """
        found = self.found_ledger()
        if found is not None and self.target.table.foreign_commits == "stop":
            found.require_own(self.target.name, self.target.table.name)
        return found.ledger if found else None

    def found_ledger(self) -> FoundLedger | None:
        """Find the ledger, and what other programs wrote behind it; see table/ledger/history.py.

        Raises: StateError when there was one, and nothing tells which state the rows have.
        """
        copied = self.java.properties().get(LEDGER_KEY)
        text = None if copied is None else str(copied)
        return find_ledger(map(_told, self._ancestry()), text, self.target.name)

    def keep_copy(self) -> None:
        """Bring the ledger's copy in the table's properties up to date; once more changes nothing."""
        self.java.refresh()
        found = self.found_ledger()
        if found is not None and not found.is_copied:
            self.java.updateProperties().set(LEDGER_KEY, found.copy.to_json()).commit()

    def _ancestry(self) -> Iterator[Any]:
        snapshot = self.java.currentSnapshot()
        while snapshot is not None:
            yield snapshot
            parent = snapshot.parentId()
            snapshot = None if parent is None else self.java.snapshot(parent)

    def ledgers(self, most: int) -> Iterator[tuple[int, Ledger]]:
        """The newest snapshots that have a ledger, the current one first: snapshot id and ledger."""
        texts = ((one, one.summary().get(LEDGER_KEY)) for one in self._ancestry())
        for snapshot, text in islice((pair for pair in texts if pair[1] is not None), most):
            yield int(snapshot.snapshotId()), Ledger.from_json(str(text), self.target.name)

    def rows_at(self, snapshot_id: int | None) -> DataFrame:
        """The table's rows as of one of its snapshots, with the columns as that snapshot named them."""
        name = self.target.identifier
        if snapshot_id is None:
            return self.spark.table(name)
        return self.spark.sql(f"SELECT * FROM {name} VERSION AS OF {snapshot_id}")

    def names_at(self, snapshot_id: int | None) -> dict[str, str]:
        """What today's columns were called in a table snapshot; those that came later are left out.

        A rename that the table's settings ask for, and that is not done yet, counts as done.
        """
        now = self.java.schema()
        snapshot = None if snapshot_id is None else self.java.snapshot(snapshot_id)
        then = now if snapshot is None else self.java.schemas().get(snapshot.schemaId())
        names = {
            str(f.name()): str(then.findColumnName(f.fieldId()))
            for f in now.columns()
            if then.findField(f.fieldId()) is not None
        }
        renamed = {
            new: names[old]
            for old, new in self.target.table.renames.items()
            if old in names and new not in names
        }
        return names | renamed

    def note(self, properties: Mapping[str, str]) -> None:
        """Commit a table snapshot that changes no row and carries the properties.

        Iceberg's own commit would go on top of whatever is there by then: a driver that was overtaken would
        set the ledger back, and no validation sees another commit without files. So the parent is compared.
        Raises: CommitConflictError when this instance is no longer the newest state of the table.
        """
        pinned = self.snapshot_id
        append = self.java.newFastAppend()
        for key, value in properties.items():
            append = append.set(key, value)
        noted = append.apply()  # on top of the newest table snapshot
        self._publish(noted, pinned, noted)

    def add(self, rows: DataFrame) -> None:
        """Commit rows on top of the snapshot that this instance is pinned at, and of no other.

        A plain append validates nothing: two drivers would both add their rows. So they are staged, which
        no reader sees, and the staged snapshot is published if its parent is the pinned one. A crash
        between the two leaves a snapshot that expiry removes.
        Raises: CommitConflictError when another commit reached the table first.
        """
        pinned, stage = self.snapshot_id, uuid4().hex
        if self.java.properties().get(STAGING) != "true":
            self.java.updateProperties().set(STAGING, "true").commit()
        self.spark.conf.set("spark.wap.id", stage)
        try:
            rows.writeTo(self.target.identifier).append()
        finally:
            self.spark.conf.unset("spark.wap.id")
        self.java.refresh()
        staged = next(s for s in self.java.snapshots() if s.summary().get("wap.id") == stage)
        self._publish(staged, pinned, staged.snapshotId())

    def _publish(self, snapshot: Any, pinned: int | None, added: Any) -> None:
        """Make a snapshot the newest state of the table, if nobody committed since it was pinned.

        In: `added`, the snapshot to add, or the id of one that the table has.
        """
        parent = snapshot.parentId()
        if (None if parent is None else int(parent)) != pinned:
            raise CommitConflictError(
                self.target.name,
                "another commit reached the table first",
                data="neither rows nor ledger were changed",
                remedy="nothing: it is tried again; if this goes on, look for a second writer",
            )
        operations = self.java.operations()
        base = operations.current()
        metadata = self.jvm.org.apache.iceberg.TableMetadata.buildFrom(base)
        metadata = metadata.setBranchSnapshot(added, "main")
        told = _told(snapshot)
        if (text := told.summary.get(LEDGER_KEY)) is not None:
            copy = LedgerCopy(told.snapshot_id, told.sequence, str(text))
            metadata = metadata.setProperties({LEDGER_KEY: copy.to_json()})
        operations.commit(base, metadata.build())
        self.java.refresh()


def _refreshed(spark: SparkSession, target: Target) -> Any:
    jvm: Any = spark._jvm
    session: Any = spark._jsparkSession
    java = jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(session, target.identifier)
    java.refresh()
    return java


def _forget(spark: SparkSession, target: Target) -> None:
    """Take the table out of the session's cache."""
    jvm: Any = spark._jvm
    session: Any = spark._jsparkSession
    catalog = jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergCatalog(
        session, target.pipeline.catalog.name
    )
    catalog.invalidateTable(jvm.org.apache.iceberg.catalog.TableIdentifier.parse(target.table.name))


def _told(snapshot: Any) -> TableSnapshot:
    """What a snapshot says of itself; its summary is asked key by key, each of which is a call to the JVM."""
    parent = snapshot.parentId()
    return TableSnapshot(
        int(snapshot.snapshotId()),
        None if parent is None else int(parent),
        int(snapshot.sequenceNumber()),
        str(snapshot.operation()),
        snapshot.summary(),
    )


@contextmanager
def stamped(spark: SparkSession, properties: Mapping[str, str]) -> Iterator[None]:
    """Let every table snapshot that this session writes inside the block carry the properties.

    Safe because each streaming query runs its batches in a session of its own; what a user's own
    `foreachBatch` writes there besides stays without them.
    """
    names = {SNAPSHOT_PROPERTY + key: value for key, value in properties.items()}
    for key, value in names.items():
        spark.conf.set(key, value)
    try:
        yield
    finally:
        for key in names:
            spark.conf.unset(key)
