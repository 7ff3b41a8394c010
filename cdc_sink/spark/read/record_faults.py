"""How a bad record stops a Spark job without losing its coordinates.

The decoding expressions raise an error whose text is a small machine-readable line, `cdc-sink|…`; the driver
reads it back from the failed job and turns it into a `RecordError` with a sentence. No cell value is in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cdc_sink.debezium.envelope import CHOSEN_KEY
from cdc_sink.debezium.wire.confluent import (
    BAD_ID_HEADER,
    ID_OUT_OF_RANGE,
    JSON_LAYOUT,
    JSON_PAYLOAD,
    JSON_SCHEMA,
    NO_ID_HEADER,
    NO_JSON,
    NO_SCHEMA,
    SHORT_LONG_ID,
    marked_fault,
)
from cdc_sink.errors import CdcSinkError, RecordError, RecordRef
from cdc_sink.table.plan import TIED, TIED_REMEDY

MARK = "cdc-sink"
_LINE = re.compile(
    r"cdc-sink\|record\|(\w+)\|([^|]*)\|(\d+)\|(\d+)\|([0-9A-F]*|null)\|(\d+|null)\|([^|]*)\|"
)
# Spark appends its own ` SQLSTATE: …` to the text.
_VALUE = re.compile(r"cdc-sink\|value\|([^|]*)\|([^|\n]*?)(?= SQLSTATE|\||\n|$)")

STOPPED = "the batch was not applied, its offsets were not committed"


def fault_sql(code: str, column: str, detail: str = "NULL", *, record: str = "{}") -> str:
    """SQL that fails the job and names the record: code, coordinates, first 9 bytes, length, a detail.

    In: `code` and `detail`, SQL for a word, `detail` never a cell value; `column`, `key` or `value`: the
        bytes at fault; `record`, where the record's columns are found, as in `s.{}`.
    """
    place = ", ".join(record.format(name) for name in ("topic", "partition", "offset"))
    # format_string compiles to less than `concat` would: a fused stage may have 8,000 bytes of code in all.
    return (
        f"raise_error(format_string('{MARK}|record|%s|%s|%s|%s|%s|%s|%s|', {code}, {place}, "
        f"hex(substring({column}, 1, 9)), length({column}), {detail}))"
    )


@dataclass(frozen=True)
class Fault:
    """What a failed decoding job said about one record."""

    code: str
    record: RecordRef
    head: bytes
    length: int
    detail: str

    @property
    def unknown_schema_id(self) -> int | None:
        """The schema id, when the framing is right and only the schema is missing."""
        framed = (
            len(self.head) >= 5 and self.head[0] == 0 and self.code in ("frame", "key", "source")
        )
        number = int.from_bytes(self.head[1:5], "big") if framed else 0
        return number or None

    def error(self) -> CdcSinkError:
        """The sentence for the operator."""
        saw, remedy = _SENTENCES.get(self.code, _SENTENCES["frame"])(self)
        return RecordError(self.record, saw, data=STOPPED, remedy=remedy)


def read_fault(text: str) -> Fault | None:
    """Find the fault line in the text of a failed Spark job."""
    found = _LINE.search(text)
    if not found:
        return None
    code, topic, partition, offset, *rest = found.groups()
    head, length, detail = (None if part == "null" else part for part in rest)
    record = RecordRef(topic, int(partition), int(offset))
    return Fault(code, record, bytes.fromhex(head or ""), int(length or -1), detail or "")


def read_value_fault(text: str) -> tuple[str, str] | None:
    """Find column and reason when a value could not be converted."""
    found = _VALUE.search(text)
    return (found.group(1), found.group(2)) if found else None


def tells_bad_value(text: str) -> bool:
    """Whether Spark failed at a value: one that has no place in its column, or bytes that are no Avro."""
    return read_value_fault(text) is not None or "malformed" in text.lower()


_ANOTHER_WIRE = (
    "compare `wire` of this table with the connector's converters; look for another producer "
    "on this topic"
)
_OTHER_PRODUCER = "look for another producer on this topic, or a converter other than JsonConverter"
# What was seen of a key or value that could not be framed, and what helps.
_UNFRAMED = {
    SHORT_LONG_ID: ("the {} is shorter than a zero byte and an 8-byte schema id", _ANOTHER_WIRE),
    ID_OUT_OF_RANGE: (
        "the {} has a schema id that is zero, or larger than any a registry gives; a 4-byte id read as 8 "
        "bytes looks like this",
        _ANOTHER_WIRE,
    ),
    NO_ID_HEADER: ("the {} has no header with its schema id", _ANOTHER_WIRE),
    BAD_ID_HEADER: (
        "the {} has a header with its schema id in another layout than `wire` says",
        _ANOTHER_WIRE,
    ),
    NO_JSON: ("the {} is no JSON text", _OTHER_PRODUCER),
    NO_SCHEMA: (
        "the {} is JSON without its Connect schema",
        "set {}.converter.schemas.enable=true on the connector",
    ),
    JSON_LAYOUT: (
        'the {} is JSON, but not {{"schema":…,"payload":…}} as JsonConverter writes it',
        _OTHER_PRODUCER,
    ),
    JSON_SCHEMA: ("the {}'s schema is none of Kafka Connect's", _OTHER_PRODUCER),
    JSON_PAYLOAD: (
        "the {}'s payload does not fit its schema",
        "set {}.converter.decimal.format=BASE64 on the connector, or look for another producer on this topic",
    ),
}


def _frame_sentence(fault: Fault) -> tuple[str, str]:
    what = "key" if fault.code == "key" else "value"
    if fault.length < 0:
        return (
            f"the record has no {what}",
            "a table that mirrors its source needs a key: give the source table a primary key, set "
            f"{CHOSEN_KEY}, or keep every event with `mode: append`",
        )
    if (code := marked_fault(fault.head)) is not None:
        saw, remedy = _UNFRAMED[code]
        return saw.format(what), remedy.format(what)
    if fault.length < 5:
        return (
            f"the {what} has {fault.length} bytes, a framed Avro {what} has at least 5",
            "look for another producer on this topic, or a converter other than Avro",
        )
    if fault.head[0] != 0:
        return (
            f"the {what} begins with byte 0x{fault.head[0]:02X}, expected 0x00 (magic byte)",
            f"check {what}.converter on the connector: it must write Avro with a 4-byte schema id",
        )
    if not any(fault.head[1:5]):
        return (
            f"the {what} has schema id 0 in its first 4 bytes: this is the 8-byte framing",
            "set `wire: apicurio_8_byte` for this table, or "
            f"{what}.converter.apicurio.registry.as-confluent=true and use-id=contentId",
        )
    return (
        f"the {what}'s writer schema id {fault.unknown_schema_id} is not among those fetched",
        "start the query again: the registry is asked at every start",
    )


def _op_sentence(fault: Fault) -> tuple[str, str]:
    if fault.detail == "t":
        return (
            "op 't': the source table was truncated",
            "set `truncate: apply` or `ignore` for this table, or rebuild it with `cdc-sink backfill`",
        )
    remedy = "check the connector's transforms, and what else writes to this topic"
    if fault.detail in ("c", "u", "r"):
        return f"op {fault.detail!r} without the row after the change", remedy
    return f"op {fault.detail[:8]!r} is not one of r c u d", remedy


def _unavailable_sentence(fault: Fault) -> tuple[str, str]:
    return (
        f"columns {fault.detail} hold Debezium's placeholder for a value left out, and no stored row has it",
        "set REPLICA IDENTITY FULL on the source table and update the row there, or let `cdc-sink run` apply "
        "the batch: it can set such keys aside",
    )


def _position_sentence(_fault: Fault) -> tuple[str, str]:
    return (
        "the source block has no position",
        "check the connector's version and its transforms: the whole source block is needed",
    )


def _event_id_sentence(_fault: Fault) -> tuple[str, str]:
    return (
        "the record has no header `id`, which names an event of the outbox",
        "give the topic of Debezium's outbox router, or set `outbox: false` for this table",
    )


def _tie_sentence(_fault: Fault) -> tuple[str, str]:
    return (TIED, TIED_REMEDY)


def _null_key_sentence(fault: Fault) -> tuple[str, str]:
    return (
        f"the key has NULL in column {fault.detail}, and rows with NULL there can't be told apart",
        "leave the column out of message.key.columns, or set it NOT NULL at the source, and build a new "
        "table from a new source snapshot in a new topic; or keep every event with `mode: append`",
    )


def _tombstone_sentence(_fault: Fault) -> tuple[str, str]:
    return (
        "a tombstone without its delete, and its row is in the table: the topic was compacted, or a "
        "transform drops deletes, so deletes of other rows may be lost without a trace",
        "set cleanup.policy=delete on the topic and keep the connector's deletes; let the connector take a "
        "new source snapshot into a new topic, and raise `generation` of this table",
    )


def _source_sentence(fault: Fault) -> tuple[str, str]:
    del fault
    return (
        "nothing tells which source the record comes from: its value can't be read, or its source block "
        "names none, and the table has `sources: many`",
        "correct the record's producer; a transform that flattens rows has to add the source: "
        "add.fields=…,source.name,source.db,source.schema,source.table, as far as the connector has them",
    )


_SENTENCES = {
    "source": _source_sentence,
    "tie": _tie_sentence,
    "null_key": _null_key_sentence,
    "tombstone": _tombstone_sentence,
    "event_id": _event_id_sentence,
    "frame": _frame_sentence,
    "key": _frame_sentence,
    "op": _op_sentence,
    "unavailable": _unavailable_sentence,
    "position": _position_sentence,
}


def value_error(record: RecordRef, column: str, reason: str) -> CdcSinkError:
    """A value of one record can't be represented in the table."""
    return RecordError(
        record,
        f"column {column}: {reason}",
        data=STOPPED,
        remedy="exclude the column on the connector, or correct the value at its source",
    )


def malformed_error(record: RecordRef) -> CdcSinkError:
    """A record's bytes don't fit its writer schema."""
    return RecordError(
        record,
        "the bytes after the schema id do not fit its writer schema",
        data=STOPPED,
        remedy="look for another producer on this topic, or a registry that was rebuilt with other ids",
    )
