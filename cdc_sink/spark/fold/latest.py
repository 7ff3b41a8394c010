"""Changes in, one final image per key out; `testing/fold.py` is the same rule in plain Python.

Kafka order is the order inside a partition. The source position is the redelivery filter: a stream event
strictly below the partition's high-water mark was applied before and is dropped. Two ways to apply it:

    fast   the mark stands still during the batch; inside it the greatest (position, offset) of a key wins.
           Right when a batch holds only stream events or only snapshot rows, ends at the mark, and no
           key's change of the greatest position was followed by another: its log did not begin again.
    exact  the mark rises record by record, which costs one more shuffle. Needed in two cases. Snapshot rows
           and stream events are mixed: only Kafka order can place a snapshot row, which has no position of
           its own. Or the batch ends in the middle of a redelivery, below the mark that it reached: of two
           changes of a key at one position (MariaDB, compressed binlogs) the first alone may be sent again.

A value that the connector left out (`unavailable`) is the one of the key's image before. Batches without any
don't pay for it; in others it is looked for in older changes of the batch, column by column, and what is not
found there stays in `missing`: the engine takes it from the stored row.

One job decodes, folds and counts: the facts are observed while the rows pass, and the folded rows stay
where they are for the engine (a local checkpoint: rows as they are, cheaper than a columnar cache).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Observation, Window, WindowSpec
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from cdc_sink.debezium.position import SourcePosition, between_partitions_sql
from cdc_sink.spark.fold.batch_facts import IS_STREAM, Passing, batch_facts, passing, remaining
from cdc_sink.spark.fold.held_rows import release
from cdc_sink.spark.fold.ledger_filter import below_sql, mark_sql, offset_sql
from cdc_sink.spark.fold.tombstones import (
    DELETED,
    TELLS,
    is_aside,
    is_final,
    of_changes,
    of_tombstones,
)
from cdc_sink.spark.read.decode import LARGE, struct_type
from cdc_sink.spark.read.record_faults import fault_sql
from cdc_sink.sql import literal, quote
from cdc_sink.table.faults import POSITION
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.ledger.many_sources import Lanes
from cdc_sink.table.ledger.repartitioning import Moving
from cdc_sink.table.merge_sql import key_alias
from cdc_sink.table.plan import BatchFacts

_AT = f"IF(position IS NULL, NULL, {between_partitions_sql('op', 'position.hi', 'position.lo')})"
_NO_NAMES = "CAST(array() AS ARRAY<STRING>)"
# A stream event without position stops the table: redelivery could not be told from news.
_NO_POSITION = fault_sql(f"'{POSITION}'", "CAST(NULL AS BINARY)")
_APPLICABLE = (
    f"CASE WHEN {IS_STREAM} AND (position.hi IS NULL OR position.lo IS NULL) THEN "
    f"CAST({_NO_POSITION} AS STRING) ELSE op END AS op"
)
_ITS_PARTITION = ", 'partition', partition"
ORDER = ("order_hi", "order_lo", "offset")
_SIGNS = ("is_split", "is_overtaken", "is_tied")  # to be counted
# What the table commit needs of a change; the rest is not carried through the shuffle.
CARRIED = (
    "key", "op", "after", "unavailable", "position", "source_ts", "partition", "offset", "schema_id"
)  # fmt: skip


def latest_per_key(changes: DataFrame) -> DataFrame:
    """Keep, for each key, the change that decides its final image.

    In:     changes, as `read_changes` gives them, of one topic; a key's changes lie in one partition.
    Out:    one row per key that has a change, same columns; row order undefined. Values that the connector
            left out come from older changes of the key; `unavailable` names those that none of them has.
    Source: Debezium 3.6 source blocks; the rule is in testing/fold.py.
    """
    kept = _stale_exactly(changes, {}, "partition").where("op IS NOT NULL AND NOT stale")
    schema = changes.schema
    kept = kept.selectExpr("*", *_placed(schema, exact=True))
    last = _last(kept, schema, FoldOptions(exact=True, fills=fillable(changes)), schema.names)
    return last.withColumn("unavailable", F.col("missing")).select(*schema.names)


@dataclass(frozen=True)
class Folded:
    """A folded batch.

    `rows` has `key0` … `keyN`, `is_split`, the columns of CARRIED, and `missing`: names of columns that the
    stored row has to fill; one row per key.
    """

    rows: DataFrame
    facts: BatchFacts

    def release(self) -> None:
        """Free the memory that holds the rows."""
        release(self.rows)


@dataclass(frozen=True)
class FoldOptions:
    """What a fold has to reckon with; each costs something, so it is asked for by the plan.

    `fills`: columns whose unavailable values are looked for in older changes of the batch.
    `every`: nothing is folded, each event stays a row; what the connector left out is null then.
    `nulls_left_out`: a NULL before a value that was left out is that value; else nobody has it.
    `moving`: keys may lie in two partitions. `ties`: different changes may share a position.
    `filled_in`: SQL, whether a `key` holds what the connector fills in for what the log lacks.
    `finds_bare`: a tombstone without its delete is its key's row, without op; see tombstones.py.
    `needs_position`: a change of the log without position stops the table.
    `by`: of a table of many sources the lanes that the marks are of; None where those are of partitions.
    """

    exact: bool = False
    fills: tuple[str, ...] = ()
    ignores_truncates: bool = False
    every: bool = False
    nulls_left_out: bool = False
    moving: Moving | None = None
    ties: bool = False
    filled_in: str = "false"
    finds_bare: bool = False
    needs_position: bool = False
    by: Lanes | None = None

    @property
    def mark_of(self) -> str:
        """The column that says which mark is a change's."""
        return "partition" if self.by is None else "lane"


