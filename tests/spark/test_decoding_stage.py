"""The stage that decodes is one method: above a size no JVM compiles it, and Spark takes the stage apart."""

from __future__ import annotations

from typing import Any

import pytest
from debezium import Event, SourceTable, Topic, decimal, optional
from lake import Lake
from pyspark.sql import DataFrame

from cdc_sink.spark.read.decode import decode
from cdc_sink.spark.write.engines.merge import SETTINGS
from cdc_sink.table.schema.writer_schemas import WriterSchemas

LIMIT = int(SETTINGS["spark.sql.codegen.hugeMethodLimit"])
KINDS: list[tuple[Any, Any]] = [
    (optional("string"), "text"),
    (optional("long"), 5),
    (optional("double"), 0.5),
    (optional(decimal(12, 2)), b"\x05"),
]


@pytest.mark.parametrize("connector", ["postgresql", "mysql"])
@pytest.mark.parametrize("columns", [10, 24])
def test_it_stays_below_the_size(lake: Lake, connector: str, columns: int) -> None:
    kinds = {f"c{i}": KINDS[i % len(KINDS)] for i in range(columns - 1)}
    types = {"id": "long"} | {column: type_ for column, (type_, _) in kinds.items()}
    topic = Topic(SourceTable(types, connector=connector))
    row = {"id": 1} | {column: value for column, (_, value) in kinds.items()}
    topic.send(Event("c", row, (1, 1)))
    schemas = WriterSchemas(
        {topic.value_id: topic.registry.schema(topic.value_id)},
        {topic.key_id: topic.registry.schema(topic.key_id)},
    )
    changes = decode(topic.batch(lake.spark), schemas, schemas.extend(()))
    assert 1_000 < method_size(changes) < LIMIT


def method_size(frame: DataFrame) -> int:
    """Bytes of code of the largest method that Spark makes for a plan."""
    jvm: Any = frame.sparkSession._jvm
    plan = frame._jdf.queryExecution().executedPlan()  # type: ignore[operator]
    stages = jvm.org.apache.spark.sql.execution.debug.package.codegenStringSeq(plan)
    return max(stages.apply(i)._3().maxMethodCodeSize() for i in range(stages.size()))
