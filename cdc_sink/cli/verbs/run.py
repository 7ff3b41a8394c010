"""`cdc-sink run`: keep the tables of a pipeline equal to their sources until told to stop."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from cdc_sink.check.at_start import StartCheck
from cdc_sink.cli.options import ConfigPath, SparkLog
from cdc_sink.config import load_config
from cdc_sink.spark.run.pipeline import start
from cdc_sink.spark.run.session import create_session


def command(
    config: ConfigPath,
    once: Annotated[
        bool, typer.Option("--once", help="Apply what is in the topics now, then end.")
    ] = False,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Go on at the tables' ledgers where a checkpoint was lost or fits its table no more.",
        ),
    ] = False,
    unchecked: Annotated[
        bool,
        typer.Option(
            "--unchecked", help="Start also tables that `check` calls wrong; without asking it."
        ),
    ] = False,
    spark_log: SparkLog = Path("spark.log"),
) -> None:
    """Keep tables equal to their sources; changes tables. SIGTERM and Ctrl-C stop between batches.

    A table that `check` calls wrong is parked, and the others start.
    """
    pipeline = load_config(config)
    # Asked while the session is made, which takes longer.
    asked = None if unchecked else StartCheck(pipeline).begin()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    spark = create_session(pipeline, purpose="run", log_file=spark_log.absolute())
    refused = {} if asked is None else asked.refused()
    running = start(pipeline, spark, once=once, take_over=take_over, refused=refused)
    raise typer.Exit(running.run(stop))
