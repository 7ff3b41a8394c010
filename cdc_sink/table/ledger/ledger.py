"""What a table itself knows about how far it has come: the ledger.

It lies in the summary of every Iceberg snapshot that the pipeline writes, so rows and offsets move in one
table commit. Reading it means walking from the branch head to the first snapshot that has one. It alone
suffices to rebuild a lost checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from cdc_sink.debezium.origin import Origin
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import StateError
from cdc_sink.table.ledger.many_sources import KnownSource, lanes_of
from cdc_sink.table.ledger.offsets import Offsets, including, offsets_from_json, offsets_to_json
from cdc_sink.table.ledger.repartitioning import Moving, next_moving
from cdc_sink.table.ledger.source_snapshot import Run
from cdc_sink.table.ledger.stream_identity import StreamIdentity

LEDGER_KEY = "cdc-sink.ledger"
BATCH_KEY = "cdc-sink.batch"
OWNER_PROPERTY = "cdc-sink.pipeline"
TRANSFORMED_PROPERTY = "cdc-sink.transformed"
VERSION = 1


@dataclass(frozen=True)
class Totals:
    """What became of all records that a table's ledger has: their sum is the input. Unit: records."""

    applied: int = 0
    redelivered: int = 0
    tombstones: int = 0
    ignored: int = 0
    dead_letters: int = 0

    @property
    def records(self) -> int:
        """All of them; none is in two kinds."""
        return sum(asdict(self).values())

    def plus(self, more: Totals) -> Totals:
        """Both together."""
        mine, theirs = asdict(self), asdict(more)
        return Totals(**{kind: mine[kind] + theirs[kind] for kind in mine})


