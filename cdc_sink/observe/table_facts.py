"""What a pipeline's tables, topics and leases say about its progress, read without Spark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from cdc_sink import config
from cdc_sink.check.rules.judged import is_judged
from cdc_sink.check.rules.writer import writer_of
from cdc_sink.clients.catalog import load_table, open_files, read_text
from cdc_sink.clients.connect import ConnectClient
from cdc_sink.clients.kafka import Cluster
from cdc_sink.debezium.connector import ConnectorReading
from cdc_sink.debezium.heartbeat import Heartbeat, heartbeat_topic
from cdc_sink.errors import CdcSinkError
from cdc_sink.observe.status import TableFacts
from cdc_sink.table.lease import Lease
from cdc_sink.table.ledger.history import TableSnapshot, find_ledger
from cdc_sink.table.ledger.ledger import BATCH_KEY, LEDGER_KEY, Ledger
from cdc_sink.table.ledger.offsets import Offsets

Answer = TypeVar("Answer")


def read_ledger(table: Table) -> tuple[Ledger, dict[str, Any]] | None:
    """Return the ledger that holds for the table, and what its batch did; None for no ledger.

    Raises: StateError when there is one that can't be read, or nothing tells which state the rows have.
    """
    where = ".".join(table.name())
    found = find_ledger(map(_told, _ancestry(table)), table.properties.get(LEDGER_KEY), where)
    if found is None:
        return None
    snapshot = table.snapshot_by_id(found.snapshot_id)
    if snapshot is None or snapshot.summary is None:
        return found.ledger, {}  # expired; the table's properties had the ledger
    return found.ledger, _batch_of(snapshot.summary.additional_properties, snapshot.timestamp_ms)


def _told(snapshot: Snapshot) -> TableSnapshot:
    summary = snapshot.summary
    operation = "" if summary is None else summary.operation.value
    told = {} if summary is None else summary.additional_properties
    return TableSnapshot(
        snapshot.snapshot_id,
        snapshot.parent_snapshot_id,
        snapshot.sequence_number or 0,
        operation,
        told,
    )


def _ancestry(table: Table) -> Iterator[Snapshot]:
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else table.snapshot_by_id(parent)


def _batch_of(summary: Mapping[str, str], committed_at_ms: int) -> dict[str, Any]:
    try:
        batch = json.loads(summary.get(BATCH_KEY, "{}"))
    except ValueError:
        batch = {}
    return {"committed_at_ms": committed_at_ms, **(batch if isinstance(batch, dict) else {})}


@dataclass(frozen=True)
class Upstream:
    """What all tables have in common, asked once: the cluster, its id, and the connectors' states.

    An error in the place of an answer: it is known to be silent, so that not every table waits for it.
    `connectors` is None where no `connect` is configured.
    """

    cluster: Cluster | CdcSinkError
    cluster_id: str | None
    connectors: Sequence[ConnectorReading] | CdcSinkError | None
    beats: dict[str, int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, pipeline: config.Pipeline) -> Upstream:
        """Ask them."""
        cluster: Cluster | CdcSinkError
        cluster_id = None
        try:
            cluster = Cluster(pipeline.kafka)
            cluster_id = cluster.cluster_id()
        except CdcSinkError as silent:
            cluster = silent
        return cls(cluster, cluster_id, _read_connectors(pipeline))


def _read_connectors(
    pipeline: config.Pipeline,
) -> Sequence[ConnectorReading] | CdcSinkError | None:
    if pipeline.connect is None:
        return None
    try:
        return ConnectClient.of(pipeline.connect).connectors(is_judged)
    except CdcSinkError as silent:
        return silent


def _read_heartbeat(upstream: Upstream, topic: str) -> Heartbeat | None:
    """The newest heartbeat of what writes a topic; None where there is none. Asked once a heartbeat topic."""
    cluster, connectors = upstream.cluster, upstream.connectors
    if isinstance(cluster, CdcSinkError):
        return None  # said with the offsets
    known = () if connectors is None or isinstance(connectors, CdcSinkError) else connectors
    writer = writer_of(known, topic)
    name = heartbeat_topic(None if writer is None else writer.settings, topic)
    if name is None:
        return None
    if name not in upstream.beats:
        found = cluster.topic(name)
        upstream.beats[name] = None if found is None else cluster.newest_record_ms(name)
    newest_ms = upstream.beats[name]
    if newest_ms is None:
        return None
    return Heartbeat(
        newest_ms, *((None, None) if writer is None else (writer.name, writer.settings))
    )


def read_facts(pipeline: config.Pipeline, upstream: Upstream) -> Iterator[TableFacts]:
    """Yield what can be read about each table, in the configuration's order.

    Out: a server that doesn't answer costs only its own facts; `failures` has the reason.
    """
    for table in pipeline.tables:
        yield _read_table_facts(pipeline, table, upstream)


def _read_table_facts(
    pipeline: config.Pipeline, table: config.Table, upstream: Upstream
) -> TableFacts:
    failures: dict[str, CdcSinkError] = {}

    def attempt(part: str, question: Callable[[], Answer]) -> Answer | None:
        try:
            return question()
        except CdcSinkError as failure:
            failures[part] = failure
            return None

    ledger, batch = attempt("ledger", lambda: _read_table_ledger(pipeline, table)) or (None, None)
    lease = attempt("lease", lambda: _read_lease(pipeline, table))
    ends = attempt("offsets", lambda: _read_ends(upstream.cluster, table.topic))
    writers = attempt("connector", lambda: _writers(upstream.connectors, table.topic))
    heartbeat = attempt("connector", lambda: _read_heartbeat(upstream, table.topic))
    return TableFacts(
        table=table.name,
        topic=table.topic,
        ledger=ledger,
        batch=batch,
        lease=lease,
        start_offsets=ends.starts if ends else None,
        end_offsets=ends.ends if ends else None,
        cluster_id=upstream.cluster_id,
        topic_id=ends.topic_id if ends else None,
        connectors=writers,
        failures=failures,
        heartbeat=heartbeat,
    )


def _read_table_ledger(
    pipeline: config.Pipeline, table: config.Table
) -> tuple[Ledger, dict[str, Any]] | None:
    loaded = load_table(pipeline.catalog, table.target)
    return None if loaded is None else read_ledger(loaded)


def _read_lease(pipeline: config.Pipeline, table: config.Table) -> Lease | None:
    location = config.Target(pipeline, table).lease_file
    text = read_text(open_files(pipeline.catalog, location), location)
    return None if text is None else Lease.from_json(text)


@dataclass(frozen=True)
class _Ends:
    topic_id: str | None
    starts: Offsets
    ends: Offsets


def _read_ends(cluster: Cluster | CdcSinkError, topic: str) -> _Ends:
    """A topic's id and both ends; nothing for a topic that isn't there."""
    if isinstance(cluster, CdcSinkError):
        raise cluster
    found = cluster.topic(topic)
    if found is None:
        return _Ends(None, {}, {})
    return _Ends(found.topic_id, cluster.start_offsets(topic), cluster.end_offsets(topic))


def _writers(
    connectors: Sequence[ConnectorReading] | CdcSinkError | None, topic: str
) -> Mapping[str, Mapping[str, str]] | None:
    """The states of the connectors that write a topic, by name; None where Connect is not asked."""
    if connectors is None:
        return None
    if isinstance(connectors, CdcSinkError):
        raise connectors
    writers = {one.name: one.states for one in connectors if one.writes(topic)}
    # A connector whose topics its settings don't tell may be the one: then nobody can say that there is none.
    return None if not writers and any(one.may_write(topic) for one in connectors) else writers
