"""Several writer schemas of one table on one topic, and what an Iceberg table made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from debezium import Event, SourceTable, Topic
from lake import Writer

from cdc_sink.table.schema.metadata_columns import is_metadata


class Versions:
    """A topic whose records come in several versions of one table, in any order."""

    def __init__(self, *tables: SourceTable) -> None:
        self.topic = Topic(tables[0])
        self.known = [(tables[0], self.topic.value_id, self.topic.key_id)]
        for table in tables[1:]:
            value_id = self.topic.write_as(table)
            self.known.append((table, value_id, self.topic.key_id))
        self.position = 0

    def send(self, version: int, op: str, **row: object) -> None:
        self.topic.table, self.topic.value_id, self.topic.key_id = self.known[version - 1]
        self.position += 1
        names = self.topic.table.columns
        image = {name: row.get(name) for name in names}
        self.topic.send(Event(op, image, (self.position, 1)))


def table_of(columns: Mapping[str, Any], **more: Any) -> SourceTable:
    return SourceTable({"id": "long", **columns}, **more)


def field_ids(writer: Writer) -> dict[str, int]:
    return {f.name: f.field_id for f in writer.table.schema().fields if not is_metadata(f.name)}


def types(writer: Writer) -> dict[str, str]:
    return {
        f.name: str(f.field_type) for f in writer.table.schema().fields if not is_metadata(f.name)
    }
