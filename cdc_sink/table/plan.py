"""Facts in, plan out: what to do with one micro-batch.

Facts come from one aggregate over the folded batch and from the ledger. Nothing here touches a table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from cdc_sink.debezium.origin import Origin
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import StateError
from cdc_sink.table.faults import FAULTS, TIE
from cdc_sink.table.ledger import many_sources
from cdc_sink.table.ledger.ledger import Ledger, Totals
from cdc_sink.table.ledger.many_sources import SourceFacts
from cdc_sink.table.ledger.offsets import NOT_APPLIED, Offsets
from cdc_sink.table.ledger.one_source import require_no_more, require_one_origin
from cdc_sink.table.ledger.source_snapshot import Before, Policy, Reads, next_run
from cdc_sink.table.schema.computed_columns import Ids, SentColumns, read_only_after

MOST_BAD_ALONE = 100
NEW_LOG_REMEDY = (
    "let the connector take a new source snapshot into a new topic, and raise `generation` of this "
    "table"
)


@dataclass(frozen=True)
class BatchFacts:
    """What one batch brought that the ledger did not have yet. Counts are records, or keys by name.

    A key lacks a value when the connector left it out and no older event of the batch has it: `lacking_keys`.
    Of these, `unknown_keys` were deleted in the batch before, so that no stored row has it either, and in
    `unfilled_keys` the older events were not looked at yet. `lacking` counts by column.
    `bare_keys` have a tombstone without its delete, and nothing behind it. `ended_with`: by partition the
    hash of the key that its last record deletes, if it does.
    `origins`: the least and the greatest origin of the changes, one if they are the same; of a table of many
    sources, all. `of_sources`: what each known one brought, in the ledger's order; None for a table of one.
    `unplaced`: changes of none of them.
    `tied_keys` have different changes of one position in two partitions.
    `read_ids`, `stream_ids`: the writer schemas of snapshot rows, and of the stream's events.
    `defaulted_keys` are deleted, and hold what the connector fills in for what the log lacks.
    `overtaken_keys` have changes behind the one of the greatest position, where the fold went by it.
    `newest_regression_ts_ms`: the newest timestamp of a change whose position is lower than that of an
    earlier change of the batch, although its timestamp is newer: a sign that the source's log began again.
    """

    records: int
    tombstones: int
    redelivered: int
    reads: int
    upserted_keys: int
    deleted_keys: int
    split_keys: int
    overtaken_keys: int
    ends_redelivered: bool
    highest_partition: int | None
    next_offsets: Offsets
    high_water: Mapping[int, SourcePosition]
    schema_ids: tuple[int, ...]
    newest_source_ts_ms: int | None
    origins: tuple[Origin, ...] = ()
    bare_keys: int = 0
    ended_with: Mapping[int, int | None] = field(default_factory=dict)
    snapshot_rows: Reads | None = None
    newest_redelivered_ts_ms: int | None = None
    newest_regression_ts_ms: int | None = None
    tied_keys: int = 0
    dead_letters: int = 0
    bad_records: int = 0
    truncates: int = 0
    ignores_truncates: bool = False
    unfilled_keys: int = 0
    lacking_keys: int = 0
    unknown_keys: int = 0
    defaulted_keys: int = 0
    lacking: Mapping[str, int] = field(default_factory=dict)
    of_sources: tuple[SourceFacts, ...] | None = None
    unplaced: int = 0
    read_ids: tuple[int, ...] = ()
    stream_ids: tuple[int, ...] = ()

    @property
    def is_mixed(self) -> bool:
        """Snapshot rows and stream events stand side by side: only Kafka order can place them."""
        return 0 < self.reads < self.records - self.tombstones

    @property
    def totals(self) -> Totals:
        """What became of the batch's records."""
        ignored = self.truncates if self.ignores_truncates else 0
        gone = self.redelivered + self.tombstones + ignored + self.dead_letters
        return Totals(
            applied=self.records - gone,
            redelivered=self.redelivered,
            tombstones=self.tombstones,
            ignored=ignored,
            dead_letters=self.dead_letters,
        )

    @property
    def needs_exact_fold(self) -> bool:
        """Positions can't order it: it is mixed, ends in a redelivered tail, or its log may begin again."""
        return self.is_mixed or self.ends_redelivered or self.overtaken_keys > 0

    def counters(self) -> dict[str, Any]:
        """What the batch did, for the snapshot summary and the log. Units: records, keys, ms."""
        counted: dict[str, Any] = {
            "records": self.records,
            **asdict(self.totals),
            "upserted_keys": self.upserted_keys,
            "deleted_keys": self.deleted_keys,
        }
        if self.lacking:
            counted["unavailable"] = dict(self.lacking)
        newest = self.newest_source_ts_ms
        return counted if newest is None else counted | {"newest_source_ts_ms": newest}


