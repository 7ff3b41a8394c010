"""What an operator may say about one column, where the usual rule refuses or is not wanted.

Rule owned here: an option changes how values are stored, never which of them count as good. Without
one, what has no exact column type is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

UNAVAILABLE: Final = "__debezium_unavailable_value"
FieldNames = Literal["as_sent", "source"]


@dataclass(frozen=True)
class ColumnOption:
    """One column's options; of an array column they speak of its elements.

    `type` is an Iceberg type instead of the usual one: `string`, `long` or `decimal(p,s)`;
    `unsigned`: a long holds an unsigned 64-bit number, as bigint.unsigned.handling.mode=long wraps
    it; `on_infinity`: what becomes of an infinite date or timestamp; `constant_default`: the schema's
    default is the source's own, not a zero that the connector wrote for an expression; `dropped`: the source
    has it no more.
    """

    type: str | None = None
    unsigned: bool = False
    on_infinity: Literal["fault", "null"] = "fault"
    constant_default: bool = False
    dropped: bool = False


USUAL: Final = ColumnOption()


@dataclass(frozen=True)
class TableOptions:
    """The options of a table's columns, and the placeholder that its connector writes.

    `field_names`: what the columns are called, the fields' names or the source columns' own.
    """

    columns: Mapping[str, ColumnOption] = field(default_factory=dict)
    placeholder: str = UNAVAILABLE
    field_names: FieldNames = "as_sent"


NO_OPTIONS: Final = TableOptions()
