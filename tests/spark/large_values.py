"""A table with large values that a connector leaves out where they did not change, and its history."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

from debezium import Event, SourceTable, Topic, optional
from lake import Lake, Writer

from cdc_sink.debezium.types.mapping import UNAVAILABLE

DOCUMENTS = SourceTable(
    {
        "id": "long",
        "title": optional("string"),
        "body": optional("string"),
        "scan": optional("bytes"),
    }
)
SCAN = UNAVAILABLE.encode()


def row(
    key: int, title: str = "t", body: str | None = UNAVAILABLE, scan: bytes | None = SCAN
) -> dict[str, Any]:
    return {"id": key, "title": title, "body": body, "scan": scan}


FULL = row(1, "first", "long text", b"scan")


def documents(
    lake: Lake,
    name: str,
    whole: dict[str, Any] = FULL,
    table: SourceTable = DOCUMENTS,
    **settings: Any,
) -> Writer:
    """A table of one whole row; topics of two partitions."""
    topic = Topic(table)
    topic.send(Event("c", whole, (1, 1)))
    writer = lake.writer(name, topic, **settings)
    writer.write()
    return writer


BEFORE_SCAN = replace(
    DOCUMENTS, columns={n: t for n, t in DOCUMENTS.columns.items() if n != "scan"}
)


def without_scan(lake: Lake, name: str, **settings: Any) -> Writer:
    """A table whose one row was written before its source had, or sent, the column `scan`."""
    writer = documents(lake, name, table=BEFORE_SCAN, **settings)
    writer.topic.write_as(DOCUMENTS)
    return writer


def move(
    topic: Topic,
    old: dict[str, Any],
    new: dict[str, Any],
    position: tuple[int, int],
    to: int = 0,
    *,
    old_key: bytes | None = None,
) -> None:
    """A key update: both halves, each with Debezium's header; `old_key` where it is no plain JSON."""
    first_half(topic, old, new, position)
    second_half(topic, old, new, position, to, old_key=old_key)


def first_half(
    topic: Topic, old: dict[str, Any], new: dict[str, Any], position: tuple[int, int]
) -> None:
    delete = Event("d", old, position)
    topic.raw(topic.key(old), topic.value(delete), 0, {"__debezium.newkey": key_header(topic, new)})
    topic.tombstone(old, 0)


def second_half(
    topic: Topic,
    old: dict[str, Any],
    new: dict[str, Any],
    position: tuple[int, int],
    to: int = 0,
    *,
    old_key: bytes | None = None,
) -> None:
    create = Event("c", new, position)
    header = {"__debezium.oldkey": old_key or key_header(topic, old)}
    topic.raw(topic.key(new), topic.value(create), to, header)


def key_header(topic: Topic, of: dict[str, Any]) -> bytes:
    """A key as Connect writes it into a header, as far as JSON has the type."""
    return json.dumps({name: of[name] for name in topic.table.key}, default=str).encode()


class Source:
    """A table at its source, under the default replica identity: what a change left alone is left out."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.topic = Topic(DOCUMENTS)
        self.rows: dict[int, dict[str, Any]] = {}
        self.position = 0
        self.sent: list[tuple[Any, ...]] = []

    def play(self, steps: int) -> None:
        for number in range(steps):
            if self.dice.random() < 0.1:
                self.redeliver()
            key = self.dice.randrange(5)
            if key not in self.rows:
                self.insert(key, number)
            else:
                self.dice.choice((self.update, self.update, self.delete, self.move))(key, number)

    def insert(self, key: int, number: int) -> None:
        self.rows[key] = row(key, f"{key} at {number}", f"body {number}", bytes([number % 256]))
        self.send(Event("c", self.rows[key], self.next_position()))

    def update(self, key: int, number: int) -> None:
        new = dict(self.rows[key])
        for name, value in (("title", f"{number}"), ("body", f"new {number}"), ("scan", b"new")):
            if self.dice.random() < 0.4:
                new[name] = value
        event = Event("u", self.left_out(self.rows[key], new), self.next_position())
        self.rows[key] = new
        self.send(event)

    def delete(self, key: int, _number: int) -> None:
        self.send(Event("d", self.rows.pop(key), self.next_position()))

    def move(self, key: int, _number: int) -> None:
        to = self.dice.randrange(5)
        if to in self.rows:
            return
        old, position = self.rows.pop(key), self.next_position()
        self.rows[to] = {**old, "id": to}
        self.send(Event("d", old, position))
        half = Event("c", self.left_out(old, self.rows[to]), position)
        self.send(half, {"__debezium.oldkey": key_header(self.topic, old)})

    def left_out(self, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        """The large columns that did not change, as PostgreSQL's connector sends them."""
        placeholders = {"body": UNAVAILABLE, "scan": SCAN}
        return {n: placeholders.get(n, v) if v == old[n] else v for n, v in new.items()}

    def next_position(self) -> tuple[int, int]:
        self.position += 1
        return (1, self.position)

    def send(self, event: Event, headers: dict[str, bytes] | None = None) -> None:
        key, value = self.topic.key(event.row), self.topic.value(event)
        self.sent.append((key, value, event.row["id"] % 2, headers))
        self.topic.raw(*self.sent[-1])

    def redeliver(self) -> None:
        """Connect was killed: it sends its last changes again, before it goes on."""
        for again in self.sent[-self.dice.randrange(1, 8) :]:
            self.topic.raw(*again)
