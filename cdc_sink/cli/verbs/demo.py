"""`cdc-sink demo`: the whole chain on this machine, a shop with people in it, and a pipeline."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from cdc_sink.cli.verbs.verify import render_findings, render_screen
from cdc_sink.demo.demo import Demo
from cdc_sink.demo.folder import DemoFolder
from cdc_sink.demo.progress import Progress
from cdc_sink.demo.screen import Closing, render_closing, render_line, render_live
from cdc_sink.verification.verify import Verification, verify

INTERRUPTED = 130
_EQUAL_LIMIT_S = 90  # what the connectors have not sent yet arrives within seconds
_LINE_EVERY_S = 10.0
_WATCH_S = 1.0  # any part may end, and each is asked
_SHOWN_KEYS = 20


def command(
    folder: Annotated[
        Path,
        typer.Option(
            envvar="CDC_SINK_DEMO_FOLDER",
            help="Where everything goes. New, empty, or an earlier demo's, which is emptied.",
        ),
    ] = Path("work/demo"),
    seconds: Annotated[
        float, typer.Option(envvar="CDC_SINK_DEMO_SECONDS", min=1, help="How long people shop.")
    ] = 60,
    seed: Annotated[
        int, typer.Option(envvar="CDC_SINK_DEMO_SEED", help="Which people: decides every value.")
    ] = 7,
    rate: Annotated[
        float, typer.Option(envvar="CDC_SINK_DEMO_RATE", min=1, help="Row changes per second.")
    ] = 100,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave chain and pipeline running until Ctrl-C.")
    ] = False,
) -> None:
    """Run databases, Debezium, Kafka and a pipeline here, live, and verify what they made.

    Writes below the folder only; every process it starts ends with it.

    Exit code: 0 every table is equal to its source, 1 something differs or a table is parked,
    2 configuration, 3 a server of the chain failed, 130 interrupted.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    demo = Demo(
        DemoFolder(folder.absolute()), seed=seed, rate=rate, say=lambda text: console.print(text)
    )
    try:
        with demo:
            is_equal = _play(demo, console, seconds=seconds, keep=keep)
    except KeyboardInterrupt:
        typer.echo("Interrupted. Every process of the demo has ended.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if is_equal else 1)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _play(demo: Demo, console: Console, *, seconds: float, keep: bool) -> bool:
    """Everything after the start; true when all tables are equal to their sources."""
    last = _show(demo.send(seconds), console)
    last = _show(demo.settle(), console) or last
    found = verify(demo.pipeline, wait_s=_EQUAL_LIMIT_S, tell=console.print)
    is_equal = all(one.equal for one in found)
    _print_verdict(demo, found, console)
    closing = Closing(
        folder=demo.folder,
        is_equal=is_equal,
        is_kept=keep,
        sent=last.sent if last else 0,
        tables=len(found),
        rows=sum(one.rows_table for one in found),
        commits=demo.count_commits(),
        shop=demo.pipeline.databases["postgres"],
    )
    for line in render_closing(closing):
        console.print(line)
    if keep:
        _watch(demo)
    return is_equal


def _show(looks: Iterable[Progress], console: Console) -> Progress | None:
    """Show each look as a live table, or as a line now and then; return the last one."""
    if console.is_terminal:
        return _show_live(looks, console)
    progress, printed_at = None, 0.0
    for progress in looks:
        if progress.is_still or time.monotonic() - printed_at >= _LINE_EVERY_S:
            console.print(render_line(progress))
            printed_at = time.monotonic()
    return progress


def _show_live(looks: Iterable[Progress], console: Console) -> Progress | None:
    progress = None
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for progress in looks:
            live.update(render_live(progress), refresh=True)
    if progress is not None:
        console.print(render_live(progress))
    return progress


def _print_verdict(demo: Demo, found: Sequence[Verification], console: Console) -> None:
    console.print(render_screen(demo.pipeline.name, found), soft_wrap=False)
    for line in render_findings(found, keys=_SHOWN_KEYS):
        console.print(line)


def _watch(demo: Demo) -> None:
    """Return at Ctrl-C. Raises: UnavailableError when a process ended by itself."""
    try:
        while True:
            demo.require_running()
            time.sleep(_WATCH_S)
    except KeyboardInterrupt:
        return
