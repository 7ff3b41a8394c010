"""What a source database keeps from its connector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cdc_sink.check.rules.source import (
    LogReading,
    SlotReading,
    SourceTableReading,
    check_log,
    check_source_table,
)
from cdc_sink.debezium.connector import ConnectorReading

PG = ConnectorReading("pg", {"slot.name": "shop"}, {})


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, []),
        ({"cascades": ["fk ON DELETE CASCADE"]}, [("warning", "not in the binary log")]),
        ({"generated": ["total"]}, [("warning", "total")]),
        ({"has_deferrable_key": True}, [("warning", "then deletes the first")]),
        ({"replica_identity": "default"}, []),
        ({"replica_identity": "full", "has_primary_key": False}, []),
        (
            {"replica_identity": "default", "has_primary_key": False},
            [("error", "DEFAULT and no primary key")],
        ),
        ({"replica_identity": "nothing"}, [("error", "IDENTITY NOTHING")]),
        ({"replica_identity": "index"}, [("error", "so the row stays")]),
        ({"replica_identity": "index", "has_primary_key": False}, []),
        (
            {"is_partitioned": True, "via_root": True, "replica_identity": "default"},
            [("warning", "truncated sends no change event")],
        ),
        ({"is_partitioned": True, "via_root": None}, [("warning", "sends no change event")]),
        (
            {"is_partitioned": True, "via_root": False},
            [("error", "nothing of it reaches"), ("warning", "sends no change event")],
        ),
    ],
)
def test_what_changes_a_table_without_an_event_is_said_by_table(
    facts: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    found = list(check_source_table("shop.items", SourceTableReading("public.items", **facts)))
    assert [one.level for one in found] == [level for level, _ in expected]
    assert all(said in one.saw for one, (_, said) in zip(found, expected, strict=True))
    assert all("shop.items" in one.where and one.remedy for one in found)


def slot(**changes: Any) -> LogReading:
    values = {"name": "shop", "is_active": True, "wal_status": "reserved", "confirmed": 100}
    return LogReading(slot=SlotReading(**{**values, **changes}), is_postgresql=True)


@pytest.mark.parametrize(
    ("log", "offset", "expected"),
    [
        (slot(), {"lsn": 100}, []),
        (slot(), {"lsn": 150, "lsn_proc": 120}, []),
        # The slot stands between what was committed and what was read last.
        (slot(confirmed=140), {"lsn": 150, "lsn_commit": 120}, []),
        (slot(confirmed=151), {"lsn": 150, "lsn_commit": 120}, ["somebody else advanced it"]),
        (slot(confirmed=151), None, []),
        (slot(confirmed=None), {"lsn": 1}, []),
        (slot(is_active=False), {"lsn": 100}, ["nobody reads"]),
        (slot(wal_status="lost", is_active=False), {"lsn": 100}, ["is invalid"]),
        (LogReading(is_postgresql=True), {"lsn": 100}, ["is gone"]),
        # Before its first snapshot a connector has neither.
        (LogReading(is_postgresql=True), None, []),
        (LogReading(files=["b.000003", "b.000004"]), {"file": "b.000003"}, []),
        (LogReading(files=["b.000003", "b.000004"]), {"file": "b.000002"}, ["no longer has it"]),
        (LogReading(files=["b.000003"]), {"file": "b.000009"}, ["another server"]),
        (LogReading(files=None), {"file": "b.000002"}, []),
        (LogReading(files=["b.000003"]), {"file": ""}, []),
    ],
)
def test_a_log_that_lacks_what_comes_next_is_an_error_of_the_connector(
    log: LogReading, offset: Mapping[str, Any] | None, expected: list[str]
) -> None:
    found = list(check_log(PG, "database pg", log, offset))
    assert len(found) == len(expected)
    assert all(said in one.saw for one, said in zip(found, expected, strict=True))


def test_a_slot_that_the_driver_moves_by_itself_is_not_called_advanced() -> None:
    settings = {"slot.name": "shop", "lsn.flush.mode": "connector_and_driver"}
    driven = ConnectorReading("pg", settings, {})
    assert list(check_log(driven, "database pg", slot(confirmed=151), {"lsn": 150})) == []


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"binlog_row_image": "FULL", "binlog_row_value_options": ""}, []),
        ({"binlog_row_value_options": "PARTIAL_JSON"}, ["PARTIAL_JSON"]),
        ({"binlog_row_image": "MINIMAL"}, ["MINIMAL"]),
        ({"binlog_row_image": "NOBLOB"}, ["NOBLOB"]),
    ],
)
def test_a_log_that_lacks_values_is_an_error(
    variables: dict[str, str], expected: list[str]
) -> None:
    found = list(check_log(None, "database my", LogReading(variables=variables), None))
    assert [one.level for one in found] == ["error"] * len(expected)
    assert all(said in one.saw for one, said in zip(found, expected, strict=True))


def test_prepared_transactions_are_warned_of_since_a_rollback_behind_them_is_not_sent() -> None:
    def said(count: str) -> list[tuple[str, bool]]:
        reading = LogReading(variables={"Com_xa_prepare": count})
        found = check_log(None, "database my", reading, None)
        return [(one.level, "XA PREPARE was called 7 times" in one.saw) for one in found]

    assert said("0") == []
    assert said("7") == [("warning", True)]
