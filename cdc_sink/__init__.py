"""cdc-sink keeps Apache Iceberg tables equal to the database tables they come from, exactly once.

The public names are these and no others. They load when first used, so that importing cdc_sink needs
neither Spark nor a network.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

_HOMES = {
    "CdcSinkError": "cdc_sink.errors",
    "Ledger": "cdc_sink.table.ledger.ledger",
    "Pipeline": "cdc_sink.config",
    "SourcePosition": "cdc_sink.debezium.position",
    "apply_changes": "cdc_sink.spark.run.foreach_batch",
    "backfill": "cdc_sink.spark.run.backfill",
    "latest_per_key": "cdc_sink.spark.fold.latest",
    "load_config": "cdc_sink.config",
    "read_changes": "cdc_sink.spark.run.foreach_batch",
    "start": "cdc_sink.spark.run.pipeline",
    "verify": "cdc_sink.verification.verify",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("cdc-sink")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cdc_sink' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
