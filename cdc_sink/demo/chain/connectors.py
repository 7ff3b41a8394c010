"""Connector settings as the chain uses them; the same texts work on a Connect cluster of yours."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdc_sink.demo.chain.servers.mariadb import MariaDb
    from cdc_sink.demo.chain.servers.mysql import MySql
    from cdc_sink.demo.chain.servers.postgres import Postgres

HEARTBEAT_MS = 5000


def postgres_settings(
    server: Postgres, prefix: str, database: str, tables: Sequence[str], *, slot: str
) -> dict[str, str]:
    """Return the settings of a PostgreSQL connector.

    In:     tables as `schema.table`; prefix starts every topic; slot also names the publication.
    Source: Debezium 3.6, PostgreSQL connector properties.
    """
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "plugin.name": "pgoutput",
        "publication.autocreate.mode": "filtered",
        "publication.name": slot,
        "slot.name": slot,
        "database.dbname": database,
        "table.include.list": ",".join(tables),
        "provide.transaction.metadata": "true",
        **_shared(server, prefix),
    }


def mysql_settings(
    server: MySql, prefix: str, database: str, tables: Sequence[str], *, history_servers: str
) -> dict[str, str]:
    """Return the settings of a MySQL connector.

    In:     tables as `database.table`; history_servers: the Kafka that keeps its schema history.
    Source: Debezium 3.6, MySQL connector properties.
    """
    return {
        "connector.class": "io.debezium.connector.mysql.MySqlConnector",
        "database.ssl.mode": "disabled",
        "database.allowPublicKeyRetrieval": "true",
        **_binlog(server, prefix, database, tables, history_servers),
    }


def mariadb_settings(
    server: MariaDb, prefix: str, database: str, tables: Sequence[str], *, history_servers: str
) -> dict[str, str]:
    """Return the settings of a MariaDB connector.

    In:     tables as `database.table`; history_servers: the Kafka that keeps its schema history.
    Source: Debezium 3.5, MariaDB connector properties; the modes of TLS have names of their own.
    """
    return {
        "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
        "database.ssl.mode": "disable",
        **_binlog(server, prefix, database, tables, history_servers),
    }


def _binlog(
    server: MySql, prefix: str, database: str, tables: Sequence[str], history_servers: str
) -> dict[str, str]:
    return {
        # A replica id of its own per connector: two with one id throw each other out.
        "database.server.id": str(1 + zlib.crc32(prefix.encode()) % (2**31 - 2)),
        "database.include.list": database,
        "table.include.list": ",".join(tables),
        "schema.history.internal.kafka.bootstrap.servers": history_servers,
        "schema.history.internal.kafka.topic": f"{prefix}_schema_history",
        # BIGINT UNSIGNED as decimal(20,0); by default, numbers from 2^63 on arrive as negative ones.
        "bigint.unsigned.handling.mode": "precise",
        **_shared(server, prefix),
    }


def _shared(server: Postgres | MySql, prefix: str) -> dict[str, str]:
    return {
        "tasks.max": "1",
        "database.hostname": server.host,
        "database.port": str(server.port),
        "database.user": server.user,
        "database.password": server.password,
        "topic.prefix": prefix,
        "schema.name.adjustment.mode": "avro",
        "heartbeat.interval.ms": str(HEARTBEAT_MS),
        "poll.interval.ms": "100",
        # By default, a TRUNCATE is not sent: the table would keep its rows, and nobody would notice.
        "skipped.operations": "none",
        # By default, a value that can't be converted arrives as NULL, with a line in Connect's log.
        "event.converting.failure.handling.mode": "fail",
        # Come back by itself, and soon, after a database or broker was killed; but end as FAILED after some
        # minutes, since a wrong password is retried, too, and is called RUNNING meanwhile.
        "errors.max.retries": "300",
        "retriable.restart.connector.wait.ms": "1000",
    }


def with_signals(settings: dict[str, str], servers: str) -> dict[str, str]:
    """Add the channel on which a connector is asked for a source snapshot of single tables.

    The topic `<topic.prefix>_signals` must be there, with one partition. The source needs no signal table.
    Source: Debezium 3.6, "Signaling", Kafka channel; "Read-only incremental snapshots" (MySQL with GTIDs).
    """
    return settings | {
        "signal.enabled.channels": "kafka",
        "signal.kafka.topic": f"{settings['topic.prefix']}_signals",
        "signal.kafka.bootstrap.servers": servers,
        "read.only": "true",
    }


def with_topics(settings: dict[str, str], *, partitions: int) -> dict[str, str]:
    """Add how Connect creates the topics of the connector; the broker creates none by itself."""
    return settings | {
        "topic.creation.default.partitions": str(partitions),
        "topic.creation.default.replication.factor": "1",
    }
