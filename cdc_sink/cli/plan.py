"""`cdc-sink plan`: the DDL and SQL that `run` would execute, without executing anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cdc_sink.clients.catalog import load_table, session_properties
from cdc_sink.clients.registry import Registry
from cdc_sink.config import Pipeline, Secret, Target, load_config
from cdc_sink.errors import ConfigError
from cdc_sink.table.columns import (
    CDC_COLUMN,
    TABLE_PROPERTIES,
    Column,
    create_table_sql,
    plain_type,
)
from cdc_sink.table.evolution import plan_evolution
from cdc_sink.table.ledger import OWNER_PROPERTY
from cdc_sink.table.merge_sql import merge_sql
from cdc_sink.table.writer_schemas import WriterSchemas

VIEW = "cdc_sink_batch"


def command(
    config: Annotated[Path, typer.Argument(help="the pipeline's YAML file")],
    output: Annotated[str, typer.Option(help="text or json")] = "text",
) -> None:
    """Print the session properties, DDL and MERGE of every table; reads only."""
    pipeline = load_config(config)
    registry = Registry(pipeline.registry)
    statements = {
        table.name: list(_statements(Target(pipeline, table), registry))
        for table in pipeline.tables
    }
    if output == "json":
        typer.echo(json.dumps({"session": _session(pipeline), "tables": statements}, indent=1))
        return
    typer.echo(_render(pipeline, statements))


def _session(pipeline: Pipeline) -> dict[str, str]:
    """The properties with secrets masked."""
    given = pipeline.catalog.properties
    masked = {k: "****" if isinstance(v, Secret) else v for k, v in given.items()}
    return session_properties(pipeline.catalog.model_copy(update={"properties": masked}))


def _render(pipeline: Pipeline, statements: dict[str, list[str]]) -> str:
    lines = ["-- Spark session properties; spark.jars: `python -m cdc_sink.spark.jars` prints them"]
    lines += [f"-- {k}={v}" for k, v in _session(pipeline).items()]
    for name, texts in statements.items():
        lines += ["", f"-- {name}", *(f"{text};" for text in texts)]
    return "\n".join(lines)


def _statements(target: Target, registry: Registry) -> Iterator[str]:
    schemas = _newest(target, registry)
    table = load_table(target.pipeline.catalog, target.where)
    keys = schemas.key_columns
    if table is None:
        columns = schemas.extend(())
        yield f"CREATE NAMESPACE IF NOT EXISTS {target.identifier.rpartition('.')[0]}"
        yield from create_table_sql(
            target.identifier,
            columns,
            keys,
            buckets=target.table.buckets,
            bucket_column=target.table.bucket_column,
            properties={**TABLE_PROPERTIES, OWNER_PROPERTY: target.pipeline.name},
        )
    else:
        current = tuple(
            Column(f.name, plain_type(str(f.field_type)), f.required)
            for f in table.schema().fields
            if f.name != CDC_COLUMN
        )
        columns = schemas.extend(current)
        for change in plan_evolution(current, columns, keys):
            yield change.sql(target.identifier)
    yield merge_sql(target.identifier, VIEW, columns, keys)


def _newest(target: Target, registry: Registry) -> WriterSchemas:
    topic = target.table.topic
    values, keys = registry.versions(f"{topic}-value"), registry.versions(f"{topic}-key")
    if not values or not keys:
        raise ConfigError(
            target.where,
            f"the registry has no schema under {topic}-key and {topic}-value yet",
            remedy="start the connector and let it write its first record",
        )
    newest = max(values)
    options = target.table.options
    return WriterSchemas({newest: values[newest]}, {max(keys): keys[max(keys)]}, options)
