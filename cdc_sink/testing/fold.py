"""What many change events of one key come to: the rule in plain Python, the oracle of its tests.

Rules owned here:
- Inside a partition Kafka order is the order. Positions only recognise redelivery: a stream event
  strictly below its partition's high-water mark was applied before and is dropped.
- Equal positions are kept, and Kafka order decides: the two halves of a key update share one.
- Snapshot rows (`r`) are neither tested against the mark nor raise it. A connector does not send
  one twice on a restart: it reads the row again.
- A value that Debezium left out (UNAVAILABLE) is the one of the key's image before: from an older
  event of the batch, else from the stored row. After a delete there is no image before; then it
  is UNKNOWN, and no stored row may fill it. The same where the image before has NULL, unless the
  connector leaves NULLs out, too: the column came later than that image.

A history folded in one batch or in many gives the same end state. That needs each key to stay in
its partition, as Kafka's partitioner does for equal key bytes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from cdc_sink.debezium.envelope import Op
from cdc_sink.debezium.position import SourcePosition

_ROW_OPS: Final = frozenset({Op.READ, Op.CREATE, Op.UPDATE, Op.DELETE})


class Missing(Enum):
    """Why a value is not there; neither is ever stored as data."""

    UNAVAILABLE = "left out by the connector because it did not change"
    UNKNOWN = "left out by the connector, and no image before it has the value"


UNAVAILABLE: Final = Missing.UNAVAILABLE
UNKNOWN: Final = Missing.UNKNOWN


@dataclass(frozen=True)
class Change:
    """One change event of one row; `after` is None for a delete."""

    key: Hashable
    op: Op
    after: Mapping[str, object] | None
    position: SourcePosition | None
    partition: int
    offset: int

    @property
    def is_stream(self) -> bool:
        """True when the event comes from the log, not from a source snapshot."""
        return self.op is not Op.READ


@dataclass(frozen=True)
class FinalImages:
    """The last image of each key, the raised marks, and how many events were redelivered."""

    images: dict[Hashable, Change]
    marks: dict[int, SourcePosition]
    redelivered: int


def fold(
    changes: Iterable[Change],
    marks: Mapping[int, SourcePosition],
    *,
    nulls_left_out: bool = False,
) -> FinalImages:
    """Fold the changes of one batch to the last image of each key.

    In:     changes in any order, one per record; marks, per partition, from the ledger;
            nulls_left_out, whether the connector leaves NULLs out as it does other values.
    Out:    images keyed by key; UNAVAILABLE in one is to be filled from the stored row.
    Raises: ValueError for an op that is not about one row; the plan decides those before.
    """
    images: dict[Hashable, Change] = {}
    raised = dict(marks)
    redelivered = 0
    for change in sorted(changes, key=lambda change: (change.partition, change.offset)):
        if change.op not in _ROW_OPS:
            raise ValueError(f"op {change.op!r} is not about one row")
        if is_redelivered(change, raised.get(change.partition)):
            redelivered += 1
            continue
        if change.is_stream and change.position is not None:
            raised[change.partition] = change.position
        images[change.key] = _filled(change, images.get(change.key), nulls_left_out)
    return FinalImages(images, raised, redelivered)


def is_redelivered(change: Change, mark: SourcePosition | None) -> bool:
    """Say whether a change lies strictly below its partition's high-water mark.

    A change without a position can't be told; Kafka order alone places it.
    """
    if not change.is_stream or change.position is None or mark is None:
        return False
    return change.position < mark


def apply_images(
    rows: Mapping[Hashable, Mapping[str, object]],
    folded: FinalImages,
    *,
    nulls_left_out: bool = False,
) -> dict[Hashable, Mapping[str, object]]:
    """Return the table's rows after a folded batch.

    Out: UNKNOWN where neither batch nor stored row has the value; a real table never gets there,
         such a key goes to the dead letters.
    """
    result = dict(rows)
    for key, image in folded.images.items():
        if image.after is None:
            result.pop(key, None)
        else:
            result[key] = _fill(image.after, result.get(key), nulls_left_out)
    return result


def _filled(change: Change, before: Change | None, nulls_left_out: bool) -> Change:
    """Fill a change from the image before it in the batch; without one, leave it to the row."""
    if change.after is None or before is None:
        return change
    return replace(change, after=_fill(change.after, before.after, nulls_left_out))


def _fill(
    after: Mapping[str, object], before: Mapping[str, object] | None, nulls_left_out: bool
) -> Mapping[str, object]:
    def known(name: str) -> object:
        # A column the image before does not have was null there: the same as in the table.
        value = None if before is None else before.get(name)
        return UNKNOWN if before is None or (value is None and not nulls_left_out) else value

    return {name: known(name) if value is UNAVAILABLE else value for name, value in after.items()}
