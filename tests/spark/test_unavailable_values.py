"""A value that the connector left out is the one of the row before it, wherever that row is, or nobody's."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from debezium import Event, Topic
from lake import Lake, Writer
from large_values import BEFORE_SCAN, DOCUMENTS, FULL, SCAN, Source, documents, row, without_scan
from seeds import seeds
from test_dead_letters import letters

from cdc_sink.debezium.types.mapping import UNAVAILABLE
from cdc_sink.errors import RecordError


@pytest.fixture
def writer(lake: Lake, name: str) -> Writer:
    return documents(lake, name)


def test_it_comes_from_the_stored_row(writer: Writer) -> None:
    writer.topic.send(Event("u", row(1, "second"), (2, 1)))
    writer.write(1)
    assert writer.rows() == [{**FULL, "title": "second"}]
    assert json.loads(str(writer.table.current_snapshot().summary["cdc-sink.batch"]))[  # type: ignore[union-attr,index]
        "unavailable"
    ] == {"body": 1, "scan": 1}


def test_it_comes_from_an_older_change_of_the_batch_column_by_column(writer: Writer) -> None:
    """The second of two updates of one row must not undo the first."""
    writer.topic.send(Event("u", row(1, "second", body="new text"), (2, 1)))
    writer.topic.send(Event("u", row(1, "third", scan=b"new scan"), (2, 2)))
    writer.topic.send(Event("u", row(1, "fourth"), (2, 3)))
    writer.topic.send(Event("c", row(2, "whole", "b", b"s"), (2, 4)))
    writer.topic.send(Event("u", row(2, "whole again", body=None), (2, 5)))
    writer.write(1)
    assert writer.rows() == [
        row(1, "fourth", "new text", b"new scan"),
        row(2, "whole again", None, b"s"),
    ]


def test_a_text_that_contains_the_placeholder_is_data(writer: Writer) -> None:
    written = row(1, "second", f"see {UNAVAILABLE}", SCAN + b"!")
    writer.topic.send(Event("u", written, (2, 1)))
    writer.write(1)
    assert writer.rows() == [written]


@pytest.mark.parametrize("policy", ["quarantine_key", "set_null", "stop"])
def test_the_placeholders_text_in_a_row_that_is_read_or_inserted_is_data(
    lake: Lake, name: str, policy: str
) -> None:
    """Nothing can be left out of either; what a key takes along when it changes can."""
    read = replace(documents(lake, name, unavailable_value=policy), partitions=(0, 1))
    topic = read.topic
    topic.send(Event("r", row(2, "read"), (1, 1), "true"))
    read.write(1)
    topic.send(Event("c", row(3, "inserted"), (2, 1)))
    topic.send(Event("c", row(4, "whole", "text", b"bytes"), (2, 2)))
    topic.send(Event("u", row(4, "updated"), (2, 3)))
    read.write(2)
    assert read.rows() == [
        FULL,
        row(2, "read"),
        row(3, "inserted"),
        row(4, "updated", "text", b"bytes"),
    ]
    assert letters(read) == []


@pytest.mark.parametrize("connector", ["mysql", "mariadb"])
def test_a_binlog_leaves_nothing_out(lake: Lake, name: str, connector: str) -> None:
    """What looks like the placeholder was written at the source."""
    writer = documents(lake, name, row(1), replace(DOCUMENTS, connector=connector))
    assert writer.rows() == [row(1)]
    assert letters(writer) == []


def test_nobodys_value_puts_the_key_into_quarantine(writer: Writer) -> None:
    topic = writer.topic
    topic.send(Event("u", row(9, "never seen whole"), (2, 1)))
    topic.send(Event("u", row(1, "second"), (2, 2)))
    topic.send(Event("d", row(1), (2, 3)))
    topic.send(Event("u", row(1, "after its delete"), (2, 4)))
    writer.write(1)
    assert [(one["offset"], one["reason"]) for one in letters(writer)] == [
        (1, "unavailable_value"),
        (2, "unavailable_value"),
        (3, "key_quarantined"),
        (4, "key_quarantined"),
    ]
    assert letters(writer)[0]["message"].endswith("(body, scan)")
    assert writer.rows() == [FULL]


def test_nobodys_value_may_become_null_when_the_policy_says_so(lake: Lake, name: str) -> None:
    writer = documents(lake, name, unavailable_value="set_null")
    topic = writer.topic
    topic.send(Event("u", row(9, "never seen whole", scan=b"s"), (2, 1)))
    topic.send(Event("u", row(1, "second"), (2, 2)))
    writer.write(1)
    assert writer.rows() == [{**FULL, "title": "second"}, row(9, "never seen whole", None, b"s")]
    assert letters(writer) == []


def test_nobodys_value_may_stop_the_table(lake: Lake, name: str) -> None:
    writer = documents(lake, name, unavailable_value="stop")
    topic = writer.topic
    topic.send(Event("u", row(9, "never seen whole"), (2, 1)))
    with pytest.raises(RecordError, match=r"the connector left a value out, .* \(body, scan\)"):
        writer.write(1)
    assert writer.rows() == [FULL]


def test_an_empty_table_has_no_row_to_take_it_from(lake: Lake, name: str) -> None:
    topic = Topic(DOCUMENTS)
    topic.send(Event("u", row(9, "never seen whole"), (2, 1)))
    topic.send(Event("c", FULL, (2, 2)))
    writer = lake.writer(name, topic)
    writer.write()
    assert writer.rows() == [FULL]
    assert [one["reason"] for one in letters(writer)] == ["unavailable_value"]


# --- columns that came later ----------------------------------------------------------------------


@pytest.mark.parametrize("steps", ["at once", "column first", "row in the batch"])
def test_a_column_that_came_later_has_no_value_to_take(lake: Lake, name: str, steps: str) -> None:
    """Its NULL is none of the source: it was excluded, or filled by an ALTER TABLE, which sends no event.

    The placeholder comes while the table lacks the column, has it, and with the older row in one batch.
    """
    writer, begin = without_scan(lake, name), 1
    if steps == "column first":
        writer.topic.send(Event("c", row(2, "other", "b", b"s"), (2, 1)))
        writer.write(1)
        begin = 2
    if steps == "row in the batch":
        old = Topic(BEFORE_SCAN, registry=writer.topic.registry)
        value = old.value(Event("u", row(1, "between", "b"), (2, 2)))
        writer.topic.raw(writer.topic.key(FULL), value)
    writer.topic.send(Event("u", row(1, "second"), (2, 3)))
    before = {one["id"]: one["title"] for one in writer.rows()}
    writer.write(begin)
    assert [(one["reason"], one["message"][-6:]) for one in letters(writer)[:1]] == [
        ("unavailable_value", "(scan)")
    ]
    assert {one["id"]: one["title"] for one in writer.rows()} == before


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
