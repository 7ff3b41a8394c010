"""Topics of Debezium's outbox router: each event is written as a keyed row before it is decoded."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import from_avro, to_avro

from cdc_sink.debezium.envelope import spark_schema
from cdc_sink.debezium.wire.confluent import PREFIX_BYTES, frame_prefix
from cdc_sink.debezium.wire.outbox import (
    CREATED,
    EMPTY_ID,
    ID_HEADER,
    KEY_ID,
    OPTIONAL_TEXT,
    OPTIONAL_TIME,
    TEXTS,
    key_schema,
    require_aggregate_id,
    value_schema,
)
from cdc_sink.spark.read.converter import Converter
from cdc_sink.spark.read.decode import schema_ids, with_raw
from cdc_sink.spark.read.record_faults import KEY, fault_sql
from cdc_sink.table import faults

_EVENT_ID = f"CAST(get(filter(headers, h -> h.key = '{ID_HEADER}'), 0).value AS STRING)"
_NO_EVENT_ID = fault_sql(f"'{faults.EVENT_ID}'", "key")
_TEXT = "CAST(h.value AS STRING)"
# Of two headers of one name the first counts. What is no text is written as hex digits.
_HEADERS = (
    f"map_from_entries(transform(filter(headers, (h, i) -> h.key <> '{ID_HEADER}' AND h.value IS NOT NULL "
    "AND i = array_position(transform(headers, x -> x.key), h.key) - 1), "
    f"h -> struct(h.key, IF(is_valid_utf8({_TEXT}), {_TEXT}, concat('0x', hex(h.value))))))"
)


class Outbox:
    """Events, framed by any converter, as rows of the key `event_id`."""

    def __init__(self, events: Converter) -> None:
        self.events = events
        self._aggregates: dict[int, str] = {}

    def framed(self, records: DataFrame) -> DataFrame:
        """Write key and value as those of a row; a record without the header `id` is a fault."""
        named = with_raw(self.events.framed(records)).withColumn(
            "event_id",
            F.expr(f"coalesce({_EVENT_ID}, {_NO_EVENT_ID})"),
        )
        row = F.concat(
            F.lit(CREATED),
            _optional(F.expr("unix_millis(CAST(timestamp AS TIMESTAMP_LTZ))"), OPTIONAL_TIME),
            to_avro(F.col("event_id"), '"string"'),
            _optional(self._aggregate_id(), OPTIONAL_TEXT),
            to_avro(F.expr(_HEADERS), TEXTS),
        )
        value = F.when(F.col("value").isNull(), F.concat(F.lit(frame_prefix(EMPTY_ID)), row))
        body = F.expr(f"substring(value, {PREFIX_BYTES + 1})")
        is_framed = F.expr(f"length(value) >= {PREFIX_BYTES} AND startswith(value, X'00')")
        value = value.when(is_framed, F.concat(F.substring("value", 1, PREFIX_BYTES), row, body))
        key = F.concat(F.lit(frame_prefix(KEY_ID)), to_avro(F.col("event_id"), '"string"'))
        # A value that is not framed stays as it is, and is named as that.
        return named.withColumns({"key": key, "value": value.otherwise(F.col("value"))}).drop(
            "event_id"
        )

    def learn(self, records: DataFrame) -> None:
        """Look up the schemas of the records' own keys; one small job.

        Raises: SchemaError when a key is no id.
        """
        self.events.learn(records)
        _, ids = schema_ids(self.events.framed(records))
        for schema_id in ids - set(self._aggregates):
            schema = self.events.schema(schema_id)
            require_aggregate_id(schema)
            self._aggregates[schema_id] = schema

    def schema(self, schema_id: int) -> str:
        """The schema of a row, made from that of its payload."""
        if schema_id == KEY_ID:
            return key_schema()
        return value_schema(None if schema_id == EMPTY_ID else self.events.schema(schema_id))

    def _aggregate_id(self) -> Column:
        """The record's own key as text; an unknown schema of it is a fault that is learned from."""
        found = F.when(F.col("key").isNull(), F.lit(None).cast("string"))
        for schema_id, schema in self._aggregates.items():
            is_one = F.substring("key", 1, PREFIX_BYTES) == F.lit(frame_prefix(schema_id))
            body = F.expr(f"substring(key, {PREFIX_BYTES + 1})")
            found = found.when(is_one, from_avro(body, spark_schema(schema)).cast("string"))
        return found.otherwise(F.expr(fault_sql(f"'{KEY}'", "key")))


def _optional(value: Column, schema: str) -> Column:
    """Spark writes nothing for a null, Avro branch 0."""
    return F.coalesce(to_avro(value, schema), F.lit(b"\x00"))
