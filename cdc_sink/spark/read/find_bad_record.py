"""Find the record that made a decoding job fail, by halving the offsets: only ever after a failure."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cdc_sink.errors import RecordRef
from cdc_sink.spark.foreign_errors import JOB_FAILED


def first_failing(
    records: DataFrame, decoded: Callable[[DataFrame], DataFrame]
) -> tuple[RecordRef, str] | None:
    """The first record, by partition and offset, that `decoded` can't read, and what Spark said about it.

    Out:  None when all can be read. Cost: about log2(records) jobs over the batch.
    """
    spans = records.groupBy("topic", "partition").agg(
        F.min("offset").alias("low"), F.max("offset").alias("high")
    )
    for span in sorted(spans.collect(), key=lambda r: int(r["partition"])):
        own = records.where(F.col("partition") == span["partition"])
        found = _halve(own, decoded, span["low"], span["high"])
        if found is not None:
            return RecordRef(span["topic"], span["partition"], found[0]), found[1]
    return None


def _halve(
    records: DataFrame, decoded: Callable[[DataFrame], DataFrame], low: int, high: int
) -> tuple[int, str] | None:
    said = _failure(records, decoded, low, high)
    if said is None:
        return None
    while low < high:
        middle = (low + high) // 2
        below = _failure(records, decoded, low, middle)
        if below is None:
            low = middle + 1
        else:
            high, said = middle, below
    # What was said last may be of a span whose other records fail too.
    return low, _failure(records, decoded, low, low) or said


def _failure(
    records: DataFrame, decoded: Callable[[DataFrame], DataFrame], low: int, high: int
) -> str | None:
    part = records.where(F.col("offset").between(low, high))
    try:
        decoded(part).write.format("noop").mode("overwrite").save()
    except JOB_FAILED as failed:
        return str(failed)
    return None
