"""A transform of one's own keeps every promise of the main path; one that breaks a promise stops by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from debezium import Event, Topic, optional
from lake import Lake, Writer
from large_values import DOCUMENTS, move, row
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType
from test_dead_letters import INFINITY, TIMED, letters
from test_dead_letters import row as timed

from cdc_sink.errors import CdcSinkError, RecordError, StateError
from cdc_sink.spark.run.replay import replay_letters
from cdc_sink.table.ledger.ledger import TRANSFORMED_PROPERTY

# By value: Python's workers don't find this file.
in_python = F.udf(
    lambda text: None if text is None else __import__("hashlib").sha256(text.encode()).hexdigest(),
    StringType(),
)


def masked(changes: DataFrame) -> DataFrame:
    """`title` hashed, `body` in capitals, a digest of it beside, `scan` left out, a column of our own."""
    after = (
        F.col("after")
        .withField("title", F.sha2("after.title", 256))
        .withField("body", F.upper("after.body"))
        .withField("body_digest", in_python("after.body"))
        .withField("came_by", F.struct(F.lit("us").alias("name")))
        .dropFields("scan")
    )
    return changes.withColumn("after", after)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def made(key: int, title: str, body: str, **more: Any) -> dict[str, Any]:
    return {
        "id": key,
        "title": digest(title),
        "body": body.upper(),
        "body_digest": digest(body),
        "came_by": {"name": "us"},
        **more,
    }


@dataclass(frozen=True)
class Story:
    """A table that three drivers wrote, one after the other, with one transform."""

    rows: list[dict[str, Any]]
    columns: tuple[str, ...]
    writer: Writer


@pytest.fixture(scope="module")
def story(lake: Lake) -> Story:
    topic = Topic(DOCUMENTS)
    target = lake.target("transformed", topic)
    topic.send_all(
        Event("c", row(key, "first", f"text {key}", b"s"), (1, key)) for key in (1, 2, 3, 4)
    )
    Writer(lake, target, topic, transform=masked).write()

    first = len(topic.records)
    topic.send(Event("u", row(1, "second"), (2, 1)))  # body and scan left out
    topic.send(Event("d", row(2), (2, 2)))
    topic.tombstone(row(2))
    topic.send(Event("u", row(3, "second", "new text"), (2, 3)))
    topic.send(Event("u", row(3, "third"), (2, 4)))
    Writer(lake, target, topic, transform=masked).write(first)

    first = len(topic.records)
    topic.write_as(replace(DOCUMENTS, columns={**DOCUMENTS.columns, "note": optional("string")}))
    topic.send(Event("u", {**row(4, "second"), "note": "a note"}, (3, 1)))
    # A partition that was not there before.
    topic.send(Event("c", {**row(5, "first", "text 5", b"s"), "note": None}, (3, 2)), 2)
    last = Writer(lake, target, topic, transform=masked)
    last.write(first)
    return Story(last.rows(), tuple(last.rows()[0]), last)


def test_it_holds_for_updates_deletes_new_columns_and_new_partitions(story: Story) -> None:
    assert story.rows == [
        made(1, "second", "text 1", note=None),
        made(3, "third", "new text", note=None),
        made(4, "second", "text 4", note="a note"),
        made(5, "first", "text 5", note=None),
    ]


def test_a_column_that_it_drops_is_not_in_the_table(story: Story) -> None:
    assert story.columns == ("id", "title", "body", "body_digest", "came_by", "note")


def test_the_table_says_which_columns_it_changes_adds_or_leaves_out(story: Story) -> None:
    """verify compares the others."""
    names = json.loads(story.writer.table.properties[TRANSFORMED_PROPERTY])
    assert names == ["body", "body_digest", "came_by", "scan", "title"]


def test_a_table_that_it_made_is_not_written_without_it(lake: Lake, story: Story) -> None:
    before = story.writer.table.metadata_location
    with pytest.raises(StateError, match="a transform made the rows of this table"):
        Writer(lake, story.writer.target, story.writer.topic).write()
    assert story.writer.table.metadata_location == before


def test_a_letter_is_replayed_through_it(lake: Lake) -> None:
    def hashed(changes: DataFrame) -> DataFrame:
        return changes.withColumn(
            "after", F.col("after").withField("name", F.sha2("after.name", 256))
        )

    topic = Topic(TIMED)
    topic.send(Event("c", timed(1, "first", INFINITY), (1, 1)))
    topic.send(Event("u", timed(1, "later"), (1, 2)))
    topic.send(Event("c", timed(2, "other"), (1, 3)))
    target = lake.target("transformed_letters", topic)
    writer = Writer(lake, target, topic, transform=hashed)
    writer.write()
    assert [one["name"] for one in writer.rows()] == [digest("other")]
    assert [one["reason"] for one in letters(writer)] == ["value", "key_quarantined"]
    allowed = lake.target("transformed_letters", topic, columns={"seen": {"on_infinity": "null"}})
    mended = Writer(lake, allowed, topic, transform=hashed)
    assert replay_letters(mended.records, mended.ledger).replayed == 2
    assert [one["name"] for one in writer.rows()] == [digest("later"), digest("other")]


def test_what_is_made_of_a_value_that_was_left_out_and_of_one_that_was_sent_stops(
    lake: Lake,
) -> None:
    def both(changes: DataFrame) -> DataFrame:
        text = F.concat("after.title", "after.body")
        return changes.withColumn("after", F.col("after").withField("both", text))

    topic = Topic(DOCUMENTS)
    topic.send(Event("c", row(1, "t", "whole", b"s"), (1, 1)))
    target = lake.target("transform_of_both", topic)
    Writer(lake, target, topic, transform=both).write()
    topic.send(Event("u", row(1, "second"), (1, 2)))
    with pytest.raises(RecordError, match=r"@1: the transform makes a column .* \(both\)"):
        Writer(lake, target, topic, transform=both).write(1)


# --- what it may not do ---------------------------------------------------------------------------


def field(name: str, made: Callable[[], Column]) -> Callable[[DataFrame], DataFrame]:
    return lambda c: c.withColumn("after", F.col("after").withField(name, made()))


def raising(_changes: DataFrame) -> DataFrame:
    raise ValueError("a secret")


BROKEN: dict[str, tuple[Callable[[DataFrame], Any], str]] = {
    "filters": (lambda c: c.where("op <> 'd'"), "leaves out or orders records"),
    "doubles": (lambda c: c.unionByName(c), "leaves out or orders records"),
    "explodes": (lambda c: c.withColumn("n", F.explode(F.array(F.lit(1)))), "Spark's Generate"),
    "sorts": (lambda c: c.orderBy("offset"), "orders records"),
    "other frame": (lambda c: c.sparkSession.range(1), "leaves out or orders records"),
    "key": (lambda c: c.withColumn("key", F.struct(F.lit(1).alias("id"))), "drops key"),
    "offset": (lambda c: c.withColumn("offset", F.col("offset") + 1), "drops offset"),
    "op": (lambda c: c.withColumn("op", F.lit("u")), "drops op"),
    "drops": (lambda c: c.drop("position"), "drops position"),
    "no struct": (lambda c: c.withColumn("after", F.lit(1)), "no struct `after`"),
    "type": (field("title", lambda: F.lit(1)), "after.title as int, and it was string"),
    "key column": (field("id", lambda: F.lit(7).cast("bigint")), "after.id, a column of the key"),
    "no key column": (
        lambda c: c.withColumn("after", F.col("after").dropFields("id")),
        "dropped id",
    ),
    "two of one name": (
        lambda c: c.withColumn(
            "after", F.struct("after.id", F.lit(1).alias("a"), F.lit(2).alias("A"))
        ),
        "two columns differ only in case",
    ),
    "random": (field("x", F.rand), "another answer each time"),
    "raises": (raising, "raised ValueError in .*test_transforms.py line"),
    "unknown column": (field("x", lambda: F.col("after.absent")), "raised AnalysisException"),
    "nothing": (lambda _c: None, "raised AttributeError"),
}


@pytest.fixture(scope="module")
def one_change(lake: Lake) -> Topic:
    topic = Topic(DOCUMENTS)
    topic.send(Event("c", row(1, "t", "whole", b"s"), (1, 1)))
    return topic


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_stops_before_anything_is_written(
    lake: Lake, one_change: Topic, name: str
) -> None:
    transform, said = BROKEN[name]
    writer = Writer(lake, lake.target("transform_broken", one_change), one_change)
    writer.records.transform = transform
    writer.records.__post_init__()
    with pytest.raises(CdcSinkError, match=said) as refused:
        writer.write()
    assert "secret" not in str(refused.value)
    assert not writer.exists


def test_a_value_at_which_it_fails_is_named_by_its_record(lake: Lake) -> None:
    topic = Topic(DOCUMENTS)
    topic.send_all(Event("c", row(key, f"{key}", "b", b"s"), (1, key)) for key in (1, 2))
    topic.send(Event("c", row(3, "no number", "b", b"s"), (1, 3)))
    number = field("number", lambda: F.col("after.title").cast("int"))
    writer = Writer(lake, lake.target("transform_fails", topic), topic, transform=number)
    with pytest.raises(CdcSinkError, match=r"\]@2: the transform fails at this record") as failed:
        writer.write()
    assert "no number" not in str(failed.value)


@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_it_holds_behind_a_snapshot_and_for_a_key_that_changes(lake: Lake, mode: str) -> None:
    """The row under the new key takes what was left out from the row under the old one, transformed."""
    topic = Topic(DOCUMENTS)
    topic.send(Event("r", row(1, "read", "text", b"s"), (1, 1), "true"))
    topic.send(Event("r", row(2, "read", "other", b"s"), (1, 1), "last"))
    target = lake.target(f"transformed_{mode}", topic, mode=mode)
    Writer(lake, target, topic, transform=masked).write()
    first = len(topic.records)
    topic.send(Event("u", row(2, "second"), (2, 1)))
    move(topic, row(1), row(7, "moved"), (3, 1), 0)
    last = Writer(lake, target, topic, transform=masked)
    last.write(first)
    found = {one["id"]: (one["title"], one["body"]) for one in last.rows()}
    if mode == "mirror":
        assert found == {2: (digest("second"), "OTHER"), 7: (digest("moved"), "TEXT")}
    else:  # an event of its own has what was sent
        assert found[7] == (digest("moved"), None)
        assert len(last.rows()) == 5
