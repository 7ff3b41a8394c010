"""Offsets and high-water marks of a ledger, as SQL over rows that have a partition."""

from __future__ import annotations

from collections.abc import Mapping

from cdc_sink.debezium.position import SourcePosition
from cdc_sink.spark.fold.batch_facts import IS_STREAM
from cdc_sink.table.ledger.offsets import Offsets


def offset_sql(offsets: Offsets, partition: str = "partition") -> str:
    """The offset of a row's partition; null for a partition that has none."""
    return _by_partition({p: f"{o}L" for p, o in offsets.items()}, partition)


def _by_partition(values: Mapping[int, str], partition: str = "partition") -> str:
    """A value per partition, as a map: a constant map is handed to the generated code by reference.

    Written as CASE, the numbers would stand in the code itself, and every batch would be compiled anew.
    """
    partitions = ", ".join(str(p) for p in sorted(values))
    listed = ", ".join(values[p] for p in sorted(values))
    return f"element_at(map_from_arrays(array({partitions}), array({listed})), {partition})"


def mark_sql(marks: Mapping[int, SourcePosition], of: str) -> str:
    """The high-water mark of a row; null where there is none.

    In:     of, the SQL of what the marks are by: the row's partition, or its lane.
    """
    if not marks:
        return "CAST(NULL AS STRUCT<hi: BIGINT, lo: BIGINT>)"
    return _by_partition(
        {p: f"named_struct('hi', {m.hi}L, 'lo', {m.lo}L)" for p, m in marks.items()}, of
    )


def below_sql(marks: Mapping[int, SourcePosition], of: str) -> str:
    """A change lies below its mark: an earlier batch applied it. In: as for `mark_sql`."""
    return f"coalesce({IS_STREAM} AND position < {mark_sql(marks, of)}, false)"
