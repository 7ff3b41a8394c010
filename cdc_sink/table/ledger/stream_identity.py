"""Who writes a table: one pipeline, by one query, from one incarnation of one topic.

The ledger in the table has it, and so has the file beside the checkpoint. A start and every batch are
compared with what is kept there: a difference means rows of another log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cdc_sink.errors import StateError

_REMEDIES: Mapping[str, str] = {
    "pipeline": "write to another target table",
    "generation": "set `generation` of this table in the configuration to the one that is kept; only a "
    "greater one can be opened, by a start of `cdc-sink run`",
    "topic": "write to another target table: each topic has one of its own",
    "cluster_id": "point kafka.bootstrap_servers at the old cluster; or let the connector take a new source "
    "snapshot into the new one, and raise `generation` of this table",
    "topic_id": "the topic was made anew and its offsets start again: let the connector take a new source "
    "snapshot into it, and raise `generation` of this table",
    "query_id": "if another driver writes this table, stop one of the two; if the checkpoint was lost or "
    "exchanged, start once with `cdc-sink run --take-over`, which goes on at the ledger's offsets",
}


@dataclass(frozen=True)
class StreamIdentity:
    """The pipeline and its query; the cluster, the topic and its incarnation; the table's generation."""

    pipeline: str
    query_id: str
    cluster_id: str
    topic: str
    topic_id: str
    generation: int = 0

    def require_same(self, kept: Mapping[str, Any], where: str, holder: str) -> None:
        """Refuse to go on for another stream than the one that is kept.

        In:     kept, those of its fields that `holder` has, such as `the table's ledger`.
        Raises: StateError that names the first difference and its remedy.
        """
        own = asdict(self)
        for name, remedy in _REMEDIES.items():
            if name in kept and kept[name] != own[name]:
                field = name.replace("_", " ")
                saw = f"{holder} belongs to {field} {kept[name]!r}, this query has {own[name]!r}"
                raise StateError(where, saw, remedy=remedy)
