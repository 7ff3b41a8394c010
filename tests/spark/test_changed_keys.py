"""A row whose key changes takes along the values that the connector left out of its second half."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from debezium import Event, SourceTable, Topic, decimal, optional, semantic
from lake import Lake, Reread, Writer
from large_values import FULL, SCAN, documents, key_header, move, row, without_scan
from test_dead_letters import letters
from type_rows import OPEN_SCALE

from cdc_sink.debezium.types.mapping import UNAVAILABLE


@pytest.fixture
def writer(lake: Lake, name: str) -> Writer:
    return documents(lake, name)


def _not_needed(*_: object) -> None:
    pytest.fail("the topic was read on, for what the table's row says")


def test_a_key_that_changed_twice_takes_along_what_changed_between(writer: Writer) -> None:
    topic = writer.topic
    topic.send(Event("u", row(1, "second", body="new text"), (2, 1)))
    move(topic, row(1), row(7, "moved"), (2, 2), 1)
    topic.send(Event("u", row(7, "third", scan=b"new scan"), (2, 3)), 1)
    delete, create = Event("d", row(7), (2, 4)), Event("c", row(1, "back"), (2, 4))
    topic.raw(topic.key(row(7)), topic.value(delete), 1)
    header = {"__debezium.oldkey": key_header(topic, row(7))}
    topic.raw(topic.key(row(1)), topic.value(create), 0, header)
    writer.write(1)
    assert writer.rows() == [row(1, "back", "new text", b"new scan")]


CONNECT = "org.apache.kafka.connect.data"
# What Connect's SimpleHeaderConverter 4.3.1 writes of a key, seen for each of these types.
KEYS: dict[str, tuple[Any, Any, Any, bytes]] = {
    "long": ("long", 2**53 + 1, 7, b"9007199254740993"),
    "short": ({"type": "int", "connect.type": "int16"}, -5, 7, b"-5"),
    "boolean": ("boolean", True, False, b"true"),
    "text": ("string", 'a"b\\c\n\x01\u00e9{', "7", '"a\\"b\\\\c\n\x01\u00e9{"'.encode()),
    "bytes": ("bytes", b"\x01\x02\xff", b"", b'"AQL/"'),
    "decimal": (decimal(10, 2), Decimal("1250.50"), Decimal("-3.00"), b"1250.50"),
    "zero": (decimal(38, 10), Decimal("0E-10"), Decimal("7.0000000000"), b"0E-10"),
    "date": (semantic("int", "io.debezium.time.Date"), -1, 18262, b"-1"),
    "any_scale": (
        OPEN_SCALE,
        {"scale": 1, "value": b"\x7d"},
        {"scale": 1, "value": b"\x46"},
        b'{"scale":1,"value":"fQ=="}',
    ),
}


def test_a_changed_key_may_have_any_type(lake: Lake, name: str) -> None:
    types = {kind: type_ for kind, (type_, *_) in KEYS.items()}
    old = {kind: value for kind, (_, value, *_) in KEYS.items()}
    new = {kind: value for kind, (_, _, value, _) in KEYS.items()}
    header = {kind: text for kind, (*_, text) in KEYS.items()}
    writer = _moved(lake, name, types, (old, new, header))
    assert [one["body"] for one in writer.rows()] == ["long text"]
    assert letters(writer) == []


CONNECT_TIMES: dict[str, tuple[Any, int, bytes]] = {
    "date": (semantic("int", f"{CONNECT}.Date", logicalType="date"), 18262, b"2020-01-01"),
    "time": (
        semantic("int", f"{CONNECT}.Time", logicalType="time-millis"),
        3_723_004,
        b"01:02:03.004Z",
    ),
    "timestamp": (
        semantic("long", f"{CONNECT}.Timestamp", logicalType="timestamp-millis"),
        1_577_836_800_123,
        b"2020-01-01T00:00:00.123Z",
    ),
}


def test_a_key_that_its_header_does_not_tell_is_set_aside(lake: Lake, name: str) -> None:
    """Connect writes its own times without quotes: that is no JSON, whichever of them a key has."""
    types = {kind: type_ for kind, (type_, *_) in CONNECT_TIMES.items()}
    moves = []
    for kind, (_, value, text) in CONNECT_TIMES.items():
        old = {**dict.fromkeys(types, 1), kind: value}
        header = {**dict.fromkeys(types, b"1"), kind: text}
        moves.append((old, {**old, kind: 7}, header))
    writer = _moved(lake, name, types, *moves)
    assert writer.rows() == []
    assert [one["reason"] for one in letters(writer)] == ["unavailable_value"] * len(moves)


Row = dict[str, Any]


def _moved(lake: Lake, name: str, key: Row, *moves: tuple[Row, Row, dict[str, bytes]]) -> Writer:
    """Store a row for each move, then change their keys in one batch; a header as Connect writes it."""
    table = SourceTable({**key, "body": optional("string")}, key=tuple(key))
    topic = Topic(table)
    for old, _, _ in moves:
        topic.send(Event("c", {**old, "body": "long text"}, (1, 1)))
    writer = lake.writer(name, topic)
    writer.write()
    for number, (old, new, header) in enumerate(moves):
        whole, moved = {**old, "body": "long text"}, {**new, "body": UNAVAILABLE}
        text = b",".join(b'"%s":%s' % (kind.encode(), one) for kind, one in header.items())
        move(topic, whole, moved, (2, number), old_key=b"{" + text + b"}")
    writer.write(len(moves))
    return writer


def test_a_changed_key_may_be_called_as_a_column_of_our_own(lake: Lake, name: str) -> None:
    names = ("of0", "asked0", "image0", "at", "place", "partition", "offset", "old_key", "is_half")
    table = SourceTable(
        {"of0": "long", **dict.fromkeys(names[1:], optional("string"))}, key=("of0",)
    )
    whole = {"of0": 1, **{name: f"long {name}" for name in names[1:]}}
    writer = documents(lake, name, whole, table)
    moved = {"of0": 7, **dict.fromkeys(names[1:], UNAVAILABLE)}
    move(writer.topic, whole, moved, (2, 1))
    writer.write(1)
    assert writer.rows() == [{**whole, "of0": 7}]


def test_a_changed_key_takes_along_what_is_stored_under_a_renamed_column(
    lake: Lake, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename and the key update come in one batch, before the table has the new name."""
    topic = documents(lake, name).topic
    writer = lake.writer(name, topic, renames={"body": "story"})
    move(topic, row(1), row(2, "moved"), (2, 1))  # from now on such updates are expected
    writer.write(1)
    renamed = {
        "story" if name == "body" else name: type_ for name, type_ in topic.table.columns.items()
    }
    topic.write_as(replace(topic.table, columns=renamed))
    whole = {"id": 2, "title": "moved", "story": "long text", "scan": b"scan"}
    moved = {"id": 7, "title": "again", "story": UNAVAILABLE, "scan": SCAN}
    move(topic, whole, moved, (2, 2))
    monkeypatch.setattr(Reread, "span", _not_needed)
    writer.write(4)
    assert writer.rows() == [{**whole, "id": 7, "title": "again"}]


