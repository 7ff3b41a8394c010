"""What Spark's own offset log says: which offsets a micro-batch reads.

Source: Spark 4.1. `offsets/<batch>` (OffsetSeqLog: version, metadata, one line per source) has the end of a
batch, and is written before it runs; `sources/0/0` has where the first one begins (KafkaSourceInitialOffset).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from cdc_sink.errors import StateError
from cdc_sink.spark.run.checkpoint import Files
from cdc_sink.table.ledger.offsets import NOT_APPLIED, OffsetRange, parse_offsets


@dataclass
class OffsetLog:
    """The offset log of one checkpoint; the end of the batch before is remembered."""

    files: Files
    checkpoint: str
    where: str
    _last: tuple[int, dict[int, int]] | None = None

    def range_of(self, batch_id: int) -> OffsetRange:
        """The offsets that Spark reads for a batch; a partition that came with it begins at 0.

        Raises: StateError when the checkpoint lacks what Spark wrote there.
        """
        end = self._offsets(f"offsets/{batch_id}")
        if self._last is not None and self._last[0] == batch_id - 1:
            first = self._last[1]
        else:
            first = self._offsets(f"offsets/{batch_id - 1}" if batch_id else "sources/0/0")
        self._last = (batch_id, end)
        return OffsetRange({p: first.get(p, 0) for p in end}, end)

    def _offsets(self, name: str) -> dict[int, int]:
        text = self.files.read(f"{self.checkpoint}/{name}")
        found = parse_offsets(text) if text else None
        if found is None:
            raise StateError(
                self.where,
                f"the checkpoint has no offsets in {name}: something else than Spark changed it",
                data=NOT_APPLIED,
                remedy="start once with `cdc-sink run --take-over`: reading goes on at the ledger's offsets, "
                "and the old checkpoint is moved aside",
            )
        return found


def log_of_running(spark: SparkSession, where: str) -> OffsetLog | None:
    """The offset log of the streaming query that runs this batch; None outside of one."""
    query_id = spark.sparkContext.getLocalProperty("sql.streaming.queryId")
    if query_id is None:
        return None
    jvm: Any = spark._jvm
    session: Any = spark._jsparkSession
    active = session.sharedState().activeStreamingQueries()
    query = active.get(jvm.java.util.UUID.fromString(query_id))
    return None if query is None else OffsetLog(Files(spark), query.resolvedCheckpointRoot(), where)
