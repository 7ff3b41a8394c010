"""Facts in, plan out: what to do with one micro-batch.

Facts come from one aggregate over the folded batch and from the ledger. Nothing here touches a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from cdc_sink.change.position import SourcePosition
from cdc_sink.errors import StateError
from cdc_sink.table.ledger import Ledger


@dataclass(frozen=True)
class BatchFacts:
    """What one batch brought that the ledger did not have yet. Counts are records, or keys by name."""

    records: int
    tombstones: int
    redelivered: int
    reads: int
    upserted_keys: int
    deleted_keys: int
    split_keys: int
    ends_redelivered: bool
    highest_partition: int | None
    next_offsets: Mapping[int, int]
    high_water: Mapping[int, SourcePosition]
    schema_ids: tuple[int, ...]
    newest_source_ts_ms: int | None
    newest_redelivered_ts_ms: int | None = None

    @property
    def is_mixed(self) -> bool:
        """Snapshot rows and stream events stand side by side: only Kafka order can place them."""
        return 0 < self.reads < self.records - self.tombstones

    @property
    def needs_exact_fold(self) -> bool:
        """Positions alone can't order the batch: it is mixed, or ends inside a redelivered tail."""
        return self.is_mixed or self.ends_redelivered

    def counters(self) -> dict[str, int]:
        """What the batch did, for the snapshot summary and the log. Units: records, keys, ms."""
        counted = {
            "records": self.records,
            "applied": self.records - self.tombstones - self.redelivered,
            "redelivered": self.redelivered,
            "tombstones": self.tombstones,
            "upserted_keys": self.upserted_keys,
            "deleted_keys": self.deleted_keys,
        }
        newest = self.newest_source_ts_ms
        return counted if newest is None else counted | {"newest_source_ts_ms": newest}


class Step(Enum):
    """What the sink does with the batch."""

    SKIP = "skip"
    FOLD_EXACTLY = "fold_exactly"
    NOTE = "note"
    APPEND = "append"
    MERGE = "merge"


@dataclass(frozen=True)
class Plan:
    """One step, and the ledger that its table commit will carry."""

    step: Step
    ledger: Ledger


def plan_batch(
    facts: BatchFacts, ledger: Ledger, *, is_empty: bool, folded_exactly: bool, where: str
) -> Plan:
    """Decide what happens to a batch.

    SKIP          every record is in the ledger already: a replay.
    FOLD_EXACTLY  positions alone can't order the batch: fold again with the running high-water mark.
    NOTE          nothing to write (tombstones, redelivered records), but the offsets move.
    APPEND        the table is empty: there is nothing to match or delete.
    MERGE         everything else.

    Raises: StateError when Kafka order can't order the batch.
    """
    if facts.records == 0:
        return Plan(Step.SKIP, ledger)
    _require_order(facts, ledger, where)
    if facts.needs_exact_fold and not folded_exactly:
        return Plan(Step.FOLD_EXACTLY, ledger)
    _require_redelivered(facts, ledger, where)
    after = ledger.advanced(
        facts.next_offsets, facts.high_water, facts.schema_ids, facts.newest_source_ts_ms
    )
    if facts.upserted_keys and is_empty:
        return Plan(Step.APPEND, after)
    if facts.upserted_keys or (facts.deleted_keys and not is_empty):
        return Plan(Step.MERGE, after)
    return Plan(Step.NOTE, after)


def _require_order(facts: BatchFacts, ledger: Ledger, where: str) -> None:
    highest = facts.highest_partition
    if highest is not None and highest not in ledger.next_offsets:
        raise StateError(
            where,
            f"partition {highest} of {ledger.topic} did not exist when the table was set up "
            f"({len(ledger.next_offsets)} partitions then); keys may have moved, so Kafka order no "
            "longer orders the changes of a key",
            data="the batch was not applied, its offsets were not committed",
            remedy="rebuild the table with `cdc-sink backfill` into a new target",
        )
    if facts.split_keys:
        raise StateError(
            where,
            f"{facts.split_keys} keys have changes in more than one partition of {ledger.topic}, "
            "in one batch",
            data="the batch was not applied, its offsets were not committed",
            remedy="look for a changed key schema or a custom partitioner on the connector, then "
            "rebuild the table with `cdc-sink backfill` into a new target",
        )


def _require_redelivered(facts: BatchFacts, ledger: Ledger, where: str) -> None:
    """What lies below the mark was applied before, so its source timestamp was seen before, too.

    Source: Debezium 3.6 takes source.ts_* from the log, so a second delivery carries the first one's.
    """
    stale, known = facts.newest_redelivered_ts_ms, ledger.newest_source_ts_ms
    if stale is not None and known is not None and stale > known:
        raise StateError(
            where,
            "changes lie below the high-water mark, but are newer than all that was applied: the source's "
            "log began again (a restore, a failover, RESET MASTER)",
            data="the batch was not applied, its offsets were not committed",
            remedy="let the connector take a new snapshot into a new topic, and build a new table from it",
        )
