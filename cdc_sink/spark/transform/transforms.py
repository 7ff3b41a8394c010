"""A user's transform between decoding and folding: applied where it keeps its promises, refused by name else.

The promises are read off Spark's plan, so no row pays for them:

    same records    the plan has projections alone: no filter, no join, nothing that adds or leaves out rows
    same places     each column but `after` is the very column that was given
    same key        the key's columns in `after` are the ones that were given

A value that the connector left out is the one of the row before. So is a value that is made of such values
alone. One that is made of both has no row to come from and stops the table: nobody would see it is stale.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from cdc_sink.config import Target
from cdc_sink.errors import CdcSinkError, ConfigError
from cdc_sink.spark.hooks import Transform, named
from cdc_sink.spark.read.decode import LARGE, key_names, struct_type
from cdc_sink.spark.read.record_faults import fault_sql
from cdc_sink.sql import literal, quote
from cdc_sink.table.faults import TRANSFORM
from cdc_sink.table.schema.columns import Column, require_distinct, spark_type

_GIVEN = "cdc_sink_changes"
_AFTER = "_cdc_sink_after_{}"
_REMEDY = (
    "correct the transform (docs/library.md says what it may do), then start the pipeline again"
)


@dataclass
class Transforming:
    """Applies the transform of one table to its changes; remembers what the plans of a shape say."""

    transform: Transform
    target: Target
    # The columns that it changes, adds or leaves out, as far as they were seen.
    changed: frozenset[str] = frozenset()
    _made_of: dict[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)

    def of(self, changes: DataFrame, held: Collection[Column]) -> DataFrame:
        """The changes as the transform makes them.

        In:     changes, as `decode` gives them; the table's columns, which `after` has at the end, too.
        Raises: ConfigError when the transform breaks a promise, or raises.
        """
        given = changes.alias(_GIVEN)
        made = self._made(given)
        self._require_same_records(made)
        self._require_same_places(given, made)
        shape = self._require_struct(changes, made)
        known = f"{changes.schema['after'].json()}\n{shape.json()}"
        if known not in self._made_of:
            self._made_of[known] = self._parts(changes, shape)
        return self._completed(changes, made, self._made_of[known], held)

    def _made(self, given: DataFrame) -> DataFrame:
        try:
            made = self.transform(given)
            _ = made.schema
        except CdcSinkError:
            raise
        except Exception as raised:  # foreign code may raise anything
            raise self._refusal(f"the transform raised {named(raised)}") from raised
        return made

    def _refusal(self, saw: str) -> ConfigError:
        data = "the batch was not applied, its offsets were not committed"
        return ConfigError(self.target.name, saw, data=data, remedy=_REMEDY)

    # --- its promises -----------------------------------------------------------------------------

    def _require_same_records(self, made: DataFrame) -> None:
        node = _plan(made).analyzed()
        while True:
            kind = str(node.nodeName())
            if kind == "SubqueryAlias" and str(node.alias()) == _GIVEN:
                return
            if kind not in ("Project", "SubqueryAlias"):
                raise self._refusal(
                    f"the transform adds, leaves out or orders records (Spark's {kind}), and it may change "
                    "columns of `after` alone"
                )
            node = node.children().head()

    def _require_same_places(self, given: DataFrame, made: DataFrame) -> None:
        before, now = _ids(_plan(given).analyzed()), _ids(_plan(made).analyzed())
        touched = [name for name in before if name != "after" and now.get(name) != before[name]]
        if touched:
            raise self._refusal(
                f"the transform changes or drops {', '.join(touched)}, and it may change `after` alone"
            )

    def _require_struct(self, changes: DataFrame, made: DataFrame) -> StructType:
        """The shape that the transform makes of `after`."""
        shape = next((f.dataType for f in made.schema if f.name == "after"), None)
        if not isinstance(shape, StructType):
            raise self._refusal("the transform returned no struct `after`")
        require_distinct(shape.names)
        before = {f.name: f.dataType.simpleString() for f in struct_type(changes.schema, "after")}
        for column in shape:
            was, now = before.get(column.name), column.dataType.simpleString()
            if was is not None and was != now:
                raise self._refusal(
                    f"the transform returned after.{column.name} as {now}, and it was {was}; a column of "
                    "another type needs another name"
                )
        if lost := [name for name in key_names(changes) if name not in shape.names]:
            raise self._refusal(
                f"the transform dropped {', '.join(lost)} from `after`: columns of the key"
            )
        return shape

    # --- what its columns are made of -------------------------------------------------------------

    def _parts(self, changes: DataFrame, shape: StructType) -> Mapping[str, frozenset[str]]:
        """By column of the new `after`, what it is made of: columns `after.…`, or others by their names."""
        made = self.transform(_opaque(changes).alias(_GIVEN))
        if not _plan(made).analyzed().deterministic():
            raise self._refusal(
                "the transform gives another answer each time, and a batch may be applied again"
            )
        others = [name for name in changes.columns if name != "after"]
        before = [f"after.{name}" for name in struct_type(changes.schema, "after").names]
        found, same = {}, set()
        for name in shape.names:
            plan = _plan(made.select(F.col("after")[name].alias("made"))).optimizedPlan()
            found[name] = frozenset(_named(_references(plan), before, others))
            if f"after.{name}" in before and _is_given(plan, before.index(f"after.{name}")):
                same.add(name)
            elif name in key_names(changes):
                raise self._refusal(
                    f"the transform changes after.{name}, a column of the key; `withField` leaves others "
                    "as they are"
                )
        self.changed |= frozenset(struct_type(changes.schema, "after").names) - same
        return found

    def _completed(
        self,
        changes: DataFrame,
        made: DataFrame,
        parts: Mapping[str, frozenset[str]],
        held: Collection[Column],
    ) -> DataFrame:
        """With the table's other columns, and with what is left out by the new names."""
        large = {
            f"after.{f.name}"
            for f in struct_type(changes.schema, "after")
            if isinstance(f.dataType, LARGE)
        }
        kinds = {f.name: f.dataType for f in struct_type(made.schema, "after")}
        lacks, mixed = [], []
        for name, of in parts.items():
            left_out = sorted(of & large)
            if not left_out:
                continue
            tests = [
                f"array_contains(unavailable, {literal(n.removeprefix('after.'))})"
                for n in left_out
            ]
            if of <= large and isinstance(kinds[name], LARGE):
                lacks.append((name, f"({' AND '.join(tests)})"))
                if len(tests) > 1:
                    mixed.append(
                        (name, f"(({' OR '.join(tests)}) AND NOT ({' AND '.join(tests)}))")
                    )
            else:
                mixed.append((name, f"({' OR '.join(tests)})"))
        named_now = [f"IF({test}, {literal(name)}, NULL)" for name, test in lacks]
        left = f"array_except(CAST(array({', '.join(named_now)}) AS ARRAY<STRING>), array(NULL))"
        is_change = "op IS NOT NULL AND op NOT IN ('d', 't') AND size(unavailable) > 0"
        stops = "".join(
            f"WHEN {is_change} AND {test} THEN CAST({_fault(name)} AS ARRAY<STRING>) "
            for name, test in mixed
        )
        lacking = f"CASE {stops}WHEN {is_change} THEN {left} ELSE unavailable END AS unavailable"
        after = _with_columns(kinds, [c for c in held if c.name not in kinds])
        columns = {"after": f"{after} AS after", "unavailable": lacking}
        return made.selectExpr(*[columns.get(name, quote(name)) for name in changes.columns])


