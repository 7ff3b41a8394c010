"""A table that several source tables fill, such as the shards of one: `sources: many`.

Rules owned here:
- Positions of two sources don't compare, so what was applied is known by partition *and* source: a lane. The
  ledger numbers the sources in the order in which they came, and no number is given twice.
- Keys of two sources don't compare either. The router's key field (`key.enforce.uniqueness`) tells them
  apart; where the key has none, the source is the last column of the key, `_cdc_source`.
- A source is what its records say: logical name, database, schema and table. Its connector and its writer
  schema's name stay what they were, and so does what its keys say in the router's field.
- The rows of two sources can't be told apart where one text names both, or one value of the router's field.
- Which rows a second source snapshot does not name is not looked for here: the table says so, and stops
  unless it is told to keep them.

Source: Debezium 3.6 `ByLogicalTableRouter`: the field's value is the topic of the physical table, or what
`key.field.regex` makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cdc_sink.debezium.origin import Origin, identity_sql, identity_text
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import StateError
from cdc_sink.sql import literal
from cdc_sink.table.ledger.offsets import NOT_APPLIED
from cdc_sink.table.ledger.source_snapshot import Policy

SOURCE_COLUMN: Final = "_cdc_source"
_WIDTH: Final = 1 << 16  # more partitions than a topic has
# Facts are observed by lane; 1,000 lanes cost seconds a batch.
MOST_LANES: Final = 1_000


@dataclass(frozen=True)
class KnownSource:
    """One source of a table, as its ledger knows it.

    `run`: the position of the newest source snapshot; `key`: what its keys say in the router's field.
    """

    origin: Origin
    newest_source_ts_ms: int | None = None
    run: SourcePosition | None = None
    key: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Render as part of the ledger."""
        return {
            "origin": self.origin.to_json(),
            "newest_source_ts_ms": self.newest_source_ts_ms,
            "run": None if self.run is None else [self.run.hi, self.run.lo],
            "key": self.key,
        }

    @classmethod
    def from_json(cls, seen: Mapping[str, Any]) -> KnownSource:
        """Read what `to_json` made."""
        origin, run = Origin.from_json(seen["origin"]), seen["run"]
        assert origin is not None
        run = None if run is None else SourcePosition(*run)
        return cls(origin, seen["newest_source_ts_ms"], run, seen["key"])


@dataclass(frozen=True)
class SourceFacts:
    """What a batch brought of one source.

    `runs`: the least and the greatest position of its source snapshots; `keys`, of the router's field; the
    times are those of `BatchFacts`.
    """

    newest_source_ts_ms: int | None = None
    newest_redelivered_ts_ms: int | None = None
    newest_regression_ts_ms: int | None = None
    runs: tuple[SourcePosition, SourcePosition] | None = None
    keys: tuple[str, str] | None = None


@dataclass(frozen=True)
class Lanes:
    """The lanes of the known sources; `named` is the SQL of what a key says in the router's field."""

    sources: tuple[KnownSource, ...]
    named: str = "CAST(NULL AS STRING)"

    @property
    def numbers(self) -> range:
        """The numbers of the sources."""
        return range(len(self.sources))

    def of(self, partitions: Iterable[int]) -> list[int]:
        """All of them in these partitions."""
        known = list(partitions)
        return [lane for number in self.numbers for lane in lanes_of(number, known)]

    @property
    def sql(self) -> str:
        """The lane of a change that has its `origin`; null where its source is not known."""
        if not self.sources:
            return "CAST(NULL AS INT)"
        names = ", ".join(literal(identity_text(one.origin)) for one in self.sources)
        starts = ", ".join(str(number * _WIDTH) for number in self.numbers)
        numbered = f"map_from_arrays(array({names}), array({starts}))"
        return f"partition + element_at({numbered}, {identity_sql('origin')})"


def lanes_of(number: int, partitions: Iterable[int]) -> list[int]:
    """The lanes of the source of this number in these partitions."""
    return [number * _WIDTH + p for p in partitions]


def source_sql(number: int, lane: str = "lane") -> str:
    """Render whether a lane is one of the source of this number."""
    return f"{lane} BETWEEN {number * _WIDTH} AND {(number + 1) * _WIDTH - 1}"


def with_origins(
    known: Sequence[KnownSource], seen: Iterable[Origin], partitions: int, topic: str, where: str
) -> tuple[KnownSource, ...]:
    """The sources of a table after a batch, new ones last.

    Raises: StateError when a source is not what it was, can't be told from another one, or is one too many.
    """
    found = list(known)
    for origin in sorted(seen, key=identity_text):
        if not any(origin.identity):
            raise _unnamed(topic, where)
        number = next(
            (i for i, k in enumerate(found) if k.origin.identity == origin.identity), None
        )
        if number is None:
            _require_own_name(found, origin, topic, where)
            found.append(KnownSource(origin))
        elif differing := found[number].origin.differing(origin):
            raise _changed(origin, differing, topic, where)
    if len(found) * partitions > MOST_LANES:
        raise StateError(
            where,
            f"{topic} has {len(found)} sources in {partitions} partitions, and {MOST_LANES} pairs of both is "
            "the most that one table keeps apart",
            data=NOT_APPLIED,
            remedy="route the sources into several topics, each with a table of its own",
        )
    return tuple(found)


