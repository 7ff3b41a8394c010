"""What a table itself knows about how far it has come: the ledger.

It lies in the summary of every Iceberg snapshot that the pipeline writes, so rows and offsets move in one
table commit. Reading it means walking from the branch head to the first snapshot that has one. It alone
suffices to rebuild a lost checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cdc_sink.change.position import SourcePosition
from cdc_sink.errors import StateError

LEDGER_KEY = "cdc-sink.ledger"
BATCH_KEY = "cdc-sink.batch"
OWNER_PROPERTY = "cdc-sink.pipeline"
VERSION = 1


@dataclass(frozen=True)
class Ledger:
    """Which records of which topic incarnation a table holds, and who wrote them.

    `next_offsets` names every partition of the topic as it was when the table was set up: a partition that
    is missing here was added later. `high_water` is the greatest position applied by stream events, and
    `newest_source_ts_ms` the newest source timestamp among all that was applied: what claims to be
    redelivered can't be newer.
    """

    pipeline: str
    query_id: str
    cluster_id: str
    topic: str
    topic_id: str
    next_offsets: Mapping[int, int]
    high_water: Mapping[int, SourcePosition]
    schema_ids: tuple[int, ...] = ()
    generation: int = 0
    newest_source_ts_ms: int | None = None

    def advanced(
        self,
        next_offsets: Mapping[int, int],
        high_water: Mapping[int, SourcePosition],
        schema_ids: Iterable[int],
        newest_source_ts_ms: int | None = None,
    ) -> Ledger:
        """The ledger after a batch; neither an offset nor a mark ever goes back."""
        offsets = {
            p: max(o, self.next_offsets.get(p, 0))
            for p, o in {**self.next_offsets, **next_offsets}.items()
        }
        marks = dict(self.high_water)
        for partition, mark in high_water.items():
            marks[partition] = max(mark, marks.get(partition, mark))
        ids = tuple(sorted({*self.schema_ids, *schema_ids}))
        stamps = [t for t in (self.newest_source_ts_ms, newest_source_ts_ms) if t is not None]
        newest = max(stamps, default=None)
        return replace(
            self,
            next_offsets=offsets,
            high_water=marks,
            schema_ids=ids,
            newest_source_ts_ms=newest,
        )

    def handed_to(self, query_id: str) -> Ledger:
        """The same ledger with another writer; the old one is fenced at its next batch."""
        return replace(self, query_id=query_id)

    def to_json(self) -> str:
        """Render as the value of the summary key `cdc-sink.ledger`."""
        return json.dumps(
            {
                "version": VERSION,
                "pipeline": self.pipeline,
                "query_id": self.query_id,
                "generation": self.generation,
                "cluster_id": self.cluster_id,
                "topic": self.topic,
                "topic_id": self.topic_id,
                "next_offsets": {str(p): o for p, o in sorted(self.next_offsets.items())},
                "high_water": {str(p): [m.hi, m.lo] for p, m in sorted(self.high_water.items())},
                "schema_ids": list(self.schema_ids),
                "newest_source_ts_ms": self.newest_source_ts_ms,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str, where: str = "ledger") -> Ledger:
        """Read a ledger.

        Raises: StateError when the text is none, or was written by a newer release.
        """
        try:
            seen: dict[str, Any] = json.loads(text)
            version = seen["version"]
            if version == VERSION:
                return cls(
                    pipeline=seen["pipeline"],
                    query_id=seen["query_id"],
                    generation=seen["generation"],
                    cluster_id=seen["cluster_id"],
                    topic=seen["topic"],
                    topic_id=seen["topic_id"],
                    next_offsets={int(p): o for p, o in seen["next_offsets"].items()},
                    high_water={int(p): SourcePosition(*m) for p, m in seen["high_water"].items()},
                    schema_ids=tuple(seen["schema_ids"]),
                    newest_source_ts_ms=seen.get("newest_source_ts_ms"),
                )
        except (ValueError, KeyError, TypeError, AttributeError) as cause:
            raise StateError(
                where,
                "the ledger in the newest table snapshot can't be read",
                remedy="find out which program wrote the snapshot property "
                f"'{LEDGER_KEY}', and roll the table back to the snapshot before it",
            ) from cause
        raise StateError(
            where,
            f"the ledger has version {version}, this release reads version {VERSION}",
            remedy="run the release that wrote it, or a newer one",
        )


@dataclass(frozen=True)
class Claim:
    """Who wants to write a table: compared with the ledger before the first record and at every batch."""

    pipeline: str
    query_id: str
    cluster_id: str
    topic: str
    topic_id: str

    def open(self, partitions: Iterable[int]) -> Ledger:
        """The first ledger of a new table: nothing applied yet, every partition named."""
        return Ledger(
            self.pipeline,
            self.query_id,
            self.cluster_id,
            self.topic,
            self.topic_id,
            next_offsets=dict.fromkeys(partitions, 0),
            high_water={},
        )

    def require_fits(self, ledger: Ledger, where: str) -> None:
        """Refuse a table whose ledger belongs to another cluster, topic, pipeline or query.

        Raises: StateError naming the first difference and its remedy.
        """
        for name, mine, theirs, remedy in (
            ("pipeline", self.pipeline, ledger.pipeline, "write to another target table"),
            ("topic", self.topic, ledger.topic, "write to another target table"),
            (
                "cluster id",
                self.cluster_id,
                ledger.cluster_id,
                "point kafka.bootstrap_servers at the old cluster, or rebuild the table from the new "
                "one with `cdc-sink backfill` into a new target",
            ),
            (
                "topic id",
                self.topic_id,
                ledger.topic_id,
                "the topic was re-created and its offsets start again: rebuild the table with "
                "`cdc-sink backfill` into a new target",
            ),
            (
                "query id",
                self.query_id,
                ledger.query_id,
                "if another driver writes this table, stop one of the two; if the checkpoint was "
                "lost, start once with `--take-over`, which goes on at the ledger's offsets",
            ),
        ):
            if mine != theirs:
                raise StateError(
                    where,
                    f"the table's ledger has {name} {theirs!r}, this query has {mine!r}",
                    remedy=remedy,
                )
