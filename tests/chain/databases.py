"""Statements for the databases of the chain; nearly all tests share `shop` on each server."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from cdc_sink.demo.chain.chain import Chain

VERIFIED = "shop_verify"  # a database of its own, for what only `verify` reads
SCHEMAS = {"postgres": "public", "mysql": "shop", "mariadb": "shop"}


def execute(chain: Chain, side: str, *statements: str, database: str = "shop") -> None:
    """Run statements on one connection; each commits by itself."""
    with closing(getattr(chain, side).connect(database)) as opened, opened.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def query(chain: Chain, side: str, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement that answers with rows."""
    with closing(getattr(chain, side).connect("shop")) as opened, opened.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def connector(
    chain: Chain, side: str, prefix: str, tables: list[str], *, partitions: int = 1
) -> dict[str, str]:
    """Return the settings of a connector; in PostgreSQL its slot has the name of the prefix."""
    if side == "postgres":
        return chain.postgres_connector(prefix, "shop", tables, slot=prefix, partitions=partitions)
    settings = {"mysql": chain.mysql_connector, "mariadb": chain.mariadb_connector}
    return settings[side](prefix, "shop", tables, partitions=partitions)
