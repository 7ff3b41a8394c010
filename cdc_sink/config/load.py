"""From a YAML file and the environment to one `Pipeline`.

Rules this file owns: an unknown or repeated key is an error, also when it comes from the
environment; every problem is reported at once, as dotted path, value and rule; a value that may be
secret (a password, a property, an address, anything under an unknown key) is never shown.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cdc_sink.config.models import NAME, Pipeline
from cdc_sink.config.tables import Defaults
from cdc_sink.errors import ConfigError

ENV_PREFIX = "CDC_SINK__"
_SILENT = {"password", "properties", "conf", "uri", "url", "user", "bootstrap_servers"}
_REMEDY = "correct the file; docs/configuration.md lists every key"


@dataclass(frozen=True, order=True)
class Problem:
    """One broken rule: where, and what the rule is."""

    path: str
    rule: str

    def __str__(self) -> str:
        return f"{self.path}: {self.rule}"


class InvalidConfigError(ConfigError):
    """A configuration that breaks rules; `problems` has all of them."""

    def __init__(self, where: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        saw = f"{count}: " + " | ".join(str(problem) for problem in self.problems)
        super().__init__(where, saw, data="nothing was started", remedy=_REMEDY)
        self._count = count

    def __str__(self) -> str:
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        return f"{self.where}: {self._count}; {self.data}; {self.remedy}.{lines}"


def load_config(path: str | Path, *, environ: Mapping[str, str] | None = None) -> Pipeline:
    """Return the pipeline that a YAML file and the CDC_SINK__ variables describe.

    Raises: ConfigError that lists every problem, each with its dotted path.
    """
    where = str(path)
    raw = _read_yaml(Path(path))
    problems = list(_overlay(raw, os.environ if environ is None else environ))
    expanded, found = _expand(raw)
    problems += found
    try:
        pipeline = Pipeline.model_validate(expanded)
    except ValidationError as error:
        problems += _problems_of(error)
        pipeline = None
    problems += _cross_problems(expanded)
    if problems or pipeline is None:
        # `from None`: pydantic's own error would carry the values again.
        raise InvalidConfigError(where, problems) from None
    return pipeline


# --- the file ---------------------------------------------------------------------------------


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe subset, where a key that comes twice is an error (PyYAML keeps the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} comes twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except OSError as cause:
        raise ConfigError(
            str(path),
            "the file can't be read",
            data="nothing was started",
            remedy="name an existing YAML file; conf/production.example.yaml is a complete one",
        ) from cause
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        raise ConfigError(
            str(path),
            f"not YAML: {_yaml_problem(cause)}",
            data="nothing was started",
            remedy="correct the file",
        ) from None  # the cause quotes the line, which may hold a secret
    if not isinstance(content, dict):
        raise InvalidConfigError(str(path), [Problem("(whole file)", "must be a mapping of keys")])
    return {str(key): value for key, value in content.items()}


def _yaml_problem(cause: Exception) -> str:
    mark = getattr(cause, "problem_mark", None)
    problem = getattr(cause, "problem", None) or "it can't be read as UTF-8 text"
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else str(problem)


# --- the environment --------------------------------------------------------------------------


def _overlay(raw: dict[str, Any], environ: Mapping[str, str]) -> Iterator[Problem]:
    """Write each CDC_SINK__A__B=value into raw["a"]["b"]; `{…}` and `[…]` are read as YAML."""
    for variable in sorted(name for name in environ if name.startswith(ENV_PREFIX)):
        keys = variable[len(ENV_PREFIX) :].lower().split("__")
        place: Any = raw
        for key in keys[:-1]:
            if isinstance(place, dict) and place.get(key) is None:
                place[key] = {}
            place = place.get(key) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            yield Problem(".".join(keys), f"{variable} points into something that has no keys")
            continue
        try:
            place[keys[-1]] = _value_of(environ[variable])
        except yaml.YAMLError:
            yield Problem(".".join(keys), f"{variable} is not valid YAML")


def _value_of(text: str) -> Any:
    if text.lstrip().startswith(("{", "[")):
        return yaml.load(text, _StrictLoader)
    return None if text in ("null", "") else text


# --- defaults ---------------------------------------------------------------------------------


def _expand(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Write `defaults` into every table, so that a `Table` is complete."""
    expanded = {key: value for key, value in raw.items() if key not in ("pipeline", "name")}
    problems = [Problem("name", "unknown key")] if "name" in raw else []
    if "pipeline" in raw:
        expanded["name"] = raw["pipeline"]
    given = raw.get("defaults")
    given = {} if given is None else given
    if isinstance(given, dict):
        given = {"namespace": _namespace_of(raw.get("pipeline")), **given}
    expanded["defaults"] = given
    shared = _valid_defaults(given)
    namespace = str(shared.pop("namespace", "namespace"))
    tables = raw.get("tables")
    if isinstance(tables, list):
        expanded["tables"] = [_expand_table(table, shared, namespace) for table in tables]
    for section in ("spark", "databases"):
        if expanded.get(section) is None:
            expanded.pop(section, None)
    return expanded, problems


