"""The same changes at the source, delivered in another way, make the same table."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from typing import Any

import pytest
from debezium import Event, Topic
from lake import Lake, Writer
from large_values import DOCUMENTS, Source
from seeds import seeds

STEPS = 30
Sent = tuple[Any, ...]
Batches = list[list[Sent]]


class Played:
    """A history, and what the source held in its middle: there a source snapshot may be taken."""

    def __init__(self, seed: int) -> None:
        source = Source(seed)
        source.play(STEPS)
        self.middle = len(source.sent)
        self.reads = [
            (source.topic.key(row), source.topic.value(_read(row, source.position)), id_ % 2, None)
            for id_, row in source.rows.items()
        ]
        source.play(STEPS)
        self.sent, self.rows = source.sent, [source.rows[id_] for id_ in sorted(source.rows)]


def _read(row: dict[str, Any], position: int) -> Event:
    return Event("r", row, (1, position), "true")


def _in_batches(sent: list[Sent], count: int) -> Batches:
    cuts = [len(sent) * number // count for number in range(count + 1)]
    return [sent[first:end] for first, end in itertools.pairwise(cuts)]


def _again(sent: list[Sent], dice: random.Random) -> Batches:
    """Each of some batches ends with a tail that comes up to three times more, as after kills of Connect."""
    batches: Batches = []
    done = 0
    for part in _in_batches(sent, 3):
        done += len(part)
        tail = sent[max(0, done - dice.randrange(1, 30)) : done]
        batches.append([*part, *itertools.chain.from_iterable([tail] * dice.choice([1, 3]))])
    return batches


def _table(lake: Lake, name: str, batches: Iterable[list[Sent]]) -> Writer:
    writer = lake.writer(name, Topic(DOCUMENTS))
    for batch in batches:
        first = len(writer.topic.records)
        for record in batch:
            writer.topic.raw(*record)
        writer.write(first)
    return writer


@pytest.mark.parametrize("seed", seeds(21))
def test_batches_redeliveries_and_snapshots_leave_the_same_rows(
    lake: Lake, name: str, seed: int
) -> None:
    """Keys change, values are left out, rows come and go; only the way to the table differs."""
    played, dice = Played(seed), random.Random(seed)
    sent, middle = played.sent, played.middle
    deliveries = {
        "in one batch": [sent],
        "in four batches": _in_batches(sent, 4),
        "again and again": _again(sent, dice),
        "after a source snapshot": [played.reads, *_in_batches(sent[middle:], 2)],
        "with its source snapshot": [played.reads + sent[middle:]],
    }
    for number, (way, batches) in enumerate(deliveries.items()):
        writer = _table(lake, f"{name}_{number}", batches)
        assert writer.rows() == played.rows, (seed, way)
        assert writer.ledger.totals.dead_letters == 0, (seed, way)
