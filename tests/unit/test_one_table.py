"""A query writes one table in the life of its checkpoint."""

from __future__ import annotations

import pytest

from cdc_sink.errors import StateError
from cdc_sink.table.ledger.one_table import OneTable, require_whole_topic, topic_gone


def test_the_first_table_met_is_remembered_and_kept_once() -> None:
    kept: list[str] = []
    table = OneTable("shop.t", None, kept.append)
    table.require_may_create()
    for _ in range(2):
        table.require_same("u1")
    assert (table.uuid, kept) == ("u1", ["u1"])


def test_a_known_table_is_neither_made_again_nor_changed_for_another() -> None:
    table = OneTable("shop.t", "u1")
    with pytest.raises(StateError, match="the table is gone: it was dropped or renamed"):
        table.require_may_create()
    with pytest.raises(StateError, match="the table is another one: its uuid is u2, and was u1"):
        table.require_same("u2")


def test_a_uuid_that_could_not_be_kept_is_not_taken_for_known() -> None:
    def fails(uuid: str) -> None:
        raise OSError(uuid)

    table = OneTable("shop.t", None, fails)
    with pytest.raises(OSError, match="u1"):
        table.require_same("u1")
    assert table.uuid is None


def test_a_lost_table_is_made_anew_only_from_a_whole_topic() -> None:
    require_whole_topic("shop.t", "topic", {0: 0, 1: 0})
    with pytest.raises(StateError, match="no longer has its oldest records"):
        require_whole_topic("shop.t", "topic", {0: 0, 1: 7})


def test_a_topic_that_is_gone_is_told_from_one_that_is_not_there_yet() -> None:
    assert "1,234 records of it were applied before" in str(topic_gone("shop.t", "topic", 1234))
