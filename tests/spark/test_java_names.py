"""Names of Java classes are looked up once in a process, not once a batch."""

from __future__ import annotations

from typing import Any

import pytest
from debezium import ITEMS, Event, Topic, item
from lake import Lake
from py4j import protocol
from py4j.clientserver import JavaClient


def test_a_batch_looks_up_no_java_name_that_an_earlier_one_used(
    lake: Lake, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = Topic(ITEMS)
    writer = lake.writer(name, topic)
    for n in range(2):  # a first load, and a merge
        topic.send(Event("c", item(n, "first"), (1, n)))
        writer.write(n)
    asked: list[str] = []
    send = JavaClient.send_command

    def told(self: JavaClient, command: str, *args: Any, **named: Any) -> Any:
        asked.append(command)
        return send(self, command, *args, **named)

    topic.send(Event("u", item(1, "second"), (2, 1)))
    monkeypatch.setattr(JavaClient, "send_command", told)
    writer.write(2)
    monkeypatch.undo()
    assert len(asked) > 100
    assert [one for one in asked if one.startswith(protocol.REFLECTION_COMMAND_NAME)] == []
    assert writer.rows() == [item(0, "first"), item(1, "second")]
