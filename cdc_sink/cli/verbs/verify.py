"""`cdc-sink verify`: compare source and table, and say which keys differ. Read-only.

`--output json` promises, per run: `version`, `pipeline`, `equal`, `not_verified` (tables without a
`source`) and `tables`. Each table: `table`, `source`, `equal`, `exists`, `snapshot_id`,
`rows_source`, `rows_table`, `ranges`, `ranges_differing`, `ranges_examined`, `differing` (keys
found; a lower bound while fewer ranges are examined than differ), `columns_compared`, `columns_missing`,
`columns_not_comparable`, `columns_only_in_table`, `columns_computed` (computed by the source, and not in
the table: not compared), `columns_masked` (not compared), `failure` (why the table could not be compared, or
null), and `differences`, the first of them: `key` (column to value), `kind` (missing | extra | different |
duplicate), `columns`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Screen

from cdc_sink.cli.options import ConfigPath, Output, OutputOption
from cdc_sink.config import load_config
from cdc_sink.verification.range_sums import KeyDifference
from cdc_sink.verification.verify import Verification, not_verifiable, verify

JSON_VERSION = 1


def command(
    config: ConfigPath,
    table: Annotated[
        list[str] | None,
        typer.Option(envvar="CDC_SINK_TABLE", help="Only this target or topic; may be repeated."),
    ] = None,
    wait_s: Annotated[
        float,
        typer.Option(
            envvar="CDC_SINK_WAIT_S",
            min=0,
            help="Look again for so many seconds until nothing differs.",
        ),
    ] = 0,
    keys: Annotated[
        int,
        typer.Option(envvar="CDC_SINK_KEYS", min=0, help="Differing keys to print per table."),
    ] = 20,
    output: OutputOption = Output.TABLE,
) -> None:
    """Compare each source table with its Iceberg table, row by row, once both are still.

    Prints the keys of rows that differ, and no other cell value.

    A table that can't be compared is named, and the others go on.

    Exit code: 0 equal, 1 something differs, 2 configuration, 3 a server is silent.
    """
    pipeline = load_config(config)
    found = verify(pipeline, table, wait_s=wait_s, tell=lambda text: typer.echo(text, err=True))
    skipped = () if table else not_verifiable(pipeline)
    if output is Output.JSON:
        print(json.dumps(render_json(pipeline.name, found, skipped, keys=keys), indent=2))
    else:
        console = Console()
        console.print(render_screen(pipeline.name, found))
        for line in render_findings(found, keys=keys):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    for name in skipped:
        typer.echo(f"Not verified: {name} has no `source` in the configuration.", err=True)
    raise typer.Exit(exit_code(found))


def render_json(
    pipeline: str, found: Sequence[Verification], skipped: Sequence[str], *, keys: int
) -> dict[str, Any]:
    """Render what the head of this file promises."""
    return {
        "version": JSON_VERSION,
        "pipeline": pipeline,
        "equal": all(one.equal for one in found),
        "not_verified": list(skipped),
        "tables": [_table_json(one, keys) for one in found],
    }


def _table_json(one: Verification, keys: int) -> dict[str, Any]:
    return {
        "table": one.table,
        "source": one.source,
        "equal": one.equal,
        "exists": one.exists,
        "snapshot_id": one.snapshot_id,
        "rows_source": one.rows_source,
        "rows_table": one.rows_table,
        "ranges": one.ranges,
        "ranges_differing": one.ranges_differing,
        "ranges_examined": one.ranges_examined,
        "differing": len(one.differences),
        "columns_compared": list(one.columns_compared),
        "columns_missing": list(one.columns_missing),
        "columns_not_comparable": list(one.columns_not_comparable),
        "columns_only_in_table": list(one.columns_only_in_table),
        "columns_computed": list(one.columns_computed),
        "columns_masked": list(one.columns_masked),
        "failure": None if one.failure is None else str(one.failure),
        "differences": [
            {"key": dict(each.key), "kind": each.kind, "columns": list(each.columns)}
            for each in one.differences[:keys]
        ],
    }


def render_screen(pipeline: str, found: Sequence[Verification]) -> Screen:
    """Render one line per table for people."""
    screen = Screen(title=f"pipeline {pipeline}: source against table", title_justify="left")
    screen.add_column("table")
    for number in ("rows source", "rows table", "ranges", "differing"):
        screen.add_column(number, justify="right")
    screen.add_column("verdict")
    for one in found:
        screen.add_row(
            one.table,
            f"{one.rows_source:,}",
            f"{one.rows_table:,}",
            f"{one.ranges:,}",
            _differing(one),
            _verdict(one),
            style=None if one.equal else "red",
        )
    return screen


def _verdict(one: Verification) -> str:
    if one.failure is not None:
        return "NOT COMPARED"
    if not one.equal:
        return "DIFFERS"
    left_out = (one.columns_only_in_table, one.columns_computed, one.columns_masked)
    passed_over = sum(map(len, left_out))
    return f"equal, {passed_over} columns not compared" if passed_over else "equal"


def exit_code(found: Sequence[Verification]) -> int:
    """0 when all are equal, 1 when one differs, else that of what could not be compared: 2 before 3."""
    if any(one.failure is None and not one.equal for one in found):
        return 1
    return min((one.failure.exit_code for one in found if one.failure is not None), default=0)


def _differing(one: Verification) -> str:
    more = "≥ " if one.ranges_examined < one.ranges_differing else ""
    return f"{more}{len(one.differences):,}"


def render_findings(found: Sequence[Verification], *, keys: int) -> Iterator[str]:
    """Say in lines what the table of numbers can't: columns, and the first differing keys."""
    for one in found:
        if one.failure is not None:
            yield f"{one.table}: could not be compared: {one.failure}"
        if not one.exists:
            yield f"{one.table}: the catalog has no such table"
        for columns, saw in (
            (one.columns_missing, "missing in the table"),
            (one.columns_not_comparable, "of a type that can't be compared"),
            (one.columns_only_in_table, "not in the source any more, ignored"),
            (one.columns_computed, "computed by the source and not in the table, not compared"),
            (one.columns_masked, "masked or changed by a transform, not compared"),
        ):
            if columns:
                yield f"{one.table}: columns {saw}: {', '.join(columns)}"
        for each in one.differences[:keys]:
            yield f"{one.table}: {_sentence(each)}"
        if len(one.differences) > keys:
            yield f"{one.table}: … and {len(one.differences) - keys:,} more keys (--keys)"


def _sentence(each: KeyDifference) -> str:
    key = ", ".join(f"{name}={value!r}" for name, value in each.key.items())
    said = {
        "missing": "is missing in the table",
        "extra": "is only in the table",
        "duplicate": "is in the table more than once",
        "different": f"differs in {', '.join(each.columns)}",
    }
    return f"{key} {said[each.kind]}"
