"""What stands in the way of a table, decided from what was read: readings in, findings out.

Rules this file owns: everything is reported at once, the good with the bad; an error is what would
stop the table or make it wrong, a warning is what its operator should know, and each has a remedy;
what couldn't be read is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from cdc_sink.debezium.envelope import CHOSEN_KEY, AvroField, Envelope, parse_key, with_options
from cdc_sink.debezium.types.mapping import column_type
from cdc_sink.errors import CdcSinkError
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.ledger.many_sources import SOURCE_COLUMN
from cdc_sink.table.ledger.offsets import Offsets
from cdc_sink.table.ledger.one_table import topic_gone
from cdc_sink.table.ledger.stream_identity import StreamIdentity
from cdc_sink.table.schema.columns import Column, require_distinct
from cdc_sink.table.schema.evolution import describe
from cdc_sink.table.schema.policy import DEFAULT_POLICY, TablePolicy
from cdc_sink.table.schema.preview import Versions, preview

_CONFIG, _UNAVAILABLE = 2, 3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `exit_code` is what it alone would end the program with.

    `lets_start`: an error in spite of which `run` starts the table, since the table only stays old by it, or
    its stream meets the same and says so. `table` is the table that it is about; None for all of them.
    """

    where: str
    level: Literal["error", "warning", "ok"]
    saw: str
    remedy: str = ""
    exit_code: int = 0
    lets_start: bool = False
    table: str | None = None

    @classmethod
    def of(cls, error: CdcSinkError) -> Finding:
        """Turn a failure that would have stopped the table into a finding."""
        return cls(error.where, "error", error.saw, error.remedy, error.exit_code)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 2 when the configuration is at fault, 3 when servers were only silent, else 1 or 0."""
    codes = {finding.exit_code for finding in findings if finding.level == "error"}
    if _CONFIG in codes:
        return _CONFIG
    if codes - {_UNAVAILABLE}:
        return 1
    return _UNAVAILABLE if codes else 0


@dataclass(frozen=True)
class TopicReading:
    """A topic and its ends, as the cluster told them."""

    topic_id: str
    start_offsets: Offsets
    end_offsets: Offsets
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SchemaReading:
    """The newest schemas of a topic's two subjects; None for a subject that isn't there."""

    value: str | None
    key: str | None
    compatibility: str | None = None


@dataclass(frozen=True)
class TargetReading:
    """A table that exists already."""

    columns: Sequence[Column]
    key_columns: Sequence[str]
    ledger: Ledger | None
    owner: str | None = None  # the pipeline that made it, from its properties
    is_empty: bool = False  # it has no table snapshot


@dataclass(frozen=True)
class WantedTable:
    """What the configuration asks for one table."""

    pipeline: str
    table: str
    topic: str
    missing_topic: Literal["wait", "fail"] = "wait"
    adopt: bool = False
    generation: int = 0
    policy: TablePolicy = DEFAULT_POLICY


# --- the topic ----------------------------------------------------------------------------------


def check_topic(
    wish: WantedTable, topic: TopicReading | None, ledger: Ledger | None, cluster_id: str = ""
) -> Iterator[Finding]:
    """Judge whether the topic is there and still has every record the table needs.

    In: cluster_id, of the brokers that were asked; empty when it isn't known.
    """
    where = f"topic {wish.topic}"
    if topic is None:
        yield _missing_topic(wish, where, ledger, cluster_id)
        return
    yield Finding(where, "ok", f"{len(topic.end_offsets)} partition(s), id {topic.topic_id}")
    yield from _check_oldest(where, topic, ledger)


def _missing_topic(
    wish: WantedTable, where: str, ledger: Ledger | None, cluster_id: str
) -> Finding:
    if ledger is not None and cluster_id not in ("", ledger.stream.cluster_id):
        return Finding(
            where,
            "error",
            f"it is gone, and the brokers are another cluster: {cluster_id}; the ledger of {wish.table} "
            f"has {ledger.stream.cluster_id}",
            "correct kafka.bootstrap_servers; if the old cluster is lost, let the connector take a new "
            "source snapshot into this one, and raise `generation` of this table",
            1,
        )
    if ledger is not None:
        return Finding.of(topic_gone(where, wish.topic, ledger.totals.records))
    remedy = "correct the topic's name, or start the connector that writes it"
    if wish.missing_topic == "wait":
        return Finding(where, "warning", "it isn't there yet; the table will wait for it", remedy)
    return Finding(where, "error", "there is no such topic", remedy, 1)


def _check_oldest(where: str, topic: TopicReading, ledger: Ledger | None) -> Iterator[Finding]:
    trimmed = {p: offset for p, offset in topic.start_offsets.items() if offset > 0}
    if ledger is None or ledger.stream.topic_id != topic.topic_id:
        if trimmed:
            yield Finding(
                where,
                "warning",
                f"its oldest records are gone: it begins at {_offsets(trimmed)}",
                "take a new source snapshot (Debezium signal execute-snapshot) unless one is "
                "among the records that are left",
            )
        return
    lost = {p: offset for p, offset in trimmed.items() if offset > ledger.next_offsets.get(p, 0)}
    if lost:
        yield Finding(
            where,
            "error",
            f"records were deleted before they were applied: it begins at {_offsets(lost)}, the "
            "ledger expects older ones",
            "take a new source snapshot and rebuild the table with `cdc-sink backfill`; then give "
            "the topic a longer retention",
            1,
        )


def _offsets(offsets: Offsets) -> str:
    return ", ".join(f"{number}@{offset}" for number, offset in sorted(offsets.items()))


# --- the schemas --------------------------------------------------------------------------------


def check_schemas(
    wish: WantedTable, schemas: SchemaReading, topic: TopicReading | None
) -> Iterator[Finding]:
    """Judge whether the newest schemas can become a table with key columns."""
    if schemas.compatibility == "NONE":
        yield Finding(
            f"subject {wish.topic}-value",
            "warning",
            "its compatibility level is NONE: the registry lets any change through",
            "set BACKWARD on the subject; a change that doesn't fit would stop the table",
        )
    yield from _missing_subjects(wish, schemas, topic)
    fields = columns = None
    if schemas.key is not None:
        try:
            fields = with_options(parse_key(schemas.key), wish.policy.options)
        except CdcSinkError as error:
            yield Finding.of(error)
    if schemas.value is not None:
        columns, faults = _columns_of(wish, schemas.value)
        yield from faults
    if columns and wish.policy.mode.keeps_events:
        yield Finding(f"table {wish.table}", "ok", f"{len(columns)} columns, a row per event")
    elif fields and columns:
        yield from _check_key(wish, fields, columns)


def _missing_subjects(
    wish: WantedTable, schemas: SchemaReading, topic: TopicReading | None
) -> Iterator[Finding]:
    # Debezium registers both schemas with the first record, so an empty topic may lack them.
    is_empty = topic is None or not any(topic.end_offsets.values())
    level: Literal["error", "warning"] = "warning" if is_empty else "error"
    code = 0 if is_empty else 1
    if schemas.value is None:
        yield Finding(
            f"subject {wish.topic}-value",
            level,
            "the registry has no such subject" + (", as before the first record" * is_empty),
            "point registry.url at the connector's registry, and let its converter name subjects "
            "<topic>-value (TopicNameStrategy, Apicurio: TopicIdStrategy)",
            code,
            lets_start=True,
        )
    if schemas.key is None and not wish.policy.mode.keeps_events:
        yield Finding(
            f"subject {wish.topic}-key",
            level,
            "there is no key schema" + (", as before the first record" * is_empty),
            "a mirror needs a key: give the source table a primary key or set "
            f"{CHOSEN_KEY}, and use the Avro converter for keys too; or keep every event with "
            "`mode: append`",
            code,
            lets_start=True,
        )


def _columns_of(
    wish: WantedTable, value_schema: str
) -> tuple[tuple[AvroField, ...] | None, list[Finding]]:
    try:
        columns = with_options(
            Envelope.parse(value_schema, wish.policy.order).columns, wish.policy.options
        )
    except CdcSinkError as error:
        return None, [Finding.of(error)]
    faults: list[Finding] = []
    try:
        require_distinct([column.name for column in columns])
    except CdcSinkError as error:
        faults.append(Finding.of(error))
    for column in columns:
        try:
            column_type(column)
        except CdcSinkError as error:
            faults.append(Finding.of(error))
    return columns, faults


def _check_key(
    wish: WantedTable, fields: Sequence[AvroField], columns: Sequence[AvroField]
) -> Iterator[Finding]:
    where = f"table {wish.table}"
    names = [one.name for one in fields]
    strangers = sorted(set(names) - {column.name for column in columns})
    if wish.policy.sources == "many":
        # A router's field tells the sources apart, or a column of ours does.
        names, strangers = names if strangers else [*names, SOURCE_COLUMN], []
    if strangers:
        yield Finding(
            where,
            "error",
            f"key column(s) {', '.join(strangers)} are not among the source's columns",
            "set `sources: many` if a router put them there (key.enforce.uniqueness); else remove transforms "
            "that change the key, or column.exclude.list for key columns",
            1,
        )
    known = {*names, *(old for old, new in wish.policy.renames.items() if new in names)}
    hashed = wish.policy.bucket_column
    if wish.policy.buckets and hashed is not None and hashed not in known:
        yield Finding(
            where,
            "error",
            f"bucket_column {hashed} is no key column; the key is {', '.join(names)}",
            "name a key column, or leave it out",
            _CONFIG,
        )
    if not strangers:
        yield Finding(where, "ok", f"{len(columns)} columns, key {', '.join(names)}")


# --- the target ---------------------------------------------------------------------------------


def check_target(wish: WantedTable, target: TargetReading | None) -> Iterator[Finding]:
    """Judge whether an existing table may be written to by this pipeline."""
    where = f"table {wish.table}"
    if target is None:
        yield Finding(where, "ok", "isn't there yet; the first start makes it")
    elif target.ledger is None and target.owner == wish.pipeline and target.is_empty:
        yield Finding(where, "ok", "was made and has no rows yet")
    elif target.ledger is None and target.owner == wish.pipeline:
        yield _lost_ledger(where)
    elif target.ledger is None and not wish.adopt:
        yield Finding(
            where,
            "error",
            "it exists and has no ledger of ours",
            "name another target, or set `adopt: true` to write to this one",
            _CONFIG,
        )
    elif target.ledger is None:
        yield Finding(where, "ok", "exists and will be adopted")
    elif target.ledger.stream.generation > wish.generation:
        yield Finding(
            where,
            "error",
            f"its ledger is at generation {target.ledger.stream.generation}, the configuration says "
            f"{wish.generation}",
            f"set `generation: {target.ledger.stream.generation}` for the table",
            _CONFIG,
        )
    else:
        yield Finding(where, "ok", f"has our ledger, at {_offsets(target.ledger.next_offsets)}")


def _lost_ledger(where: str) -> Finding:
    """A table of ours without a ledger is no stranger's: taking it over would lose its place in the topic."""
    return Finding(
        where,
        "error",
        "it is this pipeline's own table, and its ledger is gone: nothing tells which records are in it",
        "rebuild the table: `cdc-sink backfill` with `--into` and another target",
        1,
    )


