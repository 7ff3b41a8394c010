"""`cdc-sink chain up|status|down`: the embedded chain, a playground on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cdc_sink.cli.options import Output, OutputOption
from cdc_sink.demo.chain.detached import serve, start_detached, stop_detached
from cdc_sink.demo.chain.hosting.workdir import ChainState, is_in_use, read_state
from cdc_sink.demo.chain.services import CHAIN, EVERYTHING

JSON_VERSION = 1

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Start and stop the embedded chain: PostgreSQL, MySQL, Kafka, registry, Connect, Spark.",
)

Workdir = Annotated[
    Path,
    typer.Option(
        envvar="CDC_SINK_CHAIN_DIR",
        help="The work folder: data, logs and ports; the same folder again continues.",
    ),
]


@app.command()
def up(
    workdir: Workdir = Path(".cdc-sink/chain"),
    part: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only these, out of {', '.join(EVERYTHING)}; "
            "mariadb and spark only when asked for."
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when it is up; `down` stops it.")
    ] = False,
) -> None:
    """Start the chain and run it until Ctrl-C, or in the background with --detach.

    Exit code: 0 fine, also when it was up already; 2 configuration; 3 a server does not start.
    """
    parts = part or list(CHAIN)
    if not detach:
        serve(workdir.resolve(), parts)
        return
    was_up = is_in_use(workdir)
    state = start_detached(workdir.resolve(), parts)
    if was_up:
        typer.echo("already up", err=True)
    _print_table(state)


@app.command()
def status(
    workdir: Workdir = Path(".cdc-sink/chain"),
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what runs in the work folder, where, and with how much memory. Read-only.

    Exit code: 0 everything runs, 1 a part or the whole chain does not.
    """
    state = read_state(workdir.resolve())
    if output is Output.JSON:
        print(json.dumps(render_json(state), indent=2))
    elif state is None:
        typer.echo("not up", err=True)
    else:
        _print_table(state)
    is_fine = state is not None and all(part.is_running for part in state.parts.values())
    raise typer.Exit(0 if is_fine else 1)


@app.command()
def down(workdir: Workdir = Path(".cdc-sink/chain")) -> None:
    """Stop the chain of the work folder in order; its data stay.

    Exit code: 0 fine, also when it was down already; 3 it does not stop.
    """
    typer.echo("down" if stop_detached(workdir.resolve()) else "already down", err=True)


def render_json(state: ChainState | None) -> dict[str, Any]:
    """Return what `status --output json` prints; documented, so changed with its version only."""
    parts = {} if state is None else state.parts
    return {
        "version": JSON_VERSION,
        "is_up": state is not None,
        "owner_pid": None if state is None else state.owner_pid,
        "parts": [
            {
                "name": name,
                "is_running": part.is_running,
                "endpoint": part.endpoint,
                "pid": part.pid,
                "rss_bytes": part.rss_bytes() if part.is_running else 0,
                "log": part.log,
            }
            for name, part in parts.items()
        ],
    }


def _print_table(state: ChainState) -> None:
    for name, part in state.parts.items():
        memory = f"{part.rss_bytes() >> 20} MB" if part.is_running else "not running"
        typer.echo(f"{name:16} {memory:>12}  {part.endpoint}")