@dataclass(frozen=True)
class Ledger:
    """Which records of which topic incarnation a table holds, and who wrote them.

    `next_offsets` names every partition of the topic that the table knows. `high_water` is the greatest
    position applied by stream events, and `newest_source_ts_ms` the newest source timestamp among all that
    was applied: what claims to be redelivered can't be newer. `quarantined` is how many records of this
    table wait among the dead letters, as of the last batch; `replay` is the digest of those applied last.
    `log` is the name of the log whose files the marks number, e.g. `binlog`; `origin`, the source table;
    `fingerprints`, those of the schemas by id. `ended_with`: of partitions whose last record was a delete,
    the hash of its key; `run`, the newest source snapshot. `sources`: of a table of many, which has neither
    `origin` nor `run`; the marks are by lane then, as many_sources.py says. `read_only`: columns that only
    rows of source snapshots had.
    """

    stream: StreamIdentity
    next_offsets: Offsets
    high_water: Mapping[int, SourcePosition] = field(default_factory=dict)
    schema_ids: tuple[int, ...] = ()
    newest_source_ts_ms: int | None = None
    totals: Totals = Totals()
    quarantined: int = 0
    replay: str | None = None
    key_schema_ids: tuple[int, ...] = ()
    moving: Moving | None = None
    log: str | None = None
    origin: Origin | None = None
    fingerprints: Mapping[int, str] = field(default_factory=dict)
    ended_with: Mapping[int, int] = field(default_factory=dict)
    run: Run | None = None
    sources: tuple[KnownSource, ...] = ()
    read_only: tuple[str, ...] = ()

    @classmethod
    def opened(
        cls,
        stream: StreamIdentity,
        partitions: Iterable[int],
        first: Offsets | None = None,
    ) -> Ledger:
        """The first ledger of a new table: nothing applied yet, every partition named.

        In: `first`, the offsets that the query begins at, where they are not 0.
        """
        return cls(stream, dict.fromkeys(partitions, 0) | dict(first or {}))

    def require_of(self, stream: StreamIdentity, where: str) -> None:
        """Refuse a table whose ledger belongs to another stream. Raises: StateError."""
        stream.require_same(asdict(self.stream), where, "the table's ledger")

    def advanced(
        self,
        next_offsets: Offsets,
        high_water: Mapping[int, SourcePosition],
        schema_ids: Iterable[int],
        newest_source_ts_ms: int | None = None,
        totals: Totals = Totals(),
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
            totals=self.totals.plus(totals),
        )

    def beginning(
        self,
        partitions: int,
        key_schema_ids: Iterable[int],
        ends: Callable[[], Offsets],
        log: str | None = None,
    ) -> Ledger:
        """The ledger at the begin of a batch: it knows the topic's partitions and the schemas of its keys.

        In:     as repartitioning.py says; `ends` is asked only when needed.
        """
        new = set(key_schema_ids) - set(self.key_schema_ids)
        moving = next_moving(
            self.moving,
            self.next_offsets,
            partitions=partitions,
            has_new_key_schema=bool(new and self.key_schema_ids),
            ends=ends,
            is_met=self._is_met,
        )
        return replace(
            self,
            next_offsets=including(self.next_offsets, range(partitions)),
            key_schema_ids=tuple(sorted({*self.key_schema_ids, *new})),
            moving=moving,
            log=self.log or log,
        )

    def _is_met(self, partitions: range) -> bool:
        """Say whether each source of the table wrote to one of these partitions."""
        if not self.sources:
            return any(self.next_offsets[p] for p in partitions)
        return all(
            any(lane in self.high_water for lane in lanes_of(number, partitions))
            for number in range(len(self.sources))
        )

    @property
    def is_undecided(self) -> bool:
        """A source snapshot is whole here, and nothing was decided over the rows that it does not name."""
        return self.run is not None and self.run.is_due(self.next_offsets)

    @property
    def keys_move(self) -> bool:
        """Older changes of a key may still wait in another partition."""
        return self.moving is not None and not self.moving.is_over(self.next_offsets)

    @property
    def has_to_decide(self) -> bool:
        """Nothing that still waits can name more rows: not while keys move, or dead letters wait."""
        return self.is_undecided and not self.keys_move and not self.quarantined

    @property
    def waits_to_decide(self) -> str | None:
        """What a decision over a whole source snapshot waits for: rows too many may be there until then."""
        if not self.is_undecided:
            return None
        if self.quarantined:
            until = f"{self.quarantined:,} dead letters are replayed or released"
        elif self.moving is None or not self.keys_move:
            return None  # decided with the next batch, or at the next start
        elif self.moving.until is None:
            until = f"more records of {self.stream.topic} are applied, since its partitions grew"
        else:
            until = f"{self.stream.topic} is applied up to {dict(self.moving.until)}"
        return f"a source snapshot is complete, and rows that are not in it stay in the table until {until}"

    def replayed(self, letters: int, digest: str) -> Ledger:
        """The ledger after so many dead letters were applied after all."""
        moved = Totals(applied=letters, dead_letters=-letters)
        return replace(
            self,
            totals=self.totals.plus(moved),
            quarantined=max(0, self.quarantined - letters),
            replay=digest,
        )

    def reopened(self, stream: StreamIdentity, partitions: Iterable[int]) -> Ledger:
        """The first ledger of a greater generation: what the old log said of order no longer counts.

        A topic that was made anew is read from its beginning, the same one goes on where it was.
        """
        mine, other = self.stream, stream
        same = (mine.cluster_id, mine.topic_id) == (other.cluster_id, other.topic_id)
        opened = Ledger.opened(stream, partitions)
        return replace(
            opened,
            next_offsets=self.next_offsets if same else opened.next_offsets,
            schema_ids=self.schema_ids,
            totals=self.totals,
            quarantined=self.quarantined,
        )

    def handed_to(self, query_id: str) -> Ledger:
        """The same ledger with another writer; the old one is fenced at its next batch."""
        return replace(self, stream=replace(self.stream, query_id=query_id))

    def to_json(self) -> str:
        """Render as the value of the summary key `cdc-sink.ledger`."""
        return json.dumps(
            {
                "version": VERSION,
                **asdict(self.stream),
                "next_offsets": offsets_to_json(self.next_offsets),
                "high_water": {str(p): [m.hi, m.lo] for p, m in sorted(self.high_water.items())},
                "schema_ids": list(self.schema_ids),
                "newest_source_ts_ms": self.newest_source_ts_ms,
                "totals": asdict(self.totals),
                "quarantined": self.quarantined,
                "replay": self.replay,
                "key_schema_ids": list(self.key_schema_ids),
                "moving": None if self.moving is None else self.moving.to_json(),
                "log": self.log,
                "origin": None if self.origin is None else self.origin.to_json(),
                "fingerprints": {str(i): f for i, f in sorted(self.fingerprints.items())},
                "ended_with": {str(p): key for p, key in sorted(self.ended_with.items())},
                "run": None if self.run is None else self.run.to_json(),
                "sources": [one.to_json() for one in self.sources],
                "read_only": list(self.read_only),
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
                    StreamIdentity(**{one.name: seen[one.name] for one in fields(StreamIdentity)}),
                    next_offsets=offsets_from_json(seen["next_offsets"]) or {},
                    high_water={int(p): SourcePosition(*m) for p, m in seen["high_water"].items()},
                    schema_ids=tuple(seen["schema_ids"]),
                    newest_source_ts_ms=seen.get("newest_source_ts_ms"),
                    # Ledgers of the first release did not count.
                    totals=Totals(**seen.get("totals", {})),
                    quarantined=seen.get("quarantined", 0),
                    replay=seen.get("replay"),
                    key_schema_ids=tuple(seen.get("key_schema_ids", ())),
                    moving=Moving.from_json(seen["moving"]) if seen.get("moving") else None,
                    log=seen.get("log"),
                    origin=Origin.from_json(seen.get("origin")),
                    fingerprints={int(i): f for i, f in seen.get("fingerprints", {}).items()},
                    ended_with={int(p): key for p, key in seen.get("ended_with", {}).items()},
                    run=Run.from_json(seen.get("run")),
                    sources=tuple(map(KnownSource.from_json, seen.get("sources", ()))),
                    read_only=tuple(seen.get("read_only", ())),
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
