"""`cdc-sink check`: what stands in a pipeline's way, all at once. Read-only."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Screen

from cdc_sink.cli.status import Output
from cdc_sink.clients.preflight import check_pipeline
from cdc_sink.config import load_config
from cdc_sink.errors import CdcSinkError, ConfigError
from cdc_sink.spark.java import require_java
from cdc_sink.table.findings import Finding, exit_code

JSON_VERSION = 1
_STYLE = {"error": "red", "warning": "yellow", "ok": "green"}


def command(
    config: Annotated[
        Path, typer.Argument(envvar="CDC_SINK_CONFIG", help="The pipeline's YAML file.")
    ],
    output: Annotated[
        Output, typer.Option(envvar="CDC_SINK_OUTPUT", help="A table, or documented JSON.")
    ] = Output.TABLE,
) -> None:
    """Say what stands in a pipeline's way; nothing is changed.

    Exit code: 0 fine or warnings only, 1 something is wrong, 2 the configuration is at fault,
    3 a server is silent.
    """
    findings = check(config)
    if output is Output.JSON:
        print(json.dumps(render_json(str(config), findings), indent=2))
    else:
        Console().print(render_screen(str(config), findings))
    raise typer.Exit(exit_code(findings))


def check(path: Path) -> list[Finding]:
    """Return all findings; a broken file hides only what needs its values."""
    machine = list(check_machine())
    try:
        pipeline = load_config(path)
    except ConfigError as error:
        return [*findings_of(error), *machine]
    count = len(pipeline.tables)
    fine = Finding(str(path), "ok", f"pipeline {pipeline.name}, {count} table(s)")
    return [fine, *machine, *check_pipeline(pipeline)]


def findings_of(error: ConfigError) -> list[Finding]:
    """Turn each problem of a broken file into a finding of its own."""
    problems = getattr(error, "problems", ())
    if not problems:
        return [Finding.of(error)]
    return [
        Finding(f"{error.where} {one.path}", "error", one.rule, error.remedy, error.exit_code)
        for one in problems
    ]


def check_machine() -> Iterator[Finding]:
    """Report whether this machine could run the pipeline: Java and Spark."""
    try:
        yield Finding("Java", "ok", str(require_java()))
    except CdcSinkError as error:
        yield Finding.of(error)
    if importlib.util.find_spec("pyspark") is None:
        remedy = "pip install 'cdc-sink[spark]' where the pipeline runs"
        yield Finding("pyspark", "warning", "not installed here", remedy)
    else:
        yield Finding("pyspark", "ok", "installed")


def render_json(config: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """Render what docs/check.md promises."""
    return {
        "version": JSON_VERSION,
        "config": config,
        "exit_code": exit_code(findings),
        "findings": [
            {"where": one.where, "level": one.level, "saw": one.saw, "remedy": one.remedy}
            for one in findings
        ],
    }


def render_screen(config: str, findings: Sequence[Finding]) -> Screen:
    """Render one line per finding for people."""
    screen = Screen(title=f"check of {config}", title_justify="left", show_lines=False)
    for name in ("", "where", "saw", "remedy"):
        screen.add_column(name, overflow="fold")
    for one in findings:
        cells = (escape(text) for text in (one.where, one.saw, one.remedy))
        screen.add_row(f"[{_STYLE[one.level]}]{one.level}[/]", *cells)
    return screen
