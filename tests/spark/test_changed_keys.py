"""A row whose key changes takes along the values that the connector left out of its second half."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from debezium import Event, SourceTable, Topic, decimal, optional, semantic
from lake import Lake, Reread, Writer
from large_values import (
    BEFORE_SCAN,
    DOCUMENTS,
    FULL,
    SCAN,
    documents,
    first_half,
    key_header,
    move,
    row,
    second_half,
)
from test_dead_letters import letters
from type_rows import OPEN_SCALE

from cdc_sink.debezium.types.mapping import UNAVAILABLE

Row = dict[str, Any]


def _not_needed(*_: object) -> None:
    pytest.fail("the topic was read on, for what the table's row says")


@dataclass
class Played:
    """What tests of one table see of it, after each of its batches. All of them share these batches."""

    writer: Writer
    written: int = 0
    rows: list[dict[int, Row]] = field(default_factory=list)  # after each batch, by key
    letters: list[Row] = field(default_factory=list)
    left_in_memory: set[Any] = field(default_factory=set)
    read_on: list[int] = field(default_factory=list)  # how often the topic was, in the second batch

    @property
    def topic(self) -> Topic:
        return self.writer.topic

    def write(self, end: int | None = None) -> None:
        java: Any = self.writer.spark.sparkContext._jsc
        before = set(java.getPersistentRDDs())
        self.writer.write(self.written, end)
        self.left_in_memory |= set(java.getPersistentRDDs()) - before
        self.written = len(self.topic.records) if end is None else end
        self.rows.append({one["id"]: one for one in self.writer.rows()})
        self.letters = letters(self.writer)


def _whole(key: int) -> Row:
    return {**FULL, "id": key}


# --- in one table: each story has ten keys, and positions that rise over all of them ----------------


@pytest.fixture(scope="module")
def played(lake: Lake) -> Played:
    topic = Topic(DOCUMENTS)
    topic.send_all(Event("c", _whole(10 * story + 1), (1, story)) for story in range(5))
    played = Played(lake.writer("changed_keys", topic))
    played.write()
    moves_once(topic)
    half_comes_early(topic)
    made_anew(topic)
    first = len(topic.records)
    comes_again(topic)
    rest_comes_later(topic)
    moves_twice(topic)
    half_is_missing(topic)
    second = len(topic.records)
    half_comes_late(topic)
    played.write(first)
    span = Reread.span
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Reread, "span", lambda *given: played.read_on.append(1) or span(*given))
        played.write(second)
    played.write()
    return played


def moves_twice(topic: Topic) -> None:
    topic.send(Event("u", row(1, "second", body="new text"), (5, 1)))
    move(topic, row(1), row(7, "moved"), (5, 2), 1)
    topic.send(Event("u", row(7, "third", scan=b"new scan"), (5, 3)), 1)
    delete, create = Event("d", row(7), (5, 4)), Event("c", row(1, "back"), (5, 4))
    topic.raw(topic.key(row(7)), topic.value(delete), 1)
    header = {"__debezium.oldkey": key_header(topic, row(7))}
    topic.raw(topic.key(row(1)), topic.value(create), 0, header)


def test_a_key_that_changed_twice_takes_along_what_changed_between(played: Played) -> None:
    assert played.rows[2][1] == row(1, "back", "new text", b"new scan")
    assert 7 not in played.rows[2]


def moves_once(topic: Topic) -> None:
    move(topic, row(11), row(17, "moved"), (1, 9), 1)


def test_a_changed_key_takes_its_values_along_and_its_batch_leaves_nothing_in_memory(
    played: Played,
) -> None:
    assert played.left_in_memory == set()
    assert played.rows[1][17] == {**FULL, "id": 17, "title": "moved"}
    assert 11 not in played.rows[1]
    assert played.letters == []


def half_is_missing(topic: Topic) -> None:
    topic.send(Event("u", row(21, "second", body="new text"), (6, 1)))
    first_half(topic, row(21), row(27), (6, 2))


def half_comes_late(topic: Topic) -> None:
    second_half(topic, row(21), row(27, "moved"), (6, 2), 1)


def test_the_second_half_of_a_key_update_may_come_a_batch_later(played: Played) -> None:
    """By then the old row is gone; what it was is in the table's history, and newer changes in the topic."""
    assert not {21, 27} & set(played.rows[2])
    assert played.rows[3][27] == row(27, "moved", "new text", b"scan")
    assert 21 not in played.rows[3]


def half_comes_early(topic: Topic) -> None:
    """Partition 1 is ahead of partition 0."""
    second_half(topic, row(31), row(37, "moved"), (3, 2), 1)


def rest_comes_later(topic: Topic) -> None:
    topic.send(Event("u", row(31, "second", body="new text"), (3, 1)))
    first_half(topic, row(31), row(37), (3, 2))


def test_the_second_half_of_a_key_update_may_come_a_batch_earlier(played: Played) -> None:
    """The stored row is older than the one that moved: the topic is read on."""
    for rows in played.rows[1:]:
        assert rows[37] == row(37, "moved", "new text", b"scan")
    assert 31 not in played.rows[2]


def made_anew(topic: Topic) -> None:
    """The last of its batch, so the mark is at its last change."""
    topic.send(Event("c", row(47, "other", "other text", b"other"), (2, 1)))
    _delete_and_move(topic)


def comes_again(topic: Topic) -> None:
    _delete_and_move(topic)
    move(topic, row(47), row(48, "moved again"), (2, 5))


def _delete_and_move(topic: Topic) -> None:
    topic.send(Event("d", row(47), (2, 2)))
    move(topic, row(41), row(47, "moved"), (2, 3))
    topic.send(Event("u", row(47, "after"), (2, 4)))


