"""Who writes a table's topic, and which of the writer's settings lose rows of it.

Rules this file owns: one topic has one writer; a topic that nobody is known to write is said, and never held
against a connector whose topics its settings don't tell.

Source: Debezium 3.6, `message.key.columns`, `snapshot.select.statement.overrides`, `errors.max.retries`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cdc_sink.check.rules.table import Finding, WantedTable
from cdc_sink.debezium.captures import TOPIC_PREFIX
from cdc_sink.debezium.connector import ConnectorReading

RETRIES, KEYS = "errors.max.retries", "message.key.columns"
OVERRIDES = "snapshot.select.statement.overrides"
HISTORY_TOPIC = "schema.history.internal.kafka.topic"
JUDGED = (RETRIES, KEYS, OVERRIDES, HISTORY_TOPIC)
_STOPPED = "STOPPED"


def writers_of(connectors: Sequence[ConnectorReading], topic: str) -> tuple[ConnectorReading, ...]:
    """The connectors that are known to write the topic, those that run before those that are STOPPED."""
    writers = [one for one in connectors if one.writes(topic)]
    return tuple(sorted(writers, key=lambda one: one.states.get("connector") == _STOPPED))


def writer_of(connectors: Sequence[ConnectorReading], topic: str) -> ConnectorReading | None:
    """The first of those connectors."""
    return next(iter(writers_of(connectors, topic)), None)


def check_writers(
    wish: WantedTable, connectors: Sequence[ConnectorReading], *, has_ledger: bool
) -> Iterator[Finding]:
    """Judge whether exactly one of Kafka Connect's connectors writes the topic.

    In: has_ledger, whether records of the topic were applied before.
    """
    where = f"table {wish.table} topic {wish.topic}"
    writers = [one for one in connectors if one.writes(wish.topic)]
    active = [one for one in writers if one.states.get("connector") != _STOPPED]
    if len(active) > 1 and wish.policy.sources == "one":
        names = " and ".join(one.name for one in active)
        yield Finding(
            where,
            "error",
            f"connectors {names} both write it: their changes have no common order",
            "let each source table write a topic of its own (topic.prefix, table.include.list, routers); "
            "set `sources: many` if they are meant to fill one table; or "
            f"DELETE /connectors/{active[-1].name}",
            1,
        )
    elif not writers and not any(one.may_write(wish.topic) for one in connectors):
        yield _no_writer(where, wish, connectors, has_ledger=has_ledger)


def _no_writer(
    where: str, wish: WantedTable, connectors: Sequence[ConnectorReading], *, has_ledger: bool
) -> Finding:
    if not connectors:
        saw = "Kafka Connect has no connector at all"
        if has_ledger:
            saw += ": it lost its own topics, or is another one"
        remedy = "PUT /connectors/NAME/config with the connector's settings, or correct connect.url"
    else:
        near = [one.name for one in connectors if _has_prefix(one, wish.topic)]
        saw = "no connector of Kafka Connect writes it"
        if near:
            saw += f": {', '.join(near)} has its prefix, and does not capture this table"
        remedy = "add the table to the connector's table.include.list, or correct the topic's name"
    if has_ledger:
        return Finding(where, "error", f"{saw}; the table only gets older", remedy, 1, True)
    return Finding(where, "warning", saw, remedy)


def _has_prefix(connector: ConnectorReading, topic: str) -> bool:
    prefix = connector.settings.get(TOPIC_PREFIX)
    return prefix is not None and topic.startswith(f"{prefix}.")


def check_settings(connector: ConnectorReading) -> Iterator[Finding]:
    """Judge what a connector's settings hide from everybody."""
    if connector.settings.get(RETRIES, "").strip() == "-1":
        yield Finding(
            f"connector {connector.name}",
            "warning",
            f"{RETRIES}=-1: a wrong password or a host that is gone is retried for ever, and it is called "
            "RUNNING meanwhile",
            f"set {RETRIES}=300, which rides through some minutes with retriable.restart.connector.wait.ms="
            "1000 and then FAILS",
        )


def check_key_columns(
    wish: WantedTable, connector: ConnectorReading | None, replica_identity: str | None
) -> Iterator[Finding]:
    """Judge a key that isn't the primary key: PostgreSQL sends no old value of its columns.

    In: replica_identity as the database told it: full, default, index or nothing; None when not asked.
    """
    if connector is None or wish.policy.mode.keeps_events:
        return
    keys = _keys_of(connector, wish.topic)
    if keys is None or "postgres" not in connector.settings.get("connector.class", "postgres"):
        return
    if replica_identity == "full":
        yield Finding(f"table {wish.table}", "ok", f"key {keys}, REPLICA IDENTITY FULL")
        return
    is_known = replica_identity is not None
    yield Finding(
        f"table {wish.table}",
        "error" if is_known else "warning",
        f"connector {connector.name}'s {KEYS} makes {keys} its key, which needs REPLICA IDENTITY FULL"
        + (f"; it is {(replica_identity or '').upper()}" if is_known else "")
        + ": without it a delete comes with an empty key, a changed key without a delete, and rows stay",
        "ALTER TABLE … REPLICA IDENTITY FULL at the source"
        + ("" if is_known else "; `databases` and the table's `source` let check ask for it"),
        1 if is_known else 0,
    )


def _keys_of(connector: ConnectorReading, topic: str) -> str | None:
    """The columns that `message.key.columns` gives the topic's table; None for none."""
    prefix = connector.settings.get(TOPIC_PREFIX, "")
    rest = topic.removeprefix(f"{prefix}.")
    for part in connector.settings.get(KEYS, "").split(";"):
        pattern, _, columns = part.strip().rpartition(":")
        if pattern and columns and _is_meant(pattern, rest, routed=rest == topic):
            return columns.strip()
    return None


def _is_meant(pattern: str, rest: str, *, routed: bool) -> bool:
    table = rest.rpartition(".")[2]
    try:
        # A routed topic keeps its table's name at the end, if anything.
        name = pattern.rpartition(".")[2] if routed else pattern
        return re.fullmatch(name, table if routed else rest, re.IGNORECASE) is not None
    except re.error:
        return True


def check_filtered_snapshot(
    wish: WantedTable, connector: ConnectorReading | None, on_resnapshot: str
) -> Iterator[Finding]:
    """Refuse to delete by a source snapshot that leaves rows out."""
    if connector is None or on_resnapshot != "delete":
        return
    given = [one.strip() for one in connector.settings.get(OVERRIDES, "").split(",")]
    rest = wish.topic.removeprefix(f"{connector.settings.get(TOPIC_PREFIX, '')}.")
    if any(one and (one.lower() == rest.lower() or rest == wish.topic) for one in given):
        yield Finding(
            f"table {wish.table}",
            "error",
            f"connector {connector.name} filters its snapshot ({OVERRIDES}), and `on_resnapshot: delete` "
            "would delete the rows that it leaves out",
            "set `on_resnapshot: keep` for this table, or take the override out of the connector's settings",
            2,
        )
