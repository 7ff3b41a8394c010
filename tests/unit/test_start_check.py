"""What a start refuses, and that it never waits for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from http_double import running_double
from iceberg_tables import catalog_in, commit, make_table

from cdc_sink import config
from cdc_sink.check.at_start import StartCheck, refusal_of
from cdc_sink.check.rules.table import Finding
from cdc_sink.errors import ConfigError, StateError


def pipeline(folder: Path, **changes: object) -> config.Pipeline:
    values: dict[str, object] = {
        "name": "shop",
        "kafka": {"bootstrap_servers": "127.0.0.1:1", "timeout_s": 0.1},
        "registry": {"url": "http://127.0.0.1:1", "timeout_s": 0.1},
        "catalog": catalog_in(folder),
        "checkpoints": f"{folder}/checkpoints",
        "defaults": {"namespace": "shop"},
        "tables": [
            {"topic": "shop.public.customers", "target": "shop.customers"},
            {"topic": "shop.public.items", "target": "shop.items"},
        ],
        **changes,
    }
    return config.Pipeline.model_validate(values)


def test_silent_servers_refuse_no_table(tmp_path: Path) -> None:
    make_table(tmp_path, "shop.other")
    silent = {"url": "http://127.0.0.1:1", "timeout_s": 0.1}
    assert StartCheck(pipeline(tmp_path, connect=silent)).begin().refused() == {}


def test_one_table_that_is_wrong_refuses_no_other(tmp_path: Path) -> None:
    commit(make_table(tmp_path), None)
    refused = StartCheck(pipeline(tmp_path)).begin().refused()
    assert list(refused) == ["shop.customers"]
    assert "run --unchecked" in refused["shop.customers"].remedy
    assert refused["shop.customers"].data == "the table was not started"


def test_two_writers_refuse_their_table_and_a_stopped_one_does_not(tmp_path: Path) -> None:
    def told(tables: str, state: str = "RUNNING") -> dict[str, object]:
        status = {"connector": {"state": state}, "tasks": [{"id": 0, "state": state}]}
        settings = {"topic.prefix": "shop", "table.include.list": tables}
        return {"info": {"config": settings}, "status": status}

    make_table(tmp_path, "shop.other")
    with running_double() as double:
        asked = pipeline(tmp_path, connect={"url": double.url})
        both = {"a": told("public.items"), "b": told("public.items,public.customers")}
        double.answers["/connectors"] = (200, both)
        refused = StartCheck(asked).begin().refused()
        assert list(refused) == ["shop.items"]
        assert "connectors a and b both write it" in refused["shop.items"].saw
        alone = {"b": told("public.items,public.customers", "PAUSED")}
        double.answers["/connectors"] = (200, alone)
        assert StartCheck(asked).begin().refused() == {}


def test_a_check_that_does_not_end_is_not_waited_for(tmp_path: Path) -> None:
    # Never begun, it never ends.
    assert StartCheck(pipeline(tmp_path)).refused(wait_s=0.01) == {}


@pytest.mark.parametrize(("code", "kind"), [(1, StateError), (2, ConfigError)])
def test_a_refusal_says_who_acts(code: int, kind: type[Exception]) -> None:
    finding = Finding("table t", "error", "x", "y", code, table="t")
    refusal = refusal_of(finding)
    assert (type(refusal), refusal.exit_code, refusal.retry) == (kind, code, False)
