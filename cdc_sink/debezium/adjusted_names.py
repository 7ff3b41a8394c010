"""What Debezium makes of a name that Avro does not allow, and back.

Rules owned here; a character is a UTF-16 unit, as in Java:
- `avro`: each character other than A-Z, a-z, 0-9 and `_` becomes `_`. A digit in front, of whatever
  script, keeps its place behind a `_`; older connectors put `_` in its place. What it was can't be told.
- `avro_unicode`: each character other than A-Z, a-z and 0-9, so `_` itself as well, and a digit in front,
  becomes `_u` and its hex digits: two zeros go before one or two digits, and none before three. So
  `_u17fa` is U+17FA, or U+017F and an `a`: such a name can't be told, and is not undone.
- A control character is not looked for in a name.
- Nothing in a record tells which mode wrote it, and `a_u005fb` may be a column's own name. So a name is
  undone only where the configuration says so, and the name that the connector sends beside it goes before.

Source: Debezium 3.6.1, `field.name.adjustment.mode`: the connector's own SchemaNameAdjuster, asked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from unicodedata import category

from cdc_sink.errors import SchemaError

_FORBIDDEN = re.compile("[^A-Za-z0-9_]")
_PIECE = re.compile("[A-Za-z0-9]|_u(00[1-9a-f][0-9a-f]|[1-9a-f][0-9a-f]{2,3})")

_SENT_BESIDE = "__debezium.source.column.name"


def own_name(sent: str, parameters: Mapping[str, str]) -> str:
    """The name of a field's column at the source.

    In:     the field's name and its `connect.parameters`.
    Raises: SchemaError when it can't be told.
    Source: Debezium 3.6.1, `column.propagate.source.type`; the mode `avro_unicode`.
    """
    own = parameters.get(_SENT_BESIDE) or undo_unicode(sent)
    if own is None:
        raise SchemaError(
            f"column {sent}",
            "`field_names: source` asks for the source column's own name, which this name does not tell: "
            "either field.name.adjustment.mode=avro_unicode did not write it, or it is that of two names",
            remedy="set `field_names: as_sent` for the table; or exclude or rename the column at the source",
        )
    return own


def avro_names(name: str) -> tuple[str, ...]:
    """The names that the mode `avro` may give a column, the newest connector's first."""
    units = _units(name)
    rest = "".join(_FORBIDDEN.sub("_", unit) for unit in units[1:])
    if units and category(units[0]) == "Nd":
        return f"_{units[0]}{rest}", f"_{rest}"
    return (_FORBIDDEN.sub("_", units[0]) + rest if units else "",)


def unicode_name(name: str) -> str:
    """The name that the mode `avro_unicode` gives a column."""
    units = _units(name)
    return "".join(
        unit
        if unit.isascii() and unit.isalnum() and not (at == 0 and unit.isdigit())
        else _escaped(unit)
        for at, unit in enumerate(units)
    )


def undo_unicode(name: str) -> str | None:
    """The column's own name, from what `avro_unicode` made of it; None where it is not exactly one."""
    found = [own for own in _readings(name) if unicode_name(own) == name]
    return found[0] if len(found) == 1 else None


def named_in(names: Iterable[str], table: Collection[str]) -> dict[str, str]:
    """Which column of a table has the values of each of the source's columns.

    In:     the source's names; the table's.
    Out:    source name → table name; a source column that the table lacks, or whose name two of them would
            have, is left out.
    """
    names = list(names)
    found: dict[str, str] = {}
    for name in names:
        asked = (name, *avro_names(name), unicode_name(name))
        here = next((one for one in asked if one in table), None)
        if here is not None and (here == name or here not in names):
            found[name] = here
    taken = [found[name] for name in found]
    return {n: here for n, here in found.items() if here == n or taken.count(here) == 1}


def _units(name: str) -> list[str]:
    """The UTF-16 units of a name; half of a pair is a unit of its own."""
    raw = name.encode("utf-16-be", "surrogatepass")
    return [chr(int.from_bytes(raw[at : at + 2], "big")) for at in range(0, len(raw), 2)]


def _escaped(unit: str) -> str:
    digits = f"{ord(unit):x}"
    return f"_u{digits if len(digits) > 2 else f'00{digits}'}"


def _readings(name: str) -> Iterator[str]:
    """What a name may have been: at most two, the one that takes each escape as long as it can be first.

    One escape of four digits that could be one of three is enough for a second reading.
    """
    pieces = list(_PIECE.finditer(name))
    if "".join(piece[0] for piece in pieces) != name:
        return
    units = [chr(int(piece[1], 16)) if piece[1] else piece[0] for piece in pieces]
    yield _joined(units)
    for at, piece in enumerate(pieces):
        digits = piece[1] or ""
        if len(digits) == 4 and digits[0] != "0":
            yield _joined([*units[:at], chr(int(digits[:3], 16)), digits[3], *units[at + 1 :]])
            return


def _joined(units: Iterable[str]) -> str:
    raw = "".join(units).encode("utf-16-be", "surrogatepass")
    return raw.decode("utf-16-be", "surrogatepass")
