"""Events of Debezium's outbox router: each id once, whatever its payload is."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import fastavro
import pytest
from debezium import ITEMS, Registry, Topic
from lake import Lake, Writer

from cdc_sink.debezium.wire.confluent import frame_prefix
from cdc_sink.errors import RecordError, SchemaError

ORDER = {
    "type": "record",
    "name": "OrderPlaced",
    "fields": [{"name": "total", "type": "long"}, {"name": "note", "type": ["null", "string"]}],
}


@dataclass
class Outbox:
    """The topic of one aggregate type."""

    topic: Topic = field(default_factory=lambda: Topic(ITEMS))

    @property
    def registry(self) -> Registry:
        return self.topic.registry

    def send(
        self,
        event_id: str | None,
        payload: Any,
        schema: Any = "string",
        *,
        aggregate: Any = "order-1",
        key: Any = "string",
        headers: Mapping[str, bytes] | None = None,
    ) -> None:
        named = {} if event_id is None else {"id": event_id.encode()}
        value = None if payload is None else self.framed(schema, payload)
        given = {**named, **(headers or {})}
        self.topic.raw(self.framed(key, aggregate), value, headers=given)

    def framed(self, schema: Any, body: Any) -> bytes:
        texts = self.registry.texts
        known = [i for i, text in texts.items() if text == _text(schema)]
        schema_id = known[0] if known else self.registry.register(schema)
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), body)
        return frame_prefix(schema_id) + buffer.getvalue()


def _text(schema: Any) -> str:
    import json

    return json.dumps(schema)


def writer_of(lake: Lake, name: str, outbox: Outbox, **settings: Any) -> Writer:
    return lake.writer(name, outbox.topic, outbox=True, order="kafka", **settings)


def events(writer: Writer, *columns: str) -> list[tuple[Any, ...]]:
    rows = writer.table.scan().to_arrow().to_pylist()
    return sorted(tuple(row[name] for name in columns) for row in rows)


def test_a_text_payload_is_a_row_with_its_id_aggregate_and_headers(lake: Lake, name: str) -> None:
    outbox = Outbox()
    headers = {"eventType": b"placed", "odd": b"\xff", "eventVersion": b"2"}
    outbox.send("e1", '{"total": 7}', headers=headers)
    writer = writer_of(lake, name, outbox)
    writer.write()
    assert writer.table.schema().identifier_field_names() == {"event_id"}
    ((event_id, aggregate, payload, kept),) = events(
        writer, "event_id", "aggregate_id", "payload", "headers"
    )
    assert (event_id, aggregate, payload) == ("e1", "order-1", '{"total": 7}')
    assert dict(kept) == {"eventType": "placed", "eventVersion": "2", "odd": "0xFF"}


def test_an_event_delivered_again_is_one_row(lake: Lake, name: str) -> None:
    outbox = Outbox()
    for event_id in ("e1", "e2", "e1"):
        outbox.send(event_id, f"of {event_id}")
    writer = writer_of(lake, name, outbox)
    writer.write()
    outbox.send("e2", "of e2")
    outbox.send("e3", "of e3")
    writer.write(3)
    assert events(writer, "event_id", "payload") == [
        ("e1", "of e1"),
        ("e2", "of e2"),
        ("e3", "of e3"),
    ]


def test_a_payload_of_several_fields_fills_as_many_columns(lake: Lake, name: str) -> None:
    outbox = Outbox()
    outbox.send("e1", {"total": 7, "note": None}, ORDER)
    outbox.send("e2", "a text")
    outbox.send("e3", b"\x00\x01", "bytes", aggregate=4, key="long")
    writer = writer_of(lake, name, outbox, on_incompatible="second_column")
    writer.write()
    assert events(writer, "event_id", "aggregate_id", "total", "payload") == [
        ("e1", "order-1", 7, None),
        ("e2", "order-1", None, "a text"),
        ("e3", "4", None, None),
    ]
    assert events(writer, "event_id", "payload__binary")[2] == ("e3", b"\x00\x01")


def test_an_event_without_payload_is_kept(lake: Lake, name: str) -> None:
    outbox = Outbox()
    outbox.send("e1", None)
    outbox.send("e2", "a text")
    writer = writer_of(lake, name, outbox)
    writer.write()
    assert events(writer, "event_id", "payload") == [("e1", None), ("e2", "a text")]


def test_a_record_that_is_no_event_stops_the_table(lake: Lake, name: str) -> None:
    outbox = Outbox()
    outbox.send(None, "whose?")
    writer = writer_of(lake, name, outbox)
    with pytest.raises(RecordError, match="no header `id`"):
        writer.write()
    assert not writer.exists


def test_the_key_of_a_table_is_no_aggregate(lake: Lake, name: str) -> None:
    outbox = Outbox()
    outbox.topic.raw(
        outbox.topic.key({"id": 1}), outbox.framed("string", "x"), headers={"id": b"e1"}
    )
    with pytest.raises(SchemaError, match="the key is of type record"):
        writer_of(lake, name, outbox).write()