def advanced(
    known: Sequence[KnownSource],
    facts: Sequence[SourceFacts],
    policy: Policy,
    topic: str,
    where: str,
) -> tuple[KnownSource, ...]:
    """The sources after a batch whose facts are in their order.

    Raises: StateError when one began its source snapshot again, or two can't be told apart.
    """
    after = [_one_advanced(k, f, policy, topic, where) for k, f in zip(known, facts, strict=True)]
    named: dict[str, Origin] = {}
    for one in after:
        other = named.setdefault(one.key, one.origin) if one.key is not None else one.origin
        if other is not one.origin:
            raise _one_key(one, other, topic, where)
    return tuple(after)


def _one_advanced(
    known: KnownSource, facts: SourceFacts, policy: Policy, topic: str, where: str
) -> KnownSource:
    stamps = [ms for ms in (known.newest_source_ts_ms, facts.newest_source_ts_ms) if ms is not None]
    run, key = known.run, known.key
    if facts.runs is not None:
        least, greatest = facts.runs
        if policy != "keep" and (least != greatest or run not in (None, greatest)):
            raise _second_run(known.origin, topic, where)
        run = greatest
    if facts.keys is not None:
        least_key, greatest_key = facts.keys
        if least_key != greatest_key or key not in (None, greatest_key):
            raise _two_keys(known.origin, topic, where)
        key = greatest_key
    return KnownSource(known.origin, max(stamps, default=None), run, key)


def _require_own_name(known: Iterable[KnownSource], origin: Origin, topic: str, where: str) -> None:
    twin = next((k.origin for k in known if k.origin.text == origin.text), None)
    if twin is not None:
        raise StateError(
            where,
            f"{topic} holds changes of two sources that {origin.text!r} names both: {twin.differing(origin)}",
            data=NOT_APPLIED,
            remedy="give one of the connectors another topic.prefix, into a new topic",
        )


def _unnamed(topic: str, where: str) -> StateError:
    return StateError(
        where,
        f"records of {topic} don't say which source they come from, and the table has `sources: many`",
        data=NOT_APPLIED,
        remedy="let the transform that flattens rows add the source: add.fields=…,source.name,source.db,"
        "source.schema,source.table, as far as the connector has them",
    )


def require_placed(unplaced: int, topic: str, where: str) -> None:
    """Refuse changes whose source is not known: nothing would tell whether they were applied before.

    Raises: StateError.
    """
    if unplaced:
        raise _unnamed(topic, where)


def _changed(origin: Origin, differing: str, topic: str, where: str) -> StateError:
    return StateError(
        where,
        f"changes of the source {origin.text!r} in {topic} are not what they were: {differing}",
        data=NOT_APPLIED,
        remedy="look whether the registry was rebuilt, or another connector has the same topic.prefix; if "
        "the source has moved, let the connector take a new source snapshot into a new topic, and raise "
        "`generation` of this table",
    )


def _two_keys(origin: Origin, topic: str, where: str) -> StateError:
    return StateError(
        where,
        f"keys of the source {origin.text!r} in {topic} hold two values in the router's field: the router "
        "was changed, and the rows of before would stay",
        data=NOT_APPLIED,
        remedy="set key.field.regex of the router back, or let the connectors take a new source snapshot "
        "into a new topic, and build a new table from it",
    )


def _one_key(one: KnownSource, other: Origin, topic: str, where: str) -> StateError:
    return StateError(
        where,
        f"the sources {other.text!r} and {one.origin.text!r} in {topic} have one value in the router's key "
        f"field, {one.key!r}: their rows can't be told apart",
        data=NOT_APPLIED,
        remedy="remove key.field.regex and key.field.replacement of the router, or let them keep the sources "
        "apart; then let the connectors take a new source snapshot into a new topic",
    )


def _second_run(origin: Origin, topic: str, where: str) -> StateError:
    return StateError(
        where,
        f"the source {origin.text!r} sent a source snapshot into {topic} once more: rows that were deleted "
        "meanwhile are not in it, and may stay in the table for ever",
        data=NOT_APPLIED,
        remedy="set `on_resnapshot: keep` for this table, start `cdc-sink run` again, and compare the rows "
        "with the source; or let the connectors take their snapshots into a new topic, and raise "
        "`generation` of this table",
    )
