"""A query writes one table in the life of its checkpoint: made or met once, then never another.

A table that was dropped is not made again by itself: what a new one holds would be the batches from now on,
and all older rows would be missing without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cdc_sink.errors import StateError
from cdc_sink.table.ledger.offsets import NOT_APPLIED, Offsets

GONE_REMEDY = (
    "restore or register the table; or start once with `cdc-sink run --take-over`: it makes a new table from "
    "the topic's oldest record, and moves the old checkpoint aside"
)


def _forget(uuid: str) -> None:
    """Keep nothing: the uuid is known for as long as the object lives."""


@dataclass
class OneTable:
    """The table's uuid, as far as it is known; `keep` writes a new one down for later starts."""

    where: str
    uuid: str | None = None
    keep: Callable[[str], None] = _forget

    def require_may_create(self) -> None:
        """Refuse to make the table a second time. Raises: StateError."""
        if self.uuid is not None:
            raise StateError(
                self.where,
                f"the table is gone: it was dropped or renamed (its uuid was {self.uuid})",
                data=NOT_APPLIED,
                remedy=GONE_REMEDY,
            )

    def require_same(self, uuid: str) -> None:
        """Refuse another table of the same name; the first one is remembered. Raises: StateError."""
        if self.uuid is None:
            self.keep(uuid)
            self.uuid = uuid
        elif self.uuid != uuid:
            raise StateError(
                self.where,
                f"the table is another one: its uuid is {uuid}, and was {self.uuid}",
                data=NOT_APPLIED,
                remedy=GONE_REMEDY,
            )


def topic_gone(where: str, topic: str, records: int) -> StateError:
    """The topic of a table is missing, though so many of its records were applied."""
    return StateError(
        where,
        f"topic {topic} is gone: {records:,} records of it were applied before",
        data="the table stays as it is, at its ledger's offsets",
        remedy="find out who deleted the topic, or correct kafka.bootstrap_servers; once the connector "
        "has made it anew, with a new source snapshot in it, raise `generation` of this table",
    )


def require_whole_topic(where: str, topic: str, starts: Offsets) -> None:
    """Refuse to make a lost table anew from a topic that has lost its oldest records. Raises: StateError."""
    if any(starts.values()):
        raise StateError(
            where,
            f"the table is gone, and topic {topic} no longer has its oldest records: a new table would "
            "lack rows",
            data="nothing was changed",
            remedy="restore the table; or let the connector take a new source snapshot, and raise "
            "`generation` of this table",
        )
