"""Columns that a source snapshot has and the changes behind it don't: rows would lose their value one by one.

Rules owned here:
- PostgreSQL computes generated columns when a row is read, and does not send them in its log (unless the
  publication says so): the rows of a snapshot have them, no change has.
- A column that was dropped looks the same behind a snapshot. But a dropped column was in some change
  before, as a rule; where it was not, the operator says that it was dropped.
- A column that was added and is in the rows of an incremental snapshot first is in the changes of its time,
  too: only a writer schema that is new and later than the rows' tells.
- A column that was renamed is asked for by the name it has now, also where rows were read under the old one.

Source: PostgreSQL 18 `publish_generated_columns`; Debezium 3.6.1, tried.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cdc_sink.errors import SchemaError
from cdc_sink.table.ledger.offsets import NOT_APPLIED

LACK_COMPUTED: Final = ("postgresql",)


@dataclass(frozen=True)
class SentColumns:
    """The columns of the writer schemas that may lack computed ones, by id.

    `ids_rise`: a later schema has a greater id. `renamed`: old name to the name that `of` has.
    """

    of: Mapping[int, frozenset[str]] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    ids_rise: bool = True
    renamed: Mapping[str, str] = field(default_factory=dict)

    def now(self, names: Iterable[str]) -> list[str]:
        """Return what these columns are called in `of`."""
        return [self.renamed.get(name, name) for name in names]


@dataclass(frozen=True)
class Ids:
    """Writer schemas: of a batch's snapshot rows, of its stream events, and of all batches before."""

    reads: Collection[int]
    streams: Collection[int]
    seen: Collection[int]


def read_only_after(
    known: Sequence[str], held: Collection[str], sent: SentColumns, ids: Ids, where: str
) -> tuple[str, ...]:
    """The columns that only snapshot rows had, after a batch.

    In:     known, those of before; held, the table's columns before the batch.
    Raises: SchemaError when changes come that don't have one of them.
    """
    found: dict[str, int | None] = dict.fromkeys(sent.now(known))
    held_now = {*sent.now(held), *found}
    for i in sorted(sent.of.keys() & set(ids.reads)):
        found |= dict.fromkeys(sent.of[i] - held_now, i)
    streams = sent.of.keys() & set(ids.streams)
    for i in streams:
        for name in sent.of[i]:
            found.pop(name, None)
    for i in sorted(streams - set(ids.seen)):
        for name, read_as in sorted(found.items()):
            is_later = read_as is None or i > read_as or not sent.ids_rise
            if is_later and name not in sent.dropped:
                raise _half_filled(name, i, where)
    return tuple(sorted(found))


def _half_filled(name: str, schema_id: int, where: str) -> SchemaError:
    return SchemaError(
        f"{where} column {name}",
        "the rows of the source snapshot have it, and no change behind them has (writer schema "
        f"{schema_id}): PostgreSQL does not send what it computes (GENERATED), so the column would turn NULL "
        "row by row",
        data=NOT_APPLIED,
        remedy=f"set column.exclude.list for {name} on the connector, or publish_generated_columns = stored "
        "for its publication (PostgreSQL 18), let the connector take a new source snapshot into a new topic, "
        "and raise `generation` of this table; if the column was dropped, set "
        f"`columns: {{{name}: {{dropped: true}}}}`",
    )
