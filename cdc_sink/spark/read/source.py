"""The Kafka side: the records of one table's topic as a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from cdc_sink.clients.kafka import Cluster, spark_kafka_options
from cdc_sink.config import Target
from cdc_sink.debezium.wire.other_framings import HEADER_WIRES
from cdc_sink.errors import StateError
from cdc_sink.table.ledger.key_partitions import Placed
from cdc_sink.table.ledger.offsets import Offsets, offsets_to_json

# Above this many records a Kafka partition is read by several tasks; below it, one is cheaper.
RECORDS_PER_TASK = 25_000
# How many of a topic's oldest records are looked at: their places tell whether it grew before.
OLDEST = 1_000
# Spark asks for the end offsets after each poll, which discards what was fetched ahead. So one poll returns a
# whole fetch (1 MiB), and a fetch at the topic's end waits 10 ms, not 500.
FETCHING = {"kafka.max.poll.records": "4000", "kafka.fetch.max.wait.ms": "10"}


def reader_options(target: Target) -> dict[str, str]:
    """What every reader of the target's topic is told: how to connect, and how much to fetch at once."""
    return FETCHING | spark_kafka_options(target.pipeline.kafka)


class Topic(Protocol):
    """The table's topic, read again as one batch, with the records' times and headers."""

    def whole(self, records: DataFrame) -> DataFrame:
        """The records of a batch once more."""

    def span(self, first: Offsets, end: Offsets) -> DataFrame:
        """The records between two offsets of each partition, as far as they are there."""

    def starts(self) -> Offsets:
        """The offset of the oldest record of each partition."""

    def oldest(self) -> list[Placed]:
        """Some of the oldest records of each partition, as far as they have a key."""

    def partitions(self) -> int:
        """How many partitions it has now."""

    def ends(self) -> Offsets:
        """The offset the next record of each partition will get."""


@dataclass(frozen=True)
class KafkaTopic:
    """The topic of a table, read again as one batch, with headers: reading these always would cost."""

    spark: SparkSession
    target: Target
    cluster: Cluster

    def whole(self, records: DataFrame) -> DataFrame:
        """The records of a batch once more; runs one small job to learn their offsets."""
        ends = records.groupBy("partition").agg(F.min("offset"), F.max("offset")).collect()
        return self._read({row[0]: (row[1], row[2] + 1) for row in ends})

    def span(self, first: Offsets, end: Offsets) -> DataFrame:
        """The records between two offsets of each partition, as far as they are there."""
        now = self.ends()
        spans = {p: (first.get(p, 0), min(now[p], offset)) for p, offset in end.items()}
        return self._read({p: (begin, stop) for p, (begin, stop) in spans.items() if begin < stop})

    def starts(self) -> Offsets:
        """The offset of the oldest record of each partition."""
        return self.cluster.start_offsets(self.target.table.topic)

    def oldest(self) -> list[Placed]:
        """Some of the oldest records of each partition, as far as they have a key; one small job."""
        starts, ends = self.starts(), self.ends()
        most = max(10, OLDEST // max(1, len(starts)))
        spans = {p: (start, min(ends[p], start + most)) for p, start in starts.items()}
        read = {p: span for p, span in spans.items() if span[0] < span[1]}
        if not read:
            return []
        rows = self._read(read).where("key IS NOT NULL").select("key", "partition").collect()
        return [Placed(bytes(row["key"]), row["partition"]) for row in rows]

    def partitions(self) -> int:
        """How many partitions it has now.

        Raises: StateError when the topic is gone; UnavailableError.
        """
        topic = self.cluster.topic(self.target.table.topic)
        if topic is None:
            raise StateError(
                self.target.name,
                f"topic {self.target.table.topic} is gone",
                data="the batch was not applied, its offsets were not committed",
                remedy="find out who deleted it; once the connector has made it anew, with a new source "
                "snapshot in it, raise `generation` of this table",
            )
        return topic.partitions

    def ends(self) -> Offsets:
        """The offset the next record of each partition will get."""
        return self.cluster.end_offsets(self.target.table.topic)

    def _read(self, spans: Mapping[int, tuple[int, int]]) -> DataFrame:
        topic = self.target.table.topic
        first = offsets_to_json({p: begin for p, (begin, _) in spans.items()})
        end = offsets_to_json({p: stop for p, (_, stop) in spans.items()})
        reader = self.spark.read.format("kafka").options(**reader_options(self.target))
        return (
            reader.option("assign", json.dumps({topic: sorted(spans)}))
            .option("startingOffsets", json.dumps({topic: first}))
            .option("endingOffsets", json.dumps({topic: end}))
            .option("includeHeaders", "true")
            .option("failOnDataLoss", "true")
            # Under a name of its own every reading would leave consumers behind for five minutes, each with
            # what it fetched. They are told their partitions and commit nothing, so they can't meet.
            .option("kafka.group.id", f"cdc-sink-{self.target.name}")
            .load()
            .select("key", "value", "topic", "partition", "offset", "timestamp", "headers")
        )


def read_again(topic: Topic, letters: DataFrame, table: str) -> DataFrame:
    """The records of dead letters that keep no values, out of the topic.

    Raises: StateError when the topic has one of them no more.
    """
    ends = letters.groupBy("partition").agg(F.min("offset"), F.max("offset")).collect()
    first, end = {r[0]: r[1] for r in ends}, {r[0]: r[2] + 1 for r in ends}
    places = F.broadcast(letters.select("partition", "offset"))
    records = topic.span(first, end).join(places, ["partition", "offset"], "left_semi")
    lost = letters.count() - records.count()
    if lost:
        raise StateError(
            table,
            f"{lost} of the dead letters' records are in the topic no more, and letters of a table with "
            "masks keep no values",
            remedy="give these letters up with `cdc-sink dead-letters release`; `cdc-sink verify` says which "
            "rows differ then",
        )
    return records


def read_records(spark: SparkSession, target: Target, next_offsets: Offsets | None) -> DataFrame:
    """Stream the records of the target's topic.

    In:  `next_offsets` of the table's ledger, every partition named, or None to begin at the earliest record.
         Spark reads them only when the checkpoint is new.
    Out: one row per record: key, value, topic, partition, offset, timestamp; headers where the table's
         records can't be read without.
    """
    with_headers = target.table.outbox or target.table.wire in HEADER_WIRES
    more = ("headers",) if with_headers else ()
    reader = spark.readStream.format("kafka").options(**reader_options(target))
    return (
        reader.option("subscribe", target.table.topic)
        .option("startingOffsets", _starting(target, next_offsets))
        .option("includeHeaders", str(with_headers).lower())
        .option("failOnDataLoss", "true")
        .option("maxOffsetsPerTrigger", str(target.table.max_records_per_batch))
        .option("maxRecordsPerPartition", str(RECORDS_PER_TASK))
        .load()
        .select("key", "value", "topic", "partition", "offset", "timestamp", *more)
    )


def _starting(target: Target, next_offsets: Offsets | None) -> str:
    if next_offsets is None:
        return "earliest"
    return json.dumps({target.table.topic: offsets_to_json(next_offsets)})
