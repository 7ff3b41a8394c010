"""From raw Kafka records to the sink: learns writer schemas as they come, and names what can't be read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pyspark.sql import DataFrame

from cdc_sink.clients.registry import Registry
from cdc_sink.errors import CdcSinkError
from cdc_sink.spark.decode import decode, require_framed, schema_ids
from cdc_sink.spark.failpoints import BATCH_STARTED, SCHEMAS_FETCHED, failpoint
from cdc_sink.spark.failures import as_cdc_sink_error
from cdc_sink.spark.faults import malformed_error, read_fault, read_value_fault, value_error
from cdc_sink.spark.iceberg import IcebergTable
from cdc_sink.spark.locate import JOB_FAILED, first_failing
from cdc_sink.spark.sink import Sink
from cdc_sink.table.columns import Column
from cdc_sink.table.plan import BatchFacts
from cdc_sink.table.writer_schemas import WriterSchemas

MOST_REPLANS = 3


@dataclass
class RecordWriter:
    """Decodes and applies the micro-batches of one topic.

    The schemas in use are those that occurred in the data so far, so a version that is registered but not yet
    written changes nothing.
    """

    sink: Sink
    registry: Registry
    schemas: WriterSchemas = field(default_factory=lambda: WriterSchemas({}, {}))

    def __post_init__(self) -> None:
        self.schemas = replace(self.schemas, options=self.sink.target.table.options)

    def write(self, records: DataFrame, batch_id: int) -> BatchFacts | None:
        """Apply one micro-batch of Kafka records; None when nothing in it could change the table.

        Raises: CdcSinkError; a foreign error never leaves this function.
        """
        failpoint(BATCH_STARTED)
        try:
            if not self.schemas.values or not self.schemas.keys:
                self._learn(records)
            for _ in range(MOST_REPLANS):
                try:
                    return self._apply(records, batch_id)
                except JOB_FAILED as failed:
                    fault = read_fault(str(failed))
                    if fault is None or fault.unknown_schema_id is None:
                        raise
                    self._learn(records)
            return self._apply(records, batch_id)
        except JOB_FAILED as failed:
            raise self._explain(records, failed) from failed

    def _apply(self, records: DataFrame, batch_id: int) -> BatchFacts | None:
        columns = self._columns()
        if not columns or not self.schemas.keys:
            return None  # only tombstones so far, and no table: there is no column to make one of
        changes = decode(records, self.schemas, columns)
        return self.sink.apply(changes, batch_id)

    def _learn(self, records: DataFrame) -> None:
        values, keys = schema_ids(records)
        new_values = {i: self.registry.schema(i) for i in values - set(self.schemas.values)}
        new_keys = {i: self.registry.schema(i) for i in keys - set(self.schemas.keys)}
        self.schemas = self.schemas.plus(new_values, new_keys)
        if not self.schemas.values or not self.schemas.keys:
            # Tombstones carry no schema id, but neither do records of another format.
            require_framed(records)
        failpoint(SCHEMAS_FETCHED)

    def _columns(self) -> tuple[Column, ...]:
        table = IcebergTable.load(self.sink.spark, self.sink.target)
        return self.schemas.extend(table.columns() if table else ())

    def _explain(self, records: DataFrame, failed: Exception) -> CdcSinkError:
        text = str(failed)
        fault = read_fault(text)
        if fault is not None:
            return fault.error()
        value = read_value_fault(text)
        if value is None and "malformed" not in text.lower():
            return as_cdc_sink_error(failed, self.sink.target.where)
        columns = self._columns()
        found = first_failing(records, lambda part: decode(part, self.schemas, columns))
        if found is None:
            return as_cdc_sink_error(failed, self.sink.target.where)
        record, text = found
        fault, value = read_fault(text), read_value_fault(text)
        if fault is not None:
            return fault.error()
        return value_error(record, *value) if value else malformed_error(record)
