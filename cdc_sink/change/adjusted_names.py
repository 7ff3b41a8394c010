"""What Debezium makes of a name that Avro does not allow, and back.

Rules owned here:
- `avro`: each character that Avro forbids becomes `_`; so does a digit in front, or a `_` is put before it.
  What it was can't be told from the name any more.
- `avro_unicode`: each such character becomes `_u` and its four hex digits, and so does `_` itself. That can
  be undone exactly.

Source: Debezium 3.6, `field.name.adjustment.mode`, SchemaNameAdjuster.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_FORBIDDEN = re.compile("[^A-Za-z0-9_]")
_ESCAPED = re.compile("[^A-Za-z0-9]")
_ESCAPE = re.compile("_u([0-9a-fA-F]{4})")


def avro_names(name: str) -> tuple[str, ...]:
    """The names that the mode `avro` may give a column."""
    plain = _FORBIDDEN.sub("_", name)
    return (f"_{plain}", f"_{plain[1:]}") if plain[:1].isdigit() else (plain,)


def unicode_name(name: str) -> str:
    """The name that the mode `avro_unicode` gives a column."""
    units = name.encode("utf-16-be")
    chars = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(
        f"_u{unit:04x}"
        if _ESCAPED.match(chr(unit)) or (at == 0 and chr(unit).isdigit())
        else chr(unit)
        for at, unit in enumerate(chars)
    )


def undo_unicode(name: str) -> str:
    """The column's own name, from what `avro_unicode` made of it."""
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), name)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16")


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
