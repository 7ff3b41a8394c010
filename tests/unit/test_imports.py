"""Walks the source: pure rooms hold no effects, and imports point one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "cdc_sink"
PURE = ("debezium", "table", "check/rules", "verification/canonical", "testing")
EFFECTS = (
    *("pyspark", "py4j", "socket", "random", "secrets", "uuid.uuid1", "uuid.uuid4"),
    *("time.time", "time.monotonic", "datetime.date.today", "os.environ", "os.getenv"),
    *("datetime.datetime.now", "datetime.datetime.utcnow"),
)
# A room and those that it may import, itself apart: from the floor up, so that no room imports one above it.
MAY_IMPORT = {
    "errors": [],
    "sql": [],
    # What one record means.
    "debezium": ["errors", "sql"],
    "debezium/types": ["errors", "sql", "debezium"],
    "debezium/wire": ["errors", "sql", "debezium"],
    "testing": ["debezium"],
    # What a table is, and what one batch does to it.
    "table/ledger": ["errors", "sql", "debezium"],
    "table/schema": ["errors", "sql", "debezium", "debezium/types", "table/ledger"],
    "table": ["errors", "sql", "debezium", "debezium/wire", "table/ledger", "table/schema"],
    # Everything outside, without Spark.
    "config": ["errors", "debezium", "table/schema"],
    "clients": ["errors", "debezium", "config"],
    "jars": ["errors", "config"],
    # What stands in the way, how far a table is, whether it equals its source.
    "check/rules": ["errors", "debezium", "debezium/types", "table/ledger", "table/schema"],
    "observe": ["errors", "debezium", "table", "table/ledger", "config", "clients", "check/rules"],
    "verification/canonical": ["debezium/types"],
    "verification/databases": ["errors", "config", "verification/canonical"],
    "verification": [
        *("errors", "debezium", "table/ledger", "table/schema", "config", "clients"),
        *("verification/canonical", "verification/databases"),
    ],
    "check": [
        *(
            "errors",
            "debezium",
            "debezium/wire",
            "table/ledger",
            "table/schema",
            "config",
            "clients",
            "jars",
        ),
        *("check/rules", "observe", "verification/databases"),
    ],
    # The way of a record: read, fold, write. The micro-batch knows all three; a query runs micro-batches.
    "spark": ["errors", "sql", "table/ledger", "table/schema", "config"],
    "spark/read": [
        *("errors", "sql", "debezium", "debezium/types", "debezium/wire"),
        *("table", "table/ledger", "table/schema", "config", "clients", "spark"),
    ],
    "spark/fold": [
        *("errors", "sql", "debezium", "debezium/types"),
        *("table", "table/ledger", "table/schema", "config", "spark", "spark/read"),
    ],
    "spark/transform": [
        *("errors", "sql", "table", "table/schema", "config", "spark", "spark/read"),
    ],
    "spark/write/engines": ["sql", "table", "table/schema", "spark/read", "spark/fold"],
    "spark/write": [
        *("errors", "sql", "table", "table/ledger", "table/schema", "config"),
        *("spark", "spark/read", "spark/fold", "spark/write/engines"),
    ],
    "spark/micro_batch": [
        *("errors", "debezium", "table", "table/ledger", "table/schema"),
        *("spark", "spark/read", "spark/transform", "spark/fold", "spark/write"),
    ],
    "spark/run": [
        *("errors", "table", "table/ledger", "table/schema", "config", "clients", "jars"),
        *("spark", "spark/read", "spark/transform", "spark/fold", "spark/write"),
        "spark/micro_batch",
    ],
    "run_pipeline": ["config", "check", "spark", "spark/run"],
    # The embedded chain, and the shop that the demo runs on it.
    "demo/chain/hosting": ["errors", "jars"],
    "demo/chain/servers": ["errors", "jars", "demo/chain/hosting"],
    "demo/chain": ["errors", "jars", "clients", "demo/chain/hosting", "demo/chain/servers"],
    "demo/shop": [],
    "demo": [
        *("errors", "table", "config", "clients", "jars", "observe", "spark/run"),
        *("demo/chain", "demo/chain/hosting", "demo/shop"),
    ],
    "cli": ["errors"],
    "cli/verbs": [
        *(
            "errors",
            "debezium/wire",
            "table",
            "table/schema",
            "config",
            "clients",
            "jars",
            "observe",
        ),
        *(
            "check",
            "check/rules",
            "verification",
            "spark/run",
            "run_pipeline",
            "demo",
            "demo/chain",
            "demo/chain/hosting",
            "cli",
        ),
    ],
    "jobs": ["cli"],
}
MOST_FILES, MOST_LINES = 14, 400
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


def room_of(path: Path) -> str:
    """The room of a file, or the file itself where it is a room of its own."""
    own = path.with_suffix("").as_posix()
    return own if own in MAY_IMPORT else path.parent.as_posix()


def file_of(dotted: str) -> Path | None:
    """The file of the house that a dotted name is in; None for a name of the package itself."""
    parts = dotted.split(".")[1:]
    for end in range(len(parts), 0, -1):
        path = Path(*parts[:end])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if (HOUSE / file).is_file():
                return file
    return None


def files_used(source: str) -> set[Path]:
    names = (name for name in names_used(source) if name.startswith("cdc_sink."))
    return {file for name in names if (file := file_of(name)) is not None}


def rooms_used(source: str) -> set[str]:
    return {room_of(file) for file in files_used(source)}


def is_in(path: Path, rooms: tuple[str, ...]) -> bool:
    return any(path.is_relative_to(room) for room in rooms)


@pytest.mark.parametrize("path", [path for path in FILES if is_in(path, PURE)], ids=str)
def test_a_pure_room_knows_no_spark_clock_chance_or_environment(path: Path) -> None:
    assert effects((HOUSE / path).read_text()) == []


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__init__.py"], ids=str)
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    assert rooms_used((HOUSE / path).read_text()) - {room, *MAY_IMPORT[room]} == set()


def test_a_room_may_import_lower_rooms_only() -> None:
    floors = list(MAY_IMPORT)
    for room, allowed in MAY_IMPORT.items():
        assert {one for one in allowed if floors.index(one) >= floors.index(room)} == set(), room


def test_no_file_imports_itself_by_way_of_others() -> None:
    left = {path: files_used((HOUSE / path).read_text()) - {path} for path in FILES}
    while free := {path for path, used in left.items() if not used & left.keys()}:
        left = {path: used for path, used in left.items() if path not in free}
    assert left == {}


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in FILES if path.parent != Path(".")}), ids=str
)
def test_a_folder_is_seen_at_one_look(folder: Path) -> None:
    files = [path for path in (HOUSE / folder).iterdir() if path.is_file() and path.stat().st_size]
    assert len(files) <= MOST_FILES


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_is_read_at_one_sitting(path: Path) -> None:
    assert len((HOUSE / path).read_text().splitlines()) <= MOST_LINES


def test_a_name_belongs_to_one_class() -> None:
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse((HOUSE / path).read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.lstrip("_"), []).append(str(path))
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


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


def test_the_walk_sees_an_import_however_it_is_written() -> None:
    source = "from cdc_sink.spark.read import decode\nimport cdc_sink.cli.main\nfrom cdc_sink import config"
    assert rooms_used(source) == {"spark/read", "cli", "config"}
    assert rooms_used("from cdc_sink.spark.micro_batch import Topic") == {"spark/micro_batch"}
    assert effects("from datetime import datetime, UTC\nx = datetime.fromtimestamp(0, UTC)") == []
