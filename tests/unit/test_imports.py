"""Walks the source: pure rooms hold no effects, and imports point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "cdc_sink"
PURE = ("change", "table")
EFFECTS = (
    *("pyspark", "py4j", "socket", "random", "secrets", "uuid.uuid1", "uuid.uuid4"),
    *("time.time", "time.monotonic", "datetime.date.today", "os.environ", "os.getenv"),
    *("datetime.datetime.now", "datetime.datetime.utcnow"),
)
MAY_IMPORT = {
    "errors": [],
    "change": ["errors"],
    "table": ["change", "errors"],
    "config": ["change", "errors"],
    "clients": ["table", "change", "errors", "config"],
    "spark": ["clients", "table", "change", "errors", "config"],
    # The chain fetches its jars, and finds its Java, as Spark does.
    "stack": ["spark", "clients", "table", "change", "errors", "config"],
    "cli": ["spark", "stack", "clients", "table", "change", "errors", "config"],
}
FILES = sorted(path.relative_to(HOUSE) for path in HOUSE.rglob("*.py"))


def names_used(source: str) -> Iterator[str]:
    """Yield every dotted name a module imports or reaches through an import, in full."""
    alias: dict[str, str] = {}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            alias |= {a.asname or a.name.split(".")[0]: a.name for a in node.names}
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            alias |= {a.asname or a.name: f"{prefix}.{a.name}" for a in node.names}
            yield from (f"{prefix}.{a.name}" for a in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            head, _, rest = ast.unparse(node).partition(".")
            if head in alias:
                yield f"{alias[head]}.{rest}"


def effects(source: str) -> list[str]:
    return [
        name
        for name in names_used(source)
        if any(name == effect or name.startswith(f"{effect}.") for effect in EFFECTS)
    ]


def rooms_used(source: str) -> set[str]:
    return {name.split(".")[1] for name in names_used(source) if name.startswith("cdc_sink.")}


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] in PURE], ids=str)
def test_a_pure_room_knows_no_spark_clock_chance_or_environment(path: Path) -> None:
    assert effects((HOUSE / path).read_text()) == []


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__init__.py"], ids=str)
def test_imports_point_one_way(path: Path) -> None:
    room = path.parts[0].removesuffix(".py")
    allowed = {room, "__version__", *MAY_IMPORT[room]}
    assert rooms_used((HOUSE / path).read_text()) - allowed == set()


@pytest.mark.parametrize(
    "source",
    [
        "import pyspark",
        "from pyspark.sql import functions as F",
        "import time\nx = time.time()",
        "from time import time",
        "from datetime import datetime\nx = datetime.now()",
        "import datetime as d\nx = d.datetime.now(d.UTC)",
        "import random",
        "from random import choice",
        "import os\nx = os.environ['HOME']",
        "from os import environ",
        "def f():\n    import uuid\n    return uuid.uuid4()",
    ],
)
def test_the_walk_sees_an_effect_however_it_is_written(source: str) -> None:
    assert effects(source)


def test_the_walk_sees_an_import_against_the_direction() -> None:
    assert rooms_used("from cdc_sink.spark import decode\nimport cdc_sink.cli.main") == {
        "spark",
        "cli",
    }
    assert effects("from datetime import datetime, UTC\nx = datetime.fromtimestamp(0, UTC)") == []
