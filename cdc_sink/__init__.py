"""cdc-sink keeps Apache Iceberg tables equal to the database tables they come from, exactly once.

The public names are these and no others. They load when first used, so that importing cdc_sink needs
neither Spark nor a network.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdc_sink.config import Pipeline as Pipeline
    from cdc_sink.config import Table as Table
    from cdc_sink.config import Target as Target
    from cdc_sink.config import load_config as load_config
    from cdc_sink.debezium.position import SourcePosition as SourcePosition
    from cdc_sink.errors import CdcSinkError as CdcSinkError
    from cdc_sink.errors import CommitConflictError as CommitConflictError
    from cdc_sink.errors import CommitUnknownError as CommitUnknownError
    from cdc_sink.errors import ConfigError as ConfigError
    from cdc_sink.errors import RecordError as RecordError
    from cdc_sink.errors import SchemaError as SchemaError
    from cdc_sink.errors import StateError as StateError
    from cdc_sink.errors import UnavailableError as UnavailableError
    from cdc_sink.run_pipeline import run as run
    from cdc_sink.spark.fold.latest import latest_per_key as latest_per_key
    from cdc_sink.spark.hooks import AppliedBatch as AppliedBatch
    from cdc_sink.spark.hooks import Hooks as Hooks
    from cdc_sink.spark.hooks import Transform as Transform
    from cdc_sink.spark.run.backfill import BackfillReport as BackfillReport
    from cdc_sink.spark.run.backfill import backfill as backfill
    from cdc_sink.spark.run.foreach_batch import apply_changes as apply_changes
    from cdc_sink.spark.run.foreach_batch import read_changes as read_changes
    from cdc_sink.spark.run.pipeline import RunningPipeline as RunningPipeline
    from cdc_sink.spark.run.pipeline import start as start
    from cdc_sink.spark.run.session import configure_session as configure_session
    from cdc_sink.spark.run.session import create_session as create_session
    from cdc_sink.table.ledger.ledger import Ledger as Ledger
    from cdc_sink.verification.verify import Verification as Verification
    from cdc_sink.verification.verify import verify as verify

# The same names and their homes, for whoever runs them; a test holds the two lists together.
_HOMES = {
    "AppliedBatch": "cdc_sink.spark.hooks",
    "BackfillReport": "cdc_sink.spark.run.backfill",
    "CdcSinkError": "cdc_sink.errors",
    "CommitConflictError": "cdc_sink.errors",
    "CommitUnknownError": "cdc_sink.errors",
    "ConfigError": "cdc_sink.errors",
    "Hooks": "cdc_sink.spark.hooks",
    "Ledger": "cdc_sink.table.ledger.ledger",
    "Pipeline": "cdc_sink.config",
    "RecordError": "cdc_sink.errors",
    "RunningPipeline": "cdc_sink.spark.run.pipeline",
    "SchemaError": "cdc_sink.errors",
    "SourcePosition": "cdc_sink.debezium.position",
    "StateError": "cdc_sink.errors",
    "Table": "cdc_sink.config",
    "Target": "cdc_sink.config",
    "Transform": "cdc_sink.spark.hooks",
    "UnavailableError": "cdc_sink.errors",
    "Verification": "cdc_sink.verification.verify",
    "apply_changes": "cdc_sink.spark.run.foreach_batch",
    "backfill": "cdc_sink.spark.run.backfill",
    "configure_session": "cdc_sink.spark.run.session",
    "create_session": "cdc_sink.spark.run.session",
    "latest_per_key": "cdc_sink.spark.fold.latest",
    "load_config": "cdc_sink.config",
    "read_changes": "cdc_sink.spark.run.foreach_batch",
    "run": "cdc_sink.run_pipeline",
    "start": "cdc_sink.spark.run.pipeline",
    "verify": "cdc_sink.verification.verify",
}

__all__ = ["__version__", *_HOMES]
__version__: str

if not TYPE_CHECKING:  # a checker would take any name for Any

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return version("cdc-sink")
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'cdc_sink' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
