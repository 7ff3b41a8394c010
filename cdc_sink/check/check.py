"""Reads what a pipeline will meet, changes nothing, and judges all of it at once.

Rules this file owns: a server that is silent is reported once, and what depends on it is left out;
one table's fault never hides another's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from pyiceberg.table import Table

from cdc_sink import config
from cdc_sink.check.rules.connect_json import check_json
from cdc_sink.check.rules.connector import check_connectors, check_defaults, check_left_out
from cdc_sink.check.rules.judged import is_judged
from cdc_sink.check.rules.names import check_names
from cdc_sink.check.rules.refusals import named, once
from cdc_sink.check.rules.table import (
    Finding,
    SchemaReading,
    TargetReading,
    TopicReading,
    WantedTable,
    check_growth,
    check_ledger,
    check_schemas,
    check_target,
    check_topic,
)
from cdc_sink.check.rules.topic import check_history_topic, check_topic_settings
from cdc_sink.check.rules.transform import check_transform
from cdc_sink.check.rules.wire import check_wire
from cdc_sink.check.rules.writer import (
    HISTORY_TOPIC,
    check_filtered_snapshot,
    check_key_columns,
    check_settings,
    check_writers,
    writers_of,
)
from cdc_sink.check.source import Sources
from cdc_sink.clients.catalog import load_table, open_catalog
from cdc_sink.clients.connect import ConnectClient
from cdc_sink.clients.kafka import Cluster
from cdc_sink.clients.registry import RegistryClient
from cdc_sink.clients.registry_ids import native_apis
from cdc_sink.debezium.connector import ConnectorReading
from cdc_sink.debezium.wire.outbox import key_schema, value_schema
from cdc_sink.errors import CdcSinkError
from cdc_sink.jars.packages import without_package
from cdc_sink.observe.table_facts import read_ledger
from cdc_sink.table.ledger.ledger import OWNER_PROPERTY
from cdc_sink.table.schema.columns import Column, plain_type
from cdc_sink.table.schema.metadata_columns import OLD_FIELD, is_metadata, old_form

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Servers:
    """What answered; None for what didn't."""

    registry: RegistryClient | None
    cluster: Cluster | None
    cluster_id: str
    catalog: config.Catalog | None
    connectors: tuple[ConnectorReading, ...] | None = None  # None: not configured, or silent
    brokers: str = ""


def check_pipeline(pipeline: config.Pipeline) -> list[Finding]:
    """Return everything there is to say about a pipeline, servers first, then table by table."""
    findings: list[Finding] = [*check_secrets(pipeline), *check_folders(pipeline)]
    findings += check_file_systems(pipeline)
    servers = _reach_servers(pipeline, findings)
    levels: dict[str, str | None] = {}
    with Sources(pipeline) as sources:
        for table in pipeline.tables:
            said = _check_table(pipeline, table, servers, levels)
            _check_writing(table, servers, sources, said)
            findings += (named(one, table.name, table.topic) for one in said.findings)
    topics = [table.topic for table in pipeline.tables]
    connectors = servers.connectors or ()
    findings += check_connectors(connectors, topics, levels)
    for connector in connectors:
        if any(connector.writes(topic) for topic in topics):
            findings += check_settings(connector)
            findings += _check_history(connector, servers)
    return once(findings)


def _check_history(connector: ConnectorReading, servers: Servers) -> list[Finding]:
    name, cluster = connector.settings.get(HISTORY_TOPIC), servers.cluster
    if name is None or cluster is None:
        return []
    findings: list[Finding] = []
    seen = _attempt(findings, lambda: (_read_topic(cluster, name),))
    # The history may be kept in another cluster than the changes: there its absence says nothing.
    if seen is not None and (seen[0] is not None or connector.shares_brokers(servers.brokers)):
        findings += check_history_topic(connector.name, name, seen[0])
    return findings


@dataclass
class _Said:
    """What was found about one table, and what the next questions need of it."""

    wish: WantedTable
    findings: list[Finding]
    has_ledger: bool = False


def _check_writing(table: config.Table, servers: Servers, sources: Sources, said: _Said) -> None:
    """Judge what writes the table's topic, and the database that it reads."""
    connectors = servers.connectors
    writers = writers_of(connectors or (), table.topic)
    if connectors is not None:
        said.findings += check_writers(said.wish, connectors, has_ledger=said.has_ledger)
    reading = sources.check(table, next(iter(writers), None), said.findings)
    identity = None if reading is None else reading.replica_identity
    for writer in writers:
        said.findings += check_key_columns(said.wish, writer, identity)
        said.findings += check_filtered_snapshot(said.wish, writer, table.on_resnapshot)


