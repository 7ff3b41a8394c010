"""`cdc-sink dead-letters`: what was set aside, and what is to become of it.

`list` and `show` only read, without Spark. The other three change the dead-letter table, and `replay` the
table the letters belong to.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table as Screen

from cdc_sink.cli.options import ConfigPath, Output, OutputOption, SparkLog, TableName
from cdc_sink.clients.dead_letters import read_letter, read_letters
from cdc_sink.clients.decoded_record import decoded, printed
from cdc_sink.config import Pipeline, load_config
from cdc_sink.errors import ConfigError
from cdc_sink.table.dead_letter import WAITING, remedy_of

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Show, replay or release what was set aside.",
)

RecordName = Annotated[
    str | None,
    typer.Option(metavar="PARTITION@OFFSET", help="Only the key of this letter; default all keys."),
]
LOG = Path("spark-dead-letters.log")


@app.command("list")
def list_letters(
    config: ConfigPath,
    table: Annotated[str | None, typer.Option(help="Only this table; default all.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also what was replayed or released.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List dead letters: where each record lies, why it is here, its state. Exit code 1 if any waits."""
    pipeline = load_config(config)
    where = None if table is None else pipeline.table(table).name
    letters = read_letters(pipeline, where, None if every else WAITING)
    if output is Output.JSON:
        print(json.dumps([_as_json(letter) for letter in letters], indent=2))
    else:
        Console().print(_screen(letters))
        for (name, reason), count in sorted(
            Counter((x["table"], x["reason"]) for x in letters).items()
        ):
            typer.echo(f"{name}: {count} x {reason}")
    raise typer.Exit(int(any(letter["state"] in WAITING for letter in letters)))


@app.command("show")
def show(
    config: ConfigPath,
    table: TableName,
    record: Annotated[str, typer.Argument(metavar="PARTITION@OFFSET", help="Which letter.")],
    with_bytes: Annotated[
        bool, typer.Option("--bytes", help="Also key and value as hex: they hold cell values.")
    ] = False,
    decode: Annotated[
        bool, typer.Option("--decode", help="Also key and value decoded: they are cell values.")
    ] = False,
) -> None:
    """Show all that is known of one dead letter."""
    pipeline = load_config(config)
    letter = read_letter(pipeline, pipeline.table(table).name, *_place(record))
    shown = _as_json(letter) | {"remedy": remedy_of(letter["reason"])}
    if with_bytes:
        shown |= {
            name: None if letter[name] is None else letter[name].hex() for name in ("key", "value")
        }
    if decode:
        shown |= {"decoded": decoded(letter, pipeline, pipeline.table(table))}
    print(json.dumps(shown, indent=2, default=printed))


@app.command("replay")
def replay_letters(
    config: ConfigPath, table: TableName, record: RecordName = None, spark_log: SparkLog = LOG
) -> None:
    """Apply waiting dead letters in order; the table's stream must be stopped. Twice is harmless."""
    from cdc_sink.spark.run.replay import replay

    pipeline = load_config(config)
    place = None if record is None else _place(record)
    report = replay(pipeline, table, record=place, spark=_session(pipeline, spark_log))
    typer.echo(
        f"{report.table}: {report.replayed} dead letters applied, {report.waiting} still wait"
    )
    raise typer.Exit(int(report.waiting > 0 and place is None))


@app.command("release")
def release_letters(
    config: ConfigPath,
    table: TableName,
    record: RecordName = None,
    every: Annotated[
        bool, typer.Option("--all", help="All waiting dead letters of the table.")
    ] = False,
    spark_log: SparkLog = LOG,
) -> None:
    """Give dead letters up: later records of their keys apply again; until one comes, rows are stale."""
    from cdc_sink.spark.run.replay import release

    pipeline = load_config(config)
    if (record is None) == (not every):
        raise ConfigError("release", "say either --record or --all", remedy="give one of the two")
    place = None if record is None else _place(record)
    released = release(pipeline, table, record=place, spark=_session(pipeline, spark_log))
    typer.echo(
        f"{table}: {released} dead letters released; `cdc-sink verify` says which rows differ now"
    )


@app.command("purge")
def purge_letters(
    config: ConfigPath,
    older_than_days: Annotated[
        int, typer.Option(min=0, help="Days since the letter was done with.")
    ] = 30,
    spark_log: SparkLog = LOG,
) -> None:
    """Remove dead letters that were replayed or released long ago. Waiting ones stay."""
    from cdc_sink.spark.run.replay import purge

    pipeline = load_config(config)
    removed = purge(pipeline, older_than_days, spark=_session(pipeline, spark_log))
    typer.echo(f"{removed} dead letters removed")


def _session(pipeline: Pipeline, spark_log: Path) -> Any:
    from cdc_sink.spark.run.session import create_session

    return create_session(pipeline, purpose="dead-letters", log_file=spark_log.absolute())


def _place(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)@(\d+)", text)
    if match is None:
        raise ConfigError(
            f"record {text}",
            "is not PARTITION@OFFSET",
            remedy="write it as `cdc-sink dead-letters list` does, such as 0@1234",
        )
    return int(match[1]), int(match[2])


def _as_json(letter: dict[str, Any]) -> dict[str, Any]:
    """Everything but cell values."""
    shown = {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in letter.items()
        if name not in ("key", "value", "headers")
    }
    sizes = {f"{n}_bytes": None if letter[n] is None else len(letter[n]) for n in ("key", "value")}
    return shown | sizes | {"headers": [header["key"] for header in letter["headers"] or ()]}


def _screen(letters: Sequence[dict[str, Any]]) -> Screen:
    screen = Screen(title="dead letters", title_justify="left")
    for column in ("table", "record", "state", "reason", "message", "first seen"):
        screen.add_column(column, no_wrap=column == "record")
    for letter in letters:
        screen.add_row(
            letter["table"],
            f"{letter['partition']}@{letter['offset']}",
            letter["state"],
            letter["reason"],
            letter["message"],
            letter["first_seen"].strftime("%Y-%m-%d %H:%M:%SZ"),
        )
    return screen
