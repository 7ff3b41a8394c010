"""The public names: there, typed, and read by a type checker as they are meant."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cdc_sink

HOUSE = Path(__file__).parents[2]
README = (HOUSE / "README.md").read_text(encoding="utf-8")


def for_a_checker() -> dict[str, str]:
    """The names that a type checker sees, and where they come from."""
    tree = ast.parse((HOUSE / "cdc_sink" / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        alias.name: str(node.module)
        for node in imports
        for alias in node.names
        if alias.asname == alias.name
    }


def test_what_a_checker_sees_is_what_there_is() -> None:
    assert for_a_checker() == cdc_sink._HOMES
    for name in cdc_sink._HOMES:
        assert getattr(cdc_sink, name) is not None


def test_every_name_is_in_the_library_page() -> None:
    page = (HOUSE / "docs" / "library.md").read_text(encoding="utf-8")
    assert [n for n in cdc_sink._HOMES if not re.search(rf"`(cdc_sink\.)?{n}\b", page)] == []


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What mypy says of the README's block, and of calls that it has to refuse."""
    folder = tmp_path_factory.mktemp("face")
    (block,) = (text for text in blocks("python") if "transforms=" in text)
    (folder / "readme_block.py").write_text(block)
    (folder / "wrong_calls.py").write_text(
        "\n".join(["import cdc_sink", "pipeline = cdc_sink.load_config('x')", *WRONG])
    )
    asked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "readme_block.py", "wrong_calls.py"),
            *("--cache-dir", str(HOUSE / ".mypy_cache"), "--config-file", ""),
        ],
        cwd=folder,
        env={"MYPYPATH": "", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    return asked.stdout


# Each on a line of its own; lines are counted from 1, behind two others.
WRONG = (
    "cdc_sink.run('shop.yaml')",
    "cdc_sink.run(pipeline, transforms={'t': lambda: 1})",
    "cdc_sink.run(pipeline, on_batch=lambda batch: batch.rows)",
    "cdc_sink.run(pipeline, onces=True)",
    "cdc_sink.verify(pipeline, 'shop.customers', 3)",
    "code: str = cdc_sink.run(pipeline)",
    "cdc_sink.no_such_name",
    "cdc_sink.create_session(pipeline)",
    "cdc_sink.apply_changes(pipeline, 1, pipeline.target('t'))",
    "cdc_sink.backfill(pipeline)",
)


def test_the_readmes_block_is_right(checked: str) -> None:
    assert "readme_block.py" not in checked, checked


@pytest.mark.parametrize("number", range(len(WRONG)), ids=WRONG)
def test_a_wrong_call_is_refused(checked: str, number: int) -> None:
    assert f"wrong_calls.py:{number + 3}: error" in checked, checked