def fold(
    changes: DataFrame,
    marks: Mapping[int, SourcePosition],
    partitions: Sequence[int],
    options: FoldOptions = FoldOptions(),
    ended_with: Mapping[int, int] | None = None,
) -> Folded:
    """Fold the changes of each key and count what passed; runs one job.

    In:  changes that the ledger does not have yet, with `aside` where some don't belong to the table's rows;
         its high-water marks; the partitions it knows; of those that ended with a delete the hash of its key.
    """
    schema, of = changes.schema, options.mark_of
    has_aside = "aside" in schema.names
    # `origin` and `snapshot` lack where changes are made by hand, or by a transform that dropped them.
    lacks = [name for name in ("aside", "origin", "snapshot") if name not in schema.names]
    changes = changes.withColumns(dict.fromkeys(lacks, F.lit(None).cast("string")))
    if options.by is not None:
        changes = changes.withColumn("lane", F.expr(options.by.sql))
    below = below_sql(marks, of)
    marked = _stale_exactly(changes, marks, of) if options.exact else changes
    finds_bare = options.finds_bare and not options.every
    has = Passing(
        stale="stale" if options.exact else below,
        was_applied=below,
        begins_again="begins_again" if options.exact else "false",
        deleted=DELETED if finds_bare else "CAST(NULL AS BIGINT)",
        has_aside=has_aside,
        by=options.by,
    )
    seen, left = Observation(), Observation()
    kept = _kept(marked.observe(seen, *passing(partitions, has)), schema, options, has.stale)
    if has_aside:  # without it no truncate gets here
        if options.ignores_truncates:
            kept = kept.where("op IS NULL OR op <> 't'")
        elif not options.every:
            kept = _after_truncate(kept)
    # The lane is for who looks at keys that the connector filled in.
    names = CARRIED if options.by is None else (*CARRIED, "lane")
    if options.every:
        rows = _every(kept, schema, names)
    else:
        rows = _last(kept, schema, options, names, ended_with or {})
    rows = rows.observe(left, *remaining(options.fills, options.filled_in))
    rows = rows.localCheckpoint(eager=True)
    facts = batch_facts(
        seen.get,
        left.get,
        partitions,
        options.fills,
        ignores_truncates=options.ignores_truncates,
        by=options.by,
    )
    return Folded(rows, facts)


def _kept(changes: DataFrame, schema: StructType, options: FoldOptions, stale: str) -> DataFrame:
    """Changes that may be the last of their keys, and what tells of tombstones.

    In few steps: Spark analyses each by itself, which takes a good part of a small batch.
    """
    is_kept = "(op IS NOT NULL AND aside IS NULL AND NOT stale)"
    columns = [_APPLICABLE if name == "op" and options.needs_position else name for name in CARRIED]
    columns += ["aside", f"{stale} AS stale"]
    if options.by is not None:
        columns.append("lane")
    if options.exact:
        columns.append("place")
    if not options.every:
        columns += _placed(schema, exact=options.exact)
        if options.finds_bare:
            columns += [f"{DELETED} AS deleted", f"{is_aside(stale)} AS is_aside"]
            is_kept += f" OR ({TELLS})"
    return changes.selectExpr(*columns).where(is_kept)


def _after_truncate(kept: DataFrame) -> DataFrame:
    """Drop what a later truncate emptied; only topics of one partition get here with one."""
    emptied = F.max(F.expr("IF(op = 't', offset, NULL)")).over(Window.partitionBy("partition"))
    return (
        kept.withColumn("emptied", emptied)
        .where("(op IS NULL OR op <> 't') AND (emptied IS NULL OR offset > emptied)")
        .drop("emptied")
    )


