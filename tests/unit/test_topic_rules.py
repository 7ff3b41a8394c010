"""What a topic's settings take away from the tables that are made from it."""

from __future__ import annotations

import pytest

from cdc_sink.check.rules.table import TopicReading, WantedTable
from cdc_sink.check.rules.topic import check_history_topic, check_topic_settings
from cdc_sink.config.tables import TableSettings

DAY = "86400000"


def wish(**settings: object) -> WantedTable:
    policy = TableSettings.model_validate(settings)
    return WantedTable("shop", "shop.customers", "shop_pg.public.customers", policy=policy)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"retention.ms": "3600000"}, ["warning"]),
        ({"retention.ms": "604800000"}, ["ok"]),
        ({"retention.ms": "-1", "retention.bytes": "-1"}, []),
        ({"retention.ms": DAY, "retention.bytes": "1048576"}, ["ok", "warning"]),
        ({"cleanup.policy": "compact", "retention.ms": "3600000"}, ["error"]),
        ({"cleanup.policy": "compact,delete", "retention.ms": "3600000"}, ["error", "warning"]),
    ],
)
def test_what_a_topic_deletes_is_said(settings: dict[str, str], expected: list[str]) -> None:
    assert [one.level for one in check_topic_settings(wish(), settings)] == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"order": "source"}, ["error"]),
        ({"order": "kafka"}, []),
        ({"order": "kafka", "mode": "append"}, ["error"]),
        ({"order": "source", "mode": "append"}, ["error"]),
    ],
)
def test_a_compacted_topic_is_fine_only_where_a_tombstone_deletes(
    asked: dict[str, object], expected: list[str]
) -> None:
    found = list(check_topic_settings(wish(**asked), {"cleanup.policy": "compact"}))
    assert [one.level for one in found if not one.lets_start] == expected


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        (None, "error"),
        ({}, None),
        ({"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}, None),
        ({"cleanup.policy": "compact"}, "warning"),
        ({"retention.ms": "60000"}, "warning"),
        ({"retention.bytes": "1000"}, "warning"),
    ],
)
def test_a_schema_history_that_is_not_kept_is_said(
    settings: dict[str, str] | None, level: str | None
) -> None:
    topic = None if settings is None else TopicReading("t", {0: 0}, {0: 9}, settings)
    found = [one.level for one in check_history_topic("my", "history", topic)]
    assert found == ([] if level is None else [level])
