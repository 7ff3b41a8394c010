"""What is known of a batch once its rows have passed: counts and greatest values, observed by the way.

No pass of its own: Spark observes them while the fold's one job runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from cdc_sink.debezium.origin import Origin
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.spark.fold.snapshot_rows import READ_AT, passing_reads, reads_of
from cdc_sink.sql import literal
from cdc_sink.table.faults import KEY_QUARANTINED
from cdc_sink.table.ledger.many_sources import Lanes, SourceFacts, source_sql
from cdc_sink.table.plan import BatchFacts

IS_STREAM = "op <> 'r'"
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


@dataclass(frozen=True)
class Passing:
    """What changes have before the fold, by the SQL of it.

    Names of columns, or expressions over the columns of `decode`: a column more would be written for every
    row, and by the generated method that decodes it, which is not compiled above a size.
    `stale`: an earlier batch applied it, or an earlier record of this one. `was_applied`: an earlier
    batch. `begins_again`: its log did. `deleted`: see tombstones.py. `by`: there is a `lane`, see
    many_sources.py.
    """

    stale: str
    was_applied: str
    begins_again: str
    deleted: str
    has_aside: bool
    by: Lanes | None


def passing(partitions: Sequence[int], has: Passing) -> list[Column]:
    """What to observe of the changes before the fold."""
    by = has.by
    # The time of what an earlier batch applied: that is in the ledger, that of this batch not yet.
    applied_ts = f"IF({has.was_applied}, source_ts, NULL)"
    regression_ts = f"IF({has.begins_again}, source_ts, NULL)"
    place, places = ("partition", partitions) if by is None else ("lane", by.of(partitions))
    is_change = f"{IS_STREAM} AND aside IS NULL"
    found = {
        "records": "count(1)",
        "tombstones": _count("op IS NULL AND aside IS NULL"),
        "redelivered": _count(f"({has.stale}) AND aside IS NULL"),
        "dead_letters": "count(aside)",
        "bad_records": _count(f"NOT startswith(aside, '{KEY_QUARANTINED}')"),
        # Without `aside` no truncate gets here.
        "truncates": _count(f"op = 't' AND NOT ({has.stale})" if has.has_aside else "false"),
        "reads": _count("op = 'r'"),
        "highest_partition": "max(partition)",
        "schema_ids": "collect_set(schema_id)",
        "read_ids": "collect_set(IF(op = 'r', schema_id, NULL))",
        "stream_ids": f"collect_set(IF({IS_STREAM}, schema_id, NULL))",
        "newest_source_ts_ms": "unix_millis(max(source_ts))",
        "newest_redelivered_ts_ms": f"unix_millis(max({applied_ts}))",
        "newest_regression_ts_ms": f"unix_millis(max({regression_ts}))",
        **_passing_origins(by, applied_ts, regression_ts),
        **passing_reads(partitions),
    }
    for p in partitions:
        found[f"end{p}"] = (
            f"max(IF(partition = {p}, struct(offset, {has.deleted} AS deleted), NULL))"
        )
    for p in places:
        is_here = f"{place} = {p} AND {is_change}"
        found[f"mark{p}"] = f"max(IF({is_here}, position, NULL))"
        found[f"last{p}"] = f"max_by(position, IF({is_here}, offset, NULL))"
    return _columns(found)


def _columns(found: Mapping[str, str]) -> list[Column]:
    """Each in one piece of SQL: Python asks the JVM once for it."""
    return [F.expr(f"{sql} AS {name}") for name, sql in found.items()]


def _count(condition: str) -> str:
    """How many rows; `count_if` would give each row a column for its condition."""
    return f"count(IF({condition}, 1, NULL))"


def _passing_origins(by: Lanes | None, applied_ts: str, regression_ts: str) -> dict[str, str]:
    """What to observe of the sources that the changes come from."""
    # Of a record that can't be read nothing is known, its origin neither.
    origin = "IF(op IS NULL, NULL, origin)"
    if by is None:
        return {"least_origin": f"min({origin})", "greatest_origin": f"max({origin})"}
    found = {
        "origins": f"collect_set({origin})",
        "unplaced": _count("op IS NOT NULL AND lane IS NULL"),
    }
    for i in by.numbers:
        of = f"IF({source_sql(i)}, {{}}, NULL)".format
        found |= {
            f"newest_ts{i}": f"unix_millis(max({of('source_ts')}))",
            f"redelivered_ts{i}": f"unix_millis(max({of(applied_ts)}))",
            f"regression_ts{i}": f"unix_millis(max({of(regression_ts)}))",
            f"least_run{i}": f"min({of(READ_AT)})",
            f"greatest_run{i}": f"max({of(READ_AT)})",
            f"least_key{i}": f"min({of(by.named)})",
            f"greatest_key{i}": f"max({of(by.named)})",
        }
    return found


def remaining(fills: Sequence[str], filled_in: str = "false") -> list[Column]:
    """What to observe of the folded rows."""
    lacking = "size(missing) > 0"
    unfilled = f"size(array_except(missing, array({', '.join(map(literal, fills))}))) > 0"
    found = {
        "unfilled_keys": unfilled if fills else lacking,
        "lacking_keys": lacking,
        "unknown_keys": "is_unknown",
        **{f"lacking{i}": f"array_contains(missing, {literal(n)})" for i, n in enumerate(fills)},
        "upserted_keys": "op <> 'd'",
        "deleted_keys": "op = 'd'",
        "defaulted_keys": f"op = 'd' AND {filled_in}",
        "bare_keys": "op IS NULL",
        "split_keys": "is_split",
        "tied_keys": "is_tied",
        "overtaken_keys": "is_overtaken",
    }
    return _columns({name: _count(condition) for name, condition in found.items()})


def _origins(*seen: str | None) -> tuple[Origin, ...]:
    return tuple(Origin.read(one) for one in dict.fromkeys(seen) if one is not None)


def _of_source(seen: Mapping[str, Any], number: int) -> SourceFacts:
    least, greatest = seen[f"least_run{number}"], seen[f"greatest_run{number}"]
    keys = seen[f"least_key{number}"], seen[f"greatest_key{number}"]
    return SourceFacts(
        newest_source_ts_ms=seen[f"newest_ts{number}"],
        newest_redelivered_ts_ms=seen[f"redelivered_ts{number}"],
        newest_regression_ts_ms=seen[f"regression_ts{number}"],
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
        newest_regression_ts_ms=seen["newest_regression_ts_ms"],
    )
