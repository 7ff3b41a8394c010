"""Where the records of a batch lie, and where their keys put them: seen of every record while the rows pass.

Kafka's own hash is called, compiled into Spark's code: no Python, and no second reading.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

from cdc_sink.spark.fold.ledger_filter import offset_sql
from cdc_sink.table.ledger.key_partitions import Placed
from cdc_sink.table.ledger.offsets import Offsets


@dataclass
class KeyPartitions:
    """The records of one batch that lie elsewhere; they are known once a job has run over the batch."""

    _seen: Observation | None = field(default=None)

    def observed(
        self,
        records: DataFrame,
        partitions: int,
        before: Collection[int],
        next_offsets: Offsets,
    ) -> DataFrame:
        """The same records; runs nothing.

        In: `partitions` of the topic now; `before`, numbers of partitions that it may have had;
            `next_offsets` of the ledger, below which a record lies where it lay when it was applied.
        """
        self._seen = Observation()
        hashed = kafka_hash(records)
        is_new = F.expr(f"offset >= coalesce({offset_sql(next_offsets)}, 0)")
        strays = [
            F.min(F.when(~_lies_by(hashed, {count, partitions}) & is_new, F.struct(*_NAMED))).alias(
                str(count)
            )
            for count in sorted({partitions, *before})
        ]
        return records.observe(self._seen, *strays)

    def strays(self) -> Mapping[int, Placed | None]:
        """One record that lies where neither that number of partitions puts it nor today's, by number.

        None where all lie there; empty where nothing was observed.
        """
        if self._seen is None:
            return {}
        seen: dict[str, Any] = self._seen.get
        return {
            int(count): None if one is None else Placed(bytes(one["key"]), one["partition"])
            for count, one in seen.items()
        }


_NAMED = ("partition", "offset", "key")


def _lies_by(hashed: Column, counts: Collection[int]) -> Column:
    """Whether a record lies where one of these numbers of partitions puts it; a record without a key does."""
    places = [F.pmod(hashed, F.lit(count)) == F.col("partition") for count in sorted(counts)]
    found = F.col("key").isNull()
    for place in places:
        found = found | place
    return found


def kafka_hash(records: DataFrame) -> Column:
    """`murmur2(key) & 0x7fffffff` of each record, by the Kafka client that Spark's source uses.

    Source: Kafka's `Utils.murmur2`; Spark 4.1's `StaticInvoke`, whose code is compiled with its neighbours'.
    """
    jvm: Any = records.sparkSession._jvm
    utils = jvm.org.apache.spark.util.Utils.classForName(
        "org.apache.kafka.common.utils.Utils", True, False
    )
    bridge = jvm.org.apache.spark.sql.classic.ExpressionUtils
    key = jvm.PythonUtils.toSeq([bridge.expression(F.col("key")._jc)])
    call = jvm.org.apache.spark.sql.catalyst.expressions.objects.StaticInvoke(
        utils,
        jvm.org.apache.spark.sql.types.DataTypes.IntegerType,
        "murmur2",
        key,
        jvm.PythonUtils.toSeq([]),
        True,
        True,
        True,
        jvm.scala.Option.empty(),
    )
    return Column(bridge.column(call)).bitwiseAND(F.lit(0x7FFFFFFF))