def _every(changes: DataFrame, schema: StructType, names: Sequence[str]) -> DataFrame:
    """All events, as rows that lack nothing."""
    lacking = set(_large(schema))
    values = [
        f"{literal(name)}, "
        + (
            f"IF(array_contains(unavailable, {literal(name)}), NULL, after.{quote(name)})"
            if name in lacking
            else f"after.{quote(name)}"
        )
        for name in struct_type(schema, "after").names
    ]
    after = f"named_struct({', '.join(values)})"
    nothing = ("is_unknown", "is_split", "is_tied", "is_overtaken")
    return changes.selectExpr(
        *_with_after(names, after), f"{_NO_NAMES} AS missing", *(f"false AS {n}" for n in nothing)
    )


def _with_after(names: Sequence[str], after: str) -> list[str]:
    return [f"{after} AS after" if name == "after" else name for name in names]


def _last(
    changes: DataFrame,
    schema: StructType,
    options: FoldOptions,
    names: Sequence[str],
    ended_with: Mapping[int, int] | None = None,
) -> DataFrame:
    """Of changes with what `_placed` adds, these columns of the last ones, and what `remaining` asks."""
    # Rows that only tell of tombstones are last of all, and no window below may see them.
    told, aside_last = (of_changes, [F.asc("is_aside")]) if options.finds_bare else (str, [])
    keys = [key_alias(i) for i in range(len(struct_type(schema, "key").names))]
    of_key = Window.partitionBy(*keys)
    # A row of a source snapshot is older than stream events at its position.
    is_stream = [F.expr(IS_STREAM).desc()] if options.moving else []
    *place, latest = ORDER
    newest_first = of_key.orderBy(*aside_last, *map(F.desc, place), *is_stream, F.desc(latest))
    # In the order of the row number, so that one operator serves all of them.
    whole = newest_first.rowsBetween(Window.unboundedPreceding, Window.unboundedFollowing)
    partition, offset = F.expr(told("partition")), F.expr(told("offset"))
    split = F.min(partition).over(whole) != F.max(partition).over(whole)
    overtaken = F.col("offset") < F.max(offset).over(whole)
    ordered = changes.withColumns(
        {
            "newest": F.row_number().over(newest_first),
            "is_split": split,
            "is_overtaken": F.lit(False) if options.exact else overtaken,
            "is_tied": _is_tied(schema, keys, options),
            **(of_tombstones(whole) if options.finds_bare else {}),
            **_images(whole, options),
        }
    )
    final = is_final(ended_with or {}) if options.finds_bare else "newest = 1"
    return _filled(ordered.where(final), schema, (*names, *keys, *_SIGNS), options)


def _placed(schema: StructType, *, exact: bool) -> list[str]:
    """SQL of the key's columns on top, and of the place of a change among those of its key."""
    # Inside a partition `place` never falls, so this is Kafka order there; between two it is commit order.
    by_position = "place.{0}" if exact else "IF(op <> 'r', position.{0}, NULL)"
    keys = [
        f"key.{quote(n)} AS {key_alias(i)}" for i, n in enumerate(struct_type(schema, "key").names)
    ]
    return [*keys, *(f"{by_position} AS order_{{0}}".format(part) for part in ("hi", "lo"))]


def _is_tied(schema: StructType, keys: Sequence[str], options: FoldOptions) -> Column:
    """Another change of the key has the same position in another partition, and is not the same change."""
    if options.moving is None or not options.ties:
        return F.lit(False)
    at_place = Window.partitionBy(*keys, "order_hi", "order_lo", F.expr(IS_STREAM))
    after = struct_type(schema, "after")
    hashable = [f.name for f in after if "map<" not in f.dataType.simpleString()]
    told = of_changes if options.finds_bare else str
    change = f"xxhash64({', '.join(['op', 'unavailable', *(f'after.{quote(name)}' for name in hashable)])})"
    what, where = F.expr(told(change)), F.expr(told("partition"))
    differ = F.min(what).over(at_place) != F.max(what).over(at_place)
    return differ & (F.min(where).over(at_place) != F.max(where).over(at_place))


def _images(whole: WindowSpec, options: FoldOptions) -> dict[str, Column]:
    """Per column the newest value that is known: null when no change of the batch knows one."""
    told = of_changes if options.finds_bare else str
    return {
        f"image{i}": F.first(
            F.expr(told(known_sql(name, options.nulls_left_out, _ITS_PARTITION))), ignorenulls=True
        ).over(whole)
        for i, name in enumerate(options.fills)
    }


