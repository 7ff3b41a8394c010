"""Rows of a batch that are looked at more than once: held as they are, until the batch is done.

On disk: they would fill the memory that the plans of the driver's other tables need, and a file that was just
written is read from the system's memory anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame


@dataclass
class HeldRows:
    """What a micro-batch holds beside its folded rows; free again at the end of a `with`."""

    _held: list[DataFrame] = field(default_factory=list)

    def keep(self, rows: DataFrame) -> DataFrame:
        """Compute the rows once, and hold them."""
        held = rows.localCheckpoint(eager=True, storageLevel=StorageLevel.DISK_ONLY)
        self._held.append(held)
        return held

    def __enter__(self) -> HeldRows:
        """All that is kept from here on."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of all of it. Spark alone would wait for a collection of the driver's heap."""
        while self._held:
            release(self._held.pop())


def release(rows: DataFrame) -> None:
    """Let go of locally checkpointed rows."""
    java: Any = rows._jdf
    java.queryExecution().analyzed().rdd().unpersist(False)
