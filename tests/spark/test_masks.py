"""A masked column's values are in nothing that a run writes; everything else is as without a mask."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as pq
import pytest
from debezium import Event, SourceTable, Topic, optional
from lake import Lake, Writer
from test_dead_letters import INFINITY, TIMED, letters

from cdc_sink.errors import ConfigError, StateError
from cdc_sink.spark.read.source import Topic as Read
from cdc_sink.spark.run.replay import replay_letters

PEOPLE = SourceTable({**TIMED.columns, "phone": optional("string"), "age": optional("int")})
CANARY = "canary-4711"
MASKS = {"name": {"mask": "sha256"}, "phone": {"mask": "redact"}, "age": {"mask": "null"}}


def person(key: int, name: str | None, phone: str | None = "", seen: int = 0) -> dict[str, Any]:
    return {"id": key, "name": name, "seen": seen, "phone": phone, "age": 4711}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(scope="module")
def masked(lake: Lake) -> Writer:
    """Rows, an update, and a letter with a later change of its key, all with the canary in them."""
    topic = Topic(PEOPLE)
    topic.send(Event("c", person(1, f"{CANARY} a", f"{CANARY} b"), (1, 1)))
    topic.send(Event("c", person(2, None, None), (1, 2)))
    topic.send(Event("c", person(3, f"{CANARY} bad", f"{CANARY} c", INFINITY), (1, 3)))
    topic.send(Event("u", person(3, f"{CANARY} later", f"{CANARY} d"), (1, 4)))
    writer = lake.writer("masked", topic, columns=MASKS)
    writer.write()
    first = len(topic.records)
    topic.send(Event("u", person(1, f"{CANARY} second", f"{CANARY} e"), (2, 1)))
    writer.write(first)
    return writer


def names(writer: Writer) -> dict[int, tuple[Any, ...]]:
    return {row["id"]: (row["name"], row["phone"], row["age"]) for row in writer.rows()}


def test_the_table_has_what_stands_for_the_values(masked: Writer) -> None:
    assert names(masked) == {
        1: (digest(f"{CANARY} second"), "****", None),
        2: (None, None, None),
    }
    assert [one["reason"] for one in letters(masked)] == ["value", "key_quarantined"]


def test_the_values_are_in_no_file(masked: Writer, tmp_path: Path) -> None:
    """Table, dead letters, their statistics, the catalog, Spark's log; the search finds what is there."""
    folder = Path(masked.lake.pipeline.checkpoints.removeprefix("file://")).parent
    (tmp_path / "control.log").write_text(f"... {CANARY} ...")
    assert [*holding(tmp_path, CANARY)] == [tmp_path / "control.log"]
    assert [*holding(folder, "key_quarantined")] != []  # letters are looked into
    assert [*holding(folder, digest(f"{CANARY} second"))] != []  # and rows
    assert [*holding(folder, CANARY)] == []


def holding(folder: Path, text: str) -> Iterator[Path]:
    """The files that hold a text, whatever they are compressed with."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "scratch" not in path.parts and text in content(path):
            yield path


def content(path: Path) -> str:
    raw = path.read_bytes()
    if path.suffix == ".parquet":
        return str(pq.read_table(io.BytesIO(raw)).to_pylist())
    if path.suffix == ".avro":
        return str(list(fastavro.reader(io.BytesIO(raw))))
    return raw.decode("latin-1")


def test_a_letter_is_replayed_from_the_topic(lake: Lake, masked: Writer) -> None:
    before = letters(masked)
    assert [one["value"] for one in before] == [None, None]
    seen = {"seen": {"on_infinity": "null"}}
    allowed = lake.target("masked", masked.topic, columns={**MASKS, **seen})
    mended = Writer(lake, allowed, masked.topic)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(mended.records.topic), "span", expired)
        with pytest.raises(StateError, match="2 of the dead letters' records are in the topic no"):
            replay_letters(mended.records, mended.ledger)
    assert replay_letters(mended.records, mended.ledger).replayed == 2
    assert names(masked)[3] == (digest(f"{CANARY} later"), "****", None)


def expired(topic: Read, _first: Any, _end: Any) -> Any:
    return topic.writer.topic.batch(topic.writer.spark, 0, 0)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"id": {"mask": "null"}}, "column id can't be masked: it is a column of the key"),
        ({"absent": {"mask": "null"}}, "there is no such column; there are name, seen, phone, age"),
        (
            {"age": {"mask": "sha256"}},
            "age can't be masked: sha256 takes texts alone, and it is int",
        ),
        ({"age": {"mask": "redact"}}, "age can't be masked: redact takes texts alone"),
    ],
)
def test_a_mask_that_can_not_be_stops_before_anything_is_written(
    lake: Lake, masks: dict[str, Any], said: str
) -> None:
    topic = Topic(PEOPLE)
    topic.send(Event("c", person(1, "a"), (1, 1)))
    writer = lake.writer("masked_wrongly", topic, columns=masks)
    with pytest.raises(ConfigError, match=said):
        writer.write()
    assert not writer.exists
