"""The entry point `cdc-sink`: finds the verb, runs it, and turns what went wrong into words.

A verb is a file in `verbs` with a function `command`, or a typer app `app`. It is imported only when it is
called: `--help` is quick, and a machine without Spark can still run `check`. A verb ends with
`raise typer.Exit(code)` when its code isn't 0.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from cdc_sink.cli.error_text import exit_code_of, render_failure
from cdc_sink.cli.logs import LogFormat, configure_logs

VERBS = {
    "demo": "Run the whole chain on this machine.",
    "init": "Write the files of a new pipeline.",
    "check": "Say what stands in a pipeline's way.",
    "plan": "Print SQL and DDL without acting.",
    "packages": "Print the jars that Spark needs.",
    "run": "Keep tables equal to their sources.",
    "status": "Show how far each table is behind.",
    "verify": "Compare source and table, key by key.",
    "backfill": "Rebuild tables beside the live stream.",
    "dead-letters": "Show, replay or release what was set aside.",
    "chain": "Start and stop the embedded chain.",
}


@dataclass
class CliContext:
    """What was said before the verb; lives as long as one call of the program."""

    verbose: bool = False


class LazyVerbs(TyperGroup):
    """Lists verbs by their one-line help and imports one when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Find the verb as typer does, then put the real one in the place of its listing."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load_verb(str(name)), rest


def load_verb(name: str) -> Any:
    """Import a verb's file and return its command.

    Raises: ModuleNotFoundError when the file, or a package it needs, isn't there.
    """
    module = importlib.import_module(f"cdc_sink.cli.verbs.{name.replace('-', '_')}")
    if hasattr(module, "app"):
        return get_command(module.app)
    verb = typer.Typer(add_completion=False, rich_markup_mode=None)
    verb.command(name=name)(module.command)
    return get_command(verb)


app = typer.Typer(
    cls=LazyVerbs,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Keeps Apache Iceberg tables equal to the database tables they come from.",
    epilog="Exit codes: 0 fine, 1 checked and found wrong, 2 configuration, 3 a server is silent.",
)


def _listing(name: str, text: str) -> None:
    @app.command(name=name, help=text, add_help_option=False)
    def listed() -> None:
        raise AssertionError(f"{name} is listed, not loaded")


for _name, _text in VERBS.items():
    _listing(_name, _text)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"cdc-sink {version('cdc-sink')}")
        raise typer.Exit


@app.callback()
def before_the_verb(
    context: typer.Context,
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", envvar="CDC_SINK_VERBOSE", help="Tracebacks, more log."),
    ] = False,
    log_format: Annotated[
        LogFormat, typer.Option(envvar="CDC_SINK_LOG_FORMAT", help="How log lines look.")
    ] = LogFormat.HUMAN,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
) -> None:
    """Keeps Apache Iceberg tables equal to the database tables they come from."""
    context.obj.verbose = verbose
    configure_logs(log_format, verbose=verbose)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing is raised."""
    talk = CliContext()
    try:
        get_command(app).main(list(arguments), prog_name="cdc-sink", obj=talk)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the program's edge: all of it becomes a sentence and an exit code
        print(render_failure(error, verbose=talk.verbose), file=sys.stderr)
        return exit_code_of(error)
    return 0


def main() -> None:
    """Run the program's own command line."""
    sys.exit(run(sys.argv[1:]))
