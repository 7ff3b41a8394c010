"""The dead letters of a pipeline, read without Spark."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow.compute as pc

from cdc_sink import config
from cdc_sink.clients.catalog import load_table
from cdc_sink.errors import ConfigError


def read_letters(
    pipeline: config.Pipeline, table: str | None, states: Collection[str] | None
) -> list[dict[str, Any]]:
    """Return letters by table, partition and offset; `None` means all tables, all states.

    Out: one dict per letter, columns as table/dead_letter.py names them.
    """
    everything = pc.field("state").is_valid()
    of_table = everything if table is None else pc.field("table") == table
    of_state = everything if states is None else pc.field("state").isin([str(s) for s in states])
    return _scan(pipeline, of_table & of_state)


def read_letter(
    pipeline: config.Pipeline, table: str, partition: int, offset: int
) -> dict[str, Any]:
    """Return one letter.

    Raises: ConfigError when there is none.
    """
    wanted = (pc.field("partition") == partition) & (pc.field("offset") == offset)
    found = _scan(pipeline, (pc.field("table") == table) & wanted)
    if not found:
        raise ConfigError(
            f"{table} {partition}@{offset}",
            "no dead letter lies there",
            remedy="look it up with `cdc-sink dead-letters list --all`",
        )
    return found[-1]


def _scan(pipeline: config.Pipeline, wanted: pc.Expression) -> list[dict[str, Any]]:
    letters = load_table(pipeline.catalog, pipeline.dead_letters)
    if letters is None:
        return []
    found: list[dict[str, Any]] = letters.scan().to_arrow().filter(wanted).to_pylist()
    return sorted(found, key=lambda one: (one["table"], one["partition"], one["offset"]))