def _namespace_of(pipeline: object) -> str:
    # A missing or wrong pipeline name is reported as itself, not as a namespace again.
    valid = isinstance(pipeline, str) and re.match(NAME, pipeline)
    return str(pipeline) if valid else "namespace"


def _valid_defaults(given: Any) -> dict[str, Any]:
    """What tables inherit: nothing when `defaults` itself is at fault, so it's reported once."""
    try:
        defaults = Defaults.model_validate(given)
    except ValidationError:
        return {}
    return defaults.model_dump(exclude_unset=True)


def _expand_table(table: Any, shared: Mapping[str, Any], namespace: str) -> Any:
    if not isinstance(table, dict):
        return table
    expanded = {**shared, **table}
    if expanded.get("outbox") is True and "order" not in table:
        expanded["order"] = "kafka"
    topic = table.get("topic")
    if expanded.get("target") is None and isinstance(topic, str):
        last = topic.rpartition(".")[2].lower()
        expanded["target"] = f"{namespace}.{last}"
    return expanded


# --- problems ---------------------------------------------------------------------------------


def _problems_of(error: ValidationError) -> Iterator[Problem]:
    for found in error.errors(include_url=False, include_context=False):
        loc = found["loc"]
        path = "pipeline" if loc == ("name",) else ".".join(str(part) for part in loc)
        yield Problem(path or "(whole file)", _rule_of(found["type"], found["msg"], loc, found))


def _rule_of(kind: str, message: str, loc: Sequence[object], found: Mapping[str, Any]) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "required"
    rule = message.removeprefix("Value error, ")
    value = found.get("input")
    shown = isinstance(value, (str, int, float)) and not _SILENT & {str(part) for part in loc}
    return f"{rule} (it is {value!r})" if shown else rule


def _cross_problems(expanded: Mapping[str, Any]) -> Iterator[Problem]:
    """Rules between tables; read from the raw values, so that they show beside other problems."""
    tables = expanded.get("tables")
    if tables == []:
        yield Problem("tables", "at least one table")
    listed = tables if isinstance(tables, list) else []
    rows = [row if isinstance(row, dict) else {} for row in listed]
    yield from _repeated(rows, "topic")
    yield from _repeated(rows, "target")
    databases = expanded.get("databases")
    known = set(databases) if isinstance(databases, dict) else set()
    for index, row in enumerate(rows):
        source = row.get("source")
        database = source.get("database") if isinstance(source, dict) else None
        if isinstance(database, str) and database not in known:
            path = f"tables.{index}.source.database"
            yield Problem(path, f"no such name under `databases` (it is {database!r})")
        if str(row.get("target", "")).endswith(".dead_letters"):
            yield Problem(
                f"tables.{index}.target", "dead_letters is the table of set-aside records"
            )
        yield from _meaningless(index, row)


def _meaningless(index: int, row: Mapping[str, Any]) -> Iterator[Problem]:
    """Settings of one table that another one leaves without a meaning."""
    rules = [
        ("bucket_column", row.get("buckets") == 0, "`buckets: 0`"),
        ("bucket_column", row.get("mode") == "append", "`mode: append`: events have no buckets"),
        ("source", row.get("mode") == "append", "`mode: append`: events are no rows to compare"),
        ("source", row.get("outbox") is True, "`outbox: true`: events are no rows to compare"),
    ]
    for name, is_void, why in rules:
        if is_void and row.get(name) is not None:
            yield Problem(f"tables.{index}.{name}", f"has no meaning with {why}")
    if row.get("outbox") is True and row.get("order") == "source":
        yield Problem(f"tables.{index}.order", "events of an outbox have no source position")


def _repeated(rows: Sequence[Mapping[str, Any]], key: str) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, row in enumerate(rows):
        value = row.get(key)
        if not isinstance(value, str):
            continue
        # Hive and Spark compare table names without case; Kafka compares topics with it.
        name = value.lower() if key == "target" else value
        if name in first:
            rule = f"the same {key} as tables.{first[name]} (it is {value!r})"
            yield Problem(f"tables.{index}.{key}", rule)
        first.setdefault(name, index)
