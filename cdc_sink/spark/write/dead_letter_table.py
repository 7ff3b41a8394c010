"""The dead-letter table of a pipeline: putting letters in, asking which keys are quarantined, marking them.

Putting happens before the table commit that moves the offsets: a crash between the two replays the batch, and
the same letters are found in the table already.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from cdc_sink.config import Target
from cdc_sink.errors import ConfigError
from cdc_sink.table.dead_letter import (
    FIELDS,
    NAMED_BY,
    WAITING,
    State,
    create_sql,
    mark_sql,
    message_sql,
    put_sql,
)

VIEW = "cdc_sink_letters"

# Two tables of a pipeline may meet their first bad record at the same moment.
_one_creates = threading.Lock()


@dataclass(frozen=True)
class DeadLetters:
    """The letters of one table, from one topic incarnation."""

    spark: SparkSession
    target: Target
    topic_id: str

    @property
    def exists(self) -> bool:
        """The pipeline has put a letter before."""
        return bool(self.spark.catalog.tableExists(self.target.dead_letters))

    def waiting(self) -> DataFrame | None:
        """The quarantined letters as Kafka records, in no order; None when there is no letter at all."""
        if not self.exists:
            return None
        # Other programs change letters, too, and the session keeps what it has loaded.
        self.spark.catalog.refreshTable(self.target.dead_letters)
        letters = self.spark.table(self.target.dead_letters)
        own = (
            (F.col("table") == self.target.name)
            & (F.col("topic_id") == self.topic_id)
            & F.col("state").isin([state.value for state in WAITING])
        )
        return letters.where(own)

    def of_key(self, partition: int, offset: int) -> DataFrame:
        """The waiting letters of the key that one of them has.

        Raises: ConfigError when no letter waits there.
        """
        waiting = self.waiting()
        named = (
            None
            if waiting is None
            else waiting.where((F.col("partition") == partition) & (F.col("offset") == offset))
        )
        if waiting is None or named is None or named.isEmpty():
            raise ConfigError(
                f"{self.target.table.topic}[{partition}]@{offset}",
                f"no dead letter of {self.target.name} waits there",
                remedy="look it up with `cdc-sink dead-letters list`",
            )
        return waiting.join(named.select("key"), "key", "left_semi")

    def put(self, changes: DataFrame, batch_id: int) -> None:
        """Keep set-aside changes (with `raw` and `aside`, see quarantine.py) as letters; idempotent."""
        with _one_creates:
            self.spark.sql(create_sql(self.target.dead_letters))
        self.spark.catalog.refreshTable(self.target.dead_letters)
        values = {
            "table": F.lit(self.target.name),
            "topic_id": F.lit(self.topic_id),
            **{name: F.col(f"raw.{name}") for name in ("key", "value", "headers")},
            **(self._nothing() if self.target.table.masks else {}),
            "timestamp": F.col("raw.timestamp").cast("timestamp_ltz"),
            "reason": F.substring_index("aside", "|", 1),
            "message": F.expr(message_sql("aside")),
            "first_seen": F.current_timestamp(),
            "batch_id": F.lit(batch_id).cast("bigint"),
            "state": F.lit(State.QUARANTINED.value),
            "state_since": F.current_timestamp(),
        }
        letters = changes.select(*[values.get(n, F.col(n)).alias(n) for n, _ in FIELDS])
        letters.createOrReplaceTempView(VIEW)
        self.spark.sql(put_sql(self.target.dead_letters, VIEW))

    def _nothing(self) -> dict[str, Column]:
        """Of a table with masks, in the place of values: a replay reads the records from the topic again."""
        kinds = dict(FIELDS)
        return {name: F.lit(None).cast(kinds[name]) for name in ("value", "headers")}

    def mark(self, letters: DataFrame, state: State) -> None:
        """Give letters another state; those that don't wait any more stay as they are."""
        letters.select(*NAMED_BY).createOrReplaceTempView(VIEW)
        self.spark.sql(mark_sql(self.target.dead_letters, VIEW, state))


def digest_of(letters: DataFrame) -> str:
    """What tells one set of letters of a table from another."""
    places = F.array_sort(F.collect_list(F.concat_ws(":", "partition", "offset")))
    row = letters.agg(F.md5(F.array_join(places, ",").cast("binary")).alias("digest")).first()
    assert row is not None
    return str(row["digest"])


def count_of(letters: DataFrame | None) -> int:
    """How many letters wait."""
    counted: Any = 0 if letters is None else letters.count()
    return int(counted)
