"""Canonical form of lists, maps and structs; everything else is values.py's.

list                     each element's canonical bytes, with its length, in order
map of an hstore         the entries, by key
point, geometry          SRID, WKB, and a point's x and y; no SRID is SRID 0
sparse vector            number of dimensions, and the entries by index
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cdc_sink.debezium.types.mapping import list_element
from cdc_sink.verification.canonical import values as canonical
from cdc_sink.verification.canonical.database_text import (
    geometry_document,
    map_document,
    parse_array,
    parse_ewkb,
    parse_hstore,
    parse_mysql_geometry,
    parse_point,
    parse_sparse,
    sparse_document,
)
from cdc_sink.verification.canonical.values import (
    BINARY_TEXTS,
    Canonical,
    CheckedColumn,
    Printed,
    row_bytes,
)

_INFINITE = ("infinity", "-infinity")


def is_comparable(column: CheckedColumn) -> bool:
    """Tell whether values of a column can be compared at all."""
    element = list_element(column.type)
    if element is not None:
        return is_comparable(replace(column, type=element))
    if "<" in column.type:
        return column.kind in _SOURCE_DOCUMENTS
    return canonical.is_comparable(column.type, column.kind)


def of_table(values: pa.Array, column: CheckedColumn) -> Canonical:
    """Bring one Arrow column of the Iceberg table into canonical form."""
    element = list_element(column.type)
    if element is not None:
        flat = of_table(pc.list_flatten(values), replace(column, type=element))
        return Canonical(_joined(pc.list_value_length(values).to_pylist(), flat))
    if "<" not in column.type:
        return canonical.of_table(values, column)
    read = _TABLE_DOCUMENTS[column.kind]
    documents = [None if value is None else read(value) for value in values.to_pylist()]
    return Canonical(pa.array(documents, pa.large_binary()))


def of_source(printed: Sequence[Printed], column: CheckedColumn) -> Canonical:
    """Bring one column of source rows into canonical form."""
    if column.infinity_is_null:
        printed = [None if text in _INFINITE else text for text in printed]
    element = list_element(column.type)
    if element is not None:
        return _list_of_source(printed, replace(column, type=element))
    if "<" not in column.type:
        return canonical.of_source(printed, column)
    return _documents(printed, _SOURCE_DOCUMENTS[column.kind])


def _list_of_source(printed: Sequence[Printed], element: CheckedColumn) -> Canonical:
    flat: list[Printed] = []
    lengths: list[int | None] = []
    bad = [False] * len(printed)
    for row, text in enumerate(printed):
        try:
            parts = None if text is None else parse_array(_text(text))
            shown = [_binary(part, element) for part in parts or ()]
        except (ValueError, IndexError):
            parts, shown, bad[row] = None, [], True
        flat += shown
        lengths.append(None if parts is None else len(parts))
    values = _joined(lengths, of_source(flat, element))
    return Canonical(values, pa.array(bad) if any(bad) else None)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _binary(part: str | None, element: CheckedColumn) -> Printed:
    """An element of bytea[] is text, `\\x00ff`, where a bytea is bytes."""
    if part is None or element.kind not in ("bytes", *BINARY_TEXTS):
        return part
    return bytes.fromhex(part.removeprefix("\\x"))


def _joined(lengths: Sequence[int | None], elements: Canonical) -> pa.Array:
    rows = row_bytes([elements]) if len(elements.values) else []
    lists: list[bytes | None] = []
    at = 0
    for length in lengths:
        if length is None:
            lists.append(None)
            continue
        mine = rows[at : at + length]
        lists.append(b"".join(len(row).to_bytes(8, "little") + row for row in mine))
        at += length
    return pa.array(lists, pa.large_binary())


def _documents(printed: Sequence[Printed], read: Callable[[Any], bytes]) -> Canonical:
    documents: list[bytes | None] = []
    bad: list[bool] = []
    for value in printed:
        try:
            documents.append(None if value is None else read(value))
            bad.append(False)
        except (ValueError, IndexError, struct.error):
            documents.append(None)
            bad.append(True)
    return Canonical(pa.array(documents, pa.large_binary()), pa.array(bad) if any(bad) else None)


def _place(value: dict[str, Any]) -> bytes:
    return geometry_document(value["wkb"], value["srid"], value.get("x"), value.get("y"))


def _sparse(value: dict[str, Any]) -> bytes:
    entries = {one["key"]: one["value"] for one in value["vector"]}
    return sparse_document(value["dimensions"], entries)


_SOURCE_DOCUMENTS: dict[str, Callable[[Any], bytes]] = {
    "hstore": lambda text: map_document(parse_hstore(text)),
    "point": parse_point,
    "wkb": lambda value: parse_mysql_geometry(value, is_point=False),
    "wkb_point": lambda value: parse_mysql_geometry(value, is_point=True),
    "ewkb": parse_ewkb,
    "sparse": parse_sparse,
}
_TABLE_DOCUMENTS: dict[str, Callable[[Any], bytes]] = {
    "hstore": lambda entries: map_document(dict(entries)),
    "point": _place,
    "wkb": _place,
    "wkb_point": _place,
    "ewkb": _place,
    "sparse": _sparse,
}