def test_what_comes_again_says_nothing_of_the_row_that_is_stored(played: Played) -> None:
    """Key 47 was deleted and made anew, by a key update; then both come again, before its key changes too.

    The table's row says it all, so the topic is not read on.
    """
    assert played.read_on == []
    assert played.rows[2][48] == row(48, "moved again", "long text", b"scan")
    assert not {41, 47} & set(played.rows[2])


# --- keys of any type, in one batch of moves ------------------------------------------------------

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
    "of0": ("long", 1, 7, b"1"),
}
CONNECT_TIMES: dict[str, tuple[Any, int, bytes]] = {
    "connect_date": (semantic("int", f"{CONNECT}.Date", logicalType="date"), 18262, b"2020-01-01"),
    "connect_time": (
        semantic("int", f"{CONNECT}.Time", logicalType="time-millis"),
        3_723_004,
        b"01:02:03.004Z",
    ),
    "connect_timestamp": (
        semantic("long", f"{CONNECT}.Timestamp", logicalType="timestamp-millis"),
        1_577_836_800_123,
        b"2020-01-01T00:00:00.123Z",
    ),
}
# As columns are called that the sink makes for itself; the key's is `of0`.
OURS = ("asked0", "image0", "at", "place", "partition", "offset", "old_key", "is_half")
TEXTS = {"body": "long text", **{name: f"long {name}" for name in OURS}}


@pytest.fixture(scope="module")
def typed(lake: Lake) -> Writer:
    """One row whose key changes in each of its columns, and one for each of Connect's times."""
    types = {kind: type_ for kind, (type_, *_) in (KEYS | CONNECT_TIMES).items()}
    old = {kind: value for kind, (_, value, *_) in KEYS.items()} | dict.fromkeys(CONNECT_TIMES, 1)
    new = {kind: value for kind, (_, _, value, _) in KEYS.items()}
    header = {kind: text for kind, (*_, text) in KEYS.items()} | dict.fromkeys(CONNECT_TIMES, b"1")
    moves = [(old, old | new, header)]
    for kind, (_, value, text) in CONNECT_TIMES.items():
        moves.append((old | {kind: value}, old | {kind: 7}, header | {kind: text}))
    return _moved(lake, "typed_keys", types, moves)


def _moved(lake: Lake, name: str, key: Row, moves: list[tuple[Row, Row, Row]]) -> Writer:
    """Store a row for each move, then change their keys in one batch; a header as Connect writes it."""
    table = SourceTable({**key, **dict.fromkeys(TEXTS, optional("string"))}, key=tuple(key))
    topic = Topic(table)
    for old, _, _ in moves:
        topic.send(Event("c", {**old, **TEXTS}, (1, 1)))
    writer = lake.writer(name, topic)
    writer.write()
    for number, (old, new, header) in enumerate(moves):
        whole, moved = {**old, **TEXTS}, {**new, **dict.fromkeys(TEXTS, UNAVAILABLE)}
        text = b",".join(b'"%s":%s' % (kind.encode(), one) for kind, one in header.items())
        move(topic, whole, moved, (2, number), old_key=b"{" + text + b"}")
    writer.write(len(moves))
    return writer


def test_a_changed_key_may_have_any_type(typed: Writer) -> None:
    assert [one["body"] for one in typed.rows()] == ["long text"]
    stored = 1 + len(CONNECT_TIMES)
    assert typed.topic.records[stored + 2][0] not in [one["key"] for one in letters(typed)]


def test_a_key_that_its_header_does_not_tell_is_set_aside(typed: Writer) -> None:
    """Connect writes its own times without quotes: that is no JSON, whichever of them a key has."""
    assert len(typed.rows()) == 1
    assert [one["reason"] for one in letters(typed)] == ["unavailable_value"] * len(CONNECT_TIMES)


def test_a_changed_key_may_be_called_as_a_column_of_our_own(typed: Writer) -> None:
    (found,) = typed.rows()
    assert {name: found[name] for name in ("of0", *TEXTS)} == {"of0": 7, **TEXTS}


# --- tables of their own --------------------------------------------------------------------------


def test_a_changed_key_takes_along_what_is_stored_under_a_renamed_column(
    lake: Lake, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rename and the key update come in one batch, before the table has the new name."""
    topic = Topic(DOCUMENTS)
    topic.send(Event("c", FULL, (1, 1)))
    move(topic, row(1), row(2, "moved"), (2, 1))  # from now on such updates are expected
    writer = lake.writer(name, topic, renames={"body": "story"})
    writer.write()
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


@pytest.fixture(scope="module")
def grown(lake: Lake) -> Played:
    """Both keys are stored without `scan`; key 2 changes before the table has it, key 1 after."""
    topic = Topic(BEFORE_SCAN)
    topic.send_all(Event("c", _whole(key), (1, key)) for key in (1, 2))
    grown = Played(lake.writer("keys_of_a_grown_table", topic))
    grown.write()
    topic.write_as(DOCUMENTS)
    move(topic, row(2), row(8, "moved"), (2, 1))
    topic.send(Event("u", row(1, "first", "long text", None), (2, 2)))
    grown.write()
    move(topic, row(1), row(7, "moved"), (2, 3))
    grown.write()
    return grown


@pytest.mark.parametrize("has_column", [True, False])
def test_a_changed_key_takes_no_column_along_that_came_later(
    grown: Played, has_column: bool
) -> None:
    """Neither the NULL of the old key's row, nor that of a row whose table lacks the column still."""
    key, to = (1, 7) if has_column else (2, 8)
    if has_column:
        assert grown.rows[1][key] == row(key, "first", "long text", None)
    assert not {key, to} & set(grown.rows[2])
    mine = [one for one in grown.letters if one["key"] == grown.topic.key(row(to))]
    assert [one["reason"] for one in mine] == ["unavailable_value"]
