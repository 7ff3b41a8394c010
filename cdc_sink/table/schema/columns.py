"""What a column of a table is, and the words for its type.

Rules owned here:
- Column types are written in Iceberg's words; `timestamp` has no zone, `timestamptz` has one. The
  two directions to Spark's words are here and nowhere else. Nested ones are written without spaces,
  ids and nullability: `list<long>`, `map<string,string>`, `struct<x:double,srid:int>`.
- Spark compares names without regard to case, so two columns that differ only in case are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cdc_sink.debezium.types.mapping import decimal_parts
from cdc_sink.errors import ConfigError, SchemaError
from cdc_sink.table.schema.metadata_columns import is_metadata

_SPARK = {
    "boolean": "boolean",
    "int": "int",
    "long": "bigint",
    "float": "float",
    "double": "double",
    "string": "string",
    "binary": "binary",
    "date": "date",
    "timestamp": "timestamp_ntz",
    "timestamptz": "timestamp",
}
_ICEBERG = {spark: iceberg for iceberg, spark in _SPARK.items()}


@dataclass(frozen=True)
class AddedColumn:
    """What rows of writer schemas without a column hold in it.

    `default`: the value in the column's type, as SQL; None for NULL. `is_unknown`: the source's rows hold
    something else than NULL, but no schema tells what. `since`: id of the first writer schema that had the
    column, None where ids are in no order; a later schema without it dropped the column.
    """

    default: str | None = None
    is_unknown: bool = False
    since: int | None = None

    def value(self, schema_id: int) -> str | None:
        """Return the SQL of the value in rows of a schema that lacks the column; None for NULL."""
        is_older = self.since is None or schema_id < self.since
        return self.default if is_older else None


@dataclass(frozen=True)
class Column:
    """One column of a table; `type` is Iceberg's, e.g. `decimal(10,2)`.

    `added`: what rows hold that are older than the column.
    """

    name: str
    type: str
    required: bool = False
    doc: str | None = None
    added: AddedColumn | None = field(default=None, compare=False)


def spark_type(iceberg: str) -> str:
    """Name an Iceberg type as Spark's `simpleString` does.

    Raises: SchemaError for a type no source column is mapped to.
    """
    return _translated(iceberg, _spark_scalar, "list", "array")


def iceberg_type(spark: str) -> str:
    """Name a Spark type, given as `simpleString`, in Iceberg's words.

    Raises: SchemaError for a type no source column is mapped to.
    """
    return _translated(spark, _iceberg_scalar, "array", "list")


def plain_type(shown: str) -> str:
    """Name a type without what Iceberg's own text adds: field ids, nullability, blanks."""
    bare = re.sub(r"\d+: ([^:<>, ]+): (?:optional|required) ", r"\1:", shown)
    return bare.replace(", ", ",")


def _spark_scalar(iceberg: str) -> str:
    if iceberg in _SPARK:
        return _SPARK[iceberg]
    parts = decimal_parts(iceberg)
    if parts:
        return "decimal({},{})".format(*parts)
    raise _unknown_type(iceberg)


def _iceberg_scalar(spark: str) -> str:
    if spark in _ICEBERG:
        return _ICEBERG[spark]
    parts = decimal_parts(spark)
    if parts:
        return "decimal({},{})".format(*parts)
    raise _unknown_type(spark)


def _translated(name: str, scalar: Callable[[str], str], theirs: str, ours: str) -> str:
    """Translate each scalar inside a type, and the word for a list."""
    head, opened, inner = name.partition("<")
    if not opened:
        return scalar(name)
    parts = _split(inner[:-1])
    if head == theirs:
        return f"{ours}<{_translated(parts[0], scalar, theirs, ours)}>"
    if head == "map":
        return f"map<{','.join(_translated(part, scalar, theirs, ours) for part in parts)}>"
    if head != "struct":
        raise _unknown_type(name)
    fields = (part.partition(":") for part in parts)
    shown = (f"{label}:{_translated(kind, scalar, theirs, ours)}" for label, _, kind in fields)
    return f"struct<{','.join(shown)}>"


def _split(inner: str) -> list[str]:
    """Split at the commas that lie in no bracket."""
    parts, depth = [""], 0
    for letter in inner:
        depth += (letter in "<(") - (letter in ">)")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def ddl_type(iceberg: str) -> str:
    """Name an Iceberg type for a DDL statement, whatever spark.sql.timestampType says."""
    return re.sub(r"\btimestamp\b", "timestamp_ltz", spark_type(iceberg))


def require_distinct(names: Sequence[str]) -> None:
    """Refuse column names that the table can't tell apart.

    Raises: ConfigError for the name of a metadata column; SchemaError for two that differ only in case.
    """
    seen: dict[str, str] = {}
    for name in names:
        folded = name.lower()
        if is_metadata(name):
            raise ConfigError(
                f"column {name}",
                f"the name {folded} is kept for a metadata column of cdc-sink",
                remedy="rename it at the source, leave it out with column.exclude.list, or rename "
                "it with the ReplaceField transform",
            )
        if folded in seen:
            raise SchemaError(
                f"columns {seen[folded]} and {name}",
                "two columns differ only in case, or not at all",
                remedy="rename one at the source, or leave one out with column.exclude.list",
            )
        seen[folded] = name


def _unknown_type(name: str) -> SchemaError:
    return SchemaError(
        f"type {name}",
        "no source column is mapped to it",
        remedy="use a table that the pipeline made, or change the column's type",
    )
