"""The columns that say which change event wrote a row. Their names are ours.

They are flat: one column of a struct or a list would take Iceberg's reader off its vectorised path, for the
lookup of stored rows and for every `SELECT *`.
"""

from __future__ import annotations

from collections.abc import Mapping

from cdc_sink.errors import StateError
from cdc_sink.table.schema.policy import TableMode

OP, SOURCE_TS = "_cdc_op", "_cdc_source_ts"
POSITION_HI, POSITION_LO = "_cdc_position_hi", "_cdc_position_lo"
PARTITION, OFFSET = "_cdc_partition", "_cdc_offset"
GENERATION = "_cdc_generation"
# In a table of events a value that the connector left out is null: their names, as a JSON list.
UNAVAILABLE = "_cdc_unavailable"

# Iceberg types by name; `_cdc_generation` is the configuration's.
_MIRROR: Mapping[str, str] = {
    OP: "string",
    SOURCE_TS: "timestamptz",
    POSITION_HI: "long",
    POSITION_LO: "long",
    PARTITION: "int",
    OFFSET: "long",
    GENERATION: "int",
}
_EVENTS: Mapping[str, str] = {**_MIRROR, UNAVAILABLE: "string"}
# Earlier builds held them in one struct; this field of it tells such a table from one with a column `_cdc`.
OLD_FIELD = "_cdc.pos_hi"


def metadata_columns(mode: TableMode) -> Mapping[str, str]:
    """The Iceberg types of a table's metadata columns, by name, in their order."""
    return _EVENTS if mode.keeps_events else _MIRROR


def is_metadata(name: str) -> bool:
    """Whether a column is one of them, whatever its case."""
    return name.lower() in _EVENTS


def old_form(where: str) -> StateError:
    """A table of an earlier build: its metadata columns are one struct."""
    return StateError(
        where,
        "the table was made by an earlier build: its metadata columns lie in one struct, `_cdc`",
        data="the table was not changed",
        remedy="rebuild it under another name from its topic: `cdc-sink backfill` with `--into` and another "
        "target; if the topic no longer has its oldest records, take a new source snapshot first",
    )


def change_sql(mode: TableMode, generation: int) -> Mapping[str, str]:
    """The SQL of each of them over a decoded change."""
    values = {
        OP: "op",
        SOURCE_TS: "source_ts",
        POSITION_HI: "position.hi",
        POSITION_LO: "position.lo",
        PARTITION: "partition",
        OFFSET: "offset",
        GENERATION: str(generation),
        UNAVAILABLE: "IF(size(unavailable) > 0, to_json(unavailable), NULL)",
    }
    return {name: values[name] for name in metadata_columns(mode)}