def test_what_comes_again_says_nothing_of_the_row_that_is_stored(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key 7 was deleted and made anew, by a key update; then both come again, before its key changes too."""
    topic = writer.topic
    topic.send(Event("c", row(7, "other", "other text", b"other"), (2, 1)))
    for _ in range(2):
        topic.send(Event("d", row(7), (2, 2)))
        move(topic, row(1), row(7, "moved"), (2, 3))
        topic.send(Event("u", row(7, "after"), (2, 4)))
    move(topic, row(7), row(8, "moved again"), (2, 5))
    writer.write(1, 7)
    monkeypatch.setattr(Reread, "span", _not_needed)
    writer.write(7)
    assert writer.rows() == [row(8, "moved again", "long text", b"scan")]


def test_in_kafkas_order_nothing_tells_which_row_a_changed_key_had(lake: Lake, name: str) -> None:
    """Without positions the halves can't be paired, and the key may have had other rows before."""
    writer = documents(lake, name, order="kafka")
    topic = writer.topic
    topic.send(Event("d", row(1), (2, 1)))
    topic.send(Event("c", row(1, "other", "other text", b"other"), (2, 2)))
    move(topic, row(1), row(7, "moved"), (2, 3))
    writer.write(1)
    assert writer.rows() == []
    assert [one["reason"] for one in letters(writer)] == ["unavailable_value"]


def test_a_changed_key_takes_its_values_along_and_its_batch_leaves_nothing_in_memory(
    writer: Writer,
) -> None:
    move(writer.topic, row(1), row(7, "moved"), (2, 1), 1)
    java: Any = writer.spark.sparkContext._jsc
    before = set(java.getPersistentRDDs())
    writer.write(1)
    assert set(java.getPersistentRDDs()) <= before
    assert writer.rows() == [{**FULL, "id": 7, "title": "moved"}]
    assert letters(writer) == []


def test_the_second_half_of_a_key_update_may_come_a_batch_later(writer: Writer) -> None:
    """By then the old row is gone; what it was is in the table's history, and newer changes in the topic."""
    topic = writer.topic
    topic.send(Event("u", row(1, "second", body="new text"), (2, 1)))
    move(topic, row(1), row(7, "moved"), (2, 2), 1)
    writer.write(1, 3)
    assert writer.rows() == []
    writer.write(3)
    assert writer.rows() == [row(7, "moved", "new text", b"scan")]


def test_the_second_half_of_a_key_update_may_come_a_batch_earlier(writer: Writer) -> None:
    """The stored row is older than the one that moved: the topic is read on."""
    topic = writer.topic
    topic.send(Event("u", row(1, "second", body="new text"), (2, 1)))
    move(topic, row(1), row(7, "moved"), (2, 2), 1)
    topic.records.append(topic.records.pop(1))  # partition 1 is ahead of partition 0
    topic.records.append(topic.records.pop(1))
    topic.records.append(topic.records.pop(1))
    writer.write(1, 2)
    assert row(7, "moved", "new text", b"scan") in writer.rows()
    writer.write(2)
    assert writer.rows() == [row(7, "moved", "new text", b"scan")]


@pytest.mark.parametrize("has_column", [True, False])
def test_a_changed_key_takes_no_column_along_that_came_later(
    lake: Lake, name: str, has_column: bool
) -> None:
    """Neither the NULL of the old key's row, nor that of a row whose table lacks the column still."""
    writer = without_scan(lake, name)
    if has_column:
        writer.topic.send(Event("u", row(1, "first", "long text", None), (2, 1)))
        writer.write(1)
        assert writer.rows() == [row(1, "first", "long text", None)]
    begin = len(writer.topic.records)
    move(writer.topic, row(1), row(7, "moved"), (2, 2))
    writer.write(begin)
    assert writer.rows() == []
    assert [one["reason"] for one in letters(writer)] == ["unavailable_value"]
