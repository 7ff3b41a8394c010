"""`cdc-sink check`: what stands in a pipeline's way, all at once. Read-only."""

from __future__ import annotations

import importlib.util
import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cdc_sink.check.check import check_pipeline
from cdc_sink.check.rules.table import Finding, exit_code
from cdc_sink.cli.options import ConfigPath, Output, OutputOption
from cdc_sink.clients.decoded_record import decoded, printed
from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import load_config
from cdc_sink.errors import CdcSinkError, ConfigError
from cdc_sink.jars.java import require_java

JSON_VERSION = 1
_INDENT = " " * 9
_STYLE = {"error": "red", "warning": "yellow", "ok": "green"}


def command(
    context: typer.Context,
    config: ConfigPath,
    output: OutputOption = Output.TABLE,
    sample: Annotated[
        int,
        typer.Option(
            min=0,
            max=1000,
            help="Also the newest records of each topic, decoded, so many: they are cell values.",
        ),
    ] = 0,
) -> None:
    """Say what stands in a pipeline's way; nothing is changed.

    Exit code: 0 fine or warnings only, 1 something is wrong, 2 the configuration is at fault,
    3 a server is silent.
    """
    findings = check(config)
    # Where the file or a server is at fault, the findings say so, and nothing can be read.
    count = 0 if exit_code(findings) in (2, 3) else sample
    if output is Output.JSON:
        more = {"samples": dict(samples(config, count))} if count else {}
        print(json.dumps(render_json(str(config), findings) | more, indent=2, default=printed))
    else:
        console = Console()
        screen = render_screen(
            str(config), findings, width=console.width, verbose=context.obj.verbose
        )
        console.print(screen, soft_wrap=True)
        for table, records in samples(config, count) if count else ():
            print(f"\n{table}")
            for record in records:
                print(json.dumps(record, default=printed))
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


def samples(path: Path, count: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """By table, the newest records of its topic, decoded; masked columns stay hidden.

    Raises: UnavailableError when Kafka or the registry doesn't answer; ConfigError.
    """
    pipeline = load_config(path)
    cluster = Cluster(pipeline.kafka)
    for table in pipeline.tables:
        there = cluster.topic(table.topic) is not None
        records = [asdict(one) for one in cluster.newest(table.topic, count)] if there else []
        yield table.name, [one | decoded(one, pipeline, table) for one in records]


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
            {
                "where": one.where,
                "level": one.level,
                "saw": one.saw,
                "remedy": one.remedy,
                "table": one.table,
                "lets_start": one.level != "error" or one.lets_start or one.exit_code == 3,
            }
            for one in findings
        ],
    }


def render_screen(
    config: str, findings: Sequence[Finding], *, width: int = 80, verbose: bool = False
) -> Text:
    """Render for people: errors first, then warnings, and one line for all that is fine.

    In: width, of the screen; no line is broken inside a word, so that what is to be copied stays whole.
    """
    screen = Text(f"check of {config}\n")
    by_level = {level: [one for one in findings if one.level == level] for level in _STYLE}
    for level, ones in by_level.items():
        if level != "ok" or verbose:
            for one in ones:
                screen.append(level, style=_STYLE[level])
                screen.append(_paragraph(one, level, width))
    counted = f"{len(by_level['error'])} error(s), {len(by_level['warning'])} warning(s), "
    hint = "" if verbose or not by_level["ok"] else " (`cdc-sink -v check` shows them)"
    screen.append(f"{counted}{len(by_level['ok'])} fine{hint}")
    return screen


def _paragraph(one: Finding, level: str, width: int) -> str:
    def wrapped(text: str, first: str) -> str:
        return textwrap.fill(
            text,
            width=max(width, 2 * len(_INDENT)),
            initial_indent=first,
            subsequent_indent=_INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )

    # The level is printed before, in its colour.
    said = wrapped(f"{one.where}: {one.saw}", level.ljust(len(_INDENT)))[len(level) :]
    remedy = f"\n{wrapped(f'→ {one.remedy}', _INDENT)}" if one.remedy else ""
    return f"{said}{remedy}\n"
