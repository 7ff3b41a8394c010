"""How the program talks while it works: a sentence and fields, on stderr.

Rules this file owns: stdout belongs to data; on a terminal people read, elsewhere the same lines
without colours, with `--log-format json` one object per line; libraries are heard from WARNING up.
"""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from typing import Any, TextIO

import structlog


class LogFormat(StrEnum):
    """How a log line looks."""

    HUMAN = "human"
    JSON = "json"


def configure_logs(
    log_format: LogFormat = LogFormat.HUMAN,
    *,
    verbose: bool = False,
    stream: TextIO | None = None,
) -> None:
    """Send our own lines and the libraries' through one renderer to stderr."""
    stream = sys.stderr if stream is None else stream
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderer(log_format, stream),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # librdkafka tells of every refused connection; what matters comes back as an error.
    logging.getLogger("cdc_sink.kafka").setLevel(logging.ERROR if verbose else logging.CRITICAL)
    # py4j prints each exception of a batch with its trace; the supervisor says it in a sentence.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.DEBUG if verbose else logging.INFO
        ),
        logger_factory=lambda *_: _logger(),
        cache_logger_on_first_use=False,
    )


def _logger() -> logging.Logger:
    logger = logging.getLogger("cdc_sink")
    logger.setLevel(logging.DEBUG)  # structlog's wrapper filters before
    return logger


def _renderer(log_format: LogFormat, stream: TextIO) -> list[Any]:
    if log_format is LogFormat.JSON:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # No locals in traces: they hold cell values.
    plain = structlog.dev.plain_traceback
    colors = stream.isatty()
    return [
        structlog.dev.ConsoleRenderer(
            colors=colors, timestamp_key="time", exception_formatter=plain
        )
    ]
