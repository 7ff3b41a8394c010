"""The statements that create a table and complete it.

Rule owned here: key columns are required and are the table's identifier fields; every other column is
optional, because a column dropped at the source stays and turns null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdc_sink.debezium.envelope import CHOSEN_KEY
from cdc_sink.errors import ConfigError, SchemaError
from cdc_sink.sql import literal, quote
from cdc_sink.table.ledger.ledger import OWNER_PROPERTY
from cdc_sink.table.schema.columns import Column, ddl_type, require_distinct
from cdc_sink.table.schema.metadata_columns import metadata_columns
from cdc_sink.table.schema.policy import TableMode, TablePolicy

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

_NO_KEY = frozenset({"float", "double"})
_NO_BUCKET = frozenset({"boolean", "float", "double"})


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
    statement = _create(
        table, columns, [*entries, *_metadata_ddl(TableMode.MIRROR)], partitioned, properties
    )
    return [statement, *identifier_sql(table, key_columns)]


def create_events_sql(
    table: str, columns: Sequence[Column], *, properties: Mapping[str, str]
) -> list[str]:
    """Render the statement that creates a table of events: no key, no partition; as `create_table_sql`."""
    entries = [_column_ddl(column, ()) for column in columns]
    return [_create(table, columns, [*entries, *_metadata_ddl(TableMode.APPEND)], "", properties)]


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


def creation_sql(
    table: str, columns: Sequence[Column], keys: Sequence[str], policy: TablePolicy, owner: str
) -> list[str]:
    """Render the statements that make a pipeline's table, by its mode.

    In:     owner, the pipeline. Out and Raises: as `create_table_sql`.
    """
    properties = {**TABLE_PROPERTIES, OWNER_PROPERTY: owner}
    if policy.mode.keeps_events:
        return create_events_sql(table, columns, properties=properties)
    return create_table_sql(
        table,
        columns,
        keys,
        buckets=policy.buckets,
        bucket_column=policy.bucket_column,
        properties=properties,
    )


def add_metadata_sql(table: str, mode: TableMode) -> str:
    """Render the statement that adds the metadata columns to a table made by somebody else."""
    return f"ALTER TABLE {table} ADD COLUMNS ({', '.join(_metadata_ddl(mode))})"


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


def _metadata_ddl(mode: TableMode) -> list[str]:
    return [f"{quote(n)} {ddl_type(kind)}" for n, kind in metadata_columns(mode).items()]


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
