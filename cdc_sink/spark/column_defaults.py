"""Defaults of a table's columns: what rows hold that are older than the column.

Iceberg gives a column's initial default to rows of files that lack it, in every reader of format version 3,
and no file is written for it. Spark's DDL has no way to set one, so it goes through Iceberg's own API. A
column of a table just made can only have a write default; both are the memory for records of older schemas.
Neither ever changes again: a later SET DEFAULT at the source is for new rows, which carry their values.

Source: Iceberg spec v3, Default values; `UpdateSchema`. Read back with Spark 4.1 and pyiceberg 0.12.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pyspark.sql import SparkSession

from cdc_sink.sql import literal
from cdc_sink.table.schema.columns import AddedColumn, Column, plain_type, spark_type

_V3: Final = 3
_DOC: Final = "added by writer schema {}"
_EPOCH: Final = "TIMESTAMP_NTZ'1970-01-01 00:00:00'"
# How a value is handed over that Java has a number for, and how it is read back.
_AS_NUMBER: Final = {
    "date": "unix_date({})",
    "timestamp": f"timestampdiff(MICROSECOND, {_EPOCH}, {{}})",
    "timestamptz": "unix_micros({})",
}
_OF_NUMBER: Final = {
    "date": "date_from_unix_date({})",
    "timestamp": f"timestampadd(MICROSECOND, {{}}, {_EPOCH})",
    "timestamptz": "timestamp_micros({})",
}


def read_added(java_field: Any) -> AddedColumn | None:
    """Return what older rows hold in a column of the table; None where that is NULL."""
    value = java_field.writeDefault()
    if value is None:
        return None
    since = re.fullmatch(_DOC.format("([0-9]+)"), str(java_field.doc() or ""))
    kind = plain_type(str(java_field.type().toString()))
    return AddedColumn(
        f"CAST({_value_sql(value, kind)} AS {spark_type(kind)})",
        since=int(since[1]) if since else None,
    )


def add_with_default(spark: SparkSession, java: Any, column: Column) -> bool:
    """Add a column that older rows have a value in; false where the table can't.

    In: java, the table at its newest state.
    """
    given = _java_literal(spark, java, column)
    if given is None or column.added is None:
        return False
    kind, value = given
    doc = _doc(column.added)
    # By this overload a name may have dots.
    java.updateSchema().addColumn(None, column.name, kind, doc, value).commit()
    return True


def remember_defaults(spark: SparkSession, java: Any, added: Mapping[str, AddedColumn]) -> None:
    """Note the defaults in a table without rows; what is noted already stays."""
    update, found = java.updateSchema(), False
    for field in java.schema().columns():
        name = str(field.name())
        own = added.get(name)
        if own is None or own.default is None or field.writeDefault() is not None:
            continue
        column = Column(name, plain_type(str(field.type().toString())), added=own)
        given = _java_literal(spark, java, column)
        if given is not None:
            update = update.updateColumnDefault(name, given[1])
            update = update.updateColumnDoc(name, _doc(own))
            found = True
    if found:
        update.commit()
        java.refresh()


def _doc(added: AddedColumn) -> str | None:
    return None if added.since is None else _DOC.format(added.since)


def _java_literal(spark: SparkSession, java: Any, column: Column) -> tuple[Any, Any] | None:
    """A column's type and default as Iceberg's API takes them; None where it can't have one."""
    jvm: Any = spark._jvm
    added = column.added
    if added is None or added.default is None or "<" in column.type:
        return None
    if jvm.org.apache.iceberg.TableUtil.formatVersion(java) < _V3:
        return None
    sql = f"CAST({added.default} AS {spark_type(column.type)})"
    row = spark.sql(f"SELECT {_AS_NUMBER.get(column.type, '{}').format(sql)} AS value").first()
    value = None if row is None else row["value"]
    if value is None:
        return None
    kind = jvm.org.apache.iceberg.types.Types.fromPrimitiveString(column.type)
    of = jvm.org.apache.iceberg.expressions.Literal.of
    if column.type in _AS_NUMBER and column.type != "date":
        return kind, of(value).to(jvm.org.apache.iceberg.types.Types.LongType.get()).to(kind)
    if isinstance(value, bytes | bytearray):
        value = jvm.java.nio.ByteBuffer.wrap(bytearray(value))
    elif column.type.startswith("decimal"):
        value = f"{value:f}"
    return kind, of(value).to(kind)


def _value_sql(value: Any, kind: str) -> str:
    """A default as Java has it, as SQL."""
    if kind in _OF_NUMBER:
        return _OF_NUMBER[kind].format(f"{int(value)}L" if kind != "date" else int(value))
    if isinstance(value, bool):
        return str(value).lower()
    if kind == "binary":
        return f"X'{bytes(value.array()).hex()}'"
    return f"CAST({literal(str(value))} AS {spark_type(kind)})"
