"""The Kafka side: the records of one table's topic as a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pyspark.sql import DataFrame, SparkSession

from cdc_sink.clients.kafka import spark_kafka_options
from cdc_sink.config import Target

# Above this many records a Kafka partition is read by several tasks; below it, one is cheaper.
RECORDS_PER_TASK = 25_000
# After every poll Spark asks for the topic's ends and with that forgets what was fetched ahead: a poll should
# take a whole fetch (1 MiB). At the end of a topic that question waits behind a fetch for more records.
FETCHING = {"kafka.max.poll.records": "4000", "kafka.fetch.max.wait.ms": "10"}


def read_records(
    spark: SparkSession, target: Target, next_offsets: Mapping[int, int] | None
) -> DataFrame:
    """Stream the records of the target's topic.

    In:  `next_offsets` of the table's ledger, or None to begin at the earliest record. Spark reads them only
         when the checkpoint is new.
    Out: one row per record: key, value, topic, partition, offset, timestamp.
    """
    reader = spark.readStream.format("kafka")
    for key, value in (FETCHING | spark_kafka_options(target.pipeline.kafka)).items():
        reader = reader.option(key, value)
    return (
        reader.option("subscribe", target.table.topic)
        .option("startingOffsets", _starting(target, next_offsets))
        .option("failOnDataLoss", "true")
        .option("maxOffsetsPerTrigger", str(target.table.max_records_per_batch))
        .option("maxRecordsPerPartition", str(RECORDS_PER_TASK))
        .load()
        .select("key", "value", "topic", "partition", "offset", "timestamp")
    )


def _starting(target: Target, next_offsets: Mapping[int, int] | None) -> str:
    if next_offsets is None:
        return "earliest"
    return json.dumps({target.table.topic: {str(p): o for p, o in next_offsets.items()}})