def known_sql(name: str, nulls_left_out: bool, more: str = "") -> str:
    """What a change knows of a column: struct<known, value>, and `more`; null where it was left out.

    After a delete there is no image before: `known` is false. So it is for a NULL that the connector would
    not have left out: the column came later than this change.
    """
    value = f"after.{quote(name)}"
    known = "true" if nulls_left_out else f"{value} IS NOT NULL"
    return (
        f"CASE WHEN op = 'd' THEN named_struct('known', false, 'value', {value}{more}) "
        f"WHEN NOT array_contains(unavailable, {literal(name)}) "
        f"THEN named_struct('known', {known}, 'value', {value}{more}) END"
    )


def _filled(
    newest: DataFrame, schema: StructType, names: Sequence[str], options: FoldOptions
) -> DataFrame:
    """Complete the last images from the older ones; say what is missing still, and what nobody knows.

    While keys move, an image of another partition may have one behind it that still waits: nobody knows then.
    """
    fills, moving = options.fills, options.moving
    if not fills:
        missing = f"IF(op = 'd', {_NO_NAMES}, unavailable) AS missing"
        return newest.selectExpr(*names, missing, "false AS is_unknown")
    numbers = {name: i for i, name in enumerate(fills)}
    lacks = {n: f"array_contains(unavailable, {literal(n)})" for n in fills}
    parts = []
    for name in struct_type(schema, "after").names:
        value = f"after.{quote(name)}"
        if name in numbers:
            value = f"IF({lacks[name]}, image{numbers[name]}.value, {value})"
        parts.append(f"{literal(name)}, {value}")
    is_row = "op <> 'd' AND size(unavailable) > 0"
    known = "image{0}.known"
    if moving is not None:
        known = "(image{0}.known AND image{0}.partition = partition)" if moving.once else "false"
    left_out = [
        f"IF({lacks[n]} AND NOT coalesce({known.format(i)}, false), {literal(n)}, NULL)"
        for n, i in numbers.items()
    ]
    deleted = [f"({lacks[n]} AND NOT {known.format(i)})" for n, i in numbers.items()]
    others = f"array_except(unavailable, array({', '.join(map(literal, fills))}))"
    lacking = f"array_except(array_union(array({', '.join(left_out)}), {others}), array(NULL))"
    return newest.selectExpr(
        *_with_after(names, f"IF({is_row}, named_struct({', '.join(parts)}), after)"),
        f"IF({is_row}, {lacking}, {_NO_NAMES}) AS missing",
        f"({is_row} AND coalesce({' OR '.join(deleted)}, false)) AS is_unknown",
    )


def fillable(changes: DataFrame) -> tuple[str, ...]:
    """Names of the columns that the connector may leave a value out of: those of unlimited size."""
    return _large(changes.schema)


def _large(schema: StructType) -> tuple[str, ...]:
    return tuple(f.name for f in struct_type(schema, "after") if isinstance(f.dataType, LARGE))


def not_in(ledger: Ledger, changes: DataFrame) -> DataFrame:
    """Only the records that the ledger does not have yet; a replay leaves none."""
    offsets = {p: o for p, o in ledger.next_offsets.items() if o > 0}
    return changes.where(f"offset >= coalesce({offset_sql(offsets)}, 0L)") if offsets else changes


def _stale_exactly(changes: DataFrame, marks: Mapping[int, SourcePosition], of: str) -> DataFrame:
    """Add `stale`, and `place`: how far the partition's log had come when the change was sent."""
    of_partition = Window.partitionBy(of).orderBy("offset")
    before = of_partition.rowsBetween(Window.unboundedPreceding, -1)
    so_far = of_partition.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    risen = F.max(F.expr(f"CASE WHEN {IS_STREAM} THEN position END")).over(before)
    mark = F.greatest(risen, F.expr(mark_sql(marks, of)))
    below = F.coalesce(F.expr(IS_STREAM) & (F.col("position") < mark), F.lit(False))
    outdated = F.col("outdated") if "outdated" in changes.columns else F.lit(False)
    # What comes again was delivered before, with the same time: here or in an earlier batch.
    newest_before = F.max(F.expr(f"CASE WHEN {IS_STREAM} THEN source_ts END")).over(before)
    return changes.withColumns(
        {
            "stale": below | outdated,
            "begins_again": below & (F.col("source_ts") > newest_before),
            "place": F.max(F.expr(_AT)).over(so_far),
        }
    )
