"""Which table of which source a change comes from.

Rules owned here:
- An origin is what the record's source block says (logical name, database, schema, table), the connector, and
  the full name of the record's writer schema. The schema's name is part of it because bytes of one table can
  be decoded by the schema of another: only the name tells then.
- Positions of two origins don't compare, and neither do their keys.
- What a source block does not have (a flattened row has what was added to it) is not compared.
- An origin travels as one text, its parts with a sign between them that is in no name: it stands in each
  decoded row, and a text costs less there than a struct, to write and to compare.

Source: Debezium 3.6 source blocks: name, db, schema (PostgreSQL, Oracle, SQL Server), table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from cdc_sink.sql import literal

# The fields of the source block that name a table, and what they are called here.
ORIGIN_FIELDS = {"name": "name", "db": "database", "schema": "schema", "table": "table"}
# The parts that name a source; the others say how it writes.
IDENTITY = tuple(ORIGIN_FIELDS.values())
BETWEEN = "\x1f"  # in no name of a source or of a column
_SAID = {
    "record": "writer schema",
    "connector": "connector",
    "name": "logical name",
    "database": "database",
    "schema": "schema",
    "table": "table",
}


@dataclass(frozen=True)
class Origin:
    """One table of one source; None for what the records don't say."""

    record: str
    connector: str
    name: str | None = None
    database: str | None = None
    schema: str | None = None
    table: str | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """What names the source, in the order of IDENTITY; empty for what the records don't say."""
        return tuple(getattr(self, part) or "" for part in IDENTITY)

    @property
    def text(self) -> str:
        """The source as people write it, such as `shop.public.items`."""
        return ".".join(part for part in self.identity if part)

    def differing(self, other: Origin) -> str:
        """Name what differs, with both values: `database 'a' and 'b'`; nothing for one origin."""
        mine, theirs = asdict(self), asdict(other)
        return ", ".join(
            f"{said} {mine[part]!r} and {theirs[part]!r}"
            for part, said in _SAID.items()
            if mine[part] and theirs[part] and mine[part] != theirs[part]
        )

    def completed(self, other: Origin) -> Origin:
        """The same with what only the other one says."""
        theirs = asdict(other)
        return replace(self, **{p: v or theirs[p] for p, v in asdict(self).items()})

    def to_json(self) -> dict[str, str | None]:
        """Render as part of the ledger."""
        return asdict(self)

    @classmethod
    def from_json(cls, seen: Mapping[str, Any] | None) -> Origin | None:
        """Read what `to_json` made."""
        return None if seen is None else cls(**{part: seen[part] for part in _SAID})

    @classmethod
    def read(cls, text: str) -> Origin:
        """Read what `origin_sql` made."""
        record, connector, *names = text.split(BETWEEN)
        return cls(record, connector, *[name or None for name in names])


def origin_sql(record: str, connector: str, source: str, fields: Collection[str]) -> str:
    """Render the origin of a decoded change as one text.

    In:     record, the full name of the writer schema; source, the SQL of the source block; its fields.
    """
    schema = record.removesuffix(".Envelope").removesuffix(".Value")
    names = [f"coalesce({source}.`{f}`, '')" if f in fields else "''" for f in ORIGIN_FIELDS]
    parts = [literal(schema), literal(connector), *names]
    return f"concat_ws({literal(BETWEEN)}, {', '.join(parts)})"


def identity_sql(origin: str) -> str:
    """Render what names the source, of what `origin_sql` made; `identity_text` gives the same."""
    return f"substring_index({origin}, {literal(BETWEEN)}, -{len(IDENTITY)})"


def identity_text(origin: Origin) -> str:
    """What names the source, as one text."""
    return BETWEEN.join(origin.identity)


def source_text_sql(source: str, fields: Collection[str]) -> str:
    """Render `Origin.text` of a decoded change; null where the source block says nothing.

    In:     as `origin_sql`.
    """
    parts = [f"{source}.`{field}`" for field in ORIGIN_FIELDS if field in fields]
    filled = ", ".join(f"nullif({part}, '')" for part in parts)
    return f"nullif(concat_ws('.', {filled}), '')" if parts else "CAST(NULL AS STRING)"
