"""How far a table is behind its topic: ledger, end offsets and lease in, one value out.

Rules this file owns: offset lag is counted in records and comes from the ledger, not from a
consumer group; freshness is the age of the newest source change that is in the table while others
wait, and 0 when none waits, so an idle table isn't stale; what can't be read is unknown, never 0. Nothing is
called caught up that is known to be cut off: another cluster or topic than the ledger's, a topic that is
gone or has lost records, a connector that does not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from cdc_sink.debezium.heartbeat import LONGEST_SILENCE_S, Heartbeat, silence
from cdc_sink.errors import CdcSinkError
from cdc_sink.table.lease import Lease, QueryState
from cdc_sink.table.ledger.ledger import Ledger, Totals
from cdc_sink.table.ledger.offsets import Offsets, offsets_to_json

Writer = Literal["alive", "unknown", "in trouble"]

DRIVER_GONE = "stopped (driver gone)"


@dataclass(frozen=True)
class TableFacts:
    """What was read about one table; None = isn't there yet, or `failures` says why not read.

    `failures` has the parts `ledger`, `lease`, `offsets` and `connector`. `topic_id` is None where the topic
    is missing; `connectors`: names and states, by part, of those that write the topic, None for unknown.
    """

    table: str
    topic: str
    ledger: Ledger | None = None
    batch: Mapping[str, Any] | None = None
    lease: Lease | None = None
    start_offsets: Offsets | None = None
    end_offsets: Offsets | None = None
    cluster_id: str | None = None
    topic_id: str | None = None
    connectors: Mapping[str, Mapping[str, str]] | None = None
    failures: Mapping[str, CdcSinkError] = field(default_factory=dict)
    heartbeat: Heartbeat | None = None


@dataclass(frozen=True)
class TableStatus:
    """One table's line. Units: records, seconds, milliseconds since 1970 UTC."""

    table: str
    topic: str
    state: str
    lag_records: int | None
    freshness_s: float | None
    last_commit_ms: int | None
    next_offsets: Offsets | None
    end_offsets: Offsets | None
    totals: Totals | None
    quarantined: int | None
    batch: Mapping[str, Any] | None
    error: str | None
    failures: Mapping[str, CdcSinkError]
    troubles: tuple[str, ...] = ()
    writer: Writer = "unknown"
    heartbeat_age_s: float | None = None
    undecided: str | None = None

    @property
    def exit_code(self) -> int:
        """0 fine, 1 parked, driver gone or a part is wrong, 2 refused by a server, 3 a server is silent."""
        if self.state in (QueryState.PARKED, DRIVER_GONE) or self.troubles:
            return 1
        # The gravest first: a refused user or a broken ledger doesn't pass by itself.
        codes = {failure.exit_code for failure in self.failures.values()}
        return min(codes, default=0)

    def to_json(self) -> dict[str, Any]:
        """Render as documented in docs/status.md."""
        return {
            "table": self.table,
            "topic": self.topic,
            "state": self.state,
            "lag_records": self.lag_records,
            "freshness_s": self.freshness_s,
            "last_commit_ms": self.last_commit_ms,
            "next_offsets": offsets_to_json(self.next_offsets),
            "end_offsets": offsets_to_json(self.end_offsets),
            "totals": None
            if self.totals is None
            else {"records": self.totals.records, **asdict(self.totals)},
            "quarantined": self.quarantined,
            "batch": None if self.batch is None else dict(self.batch),
            "error": self.error,
            "troubles": list(self.troubles),
            "writer": self.writer,
            "heartbeat_age_s": self.heartbeat_age_s,
            "undecided": self.undecided,
            "unread": {
                part: f"{failure.where}: {failure.saw}" for part, failure in self.failures.items()
            },
        }


def table_status(facts: TableFacts, now_ms: int) -> TableStatus:
    """Return the status of one table at `now_ms`."""
    age_s = None if facts.heartbeat is None else facts.heartbeat.age_s(now_ms)
    troubles = (*find_troubles(facts), *_silences(facts, age_s))
    is_cut_off = _another_topic(facts) is not None
    lag = None if is_cut_off else offset_lag(facts)
    batch = facts.batch or {}
    return TableStatus(
        table=facts.table,
        topic=facts.topic,
        state=state_of(facts, now_ms),
        lag_records=lag,
        freshness_s=_freshness_s(
            None if lag == 0 and troubles else lag, batch.get("newest_source_ts_ms"), now_ms
        ),
        last_commit_ms=batch.get("committed_at_ms"),
        next_offsets=None if facts.ledger is None else facts.ledger.next_offsets,
        end_offsets=facts.end_offsets,
        totals=None if facts.ledger is None else facts.ledger.totals,
        quarantined=None if facts.ledger is None else facts.ledger.quarantined,
        batch=facts.batch,
        error=None if facts.lease is None else facts.lease.error,
        failures=facts.failures,
        troubles=troubles,
        writer=_writer(facts, troubles, age_s),
        heartbeat_age_s=age_s,
        undecided=None if facts.ledger is None else facts.ledger.waits_to_decide,
    )


