"""What a source database keeps from its connector, decided from what the database told.

Rules this file owns: nothing downstream can know what the log never said, so it is said by table before it
happens; what the database did not let us ask is not judged; `verify` finds the rows.

Source: MySQL 8.4 manual, "Restrictions on foreign keys" (cascades are done by InnoDB and not in the binary
log), `binlog_row_image`, `binlog_row_value_options`; MariaDB 11 the same; PostgreSQL 18, REPLICA IDENTITY,
`publish_via_partition_root`, generated columns; Debezium 3.6 offsets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cdc_sink.check.rules.table import Finding
from cdc_sink.debezium.connector import ConnectorReading
from cdc_sink.table.schema.policy import TableMode

SLOT, PUBLICATION, FLUSH = "slot.name", "publication.name", "lsn.flush.mode"
SOURCE_SETTINGS = (SLOT, PUBLICATION, FLUSH, "snapshot.mode")
_VERIFY = "`cdc-sink verify` finds the rows"


@dataclass(frozen=True)
class SourceTableReading:
    """One captured table, as its database describes it."""

    table: str  # schema.table
    cascades: Sequence[str] = ()  # such as "orders_fk ON DELETE CASCADE"
    generated: Sequence[str] = ()
    replica_identity: str | None = None  # full, default, index, nothing; PostgreSQL only
    has_primary_key: bool = True
    has_deferrable_key: bool = False
    is_partitioned: bool = False
    via_root: bool | None = None  # what the connector's publication says


@dataclass(frozen=True)
class SlotReading:
    """A replication slot. Unit: log positions in bytes."""

    name: str
    is_active: bool
    wal_status: str | None
    confirmed: int | None


@dataclass(frozen=True)
class LogReading:
    """What a server says of the log that its connector reads; None or empty where it did not tell."""

    variables: Mapping[str, str] = field(default_factory=dict)  # MySQL's
    files: Sequence[str] | None = None  # the binary logs there still are
    slot: SlotReading | None = None
    is_postgresql: bool = False


def check_source_table(
    table: str, reading: SourceTableReading, mode: TableMode = TableMode.MIRROR
) -> Iterator[Finding]:
    """Name what changes one source table without a change event."""
    where = f"table {table} source {reading.table}"
    if reading.cascades:
        yield Finding(
            where,
            "warning",
            f"foreign key(s) {', '.join(reading.cascades)}: InnoDB changes these rows by itself, and they "
            "are not in the binary log",
            f"delete or change the rows in the application, or by a trigger of the parent; {_VERIFY}",
        )
    if reading.generated:
        yield Finding(
            where,
            "warning",
            f"generated column(s) {', '.join(reading.generated)}: no change event has their value",
            "leave them out (column.exclude.list) and compute them where the table is read",
        )
    if reading.has_deferrable_key:
        yield Finding(
            where,
            "warning",
            "its primary key is DEFERRABLE: a statement may move a row to the key of another row that leaves "
            "later, and the delete that the connector sends for the second then deletes the first",
            f"make the primary key NOT DEFERRABLE, or never change keys in this table; {_VERIFY}",
        )
    if reading.is_partitioned:
        yield from _check_partitions(where, reading)
    if not mode.keeps_events and not reading.is_partitioned:
        yield from _check_identity(where, reading)


def _check_partitions(where: str, reading: SourceTableReading) -> Iterator[Finding]:
    if reading.via_root is False:
        yield Finding(
            where,
            "error",
            "it is partitioned, and the connector's publication sends each partition as a table of its own: "
            "nothing of it reaches this topic",
            "ALTER PUBLICATION … SET (publish_via_partition_root = true) at the source",
            1,
            lets_start=True,
        )
    yield Finding(
        where,
        "warning",
        "it is partitioned: a partition that is dropped, detached, attached or truncated sends no change "
        "event",
        f"DELETE the rows before, or INSERT them after; {_VERIFY}",
    )


def _check_identity(where: str, reading: SourceTableReading) -> Iterator[Finding]:
    identity = reading.replica_identity
    if identity is None:
        return
    said = f"REPLICA IDENTITY {identity.upper()}"
    if identity == "nothing" or (identity == "default" and not reading.has_primary_key):
        without = "" if identity == "nothing" else " and no primary key"
        yield Finding(
            where,
            "error",
            f"{said}{without}: deletes and updates don't say which row they change",
            "give it a primary key, or ALTER TABLE … REPLICA IDENTITY FULL",
            1,
            lets_start=True,
        )
    elif identity == "index" and reading.has_primary_key:
        yield Finding(
            where,
            "error",
            f"{said}: a delete has the index's columns and not the primary key, so the row stays",
            "ALTER TABLE … REPLICA IDENTITY DEFAULT, or FULL",
            1,
        )


def check_log(
    connector: ConnectorReading | None,
    where: str,
    log: LogReading,
    offset: Mapping[str, Any] | None,
) -> Iterator[Finding]:
    """Judge what a server writes to its log, and whether it still has what the connector reads next.

    In: offset, the connector's own as Connect keeps it, read after the log; None when it isn't known.
    """
    options = log.variables.get("binlog_row_value_options", "")
    if "PARTIAL_JSON" in options.upper():
        yield Finding(
            where,
            "error",
            "binlog_row_value_options has PARTIAL_JSON: an update of a part of a JSON value has no value "
            "that the connector can read",
            "SET PERSIST binlog_row_value_options = '' at the source",
            1,
            lets_start=True,
        )
    image = log.variables.get("binlog_row_image", "FULL").upper()
    if image != "FULL":
        yield Finding(
            where,
            "error",
            f"binlog_row_image is {image}: the connector can't read rows without all of their columns",
            "SET GLOBAL binlog_row_image = 'FULL' at the source, and in its configuration file",
            1,
        )
    prepared = log.variables.get("Com_xa_prepare", "0")
    if prepared != "0":
        yield Finding(
            where,
            "warning",
            f"XA PREPARE was called {prepared} times since the server started: the connector sends the "
            "changes then, and an XA ROLLBACK does not take them back",
            f"let the programs end what they prepared by XA COMMIT; {_VERIFY}",
        )
    if connector is not None:
        yield from _check_files(connector, log.files, offset)
        if log.is_postgresql:
            yield from _check_slot(connector, log.slot, offset)


_ANEW = (
    "PUT /connectors/{0}/stop, DELETE /connectors/{0}/offsets, PUT /connectors/{0}/resume: it takes a new "
    "source snapshot; `cdc-sink verify` then finds rows that were deleted meanwhile"
)


def _check_files(
    connector: ConnectorReading, files: Sequence[str] | None, offset: Mapping[str, Any] | None
) -> Iterator[Finding]:
    read = None if offset is None else offset.get("file")
    if not files or not isinstance(read, str) or not read or read in files:
        return
    if _number(read) > _number(files[-1]) and _stem(read) == _stem(files[-1]):
        newest = files[-1]
        saw = f"it has read {read}, and the database's newest is {newest}: another server, or a restored one"
    else:
        saw = f"it reads {read} next, and the database no longer has it: the oldest is {files[0]}"
    yield Finding(
        f"connector {connector.name}", "error", saw, _ANEW.format(connector.name), 1, True
    )


def _stem(file: str) -> str:
    return file.rpartition(".")[0]


def _number(file: str) -> int:
    digits = re.search(r"(\d+)$", file)
    return int(digits[1]) if digits else -1


def _check_slot(
    connector: ConnectorReading, slot: SlotReading | None, offset: Mapping[str, Any] | None
) -> Iterator[Finding]:
    where, name = f"connector {connector.name}", connector.settings.get(SLOT, "debezium")
    remedy = _ANEW.format(connector.name)
    if slot is None:
        if offset is not None:
            saw = f"its replication slot {name} is gone: the changes since are lost"
            yield Finding(where, "error", saw, remedy, 1, True)
        return
    if slot.wal_status == "lost":
        saw = f"its replication slot {name} is invalid: the database has removed its log"
        remedy = f"SELECT pg_drop_replication_slot('{name}') at the source; then {remedy}"
        yield Finding(where, "error", saw, remedy, 1, True)
        return
    read = _lsn(offset)
    drives = connector.settings.get(FLUSH, "connector")
    if read is not None and slot.confirmed is not None and slot.confirmed > read:
        if drives != "connector_and_driver":
            yield Finding(
                where,
                "error",
                f"its replication slot {name} stands at {slot.confirmed}, and the connector has read up to "
                f"{read}: somebody else advanced it, and the changes between are lost",
                remedy,
                1,
                True,
            )
    elif not slot.is_active:
        yield Finding(
            where,
            "warning",
            f"nobody reads its replication slot {name}: the database keeps its log for it",
            "see that the connector runs",
        )


def _lsn(offset: Mapping[str, Any] | None) -> int | None:
    if offset is None:
        return None
    known = [offset.get(name) for name in ("lsn", "lsn_proc", "lsn_commit")]
    numbers = [one for one in known if isinstance(one, int)]
    return max(numbers, default=None)
