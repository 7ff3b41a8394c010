"""Who writes a table's topic, and which of its settings lose rows."""

from __future__ import annotations

import pytest

from cdc_sink.check.rules.table import Finding, WantedTable
from cdc_sink.check.rules.writer import (
    check_filtered_snapshot,
    check_key_columns,
    check_settings,
    check_writers,
    writer_of,
)
from cdc_sink.debezium.connector import ConnectorReading

TOPIC = "shop.public.mkc"
WISH = WantedTable("shop", "shop.mkc", TOPIC)
RUNS = {"connector": "RUNNING", "task 0": "RUNNING"}
STOPPED = {"connector": "STOPPED"}


def connector(name: str = "pg", states: dict[str, str] = RUNS, **settings: str) -> ConnectorReading:
    given = {"topic.prefix": "shop", "connector.class": "io.debezium.connector.postgresql.X"}
    given |= {key.replace("__", "."): value for key, value in settings.items()}
    return ConnectorReading(name, given, {}, states)


ROUTED = {
    "transforms": "r",
    "transforms__r__type": "com.example.OwnRouter",
}


@pytest.mark.parametrize(
    ("connectors", "has_ledger", "expected"),
    [
        ([connector()], True, []),
        ([], True, [("error", True, "no connector at all")]),
        ([], False, [("warning", False, "no connector at all")]),
        ([connector(table__include__list="public.a")], True, [("error", True, "does not capture")]),
        ([connector(topic__prefix="b")], False, [("warning", False, "no connector of Kafka")]),
        ([connector("a"), connector("b")], False, [("error", False, "connectors a and b both")]),
        ([connector("a"), connector("b", STOPPED)], True, []),
        ([connector("a"), connector("b", table__include__list="public.b")], True, []),
        # What a router of somebody's own writes can't be told, and is held against nobody.
        ([connector(table__include__list="public.a", **ROUTED)], True, []),
    ],
)
def test_a_topic_has_exactly_one_writer(
    connectors: list[ConnectorReading], has_ledger: bool, expected: list[tuple[str, bool, str]]
) -> None:
    found = list(check_writers(WISH, connectors, has_ledger=has_ledger))
    assert [(one.level, one.lets_start) for one in found] == [row[:2] for row in expected]
    assert all(row[2] in one.saw for one, row in zip(found, expected, strict=True))
    assert all("shop.mkc" in one.where for one in found)


def test_a_connector_that_runs_is_asked_before_one_that_is_stopped() -> None:
    old, new = connector("a", STOPPED), connector("b")
    for order in ([old, new], [new, old]):
        assert writer_of(order, TOPIC) is new
    assert writer_of([old], TOPIC) is old
    assert writer_of([], TOPIC) is None


@pytest.mark.parametrize(("retries", "count"), [("-1", 1), ("300", 0), (None, 0)])
def test_a_connector_that_never_gives_up_is_a_warning(retries: str | None, count: int) -> None:
    settings = {} if retries is None else {"errors__max__retries": retries}
    found = list(check_settings(connector(**settings)))
    assert [one.level for one in found] == ["warning"] * count


def keyed(
    keys: str, identity: str | None, wish: WantedTable = WISH, **settings: str
) -> list[tuple[str, str]]:
    found = check_key_columns(wish, connector(message__key__columns=keys, **settings), identity)
    return [(one.level, one.saw) for one in found]


@pytest.mark.parametrize(
    ("keys", "identity", "expected"),
    [
        ("public.mkc:email", None, ["warning"]),
        ("public.mkc:email", "default", ["error"]),
        ("public.mkc:email", "index", ["error"]),
        ("public.mkc:email", "full", ["ok"]),
        ("public.a:x;public.mkc:email,id", "default", ["error"]),
        (r"public\.m.*:email", "default", ["error"]),
        ("(.*).mkc:email", "default", ["error"]),
        ("public.other:email", "default", []),
        ("", "default", []),
    ],
)
def test_a_key_of_its_own_needs_the_full_replica_identity(
    keys: str, identity: str | None, expected: list[str]
) -> None:
    found = keyed(keys, identity)
    assert [level for level, _ in found] == expected
    assert all("REPLICA IDENTITY FULL" in saw for _, saw in found)


def test_mysql_and_tables_of_events_need_no_replica_identity() -> None:
    mysql = {"connector__class": "io.debezium.connector.mysql.MySqlConnector"}
    assert keyed("public.mkc:email", None, **mysql) == []


@pytest.mark.parametrize(
    ("policy", "overrides", "expected"),
    [
        ("delete", "public.mkc", 1),
        ("delete", "public.a, public.MKC", 1),
        ("delete", "public.a", 0),
        ("delete", "", 0),
        ("keep", "public.mkc", 0),
        ("", "public.mkc", 0),
    ],
)
def test_rows_that_a_filtered_snapshot_leaves_out_are_never_deleted(
    policy: str, overrides: str, expected: int
) -> None:
    writer = connector(snapshot__select__statement__overrides=overrides)
    found: list[Finding] = list(check_filtered_snapshot(WISH, writer, policy))
    assert [(one.level, one.exit_code) for one in found] == [("error", 2)] * expected
