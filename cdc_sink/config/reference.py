"""The configuration's reference page, rendered from the models, so that the two can't differ."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel

from cdc_sink.config.columns import ColumnSettings
from cdc_sink.config.models import (
    Catalog,
    Connect,
    Database,
    Kafka,
    Pipeline,
    Registry,
    Spark,
)
from cdc_sink.config.tables import Defaults, SourceTable, Table

_INTRODUCTION = """# Configuration

One YAML file per pipeline. An unknown or repeated key is an error, and all problems of a file are
reported at once. `conf/production.example.yaml` is a complete file with comments.

Any key can be overridden by an environment variable: `CDC_SINK__` and the path, in capitals, with
two underscores between the parts, e.g. `CDC_SINK__KAFKA__BOOTSTRAP_SERVERS=broker:9092`. Values
that begin with `{` or `[` are read as YAML; `null` or an empty value means none. Entries of a list
have no variable; `CDC_SINK__DEFAULTS__…` reaches all tables.

A secret is written as a reference, `{env: NAME}` or `{file: PATH}`; a value in the file is refused.
"""

_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("kafka", Kafka),
    ("registry", Registry),
    ("connect", Connect),
    ("catalog", Catalog),
    ("spark", Spark),
    ("defaults", Defaults),
    ("tables[]", Table),
    ("tables[].source", SourceTable),
    ("tables[].columns.<name>", ColumnSettings),
    ("databases.<name>", Database),
)


def render_reference() -> str:
    """Return docs/configuration.md."""
    names = {"name": "pipeline", "checkpoints": "checkpoints"}
    top = [
        f"| `{name}` | {Pipeline.model_fields[key].description} |" for key, name in names.items()
    ]
    parts = [_INTRODUCTION, "| key | meaning |\n|---|---|\n" + "\n".join(top) + "\n"]
    parts += [_section(title, model) for title, model in _SECTIONS]
    return "\n".join(parts)


def _section(title: str, model: type[BaseModel]) -> str:
    rows = "\n".join(_rows(model))
    return f"## {title}\n{model.__doc__}\n\n| key | meaning |\n|---|---|\n{rows}\n"


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        description = (field.description or "").replace("|", "\\|")
        # `port` and `namespace` are always there in the model: their defaults are filled in before.
        has_default = re.search(r"(; |^)default", description) is not None
        required = "required; " if field.is_required() and not has_default else ""
        yield f"| `{name}` | {required}{description} |"