class Step(Enum):
    """What the sink does with the batch."""

    SKIP = "skip"
    KNOW_SOURCES = "know_sources"
    REFOLD_IN_KAFKA_ORDER = "refold_in_kafka_order"
    REFOLD_WITH_FILLS = "refold_with_fills"
    NEEDS_QUARANTINE = "needs_quarantine"
    OFFSETS_ONLY = "offsets_only"
    ADD_EVENTS = "add_events"
    FIRST_LOAD = "first_load"
    REPLACE_ALL = "replace_all"
    MERGE = "merge"


@dataclass(frozen=True)
class Plan:
    """One step, and the ledger that its table commit will carry."""

    step: Step
    ledger: Ledger

    def with_run(self, before: Ledger, facts: BatchFacts, ends: Callable[[], Offsets]) -> Plan:
        """The same, with a ledger that knows the newest source snapshot after the batch.

        One of many sources has no such rule: see many_sources.py.
        """
        if facts.of_sources is not None:
            return self
        has_stream = bool(before.high_water) or before.stream.generation > 0
        known = Before(before.run, before.totals.applied > 0, has_stream)
        letters = facts.dead_letters > 0
        run = next_run(known, facts.snapshot_rows, has_letters=letters, ends=ends)
        return Plan(self.step, replace(self.ledger, run=run))

    def with_columns_sent(
        self,
        before: Ledger,
        facts: BatchFacts,
        held: Collection[str],
        sent: SentColumns,
        where: str,
    ) -> Plan:
        """The same, with a ledger that knows the columns that only snapshot rows had.

        In:     held, the table's columns; one that was made for this very batch has them from it.
        Raises: SchemaError when changes come that don't have one of them.
        """
        held = held if before.schema_ids else ()
        ids = Ids(facts.read_ids, facts.stream_ids, before.schema_ids)
        found = read_only_after(before.read_only, held, sent, ids, where)
        return Plan(self.step, replace(self.ledger, read_only=found))

    def up_to(self, end: Offsets) -> Plan:
        """The same, with a ledger that has all offsets below `end`, also those that no record has.

        A batch without new records is noted when it moves the ledger: behind it lie transaction markers, or
        what compaction removed, and the next batch begins there.
        """
        reached = self.ledger.advanced(end, {}, ())
        moves = self.step is Step.SKIP and reached.next_offsets != self.ledger.next_offsets
        return Plan(Step.OFFSETS_ONLY if moves else self.step, reached)


