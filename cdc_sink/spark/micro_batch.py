"""One micro-batch: read, fold, write; once, or once more with what the batch turned out to need.

The only file that knows all three rooms. A batch needs more when it holds a schema that nobody fetched, a
record that may be set aside, or a value that the connector left out and no stored row has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from pyspark.sql import DataFrame

from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import CdcSinkError, SchemaError, StateError
from cdc_sink.spark.failpoints import BATCH_STARTED, SCHEMAS_FETCHED, failpoint
from cdc_sink.spark.fold.folding import Folding
from cdc_sink.spark.fold.key_partitions import KeyPartitions
from cdc_sink.spark.fold.key_updates import Past, complete_moved
from cdc_sink.spark.fold.quarantine import mark_aside, require_no_fault
from cdc_sink.spark.fold.repartitioned_keys import TopicState
from cdc_sink.spark.fold.suspect_deletes import filled_in_sql
from cdc_sink.spark.foreign_errors import JOB_FAILED, as_cdc_sink_error, is_unknown
from cdc_sink.spark.hooks import Transform
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.spark.read.converter import Converter
from cdc_sink.spark.read.decode import FEW_SCHEMAS, decode, log_names, require_framed, schema_ids
from cdc_sink.spark.read.find_bad_record import first_failing
from cdc_sink.spark.read.record_faults import (
    FRAME,
    STOPPED,
    Fault,
    failing_error,
    read_fault,
    tells_bad_value,
)
from cdc_sink.spark.read.source import Topic, read_again
from cdc_sink.spark.transform.transforms import transforming_by
from cdc_sink.spark.write.dead_letter_table import DeadLetters
from cdc_sink.spark.write.sink import NeedsQuarantine, Sink
from cdc_sink.table.faults import OP, POSITION, UNAVAILABLE_VALUE
from cdc_sink.table.ledger.key_partitions import counts_before, elsewhere, not_hashed
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.ledger.many_sources import Lanes
from cdc_sink.table.ledger.offsets import OffsetRange, Offsets
from cdc_sink.table.ledger.one_source import require_roles, require_same_schemas
from cdc_sink.table.ledger.repartitioning import Moving, grown_before
from cdc_sink.table.plan import NEW_LOG_REMEDY, BatchFacts
from cdc_sink.table.schema.columns import Column
from cdc_sink.table.schema.writer_schemas import WriterSchemas

MOST_REPLANS = 3
# 300 schemas in one batch were planned and decoded in about two minutes of a crowded two-core machine, and
# nothing was tried beyond.
MOST_SCHEMAS = 300


@dataclass(frozen=True)
class Again:
    """A batch was not applied, and what it needs is known now."""


@dataclass
class MicroBatchWriter:
    """Decodes and applies the micro-batches of one topic.

    The schemas in use are those that occurred in the data so far, so a version that is registered but not yet
    written changes nothing.
    """

    sink: Sink
    input: Converter
    topic: Topic
    schemas: WriterSchemas = field(default_factory=lambda: WriterSchemas({}, {}))
    transform: Transform | None = None
    _sets_aside: bool = False
    _batch: OffsetRange | None = None
    # Key updates that leave values out come in crowds: the next batch is not tried in vain first.
    _keys_move: bool = False
    _held: tuple[Column, ...] = ()  # the table's columns, as it was loaded last

    def __post_init__(self) -> None:
        """Read the schemas as the table's settings say."""
        settings = self.sink.target.table
        # Under `json` a schema's id is a digest of its text.
        self.schemas = replace(
            self.schemas, policy=settings.policy, ids_rise=settings.wire != "json"
        )
        self._transforming = transforming_by(self.transform, self.sink.target)

    def write(
        self, records: DataFrame, batch_id: int, batch: OffsetRange | None = None
    ) -> BatchFacts | None:
        """Apply one micro-batch of Kafka records; None when nothing in it could change the table.

        In:     batch, the offsets that Spark read for it.
        Raises: CdcSinkError; a foreign error never leaves this function.
        """
        failpoint(BATCH_STARTED)
        self._batch = batch
        self._sets_aside = self._keys_move
        try:
            if not self.schemas.values or not self.schemas.has_key:
                self._learn(records)
            for _ in range(MOST_REPLANS):
                tried = self._try(records, batch_id)
                if not isinstance(tried, Again):
                    return tried
            applied = self._apply(records, batch_id)
        except JOB_FAILED as failed:
            raise self._explain(records, failed) from failed
        if isinstance(applied, NeedsQuarantine):
            raise StateError(
                self.sink.target.name,
                "a TRUNCATE in this batch removed the rows that hold values which the connector left out",
                data="the batch was not applied, its offsets were not committed",
                remedy="rebuild the table with `cdc-sink backfill` after a new source snapshot",
            )
        return applied

    def _try(self, records: DataFrame, batch_id: int) -> BatchFacts | Again | None:
        """Apply the batch, or learn from the failure what it needs. Raises: what nothing is learned from."""
        try:
            applied = self._apply(records, batch_id)
        except JOB_FAILED as failed:
            fault = read_fault(str(failed))
            if fault is not None and fault.unknown_schema_id is not None:
                self._learn(records)
            elif not self._sets_aside and self._may_set_aside(str(failed), fault):
                self._sets_aside = True
                self._keys_move = fault is not None and fault.code == UNAVAILABLE_VALUE
            else:
                raise
            return Again()
        if isinstance(applied, NeedsQuarantine):
            self._sets_aside = self._keys_move = True
            return Again()
        return applied

    def _may_set_aside(self, text: str, fault: Fault | None) -> bool:
        """Does the table's policy let the batch go on without what failed?"""
        policy = self.sink.target.table
        if fault is not None and fault.code == UNAVAILABLE_VALUE:
            return True  # decided over in the sink, which has the stored rows
        if fault is not None and fault.code == OP and fault.detail == "t":
            return policy.truncate != "stop"
        if fault is not None and fault.code not in (FRAME, OP):
            return False
        return policy.bad_record == "quarantine_key" and (
            fault is not None or tells_bad_value(text)
        )

    def _apply(self, records: DataFrame, batch_id: int) -> BatchFacts | NeedsQuarantine | None:
        table, columns = self._table()
        if not columns or not self.schemas.has_key:
            return None  # only tombstones so far, and no table: there is no column to make one of
        ledger = table.ledger() if table else None
        self._know_log(records, columns, ledger)
        self.folding.knows_keys_filled_in(
            "false" if self.of_events else filled_in_sql(self.schemas, columns)
        )
        waits_for_letters = bool(ledger and ledger.quarantined) and not self.of_events
        places = KeyPartitions()
        now = self._now(ledger, places, columns)
        if not self._sets_aside and not waits_for_letters:
            framed = self.input.framed(self._looked_at(records, ledger, now, places))
            changes = self._transformed(decode(framed, self._in_use(framed), columns))
            return self.sink.apply(changes, batch_id, table, now, self._batch)
        with self.folding.kept:
            whole = self._looked_at(self.topic.whole(records), ledger, now, places)
            changes = self._decode_tolerantly(whole, columns)
            quarantined = None if self.of_events else self._quarantined_keys(columns)
            marked = mark_aside(changes, quarantined, self.folding.kept)
            if self.sink.target.table.bad_record == "stop":
                require_no_fault(marked)
            whole, self._keys_move = marked, False
            # While keys change their partition, what an old key held last may still wait in another one.
            if ledger is None or not self._may_wait(ledger):
                marks = ledger.high_water if ledger else {}
                by = self.folding.lanes(ledger) if ledger else None
                whole, self._keys_move = self._completed(marked, table, columns, marks, by)
            return self.sink.apply(whole, batch_id, table, now, self._batch)

    @property
    def folding(self) -> Folding:
        """That of the sink."""
        return self.sink.folding

    @property
    def of_events(self) -> bool:
        """The table holds every event: each stands for itself, whatever became of others of its key."""
        return self.sink.target.table.mode.keeps_events

    def _may_wait(self, ledger: Ledger) -> bool:
        """Older changes of a key may lie in a partition that is read later."""
        return ledger.moving is not None or self.topic.partitions() > len(ledger.next_offsets)

    def _completed(
        self,
        marked: DataFrame,
        table: IcebergTable | None,
        columns: Sequence[Column],
        marks: Mapping[int, SourcePosition],
        by: Lanes | None = None,
    ) -> tuple[DataFrame, bool]:
        """Changes with the values that key updates took along, and whether there were such updates."""
        if self.of_events:
            return marked, False
        past = Past(table, self.topic.starts, partial(self._span, columns)) if table else None
        nulls_left_out = self.folding.options.nulls_left_out
        whole, halves = complete_moved(
            marked, past, marks, self.folding.kept, nulls_left_out=nulls_left_out, by=by
        )
        return whole, halves > 0

    def _looked_at(
        self, records: DataFrame, ledger: Ledger | None, now: TopicState, places: KeyPartitions
    ) -> DataFrame:
        """Look at the place of each record by the way, where its key has to tell the partition."""
        if not self._tells_partition(now.partitions):
            return records
        known = ledger.next_offsets if ledger else dict.fromkeys(self.sink.partitions, 0)
        phases = (now.grew, ledger.moving if ledger else None)
        placed_by = {one.placed_by for one in phases if one and one.placed_by}
        return places.observed(records, now.partitions, {len(known), *placed_by}, known)

    def _tells_partition(self, partitions: int) -> bool:
        return partitions > 1 and self.sink.target.needs_one_partition_per_key

    def _now(
        self, ledger: Ledger | None, places: KeyPartitions, columns: Sequence[Column]
    ) -> TopicState:
        partitions = self.topic.partitions()
        is_first = ledger is None or not ledger.key_schema_ids
        return TopicState(
            partitions,
            tuple(sorted(self.schemas.keys)),
            self.topic.ends,
            self.schemas.log,
            self.schemas.fingerprints,
            self._grew(partitions) if is_first and self._tells_partition(partitions) else None,
            places.strays,
            self.schemas.sent_columns(columns),
        )

    def _grew(self, partitions: int) -> Moving | None:
        """At the table's first batch: whether keys move, since the topic grew before."""
        counts = counts_before(oldest := self.topic.oldest(), partitions)
        if counts is None:
            stray, table = elsewhere(oldest, partitions)[0], self.sink.target.table
            raise not_hashed(stray, partitions, table.topic, table.name)
        return grown_before(partitions, counts)

    def _know_log(
        self, records: DataFrame, columns: Sequence[Column], ledger: Ledger | None
    ) -> None:
        """From the table's first batch on, the name of the log whose files its positions number."""
        if self.schemas.log is None and self.schemas.have_log:
            known = ledger.log if ledger else None
            newest = None if known else next(reversed(self._logs(records, columns)), None)
            self.schemas = replace(self.schemas, log=known or newest)

    def _logs(self, records: DataFrame, columns: Sequence[Column]) -> list[str]:
        if self._sets_aside:
            records = self.topic.whole(records)
        framed = self.input.framed(records)
        return log_names(framed, self._in_use(framed), columns, sets_aside=self._sets_aside)

    def replay(self, letters: DataFrame, store: DeadLetters) -> int:
        """Apply dead letters, given as Kafka records; how many could be.

        Raises: CdcSinkError; nothing was written then.
        """
        if self.sink.target.table.masks:
            letters = read_again(self.topic, letters, self.sink.target.name)
        self._learn(letters)
        table, columns = self._table()
        try:
            with self.folding.kept:
                decoded = self._decode_tolerantly(letters, columns)
                marked = mark_aside(decoded, None, self.folding.kept)
                whole, _ = self._completed(marked, table, columns, {})  # news, wherever they lie
                return self.sink.replay(whole, store, table)
        except JOB_FAILED as failed:
            raise self._explain(letters, failed) from failed

    def _span(self, columns: Sequence[Column], first: Offsets, end: Offsets) -> DataFrame:
        records = self.topic.span(first, end)
        self._learn(records)
        return self._decode_tolerantly(records, columns)

    def _decode_tolerantly(self, records: DataFrame, columns: Sequence[Column]) -> DataFrame:
        framed = self.input.framed(records)
        decoded = decode(framed, self._in_use(framed), columns, sets_aside=True)
        return self._transformed(decoded)

    def _transformed(self, changes: DataFrame) -> DataFrame:
        """As the table's masks and transform make them."""
        if self._transforming is None:
            return changes
        changes = self._transforming.of(changes, self._held)
        self.sink.shape = self.sink.shape.changing(self._transforming.changed)
        return changes

    def _quarantined_keys(self, columns: Sequence[Column]) -> DataFrame | None:
        letters = DeadLetters(self.sink.spark, self.sink.target, self.sink.stream.topic_id)
        waiting = letters.waiting()
        if waiting is None:
            return None
        self.input.learn(waiting)
        framed = self.input.framed(waiting)
        self._fetch((), schema_ids(framed)[1])  # their values may be of no schema
        return decode(framed, self.schemas, columns, sets_aside=True).select("key")

    def _in_use(self, records: DataFrame) -> WriterSchemas:
        """The schemas to decode a batch with: all while they are few, else those that it holds."""
        if len(self.schemas.values) + len(self.schemas.keys) <= FEW_SCHEMAS:
            return self.schemas
        some = self.schemas.only(*schema_ids(records))
        count = len(some.values) + len(some.keys)
        if count > MOST_SCHEMAS:
            raise SchemaError(
                self.sink.target.name,
                f"one batch holds records of {count} writer schemas, more than {MOST_SCHEMAS}",
                data="the batch was not applied, its offsets were not committed",
                remedy="look for a producer that registers a schema per record; else lower "
                "max_records_per_batch, and rebuild the table with `cdc-sink backfill`",
            )
        return some

    def _learn(self, records: DataFrame) -> None:
        self.input.learn(records)
        framed = self.input.framed(records)
        self._fetch(*schema_ids(framed))
        if self.schemas.values and not self.schemas.has_key and self.schemas.ids_rise:
            # A truncate has no key: a driver that was just started may meet one alone.
            ledger = self._ledger()
            self._fetch((), ledger.key_schema_ids if ledger else ())
        if not self.schemas.values or not self.schemas.has_key:
            # Tombstones carry no schema id, but neither do records of another format.
            require_framed(framed, keyless=self.of_events)
        failpoint(SCHEMAS_FETCHED)

    def _fetch(self, values: Collection[int], keys: Collection[int]) -> None:
        new_values = {i: self.input.schema(i) for i in set(values) - set(self.schemas.values)}
        new_keys = {i: self.input.schema(i) for i in set(keys) - set(self.schemas.keys)}
        if new_values or new_keys:
            learned = self.schemas.plus(new_values, new_keys)
            self._require_schemas(learned)
            self.schemas = learned
        self.folding.knows_schemas(self.schemas)

    def _require_schemas(self, learned: WriterSchemas) -> None:
        """Before anything is read by them: are they what they were when records of them were applied?"""
        where = self.sink.target.name
        ledger = self._ledger()
        require_same_schemas(ledger.fingerprints if ledger else {}, learned.fingerprints, where)
        require_roles(learned.values, learned.keys, where)

    def _ledger(self) -> Ledger | None:
        table = IcebergTable.load(self.sink.spark, self.sink.target)
        return table.ledger() if table else None

    def _table(self) -> tuple[IcebergTable | None, tuple[Column, ...]]:
        """The table as it is, and its columns with what the schemas add."""
        table = IcebergTable.load(self.sink.spark, self.sink.target)
        self._held = table.columns() if table else ()
        columns = self.schemas.extend(self._held)
        self.sink.shape = self.sink.shape.knowing(columns)
        return table, columns

    def _explain(self, records: DataFrame, failed: Exception) -> CdcSinkError:
        text = str(failed)
        fault = read_fault(text)
        if fault is not None:
            return self._another_log(records, fault) or fault.error()
        error = as_cdc_sink_error(failed, self.sink.target.name)
        if not (tells_bad_value(text) or (self.transform is not None and is_unknown(error))):
            return error
        _, columns = self._table()
        framed = self.input.framed(records)
        schemas = self._in_use(framed)
        found = first_failing(framed, lambda p: self._transformed(decode(p, schemas, columns)))
        return error if found is None else failing_error(*found)

    def _another_log(self, records: DataFrame, fault: Fault) -> CdcSinkError | None:
        """Say so when a change has no position because it lies in another log."""
        if fault.code != POSITION or self.schemas.log is None:
            return None
        others = set(self._logs(records, self._table()[1])) - {self.schemas.log}
        if not others:
            return None
        return StateError(
            self.sink.target.name,
            f"the source's log files are called {', '.join(sorted(others))}, those of all that was applied "
            f"{self.schemas.log}: the connector reads another server, or the log began again",
            data=STOPPED,
            remedy=NEW_LOG_REMEDY,
        )
