"""Tombstones without their delete: the sign that a topic has lost records.

Rules owned here:
- Debezium sends a tombstone right behind its delete, into the same partition. One whose delete is in the
  batch says nothing, also when the delete was delivered again, or went to the dead letters.
- A batch may be cut between the two: the ledger remembers the delete that a partition ended with, as a hash
  of its key.
- Without a delete before it, and without a change of the key behind it, the row is gone at its source, and
  nothing was said of it here: a bare tombstone. A key that has none of its rows stored loses nothing by it;
  a stored row would stay for ever, so the table stops there (suspect_deletes.py).
- Offsets of two partitions don't compare: while a key has records in two, its tombstones say nothing.

Source: Debezium 3.6 `EventDispatcher`: the tombstone is sent with the delete; Kafka's cleaner removes the
delete before it, since both have one key.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, WindowSpec
from pyspark.sql import functions as F

from cdc_sink.spark.read.record_faults import fault_sql
from cdc_sink.table.faults import TOMBSTONE

# Of each change that deletes its key, or that may have: what is known of a dead letter is its key alone.
DELETED = "IF(key IS NOT NULL AND (op = 'd' OR aside IS NOT NULL), xxhash64(key), NULL)"
TELLS = (
    "key IS NOT NULL AND ((op IS NULL AND aside IS NULL) "
    "OR (deleted IS NOT NULL AND (stale OR aside IS NOT NULL)))"
)
STOPS = fault_sql(f"'{TOMBSTONE}'", "CAST(NULL AS BINARY)", record="s.{}")


def is_aside(stale: str) -> str:
    """Whether a record only tells of tombstones, and is no candidate for the key's final image."""
    return f"(op IS NULL OR ({stale}) OR aside IS NOT NULL)"


def of_changes(name: str) -> str:
    """A column of the candidates alone, where rows that tell of tombstones stand among them."""
    return f"IF(is_aside, NULL, {name})"


def of_tombstones(of_key: WindowSpec) -> dict[str, Column]:
    """Offsets of a key's last records of each kind, by their names in `is_final`.

    In: a window over all rows of the key; they have `deleted` and `is_aside`.
    """

    def last(condition: str) -> Column:
        return F.max(F.expr(f"IF({condition}, offset, NULL)")).over(of_key)

    return {
        "tombstone": last("op IS NULL AND deleted IS NULL"),
        "last_delete": last("deleted IS NOT NULL"),
        "last_image": last("NOT is_aside AND op <> 'd'"),
        "is_apart": F.min("partition").over(of_key) != F.max("partition").over(of_key),
    }


def is_final(ended_with: Mapping[int, int]) -> str:
    """Whether a record is what becomes of its key: the bare tombstone where it has one, or the newest change.

    In: by partition the hash of the delete that was its last record before the batch.
    """
    is_last = "tombstone IS NOT NULL AND tombstone > coalesce(last_image, -1L)"
    undeleted = (
        "(last_delete IS NULL OR (last_delete < last_image AND last_image < tombstone)) "
        f"AND NOT (last_image IS NULL AND {_ended_with(ended_with)})"
    )
    is_tombstone = "op IS NULL AND offset = tombstone AND deleted IS NULL"
    is_bare = f"{is_last} AND NOT is_apart AND {undeleted}"  # the same for all records of a key
    return f"IF({is_bare}, {is_tombstone}, newest = 1 AND NOT is_aside)"


def _ended_with(ended_with: Mapping[int, int]) -> str:
    """The key is the one of the delete that its partition ended with."""
    if not ended_with:
        return "false"
    partitions = ", ".join(str(p) for p in sorted(ended_with))
    hashes = ", ".join(f"{ended_with[p]}L" for p in sorted(ended_with))
    known = f"element_at(map_from_arrays(array({partitions}), array({hashes})), partition)"
    return f"coalesce(xxhash64(key) = {known}, false)"