def plan_batch(
    facts: BatchFacts,
    ledger: Ledger,
    *,
    is_empty: bool,
    folded_exactly: bool,
    where: str,
    on_resnapshot: Policy = "stop",
) -> Plan:
    """Decide what happens to a batch.

    SKIP          every record is in the ledger already: a replay.
    KNOW_SOURCES  sources came that the ledger did not know: fold again with the plan's ledger, which does.
    FOLD_EXACTLY  positions alone can't order the batch: fold again with the running high-water mark.
    FILL          values were left out: fold again, and look for them in older changes of the batch.
    LOOK_UP       values are lacking that neither batch nor stored row has.
    NOTE          nothing to write (tombstones, redelivered records), but the offsets move.
    APPEND        the table is empty: there is nothing to match or delete.
    REPLACE       the source was truncated: the rows after it take the place of all others.
    MERGE         everything else.

    Raises: StateError when Kafka order can't order the batch.
    """
    if facts.records == 0:
        return Plan(Step.SKIP, ledger)
    _require_some_good(facts, where)
    ledger, are_new = _of_its_sources(ledger, facts, where)
    if are_new:
        return Plan(Step.KNOW_SOURCES, ledger)
    _require_order(facts, ledger, where)
    if (facts.needs_exact_fold or ledger.moving) and not folded_exactly:
        return Plan(Step.REFOLD_IN_KAFKA_ORDER, ledger)
    if facts.unfilled_keys:
        return Plan(Step.REFOLD_WITH_FILLS, ledger)
    _require_redelivered(facts, ledger, where)
    empties = facts.truncates > 0 and not facts.ignores_truncates
    if empties:
        _require_whole_truncate(ledger, where)
    if facts.unknown_keys or (facts.lacking_keys and (is_empty or empties)):
        return Plan(Step.NEEDS_QUARANTINE, ledger)
    after = _advanced(ledger, facts, on_resnapshot, where)
    if empties and not is_empty:
        return Plan(Step.REPLACE_ALL, after)
    if facts.upserted_keys and is_empty:
        return Plan(Step.FIRST_LOAD, after)
    if facts.upserted_keys or (facts.deleted_keys and not is_empty):
        return Plan(Step.MERGE, after)
    return Plan(Step.OFFSETS_ONLY, after)


def _of_its_sources(ledger: Ledger, facts: BatchFacts, where: str) -> tuple[Ledger, bool]:
    """The ledger with the source or the sources of the batch, and whether some of many are new."""
    if facts.of_sources is None:
        require_no_more(ledger.sources, ledger.stream.topic, where)
        origin = require_one_origin(facts.origins, ledger.origin, ledger.stream.topic, where)
        return replace(ledger, origin=origin), False
    partitions = len(ledger.next_offsets)
    known = many_sources.with_origins(
        ledger.sources, facts.origins, partitions, ledger.stream.topic, where
    )
    if len(known) > len(ledger.sources):
        return replace(ledger, sources=known), True
    many_sources.require_placed(facts.unplaced, ledger.stream.topic, where)
    return ledger, False


def _advanced(ledger: Ledger, facts: BatchFacts, on_resnapshot: Policy, where: str) -> Ledger:
    last = {**ledger.ended_with, **facts.ended_with}
    kept = replace(ledger, ended_with={p: key for p, key in last.items() if key is not None})
    if facts.of_sources is not None:
        known = many_sources.advanced(
            ledger.sources, facts.of_sources, on_resnapshot, ledger.stream.topic, where
        )
        kept = replace(kept, sources=known)
    return kept.advanced(
        facts.next_offsets,
        facts.high_water,
        facts.schema_ids,
        facts.newest_source_ts_ms,
        facts.totals,
    )


def plan_events(facts: BatchFacts, ledger: Ledger, *, where: str) -> Plan:
    """Decide what happens to a batch of a table that keeps every event: SKIP, KNOW_SOURCES, NOTE or ADD.

    Nothing has to be ordered: partition and offset are in each row.
    Raises: StateError.
    """
    if facts.records == 0:
        return Plan(Step.SKIP, ledger)
    _require_some_good(facts, where)
    ledger, are_new = _of_its_sources(ledger, facts, where)
    if are_new:
        return Plan(Step.KNOW_SOURCES, ledger)
    _require_known_partition(facts, ledger, where)
    _require_redelivered(facts, ledger, where)
    after = _advanced(ledger, facts, "keep", where)  # a source snapshot is events like others
    has_rows = facts.upserted_keys or facts.deleted_keys
    return Plan(Step.ADD_EVENTS if has_rows else Step.OFFSETS_ONLY, after)


