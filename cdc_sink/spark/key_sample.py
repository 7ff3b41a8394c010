"""A few records of a batch, with their keys as Kafka has them: chosen by chance, while the rows pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from cdc_sink.table.partitioning import Placed

MOST = 4  # a batch; a rule that spreads keys otherwise is met within a few of them


@dataclass
class KeySample:
    """The sample of one batch; it is there once a job has run over the batch."""

    _seen: Observation | None = field(default=None)

    def observed(self, records: DataFrame) -> DataFrame:
        """The same records; runs nothing."""
        self._seen = Observation()
        with_key = "key IS NOT NULL"
        picks = [
            F.min(
                F.when(
                    F.expr(with_key),
                    F.struct(
                        F.xxhash64("partition", "offset", F.lit(number)).alias("lot"),
                        "key",
                        "partition",
                    ),
                )
            ).alias(f"pick{number}")
            for number in range(MOST)
        ]
        return records.observe(self._seen, *picks)

    def get(self) -> list[Placed]:
        """The sample; empty where none was asked for."""
        if self._seen is None:
            return []
        picks: dict[str, Any] = self._seen.get
        return [Placed(bytes(one["key"]), one["partition"]) for one in picks.values() if one]
