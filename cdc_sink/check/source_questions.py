"""What `check` asks a source database about its captured tables and its log. Read-only.

Rule this file owns: what this user may not see is not judged: a refused question costs only its answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from cdc_sink.check.rules.source import (
    PUBLICATION,
    SLOT,
    LogReading,
    SlotReading,
    SourceTableReading,
)
from cdc_sink.config import Database
from cdc_sink.errors import ConfigError
from cdc_sink.verification.databases.source_database import schema_and_table

_IDENTITIES = {"f": "full", "d": "default", "i": "index", "n": "nothing"}
_PG_TABLE = """
SELECT c.relreplident::text, c.relkind::text,
  exists(SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)::text,
  coalesce((SELECT string_agg(a.attname, ', ' ORDER BY a.attnum) FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped), ''),
  exists(SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND NOT i.indimmediate)::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""
_PG_VIA_ROOT = "SELECT pubviaroot::text FROM pg_publication WHERE pubname = %s"
_PG_SLOT = """
SELECT active::text, coalesce(wal_status, ''), coalesce((confirmed_flush_lsn - '0/0'::pg_lsn)::text, '')
FROM pg_replication_slots WHERE slot_name = %s
"""
_MY_CASCADES = """
SELECT constraint_name, delete_rule, update_rule FROM information_schema.referential_constraints
WHERE constraint_schema = %s AND table_name = %s ORDER BY constraint_name
"""
_MY_GENERATED = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = %s AND table_name = %s AND coalesce(generation_expression, '') <> ''
ORDER BY ordinal_position
"""
_MY_VARIABLES = """
SHOW GLOBAL VARIABLES WHERE Variable_name IN ('binlog_row_image', 'binlog_row_value_options')
"""
_MY_XA = "SHOW GLOBAL STATUS LIKE 'Com_xa_prepare'"
_ACTS = ("CASCADE", "SET NULL", "SET DEFAULT")


class Asked(Protocol):
    """An open connection to a source database."""

    def ask(self, query: str, parameters: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""


def read_source_table(
    open_one: Asked, database: Database, table: str, settings: Mapping[str, str]
) -> SourceTableReading | None:
    """Return what may change a table without a change event; None for a table this user can't see.

    In:     settings of the connector that writes it; empty when it isn't known.
    Raises: UnavailableError, ConfigError as the connection does.
    """
    if database.type == "postgresql":
        return _read_postgresql(open_one, table, settings)
    names = schema_and_table(table, default_schema=database.database)
    cascades = [
        f"{name} {event} {rule}"
        for name, *rules in open_one.ask(_MY_CASCADES, names)
        for event, rule in zip(("ON DELETE", "ON UPDATE"), rules, strict=True)
        if rule in _ACTS
    ]
    generated = [str(name) for (name,) in open_one.ask(_MY_GENERATED, names)]
    return SourceTableReading(table, cascades=cascades, generated=generated)


def _read_postgresql(
    open_one: Asked, table: str, settings: Mapping[str, str]
) -> SourceTableReading | None:
    found = open_one.ask(_PG_TABLE, schema_and_table(table, default_schema="public"))
    if not found:
        return None
    identity, kind, has_key, generated, is_deferrable = (str(value) for value in found[0])
    via_root = None
    if kind == "p" and settings:
        name = settings.get(PUBLICATION, "dbz_publication")
        said = open_one.ask(_PG_VIA_ROOT, (name,))
        via_root = str(said[0][0]) == "true" if said else None
    return SourceTableReading(
        table,
        generated=[name for name in generated.split(", ") if name],
        replica_identity=_IDENTITIES.get(identity),
        has_primary_key=has_key == "true",
        has_deferrable_key=is_deferrable == "true",
        is_partitioned=kind == "p",
        via_root=via_root,
    )


def read_log(open_one: Asked, database: Database, settings: Mapping[str, str]) -> LogReading:
    """Return what a server says of its log. Raises: as for `read_source_table`."""
    if database.type == "postgresql":
        slot = settings.get(SLOT, "debezium")
        found = open_one.ask(_PG_SLOT, (slot,)) if settings else []
        readings = [
            SlotReading(slot, active == "true", status or None, int(at) if at else None)
            for active, status, at in found
        ]
        return LogReading(slot=readings[0] if readings else None, is_postgresql=bool(settings))
    told = (*open_one.ask(_MY_VARIABLES), *open_one.ask(_MY_XA))
    variables = {str(name): str(value) for name, value in told}
    try:
        files = [str(row[0]) for row in open_one.ask("SHOW BINARY LOGS")]
    except ConfigError:
        files = None  # needs REPLICATION CLIENT, which reading the tables does not
    return LogReading(variables=variables, files=files)