def check_ledger(
    wish: WantedTable, ledger: Ledger, cluster_id: str, topic: TopicReading
) -> Iterator[Finding]:
    """Judge whether the ledger tells of this pipeline, cluster and incarnation of the topic."""
    opened = ledger.stream.generation
    if opened < wish.generation:
        saw = f"the next start opens generation {wish.generation}; the ledger is at {opened}"
        yield Finding(f"table {wish.table}", "ok", saw)
        return
    # The query id lies in the checkpoint, which a check doesn't read: the ledger's own stands in.
    stream = StreamIdentity(
        wish.pipeline,
        ledger.stream.query_id,
        cluster_id,
        wish.topic,
        topic.topic_id,
        wish.generation,
    )
    try:
        ledger.require_of(stream, f"table {wish.table}")
    except CdcSinkError as error:
        yield Finding.of(error)


def check_growth(
    wish: WantedTable, schemas: SchemaReading, target: TargetReading
) -> Iterator[Finding]:
    """Judge whether the newest writer schema fits the table's columns, or can be made to."""
    is_mirror = not wish.policy.mode.keeps_events
    if schemas.value is None or (schemas.key is None and is_mirror):
        return
    try:
        if schemas.key is not None:
            with_options(parse_key(schemas.key), wish.policy.options)
        for one in with_options(
            Envelope.parse(schemas.value, wish.policy.order).columns, wish.policy.options
        ):
            column_type(one)
    except CdcSinkError:
        return  # reported by check_schemas
    try:
        keys = {} if schemas.key is None else {2: schemas.key}
        newest = Versions({1: schemas.value}, keys)
        changes = preview(target.columns, target.key_columns, newest, wish.policy).changes
    except CdcSinkError as error:
        yield Finding.of(error)
        return
    if changes:
        said = "; ".join(describe(change) for change in changes)
        yield Finding(f"table {wish.table}", "ok", f"the newest schema will {said}")
