"""What must hold for any input: an answer, or a CdcSinkError that can be printed, in bounded time."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import fastavro
from fastavro.utils import generate_one

from cdc_sink.debezium.envelope import (
    Envelope,
    parse_key,
    reader_schema,
    record_kind,
    spark_schema,
)
from cdc_sink.debezium.position import position_of, position_sql
from cdc_sink.debezium.types.mapping import (
    column_type,
    convert_sql,
    null_if_bad,
    unavailable_sql,
    value_fault_reason,
)
from cdc_sink.debezium.wire.confluent import (
    TOMBSTONE,
    Frame,
    FramingError,
    frame_prefix,
    parse_frame,
)
from cdc_sink.errors import CdcSinkError
from cdc_sink.table.merge_sql import merge_sql
from cdc_sink.table.schema.ddl import create_table_sql
from cdc_sink.table.schema.evolution import plan_evolution
from cdc_sink.table.schema.writer_schemas import WriterSchemas

SAMPLES = Path(__file__).parent.parent / "unit" / "samples"
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(SAMPLES.glob("*.json"))}
RECORDED = TEXTS["postgresql_customers_value"]
RECORDED_KEY = TEXTS["postgresql_customers_key"]
MOST_ERROR_CHARS = 20_000

BLOCKS: dict[str, dict[str, Any]] = {
    "postgresql": {"sequence": '["24023128","24023200"]'},
    "mysql": {"file": "binlog.000003", "pos": 1234, "row": 0},
    "mariadb": {"file": "mariadb-bin.000003", "pos": 1234, "row": 0},
    "oracle": {"commit_scn": "2868546", "txSeq": 3},
    "sqlserver": {"commit_lsn": "00000027:00000ac0:0002"},
}


def hold_for_frame(value: bytes | None) -> None:
    """A value is a tombstone, a frame that can be put together again, or a named fault."""
    frame = _frame_or_fault(value)
    if isinstance(frame, FramingError):
        assert frame.code in {"short_value", "wrong_magic", "eight_byte_id"}
        assert len(str(frame)) < 200
        return
    if not isinstance(frame, Frame):
        assert frame is TOMBSTONE
        assert value is None
        return
    assert frame_prefix(frame.schema_id) + frame.payload == value


def _frame_or_fault(value: bytes | None) -> object:
    try:
        return parse_frame(value)
    except FramingError as fault:
        return fault


def hold_for_block(block: Mapping[str, Any]) -> None:
    """Every connector reads a position of two 64-bit numbers from a source block, or none."""
    for connector in (*BLOCKS, "mongodb"):
        try:
            position = position_of(connector, block)
        except CdcSinkError as error:
            _require_printable(error)
            continue
        if position is not None:
            assert 0 <= position.hi < 1 << 63
            assert position.lo >= 0


def hold_for_schema(text: str, random: Random) -> bool:
    """Every question about a schema has an answer or a CdcSinkError; true if it could make a table."""
    for question in (record_kind, parse_key):
        _answer(question, text)
    _answer(WriterSchemas({1: RECORDED}, {2: text}).extend, ())
    rendered = _answer(spark_schema, text)
    if rendered is not None:
        _require_same_bytes(text, rendered, random)
    made = _answer(_make_table, text)
    return made is not None


def _make_table(text: str) -> int:
    """All that is asked of a value's writer schema on its way to a table."""
    schemas = WriterSchemas({1: text}, {2: RECORDED_KEY})
    envelope = Envelope.parse(text)
    position_sql(envelope.connector, "v1.source", envelope.source_fields)
    columns = schemas.extend(())
    names = [column.name for column in columns]
    _require_valid(reader_schema(text, names))
    for field in envelope.columns:
        target = column_type(field).iceberg
        convert_sql(field, "v", target)
        convert_sql(field, "v", target, fault=null_if_bad)
        value_fault_reason(field, target)
        unavailable_sql(field, "v")
    assert plan_evolution(columns, columns, schemas.key_columns) == ()
    create_table_sql("t", columns, schemas.key_columns, buckets=4, properties={})
    merge_sql("t", "v", columns, schemas.key_columns)
    WriterSchemas({1: RECORDED, 3: text}, {2: RECORDED_KEY}).extend(())
    return len(columns)


def _answer(question: Any, *arguments: Any) -> Any:
    """The answer, or None for a refusal; anything else leaves as it is and is a finding."""
    try:
        return question(*arguments)
    except CdcSinkError as error:
        _require_printable(error)
        return None


def _require_printable(error: CdcSinkError) -> None:
    assert not error.retry, "a schema does not get better by asking again"
    assert len(str(error)) < MOST_ERROR_CHARS
    assert str(error).isprintable(), ascii(str(error))


def _require_valid(rendered: str) -> Any:
    return fastavro.parse_schema(json.loads(rendered))


def _require_same_bytes(text: str, rendered: str, random: Random) -> None:
    """What another reader finds under the registry's text, it finds under the rewritten one."""
    ours = _require_valid(_plain(rendered))
    if len(rendered) > 50_000:
        return
    try:
        theirs = fastavro.parse_schema(json.loads(_plain(text)))
    except Exception:
        return  # the other reader is stricter in what it takes, or takes names otherwise
    body = io.BytesIO()
    try:
        fastavro.schemaless_writer(body, ours, generate_one(ours))
    except Exception:
        return  # a value could not be made up for it, as for an empty enum
    again = io.BytesIO()
    found = fastavro.schemaless_reader(io.BytesIO(body.getvalue()), theirs, None)
    fastavro.schemaless_writer(again, theirs, found)
    assert again.getvalue() == body.getvalue()


def _plain(text: str) -> str:
    """Without logical types, whose values the other reader would convert."""
    return text.replace('"logicalType"', '"unread"')
