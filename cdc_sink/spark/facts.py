"""What is known of a batch once its rows have passed: counts and greatest values, observed by the way.

No pass of its own: Spark observes them while the fold's one job runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from cdc_sink.change.origin import Origin
from cdc_sink.change.position import SourcePosition
from cdc_sink.change.quoting import literal
from cdc_sink.spark.reads import passing_reads, reads_of
from cdc_sink.table.dead_letters import KEY_QUARANTINED
from cdc_sink.table.many_sources import Lanes, SourceFacts, source_sql
from cdc_sink.table.plan import BatchFacts

IS_STREAM = "op <> 'r'"
# The time of what an earlier batch applied: that is in the ledger, that of this batch not yet.
_APPLIED_TS = "IF(was_applied, source_ts, NULL)"
_OF_RECORDS = (
    "records",
    "tombstones",
    "redelivered",
    "reads",
    "dead_letters",
    "bad_records",
    "truncates",
)
_OF_KEYS = (
    "upserted",
    "deleted",
    "bare",
    "split",
    "tied",
    "overtaken",
    "unfilled",
    "lacking",
    "unknown",
    "defaulted",
)


def passing(
    partitions: Sequence[int], has_aside: bool, exact: bool, by: Lanes | None = None
) -> list[Column]:
    """What to observe of the changes before the fold; `by`: they have a `lane`, see many_sources.py."""
    stream_position = f"CASE WHEN {IS_STREAM} AND aside IS NULL THEN position END"
    falling_ts = "IF(begins_again, source_ts, NULL)" if exact else "CAST(NULL AS TIMESTAMP)"
    place, places = ("partition", partitions) if by is None else ("lane", by.of(partitions))
    # Of a record that can't be read nothing is known, its origin neither.
    origin = "IF(op IS NULL, NULL, origin)"
    return [
        F.count(F.lit(1)).alias("records"),
        F.count_if(F.expr("op IS NULL AND aside IS NULL")).alias("tombstones"),
        F.count_if(F.expr("stale AND aside IS NULL")).alias("redelivered"),
        F.count(F.col("aside")).alias("dead_letters"),
        F.count_if(F.expr(f"NOT startswith(aside, '{KEY_QUARANTINED}')")).alias("bad_records"),
        # Without `aside` no truncate gets here.
        F.count_if(F.expr("op = 't' AND NOT stale" if has_aside else "false")).alias("truncates"),
        F.count_if(F.expr("op = 'r'")).alias("reads"),
        F.max("partition").alias("highest_partition"),
        *_passing_origins(origin, by, falling_ts),
        F.collect_set("schema_id").alias("schema_ids"),
        F.collect_set(F.expr("IF(op = 'r', schema_id, NULL)")).alias("read_ids"),
        F.collect_set(F.expr(f"IF({IS_STREAM}, schema_id, NULL)")).alias("stream_ids"),
        F.unix_millis(F.max("source_ts")).alias("newest_source_ts_ms"),
        F.unix_millis(F.max(F.expr(_APPLIED_TS))).alias("newest_redelivered_ts_ms"),
        F.unix_millis(F.max(F.expr(falling_ts))).alias("newest_falling_ts_ms"),
        *passing_reads(partitions),
        *[
            F.max(F.expr(f"IF(partition = {p}, struct(offset, deleted), NULL)")).alias(f"end{p}")
            for p in partitions
        ],
        *[
            F.max(F.expr(f"IF({place} = {p}, {stream_position}, NULL)")).alias(f"mark{p}")
            for p in places
        ],
        *[
            F.expr(
                f"max_by(position, IF({place} = {p} AND {IS_STREAM} AND aside IS NULL, offset, NULL))"
            ).alias(f"last{p}")
            for p in places
        ],
    ]


def _passing_origins(origin: str, by: Lanes | None, falling_ts: str) -> list[Column]:
    """What to observe of the sources that the changes come from."""
    if by is None:
        return [
            F.min(F.expr(origin)).alias("least_origin"),
            F.max(F.expr(origin)).alias("greatest_origin"),
        ]
    found = [
        F.collect_set(F.expr(origin)).alias("origins"),
        F.count_if(F.expr("op IS NOT NULL AND lane IS NULL")).alias("unplaced"),
    ]
    for i in by.numbers:
        of = f"IF({source_sql(i)}, {{}}, NULL)".format
        found += [
            F.unix_millis(F.max(F.expr(of("source_ts")))).alias(f"newest_ts{i}"),
            F.unix_millis(F.max(F.expr(of(_APPLIED_TS)))).alias(f"redelivered_ts{i}"),
            F.unix_millis(F.max(F.expr(of(falling_ts)))).alias(f"falling_ts{i}"),
            F.min(F.expr(of("read_at"))).alias(f"least_run{i}"),
            F.max(F.expr(of("read_at"))).alias(f"greatest_run{i}"),
            F.min(F.expr(of(by.named))).alias(f"least_key{i}"),
            F.max(F.expr(of(by.named))).alias(f"greatest_key{i}"),
        ]
    return found


def remaining(fills: Sequence[str], filled_in: str = "false") -> list[Column]:
    """What to observe of the folded rows."""
    lacking = "size(missing) > 0"
    unfilled = f"size(array_except(missing, array({', '.join(map(literal, fills))}))) > 0"
    return [
        F.count_if(F.expr(unfilled if fills else lacking)).alias("unfilled_keys"),
        F.count_if(F.expr(lacking)).alias("lacking_keys"),
        F.count_if(F.expr("is_unknown")).alias("unknown_keys"),
        *[
            F.count_if(F.expr(f"array_contains(missing, {literal(name)})")).alias(f"lacking{i}")
            for i, name in enumerate(fills)
        ],
        F.count_if(F.expr("op <> 'd'")).alias("upserted_keys"),
        F.count_if(F.expr("op = 'd'")).alias("deleted_keys"),
        F.count_if(F.expr(f"op = 'd' AND {filled_in}")).alias("defaulted_keys"),
        F.count_if(F.expr("op IS NULL")).alias("bare_keys"),
        F.count_if(F.expr("is_split")).alias("split_keys"),
        F.count_if(F.expr("is_tied")).alias("tied_keys"),
        F.count_if(F.expr("is_overtaken")).alias("overtaken_keys"),
    ]


def _origins(*seen: Mapping[str, Any] | None) -> tuple[Origin, ...]:
    return tuple(dict.fromkeys(one for one in map(Origin.of, seen) if one is not None))


def _of_source(seen: Mapping[str, Any], number: int) -> SourceFacts:
    least, greatest = seen[f"least_run{number}"], seen[f"greatest_run{number}"]
    keys = seen[f"least_key{number}"], seen[f"greatest_key{number}"]
    return SourceFacts(
        newest_source_ts_ms=seen[f"newest_ts{number}"],
        newest_redelivered_ts_ms=seen[f"redelivered_ts{number}"],
        newest_falling_ts_ms=seen[f"falling_ts{number}"],
        runs=None if least is None else (SourcePosition(*least), SourcePosition(*greatest)),
        keys=None if keys[0] is None else keys,
    )


def batch_facts(
    seen: dict[str, Any],
    left: dict[str, Any],
    partitions: Sequence[int],
    fills: Sequence[str],
    *,
    ignores_truncates: bool,
    by: Lanes | None = None,
) -> BatchFacts:
    """The facts of a batch, from what was observed before and after the fold."""
    places = partitions if by is None else by.of(partitions)
    marks = {p: seen[f"mark{p}"] for p in places if seen[f"mark{p}"] is not None}
    origins = (seen["least_origin"], seen["greatest_origin"]) if by is None else seen["origins"]
    ends = {p: seen[f"end{p}"] for p in partitions if seen[f"end{p}"] is not None}
    lacking = {name: left[f"lacking{i}"] for i, name in enumerate(fills)}
    return BatchFacts(
        ignores_truncates=ignores_truncates,
        **{name: seen[name] for name in _OF_RECORDS},
        **{f"{kind}_keys": left[f"{kind}_keys"] for kind in _OF_KEYS},
        lacking={name: count for name, count in lacking.items() if count},
        ends_redelivered=any(seen[f"last{p}"] < mark for p, mark in marks.items()),
        highest_partition=seen["highest_partition"],
        origins=_origins(*origins),
        of_sources=None if by is None else tuple(_of_source(seen, i) for i in by.numbers),
        unplaced=0 if by is None else seen["unplaced"],
        next_offsets={p: end["offset"] + 1 for p, end in ends.items()},
        ended_with={p: end["deleted"] for p, end in ends.items()},
        snapshot_rows=reads_of(seen, partitions),
        high_water={p: SourcePosition(mark["hi"], mark["lo"]) for p, mark in marks.items()},
        schema_ids=tuple(sorted(seen["schema_ids"])),
        read_ids=tuple(sorted(seen["read_ids"])),
        stream_ids=tuple(sorted(seen["stream_ids"])),
        newest_source_ts_ms=seen["newest_source_ts_ms"],
        newest_redelivered_ts_ms=seen["newest_redelivered_ts_ms"],
        newest_falling_ts_ms=seen["newest_falling_ts_ms"],
    )
