"""How a bad record stops a Spark job without losing its coordinates.

The decoding expressions raise an error whose text is a small machine-readable line, `cdc-sink|…`; the driver
reads it back from the failed job and turns it into a `RecordError` with a sentence. No cell value is in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cdc_sink.errors import CdcSinkError, RecordError, RecordRef
from cdc_sink.spark.foreign_errors import innermost
from cdc_sink.table.faults import (
    FAULTS,
    MALFORMED,
    NO_ROW,
    OP,
    SOURCE,
    TRUNCATE,
    VALUE,
    framing_fault,
)

# A value, or a key, that could not be read: its first bytes tell what is wrong with it.
FRAME, KEY = "frame", "key"
# What an op says that was not applied; any other is unknown.
_OPS = {"t": TRUNCATE, **dict.fromkeys(("c", "u", "r"), NO_ROW)}
MARK = "cdc-sink"
_LINE = re.compile(
    r"cdc-sink\|record\|(\w+)\|([^|]*)\|(\d+)\|(\d+)\|([0-9A-F]*|null)\|(\d+|null)\|([^|]*)\|"
)
# Spark appends its own ` SQLSTATE: …` to the text.
_VALUE = re.compile(r"cdc-sink\|value\|([^|]*)\|([^|\n]*?)(?= SQLSTATE|\||\n|$)")

# Of bytes that are no Avro of their schema; of a text that is no number Spark says malformed, too.
_NO_AVRO = re.compile("malformed[ _](record|data|avro)", re.IGNORECASE)

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
        framed = len(self.head) >= 5 and self.head[0] == 0 and self.code in (FRAME, KEY, SOURCE)
        number = int.from_bytes(self.head[1:5], "big") if framed else 0
        return number or None

    def error(self) -> CdcSinkError:
        """The sentence for the operator."""
        code, detail, side = self.code, self.detail, "value"
        if code in (FRAME, KEY):
            code, detail = framing_fault(self.head, self.length)
            side = "key" if self.code == KEY else "value"
        elif code == OP:
            code, detail = _OPS.get(detail, OP), detail[:8]
        saw, remedy = FAULTS[code].of(side, detail)
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
    return read_value_fault(text) is not None or _NO_AVRO.search(text) is not None


def failing_error(record: RecordRef, text: str) -> CdcSinkError:
    """Say what is wrong with the record at which a job failed, by the text of that failure."""
    if (fault := read_fault(text)) is not None:
        return fault.error()
    if (value := read_value_fault(text)) is not None:
        saw, remedy = f"column {value[0]}: {value[1]}", FAULTS[VALUE].remedy
    elif tells_bad_value(text):
        saw, remedy = FAULTS[MALFORMED].of("value")
    else:
        saw = f"the transform fails at this record ({innermost(text)})"
        remedy = "let the transform take such values, then start the pipeline again"
    return RecordError(record, saw, data=STOPPED, remedy=remedy)