def _silences(facts: TableFacts, age_s: float | None) -> Iterator[str]:
    """What the heartbeat says against the connector that sends it."""
    if facts.heartbeat is None or facts.heartbeat.connector is None:
        return
    said = silence(facts.heartbeat.settings, age_s)
    if said is not None:
        yield f"connector {facts.heartbeat.connector} {said}"


def _writer(facts: TableFacts, troubles: Sequence[str], age_s: float | None) -> Writer:
    """Whether what writes the topic is known to live; nobody's silence is taken for life."""
    if troubles:
        return "in trouble"
    runs = bool(facts.connectors)
    beats = age_s is not None and age_s <= LONGEST_SILENCE_S
    return "alive" if runs or beats else "unknown"


def find_troubles(facts: TableFacts) -> Iterator[str]:
    """What is known to be wrong upstream of the table, a sentence each."""
    cut_off = _another_topic(facts)
    if cut_off is not None:
        yield cut_off
    elif facts.ledger is not None and facts.start_offsets:
        applied = facts.ledger.next_offsets
        lost = {p: o for p, o in facts.start_offsets.items() if o > applied.get(p, 0)}
        for partition, offset in sorted(lost.items())[:1]:
            yield (
                f"partition {partition} begins at offset {offset}, the table's ledger ends at "
                f"{applied.get(partition, 0)}: records were deleted before they were applied"
            )
    if facts.connectors is None:
        return
    if not facts.connectors:
        yield f"no connector of Kafka Connect writes {facts.topic}"
    for name, states in facts.connectors.items():
        bad = {part: state for part, state in states.items() if state != "RUNNING"}
        if bad:
            said = ", ".join(f"{part} {state}" for part, state in bad.items())
            yield f"connector {name} does not run: {said}"
        elif not any(part.startswith("task") for part in states):
            yield f"connector {name} has no task"


def _another_topic(facts: TableFacts) -> str | None:
    """The topic is not the one that the ledger has records of."""
    ledger = facts.ledger
    if ledger is None or facts.cluster_id is None or "offsets" in facts.failures:
        return None
    own = ledger.stream.cluster_id
    if facts.cluster_id != own:
        return f"the brokers are cluster {facts.cluster_id}, the table's ledger has {own}"
    if facts.topic_id is None:
        return f"topic {facts.topic} is gone, though records of it were applied"
    if facts.topic_id != ledger.stream.topic_id:
        return f"topic {facts.topic} was deleted and made again: its offsets begin anew"
    return None


def offset_lag(facts: TableFacts) -> int | None:
    """Count the records that are in the topic and not in the table; None when an end is unknown."""
    if facts.end_offsets is None or facts.start_offsets is None or "ledger" in facts.failures:
        return None
    applied = {} if facts.ledger is None else facts.ledger.next_offsets
    waiting = 0
    for partition, end in facts.end_offsets.items():
        # A partition the ledger doesn't name will be read from its oldest record.
        begin = applied.get(partition, facts.start_offsets.get(partition, 0))
        waiting += max(0, end - begin)
    return waiting


def state_of(facts: TableFacts, now_ms: int) -> str:
    """Say what the table's query does; a parked table stays parked when its driver is gone."""
    if "lease" in facts.failures:
        return "unknown"
    if facts.lease is None:
        is_new = facts.ledger is None and "ledger" not in facts.failures
        return "not started" if is_new else "stopped"
    if facts.lease.state.is_over:
        return facts.lease.state
    if not facts.lease.is_fresh(now_ms):
        return DRIVER_GONE
    return facts.lease.state


def _freshness_s(lag: int | None, newest_source_ts_ms: Any, now_ms: int) -> float | None:
    if lag == 0:
        return 0.0
    if lag is None or newest_source_ts_ms is None:
        return None
    # The source's clock may be ahead of ours.
    return float(max(0, now_ms - int(newest_source_ts_ms)) / 1000)
