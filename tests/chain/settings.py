"""Parts of a pipeline's configuration on the running chain."""

from __future__ import annotations

from pathlib import Path

from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.servers.mysql import MySql
from cdc_sink.demo.chain.servers.postgres import Postgres


def surroundings_of(
    chain: Chain, folder: Path, catalog: str, **timeouts: float
) -> dict[str, object]:
    """Return the servers, a catalog and checkpoints in a folder, and jars that are fetched once."""
    return {
        "kafka": {"bootstrap_servers": chain.bootstrap_servers, **timeouts},
        "registry": {"url": chain.registry_url, **timeouts},
        "catalog": {
            "name": catalog,
            "type": "jdbc",
            "uri": f"jdbc:sqlite:{folder}/catalog.db",
            "warehouse": f"{folder}/warehouse",
        },
        "checkpoints": f"{folder}/checkpoints",
        "spark": {"jars": "locked"},
    }


def database_of(server: Postgres | MySql, database: str, folder: Path) -> dict[str, object]:
    """Return a database of a server; its password goes into a file of the folder."""
    secret = folder / f"secret-{server.port}"
    secret.write_text(server.password)
    return {
        "type": "postgresql" if isinstance(server, Postgres) else "mysql",
        "host": server.host,
        "port": server.port,
        "database": database,
        "user": server.user,
        "password": {"file": str(secret)},
    }
