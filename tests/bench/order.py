"""What order and completeness cost: the same 100,000 updates applied with and without each of them.

Each figure is decode, fold and MERGE of one batch into the large table, alternating with its base so that
both see the same machine; the median of some runs. Nothing is measured that the sink does not do.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from cdc_sink.clients.registry import RegistryClient
from cdc_sink.config import Target
from cdc_sink.spark.fold.latest import Folded, FoldOptions, fold
from cdc_sink.spark.iceberg_table import IcebergTable
from cdc_sink.spark.read.decode import decode, schema_ids
from cdc_sink.spark.write.engines import FoldedBatch
from cdc_sink.spark.write.engines.merge import merge, prepare_session
from cdc_sink.table.newer_row import newer_sql
from cdc_sink.table.schema.metadata_columns import change_sql
from cdc_sink.table.schema.policy import TableMode
from cdc_sink.table.schema.writer_schemas import WriterSchemas
from tests.bench.figures import Figure, records_of

BATCH = 100_000
RUNS = 5


def order_costs(spark: SparkSession, target: Target) -> list[Figure]:
    """The redelivery filter with its facts, the guarded path, the fold that looks for left-out values."""
    own = spark.newSession()
    prepare_session(own)
    own.conf.set("spark.sql.shuffle.partitions", str(spark.sparkContext.defaultParallelism))
    records = records_of(own, target).where(f"offset < {BATCH}").persist()
    records.count()
    values, keys = schema_ids(records)
    registry = RegistryClient(target.pipeline.registry)
    schemas = WriterSchemas(
        {i: registry.schema(i) for i in values}, {i: registry.schema(i) for i in keys}
    )
    table = IcebergTable.load(own, target)
    assert table is not None
    columns = schemas.extend(table.columns())
    texts = tuple(
        c.name for c in columns if c.type == "string" and c.name not in table.key_columns()
    )

    def changes() -> DataFrame:
        return decode(records, schemas, columns)

    def apply(options: FoldOptions, guard: str | None = None, fills: tuple[str, ...] = ()) -> None:
        folded = fold(changes(), {}, (0,), options)
        _merge(own, target, folded.rows, guard, fills)
        folded.release()

    def bare() -> None:
        rows = _bare_fold(changes())
        _merge(own, target, rows, None, ())
        Folded(rows, None).release()  # type: ignore[arg-type]

    plain = FoldOptions()
    cases: list[tuple[str, float, str, Callable[[], None], Callable[[], None]]] = [
        ("redelivery filter and facts", 1.10, "without them", lambda: apply(plain), bare),
        (
            "guarded path", 2.0, "unguarded",
            lambda: apply(FoldOptions(exact=True), newer_sql("s", "t")), lambda: apply(plain),
        ),
        (
            "fold that fills left-out values", 1.5, "one that need not",
            lambda: apply(FoldOptions(fills=texts), None, texts), lambda: apply(plain),
        ),
    ]  # fmt: skip
    return [_ratio(*case) for case in cases]


def _bare_fold(changes: DataFrame) -> DataFrame:
    """Last change per key and nothing else."""
    names = changes.select("key.*").columns
    keyed = changes.where("op IS NOT NULL").selectExpr(
        "*", *[f"key.`{name}` AS key{i}" for i, name in enumerate(names)]
    )
    newest = Window.partitionBy(*[f"key{i}" for i in range(len(names))]).orderBy(
        F.desc("position.hi"), F.desc("position.lo"), F.desc("offset")
    )
    last = keyed.withColumn("n", F.row_number().over(newest)).where("n = 1")
    empty = F.expr("CAST(array() AS ARRAY<STRING>)")
    return last.withColumn("missing", empty).localCheckpoint(eager=True)


def _merge(
    spark: SparkSession, target: Target, rows: DataFrame, guard: str | None, fills: tuple[str, ...]
) -> None:
    table = IcebergTable.load(spark, target)
    assert table is not None
    metadata = {name: F.expr(sql) for name, sql in change_sql(TableMode.MIRROR, 0).items()}
    batch = FoldedBatch(
        spark=spark,
        table=target.identifier,
        snapshot_id=table.snapshot_id,
        columns=table.columns(),
        key_columns=table.key_columns(),
        is_partitioned=True,
        rows=rows.withColumns({"topic": F.lit(target.table.topic)} | metadata),
        fills=fills,
        guard=guard,
    )
    merge(batch)


def _ratio(
    name: str, goal: float, base_name: str, work: Callable[[], None], base: Callable[[], None]
) -> Figure:
    with_it: list[float] = []
    without: list[float] = []
    for run in range(RUNS + 1):
        for action, seconds in ((work, with_it), (base, without)):
            started = time.perf_counter()
            action()
            if run:  # the first pair compiles
                seconds.append(time.perf_counter() - started)
    ratio = statistics.median(with_it) / statistics.median(without)
    return Figure(
        name, ratio, f"times {base_name}", f"<= {goal}", ratio <= goal,
        f"{BATCH:,} events decoded, folded and merged: {statistics.median(with_it):.2f} s against "
        f"{statistics.median(without):.2f} s, medians of {RUNS} pairs",
    )  # fmt: skip
