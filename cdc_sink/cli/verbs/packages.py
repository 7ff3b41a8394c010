"""`cdc-sink packages`: the jars of a pipeline, as `spark-submit` takes them."""

from __future__ import annotations

from typing import Annotated

import typer

from cdc_sink.cli.options import ConfigPath
from cdc_sink.config import load_config
from cdc_sink.jars.jars import jars
from cdc_sink.jars.packages import groups_of, packages_of


def command(
    config: ConfigPath,
    locked: Annotated[
        bool,
        typer.Option(
            "--locked", help="Fetch the files by cdc-sink's lock, and print their paths for --jars."
        ),
    ] = False,
) -> None:
    """Print the packages that the pipeline needs, for `spark-submit --packages`; changes nothing."""
    pipeline = load_config(config)
    if locked:
        typer.echo(",".join(str(path) for path in jars(*groups_of(pipeline))))
    else:
        typer.echo(",".join(one.coordinate for one in packages_of(pipeline)))
