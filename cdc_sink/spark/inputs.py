"""What differs between converters: how a topic's records are framed, and who knows their writer schemas.

Everything after this point sees one framing only: a zero byte, a 4-byte schema id, the Avro body.
"""

from __future__ import annotations

from typing import Protocol

from pyspark.sql import DataFrame

from cdc_sink.clients.registry import Registry
from cdc_sink.config import Target
from cdc_sink.errors import ConfigError
from cdc_sink.spark.json_input import Json


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
    wire = target.table.wire
    if wire == "confluent":
        return Confluent(registry)
    if wire == "json":
        return Json(target.where)
    raise ConfigError(
        target.where,
        f"`wire: {wire}` can't be read yet",
        remedy="let the converters write confluent",
    )


def require_registered(target: Target) -> None:
    """Refuse a table whose schemas no registry has, where they must be known before any record is read.

    Raises: ConfigError.
    """
    if target.table.wire == "json":
        raise ConfigError(
            target.where,
            "under `wire: json` schemas are in the records, no registry has them",
            remedy="use Avro converters, or look at what `cdc-sink run` makes of the records",
        )
