"""What the operator wants of one table, as one value that the configuration makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from cdc_sink.debezium.flattened import Order
from cdc_sink.debezium.options import NO_OPTIONS, TableOptions


class TableMode(StrEnum):
    """What a table holds: the source's current rows, or every change event as a row of its own."""

    MIRROR = "mirror"
    APPEND = "append"

    @property
    def keeps_events(self) -> bool:
        """Each event stands for itself: there is no key, no fold, and no row that another one replaces."""
        return self is TableMode.APPEND


@dataclass(frozen=True)
class TablePolicy:
    """How a table is made and how it follows its source; the defaults are the configuration's.

    `order` tells a redelivered change from a new one; `sources`, how many source tables fill it; `renames`,
    new names by old ones; `buckets`, the number of partitions by hash of the key, or of `bucket_column`.
    """

    mode: TableMode = TableMode.MIRROR
    order: Order = "source"
    sources: Literal["one", "many"] = "one"
    schema_change: Literal["additive", "frozen"] = "additive"
    on_incompatible: Literal["stop", "second_column"] = "stop"
    renames: Mapping[str, str] = field(default_factory=dict)
    options: TableOptions = NO_OPTIONS
    buckets: int = 8
    bucket_column: str | None = None


DEFAULT_POLICY = TablePolicy()
