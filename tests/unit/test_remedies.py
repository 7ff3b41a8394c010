"""No sentence of the product advises a command, an option or a setting that does not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import cdc_sink
from cdc_sink.cli.main import VERBS, load_verb
from cdc_sink.config import Spark
from cdc_sink.config.columns import ColumnSettings
from cdc_sink.config.tables import Table

PACKAGE = Path(cdc_sink.__file__).parent
COMMAND = re.compile(r"`cdc-sink (?:-v )?([a-z][a-z-]*)([^`]*)`")
OPTION = re.compile(r"`(--[a-z-]+)`")
SETTING = re.compile(r"`([a-z_]+): ([a-z_]+)`")


def sentences() -> Iterator[tuple[str, str]]:
    """Every text in the package that people may be shown: file and text, parts of one text joined."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield file.relative_to(PACKAGE).as_posix(), " ".join(node.value.split())
            elif isinstance(node, ast.JoinedStr):
                parts = [p.value for p in node.values if isinstance(p, ast.Constant)]
                yield file.relative_to(PACKAGE).as_posix(), " ".join("…".join(parts).split())


def options_of(verb: str) -> set[str]:
    """The options of a verb, and of the verbs below it."""
    command = load_verb(verb)
    found = {opt for one in command.params for opt in one.opts}
    for below in getattr(command, "commands", {}).values():
        found |= {opt for one in below.params for opt in one.opts}
    return found


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    return {verb: options_of(verb) for verb in VERBS}


def test_every_command_that_is_named_exists_with_its_options(known: dict[str, set[str]]) -> None:
    named = 0
    for file, text in sentences():
        for verb, rest in COMMAND.findall(text):
            assert verb in VERBS, (file, text)
            for option in re.findall(r"--[a-z-]+", rest):
                assert option in known[verb], (file, text)
            named += 1
    assert named > 20


def test_every_option_that_is_named_alone_belongs_to_a_verb(known: dict[str, set[str]]) -> None:
    every = {option for options in known.values() for option in options} | {"--help"}
    found = [(file, option) for file, text in sentences() for option in OPTION.findall(text)]
    assert found
    assert [one for one in found if one[1] not in every] == []


def test_every_setting_that_is_advised_takes_the_value() -> None:
    settings = {**Spark.model_fields, **Table.model_fields, **ColumnSettings.model_fields}
    found = 0
    for file, text in sentences():
        for name, value in SETTING.findall(text):
            if name == "old":  # the form of a rename
                continue
            assert name in settings, (file, text)
            allowed = get_args(settings[name].annotation)
            if allowed and all(isinstance(one, str) for one in allowed):
                assert value in allowed, (file, text)
            found += 1
    assert found > 5
