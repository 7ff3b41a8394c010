"""Options that several verbs take: one name, one variable, one help text each."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Output(StrEnum):
    """How the result is printed."""

    TABLE = "table"
    JSON = "json"


ConfigPath = Annotated[
    Path, typer.Argument(envvar="CDC_SINK_CONFIG", help="The pipeline's YAML file.")
]
TableName = Annotated[str, typer.Argument(help="The table, by its target or its topic.")]
OutputOption = Annotated[
    Output, typer.Option(envvar="CDC_SINK_OUTPUT", help="A table, or documented JSON.")
]
SparkLog = Annotated[
    Path, typer.Option(envvar="CDC_SINK_SPARK_LOG", help="Where Spark's own log goes.")
]
