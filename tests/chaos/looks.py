"""What lies in the tables, in the topics and beside the checkpoints of a pipeline, read past Spark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cdc_sink.clients.catalog import load_table
from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import Pipeline, Target
from cdc_sink.demo.shop.tables import SCHEMA_STEPS
from cdc_sink.errors import UnavailableError
from cdc_sink.observe.status import TableFacts
from cdc_sink.observe.table_facts import Upstream, read_facts
from tests.chaos.shop import name_of


@dataclass(frozen=True)
class Batches:
    """The newest batch of a table that was begun, and the newest that is done; -1 for none."""

    begun: int
    done: int

    @property
    def is_open(self) -> bool:
        """A driver that starts now replays the newest one."""
        return self.begun > self.done


def batches_of(pipeline: Pipeline, table: str) -> Batches:
    """How far the checkpoint of a table is."""
    checkpoint = _path(pipeline.target(name_of(table)).checkpoint)
    begun, done = (
        max((int(p.name) for p in (checkpoint / part).glob("[0-9]*")), default=-1)
        for part in ("offsets", "commits")
    )
    return Batches(begun, done)


def leases_of(pipeline: Pipeline) -> list[Path]:
    """The files that keep a second driver away."""
    paths = [_path(Target(pipeline, table).lease_file) for table in pipeline.tables]
    return [path for path in paths if path.exists()]


def _path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def altered_column(pipeline: Pipeline, table: str) -> str | None:
    """The type of the column that the traffic's alteration of a table adds or widens."""
    (column,) = (step.column for step in SCHEMA_STEPS if step.table.name == table)
    loaded = load_table(pipeline.catalog, name_of(table))
    fields = loaded.schema().fields if loaded else ()
    return next((str(one.field_type) for one in fields if one.name == column), None)


def key_of(pipeline: Pipeline, table: str) -> list[str]:
    """The key columns that the Iceberg table names."""
    loaded = load_table(pipeline.catalog, name_of(table))
    assert loaded is not None
    return sorted(loaded.schema().identifier_field_names())


def records_in(pipeline: Pipeline, topic: str) -> int:
    """How many records a topic has; none while it is not there, or has no leader yet."""
    try:
        cluster = Cluster(pipeline.kafka)
        return sum(cluster.end_offsets(topic).values()) if cluster.topic(topic) else 0
    except UnavailableError:
        return 0


def facts_of(pipeline: Pipeline) -> dict[str, TableFacts]:
    """What tables, topics and leases say now, by table."""
    return {one.table: one for one in read_facts(pipeline, Upstream.of(pipeline))}


def is_applied(facts: TableFacts) -> bool:
    """Whether a table's ledger is at the end of its topic."""
    if facts.failures:
        return False
    if facts.ledger is None:
        return not any((facts.end_offsets or {}).values())
    return dict(facts.ledger.next_offsets) == facts.end_offsets
