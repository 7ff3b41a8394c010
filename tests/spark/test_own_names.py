"""A table that has the source's own names, though the connector escaped them."""

from __future__ import annotations

from debezium import Event, SourceTable, Topic, optional
from lake import Lake

from cdc_sink.debezium.options import UNAVAILABLE
from cdc_sink.table.schema.metadata_columns import metadata_columns
from cdc_sink.table.schema.policy import TableMode

SHOWN = {"connect.parameters": {"__debezium.source.column.name": "a.b"}}
ESCAPED = SourceTable(
    {
        "order_u005fno": "long",
        "XXX_u0024123": optional("string"),
        "large_u005ftext": optional("string"),
        "a_b": optional({"type": "string", **SHOWN}),
    },
    key=("order_u005fno",),
)


def row(no: int, some: str, large: str) -> dict[str, object]:
    return {"order_u005fno": no, "XXX_u0024123": some, "large_u005ftext": large, "a_b": some}


def test_rows_come_and_go_under_the_sources_own_names(lake: Lake, name: str) -> None:
    topic = Topic(ESCAPED)
    writer = lake.writer(name, topic, field_names="source")
    topic.send_all(
        [Event("c", row(no, "first", "large"), (1, no)) for no in (1, 2, 3)]
        + [Event("d", row(3, "first", "large"), (2, 1))]
    )
    writer.write(0)
    first = len(topic.records)
    # A large value that was left out comes from the stored row, found by the key's own name.
    topic.send_all(
        [Event("u", row(1, "new", UNAVAILABLE), (3, 1)), Event("d", row(2, "", ""), (3, 2))]
    )
    writer.write(first)
    (one,) = (
        writer.table.scan()
        .to_arrow()
        .drop_columns(list(metadata_columns(TableMode.MIRROR)))
        .to_pylist()
    )
    assert one == {"order_no": 1, "XXX$123": "new", "large_text": "large", "a.b": "new"}
