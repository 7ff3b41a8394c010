"""What can be wrong with one record: what was seen and what helps, by code.

One table for both ways that a fault takes: the table stops and names the record, or the record goes to the
dead letters with its code as the reason. A detail, never a cell value, follows what was seen in brackets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cdc_sink.debezium.envelope import CHOSEN_KEY
from cdc_sink.debezium.wire.confluent import (
    BAD_ID_HEADER,
    EIGHT_BYTE_ID,
    ID_OUT_OF_RANGE,
    JSON_LAYOUT,
    JSON_PAYLOAD,
    JSON_SCHEMA,
    NO_ID_HEADER,
    NO_JSON,
    NO_SCHEMA,
    SHORT_LONG_ID,
    SHORT_VALUE,
    WRONG_MAGIC,
    marked_fault,
)

NO_KEY: Final = "no_key"
UNKNOWN_SCHEMA: Final = "unknown_schema"
MALFORMED: Final = "malformed"
VALUE: Final = "value"
OP: Final = "op"
NO_ROW: Final = "no_row"
TRUNCATE: Final = "truncate"
UNAVAILABLE_VALUE: Final = "unavailable_value"
KEY_QUARANTINED: Final = "key_quarantined"
NULL_KEY: Final = "null_key"
POSITION: Final = "position"
SOURCE: Final = "source"
EVENT_ID: Final = "event_id"
TIE: Final = "tie"
TOMBSTONE: Final = "tombstone"
TRANSFORM: Final = "transform"


@dataclass(frozen=True)
class FaultText:
    """What was seen, and what helps; `{side}` in them is `key` or `value`."""

    saw: str
    remedy: str

    def of(self, side: str, detail: str = "") -> tuple[str, str]:
        """Both sentences, of one side of a record."""
        saw = self.saw.replace("{side}", side)
        return f"{saw} ({detail})" if detail else saw, self.remedy.replace("{side}", side)


_OTHER_WIRE = (
    "compare `wire` of this table with the connector's converters; look for another producer on this "
    "topic"
)
_OTHER_PRODUCER = "look for another producer on this topic, or a converter other than JsonConverter"
_TRANSFORMS = "check the connector's transforms, and what else writes to this topic"
_NEW_TOPIC = "let the connector take a new source snapshot into a new topic"

FAULTS: Final[Mapping[str, FaultText]] = {
    SHORT_VALUE: FaultText(
        "the {side} is shorter than a framed Avro {side}",
        "look for another producer on this topic, or a converter other than Avro",
    ),
    WRONG_MAGIC: FaultText(
        "the {side} does not begin with the magic byte 0x00",
        "check {side}.converter on the connector: it must write Avro with a 4-byte schema id",
    ),
    EIGHT_BYTE_ID: FaultText(
        "the {side} has schema id 0 in its first 4 bytes: this is the 8-byte framing",
        "set `wire: apicurio_8_byte` for this table, or "
        "{side}.converter.apicurio.registry.as-confluent=true and use-id=contentId",
    ),
    SHORT_LONG_ID: FaultText(
        "the {side} is shorter than a zero byte and an 8-byte schema id", _OTHER_WIRE
    ),
    ID_OUT_OF_RANGE: FaultText(
        "the {side} has a schema id that is zero, or larger than any a registry gives; a 4-byte id read as 8 "
        "bytes looks like this",
        _OTHER_WIRE,
    ),
    NO_ID_HEADER: FaultText("the {side} has no header with its schema id", _OTHER_WIRE),
    BAD_ID_HEADER: FaultText(
        "the {side} has a header with its schema id in another layout than `wire` says", _OTHER_WIRE
    ),
    NO_JSON: FaultText("the {side} is no JSON text", _OTHER_PRODUCER),
    NO_SCHEMA: FaultText(
        "the {side} is JSON without its Connect schema",
        "set {side}.converter.schemas.enable=true on the connector",
    ),
    JSON_LAYOUT: FaultText(
        'the {side} is JSON, but not {"schema":…,"payload":…} as JsonConverter writes it',
        _OTHER_PRODUCER,
    ),
    JSON_SCHEMA: FaultText("the {side}'s schema is none of Kafka Connect's", _OTHER_PRODUCER),
    JSON_PAYLOAD: FaultText(
        "the {side}'s payload does not fit its schema",
        "set {side}.converter.decimal.format=BASE64 on the connector, or look for another producer on this "
        "topic",
    ),
    NO_KEY: FaultText(
        "the record has no {side}",
        "a table that mirrors its source needs a key: give the source table a primary key, set "
        f"{CHOSEN_KEY}, or keep every event with `mode: append`",
    ),
    UNKNOWN_SCHEMA: FaultText(
        "the {side}'s writer schema is not among those fetched",
        "start the query again: the registry is asked at every start",
    ),
    MALFORMED: FaultText(
        "the bytes after the schema id do not fit its writer schema",
        "look for another producer on this topic, or a registry that was rebuilt with other ids",
    ),
    VALUE: FaultText(
        "the table can't hold a value",
        "exclude the column on the connector, or correct the value at its source",
    ),
    OP: FaultText("the op is not one of r c u d", _TRANSFORMS),
    NO_ROW: FaultText("the row after the change is missing", _TRANSFORMS),
    TRUNCATE: FaultText(
        "the source table was truncated",
        "set `truncate: apply` or `ignore` for this table, or rebuild it with `cdc-sink backfill`",
    ),
    UNAVAILABLE_VALUE: FaultText(
        "the connector left a value out, and neither the batch nor a stored row has it",
        "set REPLICA IDENTITY FULL on the source table and update the row there",
    ),
    KEY_QUARANTINED: FaultText(
        "an earlier record of this key was set aside",
        "decide over that one: this one goes with it",
    ),
    NULL_KEY: FaultText(
        "the key has NULL in a column, and rows with NULL there can't be told apart",
        "leave the column out of message.key.columns, or set it NOT NULL at the source, and build a new "
        "table from a new source snapshot in a new topic; or keep every event with `mode: append`",
    ),
    POSITION: FaultText(
        "the source block has no position",
        "check the connector's version and its transforms: the whole source block is needed",
    ),
    SOURCE: FaultText(
        "nothing tells which source the record comes from: its value can't be read, or its source block "
        "names none, and the table has `sources: many`",
        "correct the record's producer; a transform that flattens rows has to add the source: "
        "add.fields=…,source.name,source.db,source.schema,source.table, as far as the connector has them",
    ),
    EVENT_ID: FaultText(
        "the record has no header `id`, which names an event of the outbox",
        "give the topic of Debezium's outbox router, or set `outbox: false` for this table",
    ),
    TIE: FaultText(
        "two changes of one key have the same position in the source's log and lie in two partitions: one "
        "transaction was written while the keys changed their partition, and nothing tells which is newer",
        f"{_NEW_TOPIC}, whose partitions stay as they are, and raise `generation` of this table",
    ),
    TOMBSTONE: FaultText(
        "a tombstone without its delete, and its row is in the table: the topic was compacted, or a "
        "transform drops deletes, so deletes of other rows may be lost without a trace",
        f"set cleanup.policy=delete on the topic and keep the connector's deletes; {_NEW_TOPIC}, and raise "
        "`generation` of this table",
    ),
    TRANSFORM: FaultText(
        "the transform makes a column of a value that the connector left out and of what it sent",
        "set REPLICA IDENTITY FULL on the source table, so that nothing is left out; or let the transform "
        "make the column of that value alone",
    ),
}


def framing_fault(head: bytes, length: int) -> tuple[str, str]:
    """What is wrong with bytes that could not be read: its code, and a detail.

    In: their first nine bytes; their length, -1 where there are none.
    """
    if length < 0:
        return NO_KEY, ""
    if (marked := marked_fault(head)) is not None:
        return marked, ""
    if length < 5:
        return SHORT_VALUE, f"{length} bytes, expected at least 5"
    if head[0] != 0:
        return WRONG_MAGIC, f"it begins with 0x{head[0]:02X}"
    if not any(head[1:5]):
        return EIGHT_BYTE_ID, ""
    return UNKNOWN_SCHEMA, f"schema id {int.from_bytes(head[1:5], 'big')}"
