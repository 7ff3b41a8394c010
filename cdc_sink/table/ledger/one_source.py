"""A table comes from one source table, by schemas that stay what they were.

Rules owned here:
- The first batch tells the origin, and the ledger keeps it. A record of another one stops the table: its
  position does not compare with the marks (it would be dropped as redelivered), and its keys are other rows.
- A schema id stands for one schema. A registry that was rebuilt may give the id to another one, and records
  would be decoded by it without an error: so the ledger keeps a fingerprint per id. Of an id that no applied
  record had, the schema's name tells at least a key's schema from a change's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from cdc_sink.debezium.envelope import RecordKind, record_kind
from cdc_sink.debezium.origin import Origin
from cdc_sink.errors import StateError
from cdc_sink.table.ledger.offsets import NOT_APPLIED

NEW_SOURCE_REMEDY = (
    "if the table's source has moved, let the connector take a new source snapshot into a new topic, and "
    "raise `generation` of this table"
)
OTHER_SOURCE_REMEDY = (
    "let each source table write a topic of its own: look for a routing transform, or a second connector "
    "with the same topic.prefix; if they are meant to fill one table, set `sources: many` and build a new "
    f"one; {NEW_SOURCE_REMEDY}"
)


def require_one_origin(
    origins: Sequence[Origin], known: Origin | None, topic: str, where: str
) -> Origin | None:
    """The origin of a table after a batch.

    In:     the least and the greatest origin among the batch's changes; the ledger's.
    Raises: StateError when there are two.
    """
    one = known
    for other in origins:
        differing = one.differing(other) if one else ""
        if differing:
            raise _two_sources(differing, topic, where, is_new=known is None)
        one = one.completed(other) if one else other
    return one


def require_no_more(sources: Sequence[object], topic: str, where: str) -> None:
    """Refuse to take a table of many sources for one of a single source.

    Raises: StateError.
    """
    if sources:
        raise StateError(
            where,
            f"the table has changes of {len(sources)} sources of {topic}, and is configured for one",
            data=NOT_APPLIED,
            remedy="set `sources: many` for this table again",
        )


def _two_sources(differing: str, topic: str, where: str, *, is_new: bool) -> StateError:
    first = "" if is_new else " (the table was written from the first)"
    return StateError(
        where,
        f"{topic} holds changes of more than one source: {differing}{first}",
        data=NOT_APPLIED,
        remedy=OTHER_SOURCE_REMEDY,
    )


def fingerprint(schema: str) -> str:
    """A short name of a schema's content, whatever blanks and order its text has."""
    told = json.dumps(json.loads(schema), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def require_same_schemas(
    known: Mapping[int, str], seen: Mapping[int, str], where: str
) -> dict[int, str]:
    """The fingerprints of all schemas that the table's records had.

    Raises: StateError when an id stands for another schema than before.
    """
    changed = sorted(i for i in seen.keys() & known.keys() if seen[i] != known[i])
    if changed:
        saw = f"schema id {changed[0]} is another schema than when records of it were applied"
        raise _rebuilt(saw, where)
    return {**known, **seen}


def require_roles(values: Mapping[int, str], keys: Mapping[int, str], where: str) -> None:
    """Refuse a key's schema before values, and a change's before keys. In: schemas by id.

    Raises: StateError; SchemaError when a text is no schema.
    """
    for number, text in sorted(values.items()):
        if record_kind(text) is RecordKind.KEY:
            raise _rebuilt(f"schema id {number} stands in values and is a key's schema", where)
    for number, text in sorted(keys.items()):
        if record_kind(text) is RecordKind.TABLE_CHANGE:
            raise _rebuilt(f"schema id {number} stands in keys and is a change's schema", where)


def _rebuilt(saw: str, where: str) -> StateError:
    return StateError(
        where,
        f"{saw}: the registry was rebuilt, or is another one",
        data=NOT_APPLIED,
        remedy="restore the registry with its old ids, or correct registry.url; if the old ids are lost, "
        "let the connector take a new source snapshot into a new topic, and raise `generation` of this table",
    )
