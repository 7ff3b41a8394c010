"""What a converter did to the records of a topic, undone: one framing, and the writer schema of an id."""

from __future__ import annotations

from typing import Protocol

from pyspark.sql import DataFrame


class Converter(Protocol):
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
