"""What befell the keys of each trap: the histories that are played in one table, see test_traps.py."""

from __future__ import annotations

import dataclasses

from debezium import ITEMS, TS_MS, Event, Row, SourceTable, Topic, item, optional

AT = (1, 5)
LATER = TS_MS + 60_000
READS = [Event("r", item(k, "read"), (0, 9), "true", ts_ms=LATER) for k in (1, 2)]
CHANGES = [
    Event("u", item(1, "changed"), (1, 1), ts_ms=TS_MS),
    Event("d", item(2), (1, 2), ts_ms=TS_MS),
]
CREATE = Event("c", item(1, "x"), (1, 1))
DELETED = Event("d", item(1), (1, 3))
OLDER = Event("u", item(1, "older"), (1, 2))
WIDER = SourceTable({**ITEMS.columns, "size": optional("int")})
# Of each trap its batches. A row alone is its tombstone; a source table is what follows written as.
# The number of a trap is also the hundred of its keys.
Step = Event | SourceTable | Row
HISTORIES: dict[int, list[list[Step]]] = {
    0: [[*READS, *CHANGES]],
    1: [[*READS], [*CHANGES]],
    2: [[
        Event("c", item(1, "first"), (1, 1)),
        Event("d", item(1), (1, 2)),
        Event("c", item(1, "second"), (1, 3)),
        Event("c", item(2, "first"), (1, 4)),
        Event("d", item(2), (1, 5)),
    ]],
    3: [
        [Event("c", item(1, "first"), (1, 1)), OLDER, DELETED],
        [OLDER],
        [DELETED, Event("c", item(2, "new"), (1, 4))],
    ],
    4: [[CREATE], [], [CREATE]],  # once more from the connector
    5: [
        [Event("c", item(k, "x"), (1, k)) for k in range(1, 9)],
        [
            event
            for k in range(1, 9)
            for event in (Event("d", item(k), (2, k)), Event("c", item(k + 50, "moved"), (2, k)))
        ],
    ],
    7: [
        [CREATE, Event("c", item(2, "x"), (1, 2)), Event("d", item(2), (1, 3)), item(2)],
        # Its delete is lost: the row is gone at the source, and was never here.
        [Event("c", item(3, "x"), (1, 4)), item(3)],
    ],
    8: [[
        Event("c", item(1, "old"), (1, 1)),
        WIDER,
        Event("c", {**item(2, "new"), "size": 2}, (1, 2)),
        ITEMS,
        Event("c", item(3, "old again"), (1, 3)),
        WIDER,
        Event("u", {**item(1, "new"), "size": 1}, (1, 4)),
        ITEMS,
    ]],
    10: [[CREATE]],
    12: [[CREATE]],
    13: [[CREATE]],
    14: [[CREATE], [Event("d", item(1), (1, 2))]],
    16: [[CREATE]],
    18: [[Event("c", item(k, "x"), (1, 1)) for k in range(1, 4)]],
    # Several changes of a row in one MariaDB transaction or compressed binlog event: Kafka order decides.
    20: [
        [Event("c", item(1, "first"), AT), Event("u", item(1, "second"), AT), Event("d", item(1), AT)],
        [Event("c", item(1, "third"), AT), Event("u", item(1, "fourth"), AT)],
    ],
    21: [[CREATE]],
}  # fmt: skip


# Whose marks must be their own; the others share a partition, and their positions only rise.
OWN_PARTITION = [0, 1, 2, 3, 4, 5, 7, 8, 20]
PARTITIONS = range(len(OWN_PARTITION) + 1)


def partition_of(trap: int) -> int:
    return OWN_PARTITION.index(trap) if trap in OWN_PARTITION else PARTITIONS[-1]


def sent(topic: Topic, trap: int, *steps: Step) -> None:
    """A trap's records, in its partition and with its keys."""
    for step in steps:
        if isinstance(step, SourceTable):
            topic.write_as(step)
        elif isinstance(step, Event):
            topic.send(dataclasses.replace(step, row=_of(trap, step.row)), partition_of(trap))
        else:
            topic.tombstone(_of(trap, step), partition_of(trap))


def _of(trap: int, row: Row) -> Row:
    return {**row, "id": row["id"] + 100 * trap}
