"""A table as it was: tests that each change the same prepared table need not prepare one each."""

from __future__ import annotations

import copy

from lake import PIPELINE, Writer


def snapshot_id(writer: Writer) -> int:
    """Of the table as it is."""
    snapshot = writer.table.current_snapshot()
    assert snapshot is not None
    return snapshot.snapshot_id


def put_back(prepared: Writer, to: int, **settings: object) -> Writer:
    """The table as this table snapshot has it, and a driver that was just started, its topic a copy.

    The ledger lies in the snapshot, and goes back with the rows. What lies elsewhere does not: dead letters,
    new columns.
    """
    target = prepared.target.table.target
    if snapshot_id(prepared) != to:
        # In another session: one that knows the table would answer from what it knows.
        prepared.lake.spark.newSession().sql(
            f"CALL lake.system.set_current_snapshot(table => '{target}', snapshot_id => {to})"
        )
    topic = copy.deepcopy(prepared.topic)
    name = target.removeprefix(f"{PIPELINE}.")
    return prepared.lake.writer(name, topic, **settings)
