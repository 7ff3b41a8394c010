"""What a query asks besides Spark: servers, who it is on them, whether another one writes its table."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import SparkSession

from cdc_sink.clients.kafka import Cluster
from cdc_sink.clients.registry import RegistryClient
from cdc_sink.config import Pipeline, Target
from cdc_sink.errors import ConfigError, StateError
from cdc_sink.spark.run.checkpoint import Files
from cdc_sink.spark.run.lease_file import judge_lease
from cdc_sink.table.lease import LeaseState
from cdc_sink.table.ledger.stream_identity import StreamIdentity


@dataclass(frozen=True)
class Clients:
    """The servers a pipeline talks to besides Spark's own connections."""

    cluster: Cluster
    registry: RegistryClient

    @classmethod
    def of(cls, pipeline: Pipeline) -> Clients:
        """Open clients; nothing is asked yet."""
        return cls(Cluster(pipeline.kafka), RegistryClient(pipeline.registry))


def stream_of(
    cluster: Cluster, target: Target, query_id: str
) -> tuple[StreamIdentity, tuple[int, ...]]:
    """Who this query is, and the partitions of its topic now.

    Raises: ConfigError when the topic does not exist; UnavailableError.
    """
    topic = cluster.topic(target.table.topic)
    if topic is None:
        raise ConfigError(
            target.name,
            f"topic {target.table.topic} does not exist",
            remedy="start its connector, correct the topic, or set `missing_topic: wait`",
        )
    stream = StreamIdentity(
        target.pipeline.name,
        query_id,
        cluster.cluster_id(),
        topic.name,
        topic.topic_id,
        target.table.generation,
    )
    return stream, tuple(range(topic.partitions))


def require_no_stream(spark: SparkSession, target: Target) -> None:
    """Refuse to write a table beside its stream.

    Raises: StateError.
    """
    here = any(query.name == target.name for query in spark.streams.active)
    if here or judge_lease(Files(spark), target) is not LeaseState.FREE:
        raise StateError(
            target.name,
            "a stream is writing this table",
            remedy="stop the stream first; a backfill may also write a new table with `--into`",
        )
