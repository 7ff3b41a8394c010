"""A source database, opened by its own driver."""

from __future__ import annotations

from cdc_sink.config import Database
from cdc_sink.verification.databases.source_database import SourceDatabase


def open_database(database: Database) -> SourceDatabase:
    """Connect to a source database. A driver is imported only when it is needed.

    Raises: ConfigError when a secret can't be read, UnavailableError when the database does not
            answer or refuses the user.
    """
    if database.type == "postgresql":
        from cdc_sink.verification.databases.postgresql import PostgreSQL

        return PostgreSQL(database)
    from cdc_sink.verification.databases.mysql import MySQL

    return MySQL(database)
