"""One YAML file per pipeline, read once."""

from cdc_sink.config.columns import ColumnSettings
from cdc_sink.config.load import load_config
from cdc_sink.config.models import (
    Catalog,
    Connect,
    Database,
    Kafka,
    Pipeline,
    Registry,
    Spark,
    Target,
)
from cdc_sink.config.secrets import Properties, Secret, revealed
from cdc_sink.config.tables import Defaults, SourceTable, Table

__all__ = [
    "Catalog",
    "ColumnSettings",
    "Connect",
    "Database",
    "Defaults",
    "Kafka",
    "Pipeline",
    "Properties",
    "Registry",
    "Secret",
    "SourceTable",
    "Spark",
    "Table",
    "Target",
    "load_config",
    "revealed",
]
