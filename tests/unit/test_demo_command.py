"""How `cdc-sink demo` ends, with a double for everything that it would start."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cdc_sink.cli.main import run as verb
from cdc_sink.cli.verbs import demo as module
from cdc_sink.config import load_config
from cdc_sink.demo.progress import Progress
from cdc_sink.verification.verify import Verification

DATABASES = """
pipeline: shop
kafka: {bootstrap_servers: "127.0.0.1:1"}
registry: {url: "http://127.0.0.1:1"}
catalog: {type: hadoop, warehouse: FOLDER}
checkpoints: FOLDER
databases: {postgres: {type: postgresql, host: h, database: shop, user: u}}
tables: [{topic: none}]
"""
Play = Callable[..., tuple[int, str]]


class Double:
    """A demo whose tables are still at once, and that is interrupted as soon as it is watched."""

    def __init__(self, folder: Any, **_: Any) -> None:
        self.folder, self.looks = folder, 0
        folder.path.mkdir()
        file = folder.path / "double.yaml"
        file.write_text(DATABASES.replace("FOLDER", str(folder.path)))
        self.pipeline = load_config(file)

    def __enter__(self) -> Double:
        return self

    def __exit__(self, *_: object) -> None:
        print("everything was stopped")

    def send(self, seconds: float) -> Iterator[Progress]:
        yield Progress(f"traffic, 0 of {seconds:g} s", 0.0, ())

    def settle(self) -> Iterator[Progress]:
        yield Progress("waiting", 0.0, ())

    def count_commits(self) -> int:
        return 12

    def require_running(self) -> None:
        self.looks += 1
        print(f"look {self.looks}")
        if self.looks == 2:
            raise KeyboardInterrupt


@pytest.fixture
def play(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Play:
    def run(*options: str, differing: int = 0) -> tuple[int, str]:
        """Run the verb; its exit code, and what it said."""
        found = [Verification("shop.a", "postgres:public.a", 1, ranges_differing=differing)]
        monkeypatch.setattr(module, "Demo", Double)
        monkeypatch.setattr(module, "_WATCH_S", 0)
        monkeypatch.setattr(module, "verify", lambda *_, **__: found)
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        code = verb(["demo", "--folder", str(tmp_path / "demo"), *options])
        return code, capsys.readouterr().out

    return run


def test_a_demo_ends_by_itself_and_says_how_to_bring_the_chain_back(play: Play) -> None:
    code, said = play()
    assert code == 0, said
    assert "every one equal to its source." in said
    assert "# the chain stops now; bring it back" in said
    assert said.endswith("everything was stopped\n")
    assert "look 1" not in said


def test_a_demo_whose_tables_differ_ends_with_an_error(play: Play) -> None:
    code, said = play(differing=1)
    assert code == 1, said
    assert "NOT equal." in said


def test_a_kept_demo_is_watched_until_it_is_interrupted_and_ends_as_it_was_found(
    play: Play,
) -> None:
    code, said = play("--keep")
    assert code == 0, said
    assert said.index("until you press Ctrl-C.") < said.index("look 2")
    assert said.endswith("everything was stopped\n")