def check_secrets(pipeline: config.Pipeline) -> Iterator[Finding]:
    """Report each secret reference that leads nowhere; only those verify needs are warnings."""
    needed: list[object] = [
        pipeline.registry.password,
        None if pipeline.connect is None else pipeline.connect.password,
        *pipeline.kafka.properties.values(),
        *pipeline.catalog.properties.values(),
        *pipeline.spark.conf.values(),
    ]
    for secret in needed:
        if isinstance(secret, config.Secret) and (error := _fault_of(secret)) is not None:
            yield Finding.of(error)
    for name, database in pipeline.databases.items():
        if database.password is not None and (error := _fault_of(database.password)) is not None:
            saw = f"{error.where}: {error.saw}; only verify needs it"
            yield Finding(f"databases.{name}", "warning", saw, error.remedy)


def _fault_of(secret: config.Secret) -> CdcSinkError | None:
    try:
        secret.reveal()
    except CdcSinkError as error:
        return error
    return None


def check_folders(pipeline: config.Pipeline) -> Iterator[Finding]:
    """Report local folders this process can't write to; other storage isn't tried."""
    for key, location in (
        ("checkpoints", pipeline.checkpoints),
        ("catalog.warehouse", pipeline.catalog.warehouse),
    ):
        if location is None or not location.startswith("file:"):
            continue
        folder = Path(unquote(urlsplit(location).path))
        there = next(one for one in (folder, *folder.parents) if one.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            yield Finding(key, "ok", f"{folder} can be written")
        else:
            yield Finding(key, "error", f"{there} can't be written", "give this user the right", 2)


def check_file_systems(pipeline: config.Pipeline) -> Iterator[Finding]:
    """Report addresses for which Spark would have no file system."""
    for one in without_package(pipeline):
        if one.is_certain:
            yield Finding(
                one.key,
                "error",
                f"Hadoop's file system for S3 knows no addresses that begin with {one.scheme}://",
                "write s3a://, or, for the warehouse, set the catalog's io-impl to "
                "org.apache.iceberg.aws.s3.S3FileIO",
                2,
            )
        else:
            yield Finding(
                one.key,
                "warning",
                f"Spark needs the class {one.class_name} for {one.scheme}://, and no package that cdc-sink "
                "adds has it",
                "name the package that has it in spark.jars.packages, under spark.conf",
            )


def _reach_servers(pipeline: config.Pipeline, findings: list[Finding]) -> Servers:
    def reach_registry() -> RegistryClient:
        registry = RegistryClient(pipeline.registry)
        registry.ping()
        return registry

    def reach_cluster() -> tuple[Cluster, str]:
        cluster = Cluster(pipeline.kafka)
        return cluster, cluster.cluster_id()

    registry = _attempt(findings, reach_registry)
    if registry is not None:
        findings.append(Finding(f"registry {pipeline.registry.url}", "ok", "answers"))
    cluster, cluster_id = _attempt(findings, reach_cluster) or (None, "")
    if cluster is not None:
        servers = pipeline.kafka.bootstrap_servers
        findings.append(Finding(f"kafka {servers}", "ok", f"answers, cluster id {cluster_id}"))
    catalog = _attempt(findings, lambda: _reach_catalog(pipeline.catalog))
    if catalog is not None:
        findings.append(catalog)
    reached = catalog is not None
    connectors = _reach_connect(pipeline, findings)
    return Servers(
        registry,
        cluster,
        cluster_id,
        pipeline.catalog if reached else None,
        connectors,
        pipeline.kafka.bootstrap_servers,
    )


def _reach_connect(
    pipeline: config.Pipeline, findings: list[Finding]
) -> tuple[ConnectorReading, ...] | None:
    given = pipeline.connect
    if given is None:
        return None
    connectors = _attempt(findings, lambda: ConnectClient.of(given).connectors(is_judged))
    if connectors is None:
        return None
    findings.append(
        Finding(f"connect {given.url}", "ok", f"answers, {len(connectors)} connector(s)")
    )
    return tuple(connectors)


def _reach_catalog(catalog: config.Catalog) -> Finding:
    """Ask the catalog something; a catalog without a file or tables is made by the first start."""
    where = f"catalog {catalog.name}"
    # Any name does: a catalog that can say "no such table" can be read.
    if load_table(catalog, "cdc_sink_check.reachable") is not None or catalog.type == "hadoop":
        return Finding(where, "ok", "answers")
    uri = str(catalog.uri)
    if uri.startswith("jdbc:sqlite:") and not Path(uri[12:].partition("?")[0]).exists():
        return Finding(
            where, "warning", "its SQLite file isn't there yet", "the first start makes it"
        )
    open_catalog(catalog).close()
    return Finding(where, "ok", "answers")


def _check_table(
    pipeline: config.Pipeline,
    table: config.Table,
    servers: Servers,
    levels: dict[str, str | None],
) -> _Said:
    """Judge one table; `levels` is told the compatibility level of its subject."""
    findings: list[Finding] = []
    wish = WantedTable(
        pipeline=pipeline.name,
        table=table.name,
        topic=table.topic,
        missing_topic=table.missing_topic,
        adopt=table.adopt,
        generation=table.generation,
        policy=table.policy,
    )
    target = topic = None
    if servers.catalog is not None:
        read = _attempt(findings, lambda: (_read_target(pipeline.catalog, table),))
        if read is not None:
            (target,) = read
            findings += check_target(wish, target)
    ledger = None if target is None else target.ledger
    if (cluster := servers.cluster) is not None:
        seen = _attempt(findings, lambda: (_read_topic(cluster, table.topic),))
        if seen is not None:
            (topic,) = seen
            findings += check_topic(wish, topic, ledger, servers.cluster_id)
            findings += [] if topic is None else check_topic_settings(wish, topic.settings)
    if ledger is not None and topic is not None:
        findings += check_ledger(wish, ledger, servers.cluster_id, topic)
    if table.wire.startswith("apicurio"):
        _attempt(findings, lambda: native_apis(pipeline.registry.url))
    schemas = None
    # JSON records carry their schemas themselves.
    if (registry := servers.registry) is not None and table.wire != "json":
        schemas = _attempt(findings, lambda: _read_schemas(registry, table))
        if schemas is not None:
            levels[f"{table.topic}-value"] = schemas.compatibility
            findings += check_schemas(wish, schemas, topic)
            findings += [] if target is None else check_growth(wish, schemas, target)
    for writer in writers_of(servers.connectors or (), table.topic) or (None,):
        findings += _check_writer(table, wish, writer, schemas)
    return _Said(wish, findings, ledger is not None)


def _check_writer(
    table: config.Table,
    wish: WantedTable,
    writer: ConnectorReading | None,
    schemas: SchemaReading | None,
) -> Iterator[Finding]:
    """Judge how one connector writes the table's topic, or what can be said without knowing it."""
    yield from check_wire(table.name, table.wire, writer)
    yield from check_json(table.name, table.wire, writer)
    yield from check_names(table.name, table.field_names, writer)
    if schemas is not None and not table.outbox:
        yield from check_defaults(wish, schemas, writer)
        yield from check_left_out(wish, schemas, writer)
        yield from check_transform(wish, schemas, writer)


def _attempt(findings: list[Finding], question: Callable[[], Answer]) -> Answer | None:
    try:
        return question()
    except CdcSinkError as error:
        # What can't be read here, the stream meets and names by itself.
        findings.append(replace(Finding.of(error), lets_start=True))
        return None


def _read_topic(cluster: Cluster, topic: str) -> TopicReading | None:
    facts = cluster.topic(topic)
    if facts is None:
        return None
    return TopicReading(
        topic_id=facts.topic_id,
        start_offsets=cluster.start_offsets(topic),
        end_offsets=cluster.end_offsets(topic),
        settings=cluster.topic_config(topic),
    )


def _read_schemas(registry: RegistryClient, table: config.Table) -> SchemaReading:
    topic = table.topic
    values = list(registry.versions(f"{topic}-value").values())
    keys = list(registry.versions(f"{topic}-key").values())
    compatibility = registry.compatibility(f"{topic}-value") if values else None
    value, key = (found[-1] if found else None for found in (values, keys))
    if table.outbox and value is not None:
        value, key = value_schema(value), key_schema()
    return SchemaReading(value, key, compatibility)


def _read_target(catalog: config.Catalog, table: config.Table) -> TargetReading | None:
    loaded = load_table(catalog, table.target)
    if loaded is None:
        return None
    found = read_ledger(loaded)
    return TargetReading(
        columns=columns_of(loaded),
        key_columns=sorted(loaded.schema().identifier_field_names()),
        ledger=None if found is None else found[0],
        owner=loaded.properties.get(OWNER_PROPERTY),
        is_empty=loaded.current_snapshot() is None,
    )


def columns_of(table: Table) -> tuple[Column, ...]:
    """Return an Iceberg table's columns in our words, without the metadata columns.

    Raises: StateError for a table of an earlier build.
    """
    if OLD_FIELD in table.schema().column_names:
        raise old_form(f"table {'.'.join(table.name())}")
    return tuple(
        Column(one.name, plain_type(str(one.field_type)), one.required, one.doc)
        for one in table.schema().fields
        if not is_metadata(one.name)
    )
