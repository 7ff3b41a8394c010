"""Whether a connector adjusts names to what a table's columns should not be called.

Rules this file owns: a mode of the connector that escapes names is fine where the table undoes it.
"""

from __future__ import annotations

from collections.abc import Iterator

from cdc_sink.check.rules.table import Finding
from cdc_sink.debezium.connector import ConnectorReading
from cdc_sink.debezium.options import FieldNames

_MODE = "field.name.adjustment.mode"
SETTINGS = (_MODE,)


def check_names(
    table: str, field_names: FieldNames, connector: ConnectorReading | None
) -> Iterator[Finding]:
    """Say that columns will have escaped names; None when the connector isn't known."""
    mode = None if connector is None else connector.settings.get(_MODE)
    if mode == "avro_unicode" and field_names == "as_sent":
        yield Finding(
            f"table {table}",
            "warning",
            f"{_MODE}=avro_unicode escapes names, each `_` too: a column order_no is called "
            "order_u005fno in the table",
            "set `field_names: source` for the table, best before it is made",
        )
