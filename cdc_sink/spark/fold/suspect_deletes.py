"""Deletes that are held against the stored rows: tombstones alone, and keys that the log did not carry.

Rule owned here: PostgreSQL logs only the columns of the replica identity of a deleted row. Where the record
key has others (`message.key.columns`, or another index as identity), the connector fills them in with a
column's default or its type's zero, and the delete would miss its row without a word. A zero may be a key of
the source's own, so the row decides: when no row has the key, nor had one in the batch, the table stops.

It costs nothing but a comparison while no deleted key holds such a value; else one look at the table's keys.

Source: seen with Debezium 3.6.1 and PostgreSQL 18.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cdc_sink.debezium.types.defaults import raw_sql
from cdc_sink.debezium.types.mapping import null_if_bad
from cdc_sink.errors import CdcSinkError, RecordError, RecordRef
from cdc_sink.spark.fold.latest import Folded, FoldOptions
from cdc_sink.spark.fold.ledger_filter import mark_sql
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.spark.read.record_faults import STOPPED, Fault
from cdc_sink.sql import quote
from cdc_sink.table.faults import TOMBSTONE
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.schema.columns import Column, spark_type
from cdc_sink.table.schema.writer_schemas import WriterSchemas

_PARTIAL_IMAGES: Final = "postgresql"
_EPOCH: Final = "'1970-01-01 00:00:00'"
_ZEROS: Final = {
    "boolean": "false",
    "string": "'', '00000000-0000-0000-0000-000000000000'",
    "binary": "X''",
    "date": "DATE'1970-01-01'",
    "timestamp": f"TIMESTAMP_NTZ{_EPOCH}",
    "timestamptz": f"TIMESTAMP{_EPOCH}",
}


def filled_in_sql(schemas: WriterSchemas, columns: Sequence[Column]) -> str:
    """Render whether a `key` holds what the connector fills in; false where it never does."""
    if all(e.connector != _PARTIAL_IMAGES for e in schemas.envelopes.values()):
        return "false"
    types = {c.name: c.type for c in columns}
    tests: dict[str, None] = {}
    for key_id, fields in schemas.key_fields.items():
        sources = schemas.key_sources(key_id, columns)
        for name, field in zip(sources, fields, strict=True):
            if field.option.constant_default or name not in types:
                continue
            kind = types[name]
            tests[f"key.{quote(name)} IN ({_ZEROS.get(kind, '0')})"] = None
            given = None if field.default is None else raw_sql(field, field.default)
            if given is not None:
                value = sources[name].sql(given, kind, fault=null_if_bad)
                tests[f"key.{quote(name)} = CAST({value} AS {spark_type(kind)})"] = None
    return f"coalesce({' OR '.join(tests)}, false)" if tests else "false"


def require_rows(
    folded: Folded, new: DataFrame, table: IcebergTable, ledger: Ledger, options: FoldOptions
) -> None:
    """Stop at a delete whose key holds what the connector fills in, and whose row nobody knows.

    In:     options, those of the fold; new, the batch's changes. A change at the mark may be a second
            delivery, whose row is gone.
    Raises: RecordError.
    """
    if not folded.facts.defaulted_keys:
        return
    again = f"coalesce(position = {mark_sql(ledger.high_water, options.mark_of)}, false)"
    asked = folded.rows.where(f"op = 'd' AND {options.filled_in} AND NOT {again}")
    written = new.where("op IN ('c', 'u', 'r')").select(F.col("key").alias("written"))
    lost = (
        _by_stored_key(asked, table, "left_anti")
        .join(written, F.col("a.key") == F.col("written"), "left_anti")
        .orderBy("partition", "offset")
        .first()
    )
    if lost is not None:
        record = RecordRef(ledger.stream.topic, int(lost["partition"]), int(lost["offset"]))
        raise _error(record, asked.select("key.*").columns)


def require_no_row(folded: Folded, table: IcebergTable, topic: str) -> None:
    """Stop at a bare tombstone whose row is stored, in a batch that changes no row.

    A MERGE that finds nothing changes no file, and Iceberg would let it commit behind another driver's.
    Raises: RecordError.
    """
    bare = folded.rows.where("op IS NULL")
    met = _by_stored_key(bare, table, "left_semi").orderBy("partition", "offset").first()
    if met is not None:
        record = RecordRef(topic, int(met["partition"]), int(met["offset"]))
        raise Fault(TOMBSTONE, record, b"", 0, "").error()


def _by_stored_key(asked: DataFrame, table: IcebergTable, how: str) -> DataFrame:
    """Those of the rows, called `a`, whose key is stored (`left_semi`), or is not (`left_anti`)."""
    held = table.names_at(table.snapshot_id)
    names = asked.select("key.*").columns
    is_same = [F.col(f"a.key.{quote(n)}") == F.col(f"t.{quote(held[n])}") for n in names]
    return asked.alias("a").join(table.rows_at(table.snapshot_id).alias("t"), is_same, how)


def _error(record: RecordRef, names: Sequence[str]) -> CdcSinkError:
    return RecordError(
        record,
        f"the delete's key ({', '.join(names)}) holds a default or zero, and no row has it: the source's "
        "replica identity lacks a column of the key, so deletes and changed keys can't be followed",
        data=STOPPED,
        remedy="ALTER TABLE … REPLICA IDENTITY FULL at the source, then build a new table from a new "
        "source snapshot in a new topic; if the source has such keys, set `columns: {<column>: "
        "{constant_default: true}}` for the key columns",
    )