def _with_columns(kinds: Iterable[str], held: Sequence[Column]) -> str:
    """SQL of `after` with columns that the table has besides; null for what has no row."""
    names = [*(f"{literal(n)}, after.{quote(n)}" for n in kinds)]
    names += [f"{literal(c.name)}, CAST(NULL AS {spark_type(c.type)})" for c in held]
    row = f"named_struct({', '.join(names)})"
    # What is no row stays none, whatever the transform makes of it.
    return f"IF(after IS NULL OR op IS NULL OR op = 't', NULL, {row})"


def _fault(name: str) -> str:
    return fault_sql(f"'{TRANSFORM}'", "CAST(NULL AS BINARY)", literal(name))


def _opaque(changes: DataFrame) -> DataFrame:
    """No row, of the same columns; those of `after` one by one, so that a plan says which ones it reads."""
    columns = struct_type(changes.schema, "after")
    others = [f for f in changes.schema if f.name != "after"]
    leaf = [StructField(_AFTER.format(i), f.dataType) for i, f in enumerate(columns)]
    spark = changes.sparkSession
    rows = spark.createDataFrame(spark.sparkContext.emptyRDD(), StructType([*others, *leaf]))
    parts = ", ".join(f"{literal(f.name)}, {_AFTER.format(i)}" for i, f in enumerate(columns))
    after = f"named_struct({parts}) AS after"
    return rows.selectExpr(*[after if n == "after" else quote(n) for n in changes.columns])


def _plan(frame: DataFrame) -> Any:
    return frame._jdf.queryExecution()


def _ids(plan: Any) -> dict[str, int]:
    """The columns of a plan, by their names: who they are."""
    output = plan.output()
    found = (output.apply(i) for i in range(output.size()))
    return {str(one.name()): int(one.exprId().id()) for one in found}


def _references(plan: Any) -> set[str]:
    """Names of all columns that a plan reads."""
    found = {
        name.partition("#")[0] for name in str(plan.references().toSeq().mkString("\n")).split("\n")
    }
    children = plan.children()
    for i in range(children.size()):
        found |= _references(children.apply(i))
    return found - {""}


def _named(read: Iterable[str], before: Sequence[str], others: Iterable[str]) -> set[str]:
    """Of what a plan reads, the columns that were given: it has some of its own, such as a UDF's answer."""
    given = {_AFTER.format(i): name for i, name in enumerate(before)} | {n: n for n in others}
    return {given[name] for name in read if name in given}


def _is_given(plan: Any, number: int) -> bool:
    """Whether the only column of a plan is this one of `after`, as it was given."""
    if plan.children().size() != 1 or plan.children().head().children().size() != 0:
        return False
    (made,) = (plan.projectList().apply(i) for i in range(plan.projectList().size()))
    return str(made.child().sql()).strip("`") == _AFTER.format(number)


def transforming_by(transform: Transform | None, target: Target) -> Transforming | None:
    """What becomes of a table's changes before they are folded; None where nothing does."""
    return None if transform is None else Transforming(transform, target)
