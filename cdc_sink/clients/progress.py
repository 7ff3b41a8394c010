"""What a pipeline's tables, topics and leases say about its progress, read without Spark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from cdc_sink import config
from cdc_sink.clients.catalog import load_table, open_files, read_text
from cdc_sink.clients.kafka import Cluster
from cdc_sink.errors import CdcSinkError, UnavailableError
from cdc_sink.table.lease import Lease
from cdc_sink.table.ledger import BATCH_KEY, LEDGER_KEY, Ledger
from cdc_sink.table.status import TableFacts

Answer = TypeVar("Answer")


def read_ledger(table: Table) -> tuple[Ledger, dict[str, Any]] | None:
    """Return the newest ledger on the main branch, and what its batch did; None for no ledger.

    Raises: StateError when there is one that can't be read.
    """
    for snapshot in _ancestry(table):
        summary = snapshot.summary
        text = None if summary is None else summary.additional_properties.get(LEDGER_KEY)
        if summary is not None and text is not None:
            where = f"{'.'.join(table.name())} table snapshot {snapshot.snapshot_id}"
            batch = _batch_of(summary.additional_properties, snapshot.timestamp_ms)
            return Ledger.from_json(text, where), batch
    return None


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


def read_facts(
    pipeline: config.Pipeline, cluster: Cluster | UnavailableError
) -> Iterator[TableFacts]:
    """Yield what can be read about each table, in the configuration's order.

    In:  `cluster` as an error = it is known to be silent, so that not every table waits for it.
    Out: a server that doesn't answer costs only its own facts; `failures` has the reason.
    """
    for table in pipeline.tables:
        yield _read_table_facts(pipeline, table, cluster)


def _read_table_facts(
    pipeline: config.Pipeline, table: config.Table, cluster: Cluster | UnavailableError
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
    starts, ends = attempt("offsets", lambda: _read_ends(cluster, table.topic)) or (None, None)
    return TableFacts(
        table=table.name,
        topic=table.topic,
        ledger=ledger,
        batch=batch,
        lease=lease,
        start_offsets=starts,
        end_offsets=ends,
        failures=failures,
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


def _read_ends(
    cluster: Cluster | UnavailableError, topic: str
) -> tuple[dict[int, int], dict[int, int]]:
    """Both ends of a topic; nothing for a topic that isn't there yet."""
    if isinstance(cluster, UnavailableError):
        raise cluster
    if cluster.topic(topic) is None:
        return {}, {}
    return cluster.start_offsets(topic), cluster.end_offsets(topic)
