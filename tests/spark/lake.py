"""A pipeline without servers: a Spark session, its catalog, and writers of tables in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from debezium import Topic
from pyiceberg.table import Table as IcebergTable
from pyspark.sql import DataFrame, SparkSession

from cdc_sink import config
from cdc_sink.clients.catalog import load_table
from cdc_sink.clients.registry import RegistryClient
from cdc_sink.config import Target
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.spark.fold.folding import folding_of
from cdc_sink.spark.hooks import Hooks, Transform
from cdc_sink.spark.iceberg_table import IcebergTable as Table
from cdc_sink.spark.micro_batch import MicroBatchWriter
from cdc_sink.spark.read.converters import converter_of
from cdc_sink.spark.run.session import create_session
from cdc_sink.spark.transform.masks import whole_transform
from cdc_sink.spark.write.sink import Sink
from cdc_sink.table.ledger.key_partitions import Placed
from cdc_sink.table.ledger.ledger import LEDGER_KEY, Ledger
from cdc_sink.table.ledger.stream_identity import StreamIdentity
from cdc_sink.table.plan import BatchFacts
from cdc_sink.table.schema.metadata_columns import is_metadata
from tests.java_options import FOR_A_WHOLE_RUN

PIPELINE = "shop"


@dataclass
class Lake:
    """What all tests share."""

    spark: SparkSession
    pipeline: config.Pipeline

    @classmethod
    def open(cls, folder: Path) -> Lake:
        conf: config.Properties = {
            "spark.driver.memory": "3g",
            "spark.driver.extraJavaOptions": "-Xms3g",  # a heap that grows is collected at each step
            # Enough for `plans_of`. With all of them kept, a fifth of the time went into collecting the heap.
            "spark.sql.ui.retainedExecutions": "300",
            "spark.local.dir": str(folder / "scratch"),
            "spark.sql.warehouse.dir": str(folder / "unused"),
        }
        pipeline = config.Pipeline(
            name=PIPELINE,
            kafka=config.Kafka(bootstrap_servers="127.0.0.1:1"),
            registry=config.Registry(url="http://127.0.0.1:1"),
            catalog=config.Catalog(
                type="jdbc", uri=f"jdbc:sqlite:{folder}/catalog.db", warehouse=f"{folder}/warehouse"
            ),
            checkpoints=str(folder / "checkpoints"),
            # Small batches: a second task of a stage costs more than it takes over.
            spark=config.Spark(master="local[1]", jars="locked", conf=conf),
            defaults=config.Defaults(namespace=PIPELINE),
            tables=(),
        )
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("JAVA_TOOL_OPTIONS", FOR_A_WHOLE_RUN)
            spark = create_session(pipeline, purpose="test", log_file=folder / "spark.log")
        return cls(spark, pipeline)

    def close(self) -> None:
        self.spark.stop()

    def plans_of(self, action: Callable[[], object]) -> list[str]:
        """The plans that Spark ran meanwhile, as they were at their end."""
        before = max((number for number, _ in self._executions()), default=-1)
        action()
        ran = [one for number, one in self._executions() if number > before]
        return [str(one.physicalPlanDescription()) for one in ran]

    def _executions(self) -> list[tuple[int, Any]]:
        """What Spark remembers to have run, by its number."""
        java: Any = self.spark._jsparkSession
        known = java.sharedState().statusStore().executionsList()
        kept = [known.apply(i) for i in range(known.size())]
        return [(int(one.executionId()), one) for one in kept]

    def target(self, name: str, topic: Topic, **settings: Any) -> Target:
        table = config.Table(
            topic=topic.table.name,
            target=f"{PIPELINE}.{name}",
            **{"buckets": 0, "key_partition": "fixed", **settings},
        )
        return Target(self.pipeline, table)

    def writer(self, name: str, topic: Topic, **settings: Any) -> Writer:
        return Writer(self, self.target(name, topic, **settings), topic)


@dataclass
class Writer:
    """One driver that writes one table: a session, a sink and a record writer of its own."""

    lake: Lake
    target: Target
    topic: Topic
    query_id: str = "q1"
    partitions: Sequence[int] = (0, 1)
    kind: type[Sink] = Sink
    transform: Transform | None = None

    def __post_init__(self) -> None:
        self.spark = self.lake.spark.newSession()
        own = StreamIdentity(PIPELINE, self.query_id, "cluster", self.target.table.topic, "topic-1")
        given = {} if self.transform is None else {self.target.name: self.transform}
        whole = whole_transform(Hooks(given), self.target)
        folding, is_transformed = folding_of(self.target), whole is not None
        self.sink = self.kind(
            self.spark, own, tuple(self.partitions), folding, is_transformed=is_transformed
        )
        # The double has the one method that is asked for.
        self.records = MicroBatchWriter(
            self.sink,
            converter_of(self.target, cast(RegistryClient, self.topic.registry)),
            Reread(self),
            transform=whole,
        )

    def open_generation(self) -> None:
        """What a start with a greater generation does to the ledger."""
        iceberg = Table.load(self.spark, self.target)
        assert iceberg is not None
        opened = self.ledger.reopened(self.sink.stream, self.partitions)
        iceberg.note({LEDGER_KEY: opened.to_json()})

    def write(self, first: int = 0, end: int | None = None, *, tasks: int = 2) -> BatchFacts | None:
        """Apply the topic's records from one sequence number to another as one micro-batch."""
        batch = self.topic.batch(self.spark, first, end, tasks=tasks)
        return self.records.write(batch, first, self.topic.offsets(first, end))

    @property
    def table(self) -> IcebergTable:
        """The table as pyiceberg reads it, not Spark."""
        table = load_table(self.lake.pipeline.catalog, self.target.table.name)
        assert table is not None
        return table

    @property
    def exists(self) -> bool:
        return load_table(self.lake.pipeline.catalog, self.target.table.name) is not None

    def rows(self) -> list[dict[str, Any]]:
        """The rows without metadata columns, by key."""
        found: list[dict[str, Any]] = self.table.scan().to_arrow().to_pylist()
        found = [{n: v for n, v in row.items() if not is_metadata(n)} for row in found]
        return sorted(found, key=lambda row: [row[name] for name in self.topic.table.key])

    @property
    def ledgers(self) -> list[Ledger]:
        """The ledgers of all table snapshots, oldest first."""
        ancestry, table = [], self.table
        snapshot = table.current_snapshot()
        while snapshot is not None:
            assert snapshot.summary is not None
            ancestry.append(Ledger.from_json(str(snapshot.summary[LEDGER_KEY])))
            parent = snapshot.parent_snapshot_id
            snapshot = None if parent is None else table.snapshot_by_id(parent)
        return ancestry[::-1]

    @property
    def ledger(self) -> Ledger:
        return self.ledgers[-1]

    @property
    def marks(self) -> dict[int, SourcePosition]:
        """As the topic's events were given them."""
        marks = dict(self.ledger.high_water)
        if self.topic.table.connector != "mysql":
            return marks
        return {p: SourcePosition(mark.hi, mark.lo >> 24) for p, mark in marks.items()}


@dataclass
class Reread:
    """The writer's topic as a driver reads it again."""

    writer: Writer

    def whole(self, records: DataFrame) -> DataFrame:
        """They have their headers already."""
        return records

    def span(self, first: Mapping[int, int], end: Mapping[int, int]) -> DataFrame:
        spans = [
            f"partition = {p} AND offset >= {first.get(p, 0)} AND offset < {offset}"
            for p, offset in end.items()
        ]
        return self.writer.topic.batch(self.writer.spark).where(" OR ".join(spans))

    def oldest(self) -> list[Placed]:
        records = self.writer.topic.records
        return [Placed(one[0], one[3]) for one in records if one[0] is not None and one[4] < 100]

    def partitions(self) -> int:
        written = [record[3] for record in self.writer.topic.records]
        return max([*self.writer.sink.partitions, *written]) + 1

    def starts(self) -> dict[int, int]:
        return dict.fromkeys(range(self.partitions()), 0)

    def ends(self) -> dict[int, int]:
        return {p: self.writer.topic.end(p) for p in range(self.partitions())}
