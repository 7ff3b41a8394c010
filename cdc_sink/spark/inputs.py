"""What differs between converters: how a topic's records are framed, and who knows their writer schemas.

Everything after this point sees one framing only: a zero byte, a 4-byte schema id, the Avro body.
"""

from __future__ import annotations

from typing import Protocol

from pyspark.sql import DataFrame

from cdc_sink.clients.registry import Registry
from cdc_sink.config import Target
from cdc_sink.errors import ConfigError
from cdc_sink.spark.outbox import Outbox


class Input(Protocol):
    """The records of one topic, by the `wire` of its table."""

    def framed(self, records: DataFrame) -> DataFrame:
        """Write keys and values in the usual framing.

        In:  one row per Kafka record, as Spark's Kafka source gives them.
        Out: the same rows and columns; `raw` besides, the record as it was, where it was rewritten and
             `records` have `timestamp` and `headers`. What can't be framed stays as it is or becomes what
             `decode` names as a fault.
        """

    def learn(self, records: DataFrame) -> None:
        """Look at what `framed` and `schema` have to know of these records."""

    def schema(self, schema_id: int) -> str:
        """The writer schema of an id, as Avro JSON.

        Raises: SchemaError when nobody knows it; UnavailableError.
        """


class Confluent:
    """Avro behind a zero byte and a 4-byte schema id: records are taken as they are."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def framed(self, records: DataFrame) -> DataFrame:
        """They are framed."""
        return records

    def learn(self, records: DataFrame) -> None:
        """There is nothing to learn."""

    def schema(self, schema_id: int) -> str:
        """Ask the registry."""
        return self.registry.schema(schema_id)


def input_of(target: Target, registry: Registry) -> Input:
    """How the records of the target's topic are read.

    Raises: ConfigError when nothing here reads them.
    """
    records = _wire_of(target, registry)
    return Outbox(records) if target.table.outbox else records


def _wire_of(target: Target, registry: Registry) -> Input:
    wire = target.table.wire
    if wire == "confluent":
        return Confluent(registry)
    raise ConfigError(
        target.where,
        f"`wire: {wire}` can't be read yet",
        remedy="let the converters write confluent",
    )
