"""`cdc-sink status`: how far each table of a pipeline is behind its topic. Read-only."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console, Group
from rich.table import Table as Screen
from rich.text import Text

from cdc_sink.cli.options import ConfigPath, Output, OutputOption
from cdc_sink.config import Pipeline, load_config
from cdc_sink.observe.status import TableStatus, table_status
from cdc_sink.observe.table_facts import Upstream, read_facts

JSON_VERSION = 1


def command(
    config: ConfigPath,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show how far each table is behind its topic: lag in records, freshness, state.

    Exit code: 0 fine, 1 a table is parked, cut off or can't be read, or its driver is gone, 2 configuration,
    3 a server is silent.
    """
    pipeline = load_config(config)
    now_ms = time.time_ns() // 1_000_000
    statuses = read_statuses(pipeline, now_ms)
    if output is Output.JSON:
        print(json.dumps(render_json(pipeline.name, now_ms, statuses), indent=2))
    else:
        Console().print(render_screen(pipeline.name, now_ms, statuses))
    failures = [failure for status in statuses for failure in status.failures.values()]
    for sentence in dict.fromkeys(str(failure) for failure in failures):
        typer.echo(f"Not read: {sentence}", err=True)
    raise typer.Exit(exit_code(statuses))


def read_statuses(pipeline: Pipeline, now_ms: int) -> list[TableStatus]:
    """Return the status of every table; silent servers are waited for once."""
    return [table_status(facts, now_ms) for facts in read_facts(pipeline, Upstream.of(pipeline))]


def exit_code(statuses: Sequence[TableStatus]) -> int:
    """Return the gravest of the tables' codes: 1 before 2 before 3 before 0."""
    return min((status.exit_code for status in statuses if status.exit_code), default=0)


def render_json(pipeline: str, now_ms: int, statuses: Sequence[TableStatus]) -> dict[str, Any]:
    """Render what docs/status.md promises."""
    return {
        "version": JSON_VERSION,
        "pipeline": pipeline,
        "read_at_ms": now_ms,
        "tables": [status.to_json() for status in statuses],
    }


def render_screen(pipeline: str, now_ms: int, statuses: Sequence[TableStatus]) -> Group:
    """Render one line per table for people, and below it what the stopped ones say."""
    screen = Screen(title=f"pipeline {pipeline}, {_clock(now_ms)}", title_justify="left")
    screen.add_column("table", no_wrap=True)
    screen.add_column("state")
    screen.add_column("lag (records)", justify="right")
    screen.add_column("freshness", justify="right")
    screen.add_column("last table commit")
    for status in statuses:
        screen.add_row(
            status.table,
            status.state,
            "unknown" if status.lag_records is None else f"{status.lag_records:,}",
            _freshness(status),
            _clock(status.last_commit_ms),
            style="red" if status.exit_code == 1 else None,
        )
    sums = [Text(_sum(one)) for one in statuses if one.totals is not None]
    # Text, since "topic[0]@7" is no markup.
    errors = [Text(f"{one.table}: {one.error}") for one in statuses if one.error is not None]
    troubles = [Text(f"{one.table}: {said}") for one in statuses for said in one.troubles]
    open_questions = [Text(f"{one.table}: {one.undecided}") for one in statuses if one.undecided]
    return Group(screen, *sums, *errors, *troubles, *open_questions, *_unknown_writers(statuses))


def _unknown_writers(statuses: Sequence[TableStatus]) -> list[Text]:
    """A line that says what `caught up` does not mean."""
    unknown = [one.table for one in statuses if one.writer == "unknown" and _is_caught_up(one)]
    if not unknown:
        return []
    return [
        Text(
            f"{', '.join(unknown)}: caught up with the topic; nothing is known of what writes it "
            "(`connect` in the configuration lets status ask)"
        )
    ]


def _is_caught_up(status: TableStatus) -> bool:
    return status.lag_records == 0 and status.freshness_s == 0


def _sum(status: TableStatus) -> str:
    """The account of a table: every record that its ledger has is in exactly one of these."""
    kinds = asdict(status.totals) if status.totals else {}
    records = sum(kinds.values())
    parts = " + ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in kinds.items() if n)
    waiting = (
        f"; {status.quarantined:,} wait: cdc-sink dead-letters list" if status.quarantined else ""
    )
    return f"{status.table}: {records:,} records = {parts or 0}{waiting}"


def _freshness(status: TableStatus) -> str:
    if _is_caught_up(status):
        return "caught up"
    return "unknown" if status.freshness_s is None else f"{status.freshness_s:,.1f} s"


def _clock(moment_ms: int | None) -> str:
    if moment_ms is None:
        return "never"
    return datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
