"""`cdc-sink backfill`: rebuild one table from its topic, in a job of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cdc_sink.cli.options import ConfigPath, SparkLog, TableName
from cdc_sink.config import load_config
from cdc_sink.errors import ConfigError
from cdc_sink.spark.run.backfill import backfill
from cdc_sink.spark.run.session import create_session


def command(
    config: ConfigPath,
    table: TableName,
    into: Annotated[
        str | None, typer.Option(help="Table to write; default <target>_backfill.")
    ] = None,
    from_offsets: Annotated[
        str | None,
        typer.Option(help='Begin there: {"0": 12345} by partition; default: the earliest records.'),
    ] = None,
    spark_log: SparkLog = Path("spark-backfill.log"),
) -> None:
    """Read a topic from its beginning to its present end into a table; killed, it goes on later."""
    pipeline = load_config(config)
    offsets = _parse_offsets(from_offsets)
    spark = create_session(pipeline, purpose="backfill", log_file=spark_log.absolute())
    report = backfill(pipeline, table, into=into, from_offsets=offsets, spark=spark)
    typer.echo(f"{report.table}: {report.records} records in {report.seconds:.1f} s")
    raise typer.Exit(report.exit_code)


def _parse_offsets(text: str | None) -> dict[int, int] | None:
    if text is None:
        return None
    try:
        return {int(p): int(o) for p, o in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as cause:
        raise ConfigError(
            "--from-offsets",
            "is not a JSON object of partition to offset",
            data="nothing was started",
            remedy='write it as {"0": 12345}',
        ) from cause