def _require_some_good(facts: BatchFacts, where: str) -> None:
    """A poison record is one among good ones; when all are bad, something else is wrong."""
    if MOST_BAD_ALONE < facts.bad_records == facts.records - facts.tombstones:
        raise StateError(
            where,
            f"all {facts.bad_records} records of the batch are bad: this is no single bad record",
            data="none of them was set aside, their offsets were not committed",
            remedy="check the connector's converters and transforms, and whether the registry was rebuilt "
            "with other ids; `bad_record: stop` names the first record",
        )


def _require_known_partition(facts: BatchFacts, ledger: Ledger, where: str) -> None:
    highest = facts.highest_partition
    if highest is not None and highest not in ledger.next_offsets:
        raise StateError(
            where,
            f"partition {highest} of {ledger.stream.topic} did not exist when the table was set up "
            f"({len(ledger.next_offsets)} partitions then); keys may have moved, so Kafka order no "
            "longer orders the changes of a key",
            data="the batch was not applied, its offsets were not committed",
            remedy="rebuild the table with `cdc-sink backfill` into a new target",
        )


def _require_order(facts: BatchFacts, ledger: Ledger, where: str) -> None:
    _require_known_partition(facts, ledger, where)
    if facts.tied_keys:
        raise StateError(where, FAULTS[TIE].saw, data=NOT_APPLIED, remedy=FAULTS[TIE].remedy)
    if facts.split_keys and ledger.moving is None:
        raise StateError(
            where,
            f"{facts.split_keys} keys have changes in more than one partition of {ledger.stream.topic}, "
            "in one batch",
            data="the batch was not applied, its offsets were not committed",
            remedy="remove the partitioner or the transform that spreads them, and let the connector take a "
            "new source snapshot into a new topic; then raise `generation` of this table",
        )


def _require_whole_truncate(ledger: Ledger, where: str) -> None:
    if len(ledger.sources) > 1:
        raise StateError(
            where,
            f"one of the {len(ledger.sources)} sources of the table was truncated, and the rows of the "
            "others stay: a truncate of one source is not applied",
            data=NOT_APPLIED,
            remedy="set `truncate: ignore` for this table, delete the source's rows from the table, and set "
            "`foreign_commits: accept` until the next start of `cdc-sink run`",
        )
    if len(ledger.next_offsets) > 1:
        raise StateError(
            where,
            f"the source table was truncated, and {ledger.stream.topic} has "
            f"{len(ledger.next_offsets)} partitions: the truncate lies in one of them, so nothing says which "
            "rows of the others came before it",
            data="the batch was not applied, its offsets were not committed",
            remedy="rebuild the table with `cdc-sink backfill` after a new source snapshot, or set "
            "`truncate: ignore` for it",
        )


def _require_redelivered(facts: BatchFacts, ledger: Ledger, where: str) -> None:
    """What lies below the mark was applied before, so its source timestamp was seen before, too.

    Source: Debezium 3.6 takes source.ts_* from the log, so a second delivery carries the first one's.
    """
    brought: Sequence[BatchFacts | SourceFacts] = (facts,)
    newest = [ledger.newest_source_ts_ms]
    if facts.of_sources is not None:
        brought, newest = facts.of_sources, [one.newest_source_ts_ms for one in ledger.sources]
    # While keys move, a change may have been delivered first in a partition that tells nothing of this one.
    falls = ledger.moving is None
    if any(_are_newer(of, known, falls=falls) for of, known in zip(brought, newest, strict=True)):
        raise StateError(
            where,
            "changes lie below the high-water mark, but are newer than all that was applied: the source's "
            "log began again (a restore, a failover, RESET MASTER)",
            data="the batch was not applied, its offsets were not committed",
            remedy=NEW_LOG_REMEDY,
        )


def _are_newer(facts: BatchFacts | SourceFacts, known: int | None, *, falls: bool) -> bool:
    stamps = [facts.newest_redelivered_ts_ms, facts.newest_regression_ts_ms if falls else None]
    return any(ms is not None and (known is None or ms > known) for ms in stamps)
