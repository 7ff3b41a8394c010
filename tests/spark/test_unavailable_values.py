"""A value that the connector left out is the one of the row before it, wherever that row is, or nobody's."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from debezium import Event, Topic
from lake import Lake, Writer
from large_values import BEFORE_SCAN, DOCUMENTS, FULL, SCAN, Source, documents, row, without_scan
from seeds import seeds
from test_dead_letters import letters

from cdc_sink.debezium.types.mapping import UNAVAILABLE
from cdc_sink.errors import RecordError

Found = dict[int, dict[str, Any]]


@dataclass
class Story:
    """A table, and what a batch of changes of other keys each made of it."""

    writer: Writer

    def __post_init__(self) -> None:
        self.rows: Found = {one["id"]: one for one in self.writer.rows()}
        self.letters = letters(self.writer)
        summary = self.writer.table.current_snapshot().summary  # type: ignore[union-attr]
        self.left_out = json.loads(str(summary["cdc-sink.batch"])).get("unavailable")  # type: ignore[index]

    def of(self, *keys: int) -> list[dict[str, Any]]:
        return [self.rows[key] for key in keys if key in self.rows]

    def letters_of(self, *keys: int) -> list[dict[str, Any]]:
        wanted = [self.writer.topic.key(row(key)) for key in keys]
        return [one for one in self.letters if one["key"] in wanted]


POLICIES = ("quarantine_key", "set_null", "stop")


@pytest.fixture(scope="module")
def stories(lake: Lake) -> dict[str, Story]:
    """By the policy; a row for each key that is stored before."""
    return {policy: _story(lake, policy) for policy in POLICIES}


def _story(lake: Lake, policy: str) -> Story:
    topic = Topic(DOCUMENTS)
    topic.send(Event("r", row(32, "read"), (1, 1), "true"))
    topic.send_all(Event("c", {**FULL, "id": key}, (1, key)) for key in (1, 11, 21, 31, 41))
    writer = lake.writer(f"left_out_{policy}", topic, unavailable_value=policy)
    writer.write()
    first = len(topic.records)
    topic.send(Event("u", row(1, "second"), (2, 1)))
    _column_by_column(topic)
    topic.send(Event("u", TEXT, (4, 1)))
    topic.send(Event("c", row(33, "inserted"), (5, 1)))
    topic.send(Event("c", row(34, "whole", "text", b"bytes"), (5, 2)))
    topic.send(Event("u", row(34, "updated"), (5, 3)))
    if policy != "stop":
        topic.send(Event("u", row(49, "never seen whole", scan=LEFT_OUT[policy]), (6, 1)))
        topic.send(Event("u", row(41, "second"), (6, 2)))
    if policy == "quarantine_key":
        topic.send(Event("d", row(41), (6, 3)))
        topic.send(Event("u", row(41, "after its delete"), (6, 4)))
    writer.write(first)
    return Story(writer)


LEFT_OUT = {"quarantine_key": SCAN, "set_null": b"s"}


@pytest.mark.parametrize("policy", POLICIES)
def test_it_comes_from_the_stored_row(stories: dict[str, Story], policy: str) -> None:
    assert stories[policy].of(1) == [{**FULL, "title": "second"}]
    # Key 41 takes them from there too, unless it waits.
    taken = 2 if policy == "set_null" else 1
    assert stories[policy].left_out == {"body": taken, "scan": taken}


def _column_by_column(topic: Topic) -> None:
    topic.send(Event("u", row(11, "second", body="new text"), (3, 1)))
    topic.send(Event("u", row(11, "third", scan=b"new scan"), (3, 2)))
    topic.send(Event("u", row(11, "fourth"), (3, 3)))
    topic.send(Event("c", row(12, "whole", "b", b"s"), (3, 4)))
    topic.send(Event("u", row(12, "whole again", body=None), (3, 5)))


@pytest.mark.parametrize("policy", POLICIES)
def test_it_comes_from_an_older_change_of_the_batch_column_by_column(
    stories: dict[str, Story], policy: str
) -> None:
    """The second of two updates of one row must not undo the first."""
    assert stories[policy].of(11, 12) == [
        row(11, "fourth", "new text", b"new scan"),
        row(12, "whole again", None, b"s"),
    ]


TEXT = row(21, "second", f"see {UNAVAILABLE}", SCAN + b"!")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_text_that_contains_the_placeholder_is_data(
    stories: dict[str, Story], policy: str
) -> None:
    assert stories[policy].of(21) == [TEXT]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_placeholders_text_in_a_row_that_is_read_or_inserted_is_data(
    stories: dict[str, Story], policy: str
) -> None:
    """Nothing can be left out of either; what a key takes along when it changes can."""
    assert stories[policy].of(31, 32, 33, 34) == [
        {**FULL, "id": 31},
        row(32, "read"),
        row(33, "inserted"),
        row(34, "updated", "text", b"bytes"),
    ]
    assert stories[policy].letters_of(31, 32, 33, 34) == []


@pytest.mark.parametrize("connector", ["mysql", "mariadb"])
def test_a_binlog_leaves_nothing_out(lake: Lake, name: str, connector: str) -> None:
    """What looks like the placeholder was written at the source."""
    writer = documents(lake, name, row(1), replace(DOCUMENTS, connector=connector))
    assert writer.rows() == [row(1)]
    assert letters(writer) == []


def test_nobodys_value_puts_the_key_into_quarantine(stories: dict[str, Story]) -> None:
    story = stories["quarantine_key"]
    end = len(story.writer.topic.records)
    assert [(one["offset"], one["reason"]) for one in story.letters] == [
        (end - 4, "unavailable_value"),
        (end - 3, "unavailable_value"),
        (end - 2, "key_quarantined"),
        (end - 1, "key_quarantined"),
    ]
    assert story.letters[0]["message"].endswith("(body, scan)")
    assert story.of(41, 49) == [{**FULL, "id": 41}]


def test_nobodys_value_may_become_null_when_the_policy_says_so(stories: dict[str, Story]) -> None:
    story = stories["set_null"]
    assert story.of(41, 49) == [
        {**FULL, "id": 41, "title": "second"},
        row(49, "never seen whole", None, b"s"),
    ]
    assert story.letters == []


def test_nobodys_value_may_stop_the_table(stories: dict[str, Story]) -> None:
    story = stories["stop"]
    topic = replace(story.writer.topic, records=list(story.writer.topic.records))
    writer = replace(story.writer, topic=topic)
    topic.send(Event("u", row(49, "never seen whole"), (6, 1)))
    with pytest.raises(RecordError, match=r"the connector left a value out, .* \(body, scan\)"):
        writer.write(topic.end() - 1)
    assert {one["id"]: one for one in writer.rows()} == story.rows
    assert story.letters == letters(writer) == []


def test_an_empty_table_has_no_row_to_take_it_from(lake: Lake, name: str) -> None:
    topic = Topic(DOCUMENTS)
    topic.send(Event("u", row(9, "never seen whole"), (2, 1)))
    topic.send(Event("c", FULL, (2, 2)))
    writer = lake.writer(name, topic)
    writer.write()
    assert writer.rows() == [FULL]
    assert [one["reason"] for one in letters(writer)] == ["unavailable_value"]


# --- columns that came later ----------------------------------------------------------------------


STEPS = {"at once": 1, "column first": 2, "row in the batch": 3}


@pytest.fixture(scope="module")
def grown(lake: Lake) -> Story:
    """A table that is without the column at its first batch, and has it from the second on."""
    topic = Topic(BEFORE_SCAN)
    topic.send_all(Event("c", {**FULL, "id": key}, (1, key)) for key in STEPS.values())
    writer = lake.writer("left_out_grown", topic)
    writer.write()
    value = topic.value(Event("u", row(3, "between", "b"), (2, 1)))
    topic.raw(topic.key(row(3)), value)
    topic.write_as(DOCUMENTS)
    topic.send(Event("u", row(3, "second"), (2, 2)))
    topic.send(Event("u", row(1, "second"), (2, 3)))
    topic.send(Event("c", row(4, "other", "b", b"s"), (2, 4)))
    writer.write(len(STEPS))
    assert writer.rows()[1] == row(2, "first", "long text", None)  # it has the column
    topic.send(Event("u", row(2, "second"), (2, 5)))
    writer.write(len(topic.records) - 1)
    return Story(writer)


@pytest.mark.parametrize("steps", STEPS)
def test_a_column_that_came_later_has_no_value_to_take(grown: Story, steps: str) -> None:
    """Its NULL is none of the source: it was excluded, or filled by an ALTER TABLE, which sends no event.

    The placeholder comes while the table lacks the column, has it, and with the older row in one batch.
    """
    key = STEPS[steps]
    found = grown.letters_of(key)
    assert [(one["reason"], one["message"][-6:]) for one in found[:1]] == [
        ("unavailable_value", "(scan)")
    ]
    assert [one["title"] for one in grown.of(key)] == ["first"]
    assert [one["title"] for one in grown.of(4)] == ["other"]


def test_a_column_that_came_later_may_be_null_when_the_policy_says_so(
    lake: Lake, name: str
) -> None:
    writer = without_scan(lake, name, unavailable_value="set_null")
    writer.topic.send(Event("u", row(1, "second"), (2, 1)))
    writer.write(1)
    assert writer.rows() == [row(1, "second", "long text", None)]
    assert letters(writer) == []


def test_a_connector_that_leaves_nulls_out_means_the_stored_null(lake: Lake, name: str) -> None:
    """Oracle sends the placeholder for a LOB that no statement touched, NULL or not."""
    topic = Topic(replace(DOCUMENTS, connector="oracle"))
    whole = row(1, "first", None, b"scan")
    topic.send(Event("c", whole, (1, 1)))
    topic.send(Event("c", row(2, "other", None, None), (1, 2)))
    topic.send(Event("u", row(2, "again"), (1, 3)))
    writer = lake.writer(name, topic)
    writer.write()
    topic.send(Event("u", row(1, "second"), (2, 1)))
    writer.write(3)
    assert writer.rows() == [{**whole, "title": "second"}, row(2, "again", None, None)]
    assert letters(writer) == []


# --- any history ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(11))
def test_any_history_with_values_left_out_ends_as_its_source(
    lake: Lake, name: str, seed: int
) -> None:
    """Keys change, changes come twice, batches cut the history anywhere, partitions run at their own pace."""
    source = Source(seed)
    source.play(90)
    records, dice = source.topic.records, source.dice
    # A partition may lag a few records; inside it the order stays.
    lag = {0: 0, 1: dice.randrange(6)}
    order = sorted(range(len(records)), key=lambda n: (n + lag[records[n][3]], n))
    source.topic.records = [records[n] for n in order]
    writer = lake.writer(name, source.topic)
    cuts = sorted({0, *(dice.randrange(len(records)) for _ in range(4)), len(records)})
    for first, end in itertools.pairwise(cuts):
        writer.write(first, end)
    assert letters(writer) == []
    assert writer.rows() == [source.rows[key] for key in sorted(source.rows)], f"seed {seed}"
