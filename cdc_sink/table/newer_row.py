"""May a change take the place of a stored row? Asked only when Kafka order alone can't say.

Usually it can: a key stays in its partition, and the ledger lets each record through once. It can't when a
key may have changed partition, and when records come back from the dead letters.

Rules owned here, the first that decides counts:
- A greater generation outranks all older ones.
- Inside one partition the greater offset is newer. An equal one is the same record.
- Between partitions the source position decides, which is commit order. Equal positions of PostgreSQL are one
  change that was delivered twice, so either may stand. Other connectors give one position to all changes of a
  transaction, or of an event of the log: nothing tells which of two is newer, and `tied` says what happens.
- A row of a source snapshot is older than any stream event at its position; position.py says where one stands
  that PostgreSQL took before it saw a commit.
- A stored row that says nothing of its origin is older than any change.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdc_sink.debezium.position import SourcePosition, between_partitions, between_partitions_sql
from cdc_sink.table.schema.metadata_columns import (
    GENERATION,
    OFFSET,
    OP,
    PARTITION,
    POSITION_HI,
    POSITION_LO,
)


@dataclass(frozen=True)
class RowOrigin:
    """What the metadata columns say of the change that wrote a row."""

    op: str
    generation: int
    partition: int
    offset: int
    pos_hi: int | None
    pos_lo: int | None


def is_newer(change: RowOrigin, stored: RowOrigin | None) -> bool:
    """Say whether a change may take the place of the row that `stored` wrote."""
    if stored is None:
        return True
    if change.generation != stored.generation:
        return change.generation > stored.generation
    if change.partition == stored.partition:
        return change.offset > stored.offset
    if stored.pos_hi is None or stored.pos_lo is None:
        return True
    if change.pos_hi is None or change.pos_lo is None:
        return False
    at = between_partitions(change.op, SourcePosition(change.pos_hi, change.pos_lo))
    return at >= between_partitions(stored.op, SourcePosition(stored.pos_hi, stored.pos_lo))


def newer_sql(change: str, stored: str, tied: str | None = None) -> str:
    """Render `is_newer` over the metadata columns of two rows.

    In: the aliases of both; `tied`, the SQL for two changes of one position in two partitions; None where
        they are the same.
    """
    new, old = (
        between_partitions_sql(f"{of}.{OP}", f"{of}.{POSITION_HI}", f"{of}.{POSITION_LO}")
        for of in (change, stored)
    )
    return (
        f"(CASE WHEN {stored}.{GENERATION} IS NULL THEN true "
        f"WHEN {change}.{GENERATION} <> {stored}.{GENERATION} "
        f"THEN {change}.{GENERATION} > {stored}.{GENERATION} "
        f"WHEN {change}.{PARTITION} = {stored}.{PARTITION} THEN {change}.{OFFSET} > {stored}.{OFFSET} "
        f"WHEN {stored}.{POSITION_HI} IS NULL OR {stored}.{POSITION_LO} IS NULL THEN true "
        f"WHEN {change}.{POSITION_HI} IS NULL OR {change}.{POSITION_LO} IS NULL THEN false "
        f"WHEN {stored}.{OP} = 'r' AND {change}.{OP} <> 'r' "
        f"AND {new} = {old} THEN true "
        + (f"WHEN {new} = {old} THEN {tied} " if tied else "")
        + f"ELSE {new} >= {old} END)"
    )
