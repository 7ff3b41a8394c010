"""What a program of one's own hangs into a pipeline: found by its name, failing as itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import DataFrame

from cdc_sink import config
from cdc_sink.config import Pipeline, Target
from cdc_sink.errors import ConfigError, StateError
from cdc_sink.spark.hooks import NO_HOOKS, AppliedBatch, Hooks

BATCH = AppliedBatch("shop.t", 7, 0.5, {})


def target(transform: str | None = None) -> Target:
    table = config.Table(topic="pg.public.t", target="shop.t", transform=transform)
    pipeline = Pipeline.model_validate(
        {
            "name": "shop",
            "kafka": {"bootstrap_servers": "127.0.0.1:1"},
            "registry": {"url": "http://127.0.0.1:1"},
            "catalog": {"type": "hadoop", "warehouse": "/lake"},
            "checkpoints": "/checkpoints",
            "defaults": {"namespace": "shop"},
            "tables": (table,),
        }
    )
    return Target(pipeline, table)


def same(changes: DataFrame) -> DataFrame:
    return changes


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_masks.py").write_text("number = 7\ndef mask(changes):\n    return changes\n")
    (tmp_path / "own_broken.py").write_text("raise ValueError('a secret')\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("name", ["shop.t", "pg.public.t"])
def test_a_transform_in_code_is_found_by_target_and_by_topic(name: str) -> None:
    assert Hooks({name: same}).transform_of(target()) is same
    assert Hooks({"shop.other": same}).transform_of(target()) is None


@pytest.mark.usefixtures("module")
def test_a_transform_of_the_configuration_is_imported_and_code_comes_first() -> None:
    named = target("own_masks:mask")
    found = NO_HOOKS.transform_of(named)
    assert found is not None
    assert found.__name__ == "mask"
    assert Hooks({"shop.t": same}).transform_of(named) is same


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_absent:mask", r"own_absent:mask can't be imported \(ModuleNotFoundError"),
        ("own_masks:absent", r"own_masks:absent can't be imported \(AttributeError"),
        ("own_broken:mask", r"can't be imported \(ValueError in .*own_broken.py line 1\)"),
        ("own_masks:number", "own_masks:number is no function"),
    ],
)
def test_a_transform_that_is_not_there_stops_its_table(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        NO_HOOKS.transform_of(target(name))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["mask", "a:b:c", "a b:c", "a:", ":b", "a:b()", "a/b:c"])
def test_a_transform_is_named_by_module_and_function(name: str) -> None:
    with pytest.raises(ValueError, match="transform"):
        target(name)


def test_on_batch_is_told_of_a_batch_and_its_fault_is_its_own() -> None:
    told: list[AppliedBatch] = []
    Hooks(on_batch=told.append).tell(BATCH)
    NO_HOOKS.tell(BATCH)
    assert told == [BATCH]

    def fails(_batch: AppliedBatch) -> None:
        raise ValueError("a secret")

    with pytest.raises(
        StateError, match=r"`on_batch` raised ValueError .*batch 7 is committed"
    ) as said:
        Hooks(on_batch=fails).tell(BATCH)
    assert "secret" not in str(said.value)
