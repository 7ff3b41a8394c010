"""`cdc-sink plan`: the DDL and SQL that `run` would execute, without executing anything.

`--output json` promises `session` (properties), `tables` (name to statements), `notes` (name to
sentences about the schemas) and `refusals` (name to `where`, `saw`, `remedy`) for tables that would stop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import typer

from cdc_sink.check.check import columns_of
from cdc_sink.cli.options import ConfigPath, Output, OutputOption
from cdc_sink.clients.catalog import load_table, session_properties
from cdc_sink.clients.registry import RegistryClient
from cdc_sink.config import Pipeline, Secret, Target, load_config
from cdc_sink.debezium.wire.outbox import KEY_ID, key_schema, value_schema
from cdc_sink.errors import CdcSinkError, ConfigError, SchemaError
from cdc_sink.observe.table_facts import read_ledger
from cdc_sink.table.merge_sql import merge_sql
from cdc_sink.table.schema.ddl import creation_sql
from cdc_sink.table.schema.evolution import AddColumn, older_rows
from cdc_sink.table.schema.preview import Preview, Versions, preview

VIEW = "cdc_sink_batch"


@dataclass(frozen=True)
class TablePlan:
    """What is to be said of one table: statements in order, or why it would stop."""

    statements: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: CdcSinkError | None = None


def command(
    config: ConfigPath,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print the session properties, DDL and MERGE of every table; reads only.

    The DDL is what the newest registered schema versions will do, written already or not.
    Exit code: 0 fine, 1 a schema change is refused and its table would stop, 2 the configuration is
    at fault, 3 a server is silent.
    """
    pipeline = load_config(config)
    registry = RegistryClient(pipeline.registry)
    plans = {table.name: plan_table(Target(pipeline, table), registry) for table in pipeline.tables}
    if output is Output.JSON:
        typer.echo(json.dumps(render_json(pipeline, plans), indent=1))
    else:
        typer.echo(render_text(pipeline, plans))
    raise typer.Exit(exit_code(plans))


def plan_table(target: Target, registry: RegistryClient) -> TablePlan:
    """Plan one table, so that its refusal hides no other's.

    Raises: UnavailableError.
    """
    try:
        return _plan(target, registry)
    except (SchemaError, ConfigError) as refusal:
        return TablePlan(refusal=refusal)


def exit_code(plans: Mapping[str, TablePlan]) -> int:
    """Return 1 when a schema change is refused, 2 when only the configuration stops a table, else 0."""
    codes = {plan.refusal.exit_code for plan in plans.values() if plan.refusal is not None}
    return min(codes, default=0)


def render_json(pipeline: Pipeline, plans: Mapping[str, TablePlan]) -> dict[str, object]:
    """Render what is promised above."""
    return {
        "session": _session(pipeline),
        "tables": {name: list(plan.statements) for name, plan in plans.items()},
        "notes": {name: list(plan.notes) for name, plan in plans.items()},
        "refusals": {
            name: {"where": one.where, "saw": one.saw, "remedy": one.remedy}
            for name, plan in plans.items()
            if (one := plan.refusal) is not None
        },
    }


def render_text(pipeline: Pipeline, plans: Mapping[str, TablePlan]) -> str:
    """Render SQL; everything that is not a statement is a comment."""
    lines = ["-- Spark session properties; `cdc-sink packages` prints its jars"]
    lines += [f"-- {k}={v}" for k, v in _session(pipeline).items()]
    for name, plan in plans.items():
        lines += ["", f"-- {name}", *(f"-- {note}" for note in plan.notes)]
        lines += [f"{text};" for text in plan.statements]
        if plan.refusal is not None:
            lines += [f"-- REFUSED, the table would stop: {plan.refusal.where}: {plan.refusal.saw}"]
            lines += [f"-- remedy: {plan.refusal.remedy}"]
    return "\n".join(lines)


def _session(pipeline: Pipeline) -> dict[str, str]:
    """The properties with secrets masked."""
    given = pipeline.catalog.properties
    masked = {k: "****" if isinstance(v, Secret) else v for k, v in given.items()}
    return session_properties(pipeline.catalog.model_copy(update={"properties": masked}))


def _plan(target: Target, registry: RegistryClient) -> TablePlan:
    _require_registered(target)
    table = load_table(target.pipeline.catalog, target.name)
    found = None if table is None else read_ledger(table)
    versions = _read_versions(target, registry, found[0].schema_ids if found else ())
    current = () if table is None else columns_of(table)
    identifier = [] if table is None else sorted(table.schema().identifier_field_names())
    seen = preview(current, identifier, versions, target.table.policy)
    made = [] if table is not None else list(_creation(target, seen))
    changed = [change.sql(target.identifier) for change in seen.changes]
    batch = (
        f"INSERT INTO {target.identifier} SELECT * FROM {VIEW}"
        if target.table.mode.keeps_events
        else merge_sql(target.identifier, VIEW, seen.columns, seen.key_columns)
    )
    return TablePlan((*made, *changed, batch), tuple(_notes(seen)) if table is not None else ())


def _creation(target: Target, seen: Preview) -> Iterator[str]:
    yield f"CREATE NAMESPACE IF NOT EXISTS {target.identifier.rpartition('.')[0]}"
    yield from creation_sql(
        target.identifier, seen.columns, seen.key_columns, target.table.policy, target.pipeline.name
    )


def _notes(seen: Preview) -> Iterator[str]:
    if seen.coming:
        ids = ", ".join(map(str, seen.coming))
        yield f"registered and not written yet: schema id {ids}"
    for change in seen.changes:
        if isinstance(change, AddColumn) and change.column.added is not None:
            added = change.column.added
            words = older_rows(added, given=added.default is not None)
            yield f"column {change.column.name}: older rows hold {words}"
    if seen.unfilled:
        yield f"null in rows of the newest schema: {', '.join(seen.unfilled)}"


def _read_versions(target: Target, registry: RegistryClient, written: tuple[int, ...]) -> Versions:
    topic = target.table.topic
    values, keys = registry.versions(f"{topic}-value"), registry.versions(f"{topic}-key")
    if not values or not (keys or target.table.mode.keeps_events):
        raise ConfigError(
            target.name,
            f"the registry has no schema under {topic}-key and {topic}-value yet",
            remedy="start the connector and let it write its first record",
        )
    if target.table.outbox:
        values = {i: value_schema(text) for i, text in values.items()}
        keys = {KEY_ID: key_schema()}
    return Versions(values, keys, written)


def _require_registered(target: Target) -> None:
    """Refuse a table whose schemas no registry has, where they must be known before any record is read.

    Raises: ConfigError.
    """
    if target.table.wire == "json":
        raise ConfigError(
            target.name,
            "under `wire: json` schemas are in the records, no registry has them",
            remedy="use Avro converters, or look at what `cdc-sink run` makes of the records",
        )
