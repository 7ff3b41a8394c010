"""What a column of a table is, and the statements that create the table.

Rules owned here:
- Column types are written in Iceberg's words; `timestamp` has no zone, `timestamptz` has one. The
  two directions to Spark's words are here and nowhere else. Nested ones are written without spaces,
  ids and nullability: `list<long>`, `map<string,string>`, `struct<x:double,srid:int>`.
- Key columns are required and are the table's identifier fields; every other column is optional,
  because a column dropped at the source stays and turns null.
- One struct column `_cdc` says which change event wrote the row. The name is ours.
- Spark compares names without regard to case, so two columns that differ only in case are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from cdc_sink.debezium.envelope import CHOSEN_KEY
from cdc_sink.debezium.types.mapping import decimal_parts
from cdc_sink.errors import ConfigError, SchemaError
from cdc_sink.sql import literal, quote
from cdc_sink.table.ledger.ledger import OWNER_PROPERTY

CDC_COLUMN = "_cdc"

# What every table is made with. Deletion vectors (v3, merge-on-read) keep a batch's cost at what it changes;
# serializable makes a table commit fail when another one added files since the ledger was read.
TABLE_PROPERTIES = {
    "format-version": "3",
    "write.delete.mode": "merge-on-read",
    "write.update.mode": "merge-on-read",
    "write.merge.mode": "merge-on-read",
    "write.merge.isolation-level": "serializable",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}

# generation: of the source (config); schema_id: of the writer schema of the row's last change.
CdcFields = tuple[tuple[str, str], ...]
CDC_FIELDS: CdcFields = (
    ("op", "string"),
    ("source_ts", "timestamptz"),
    ("pos_hi", "long"),
    ("pos_lo", "long"),
    ("partition", "int"),
    ("offset", "long"),
    ("schema_id", "int"),
    ("generation", "int"),
)
# In a table of events a value that the connector left out stays out: it is null, and named here.
EVENT_FIELDS = (*CDC_FIELDS, ("unavailable", "list<string>"))

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
_NO_KEY = frozenset({"float", "double"})
_NO_BUCKET = frozenset({"boolean", "float", "double"})


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

    Raises: ConfigError for a column called `_cdc`; SchemaError for two that differ only in case.
    """
    seen: dict[str, str] = {}
    for name in names:
        folded = name.lower()
        if folded == CDC_COLUMN:
            raise ConfigError(
                f"column {name}",
                f"the name {CDC_COLUMN} is kept for the sink's own column",
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


def create_table_sql(
    table: str,
    columns: Sequence[Column],
    key_columns: Sequence[str],
    *,
    buckets: int,
    bucket_column: str | None = None,
    properties: Mapping[str, str],
) -> list[str]:
    """Render the statements that create a table: CREATE TABLE, then SET IDENTIFIER FIELDS.

    In:     table, the quoted full name; buckets 0 = unpartitioned; bucket_column None = the first
            key column. Without key columns the table gets neither partition nor identifier.
    Out:    one or two statements, to be run in order.
    Raises: SchemaError or ConfigError when columns, key or partition can't be used.
    """
    _require_key(columns, key_columns)
    partitioned = ""
    if buckets > 0 and key_columns:
        source = bucket_column or key_columns[0]
        _require_bucket(columns, key_columns, source)
        partitioned = f"\nPARTITIONED BY (bucket({buckets}, {quote(source)}))"
    entries = [_column_ddl(column, key_columns) for column in columns]
    statement = _create(table, columns, [*entries, _cdc_ddl(CDC_FIELDS)], partitioned, properties)
    return [statement, *identifier_sql(table, key_columns)]


def create_events_sql(
    table: str, columns: Sequence[Column], *, properties: Mapping[str, str]
) -> list[str]:
    """Render the statement that creates a table of events: no key, no partition; as `create_table_sql`."""
    entries = [_column_ddl(column, ()) for column in columns]
    return [_create(table, columns, [*entries, _cdc_ddl(EVENT_FIELDS)], "", properties)]


def _create(
    table: str,
    columns: Sequence[Column],
    entries: Sequence[str],
    partitioned: str,
    properties: Mapping[str, str],
) -> str:
    require_distinct([column.name for column in columns])
    statement = f"CREATE TABLE {table} (\n  " + ",\n  ".join(entries) + "\n) USING iceberg"
    statement += partitioned
    if properties:
        pairs = (f"{literal(key)} = {literal(value)}" for key, value in properties.items())
        statement += "\nTBLPROPERTIES (" + ", ".join(pairs) + ")"
    return statement


class Layout(Protocol):
    """How a table lies in its catalog; the configuration has these names."""

    @property
    def mode(self) -> Literal["mirror", "append"]:
        """Whether the table holds the current rows or every change event."""

    @property
    def buckets(self) -> int:
        """Number of partitions by hash of the key."""

    @property
    def bucket_column(self) -> str | None:
        """The key column to hash, if not the first."""


def creation_sql(
    table: str, columns: Sequence[Column], keys: Sequence[str], layout: Layout, owner: str
) -> list[str]:
    """Render the statements that make a pipeline's table, by its mode.

    In:     owner, the pipeline. Out and Raises: as `create_table_sql`.
    """
    properties = {**TABLE_PROPERTIES, OWNER_PROPERTY: owner}
    if layout.mode == "append":
        return create_events_sql(table, columns, properties=properties)
    return create_table_sql(
        table,
        columns,
        keys,
        buckets=layout.buckets,
        bucket_column=layout.bucket_column,
        properties=properties,
    )


def add_cdc_sql(table: str, cdc: CdcFields = CDC_FIELDS) -> str:
    """Render the statement that adds our own column to a table made by somebody else."""
    return f"ALTER TABLE {table} ADD COLUMNS ({_cdc_ddl(cdc)})"


def identifier_sql(table: str, key_columns: Sequence[str]) -> list[str]:
    """Render the statement that names a table's key; none for a table without one."""
    if not key_columns:
        return []
    return [f"ALTER TABLE {table} SET IDENTIFIER FIELDS {', '.join(map(quote, key_columns))}"]


def _column_ddl(column: Column, key_columns: Sequence[str]) -> str:
    text = f"{quote(column.name)} {ddl_type(column.type)}"
    if column.required or column.name in key_columns:
        text += " NOT NULL"
    return text + (f" COMMENT {literal(column.doc)}" if column.doc else "")


def _cdc_ddl(cdc: CdcFields) -> str:
    fields = ", ".join(f"{quote(name)}: {ddl_type(kind)}" for name, kind in cdc)
    return f"{quote(CDC_COLUMN)} struct<{fields}>"


def _require_key(columns: Sequence[Column], key_columns: Sequence[str]) -> None:
    types = {column.name: column.type for column in columns}
    for name in key_columns:
        if name not in types:
            raise SchemaError(
                f"key column {name}",
                "the record key has a column that the row does not have",
                remedy=f"set {CHOSEN_KEY} to columns of the table, and remove transforms "
                "that add to the key",
            )
        if types[name] in _NO_KEY or "<" in types[name]:
            raise SchemaError(
                f"key column {name}",
                f"Iceberg takes no {types[name]} as an identifier field",
                remedy=f"set {CHOSEN_KEY} to columns of another type",
            )


def _require_bucket(columns: Sequence[Column], key_columns: Sequence[str], source: str) -> None:
    types = {column.name: column.type for column in columns}
    if source not in key_columns:
        raise ConfigError(
            f"bucket_column {source}",
            f"not one of the key columns {', '.join(key_columns)}; a row would change partition",
            remedy="name a key column, or set buckets: 0",
        )
    if types[source] in _NO_BUCKET or "<" in types[source]:
        raise ConfigError(
            f"bucket_column {source}",
            f"Iceberg has no buckets of {types[source]}",
            remedy="name another key column, or set buckets: 0",
        )


def _unknown_type(name: str) -> SchemaError:
    return SchemaError(
        f"type {name}",
        "no source column is mapped to it",
        remedy="use a table that the pipeline made, or change the column's type",
    )
