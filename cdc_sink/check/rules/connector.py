"""What a connector does that its tables must know of, decided from what Kafka Connect told.

Rules this file owns: a connector that FAILED writes nothing more, so its tables are as old as that; a
registry that refused a schema is told apart from all other failures; a trace is read, never shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cdc_sink.check.rules.incidents import triage
from cdc_sink.check.rules.table import Finding, SchemaReading, WantedTable
from cdc_sink.debezium.connector import ConnectorReading
from cdc_sink.debezium.envelope import Envelope
from cdc_sink.debezium.types.unavailable import arrives_as_null
from cdc_sink.errors import CdcSinkError

CONVERTER = "value.converter"
ON_BAD_VALUE = "event.converting.failure.handling.mode"
IGNORE_DEFAULT = "value.converter.ignore.default.for.nullables"


def check_defaults(
    wish: WantedTable, schemas: SchemaReading, connector: ConnectorReading | None
) -> Iterator[Finding]:
    """Name the columns whose explicit NULL the connector's converter may write as their default.

    In:     connector, the one that writes the topic; None when it isn't known.
    Source: Confluent AvroData and Apicurio's converter read a field with Connect's `Struct.get`, which
            puts the schema's default in the place of null.
    """
    if schemas.value is None:
        return
    settings = {} if connector is None else connector.settings
    converter = settings.get(CONVERTER, "")
    is_apicurio = "apicurio" in converter
    if converter and not is_apicurio and settings.get(IGNORE_DEFAULT, "").lower() == "true":
        return
    try:
        columns = Envelope.parse(schemas.value, wish.policy.order).columns
    except CdcSinkError:
        return  # reported by check_schemas
    for column in columns:
        if column.nullable and column.default_given:
            yield _lost_null(wish, column.name, converter, is_apicurio=is_apicurio)


def check_left_out(
    wish: WantedTable, schemas: SchemaReading, connector: ConnectorReading | None
) -> Iterator[Finding]:
    """Name the columns whose large values the connector can't mark as unchanged.

    In:     as for `check_defaults`.
    Source: Debezium 3.6.1 on PostgreSQL 18; what it can't convert is NULL unless its mode is `fail`.
    """
    if schemas.value is None:
        return
    try:
        envelope = Envelope.parse(schemas.value, wish.policy.order)
    except CdcSinkError:
        return  # reported by check_schemas
    lost = [column.name for column in envelope.columns if arrives_as_null(column)]
    if not lost or envelope.connector != "postgresql":
        return
    is_known = connector is not None and ON_BAD_VALUE in connector.settings
    stops = connector is not None and connector.settings.get(ON_BAD_VALUE) == "fail"
    saw = "the connector stops" if stops else "the connector writes NULL in its place"
    if not stops and not is_known:
        saw += f", unless its {ON_BAD_VALUE} is fail"
    yield Finding(
        f"table {wish.table} column{'s' * (len(lost) > 1)} {', '.join(lost)}",
        "warning",
        "a large value that an update leaves as it is has no placeholder in this type: without "
        f"REPLICA IDENTITY FULL {saw}",
        "ALTER TABLE … REPLICA IDENTITY FULL at the source"
        + (
            "" if stops else f"; set {ON_BAD_VALUE}=fail on the connector, so that it stops instead"
        ),
    )


def _lost_null(wish: WantedTable, column: str, converter: str, *, is_apicurio: bool) -> Finding:
    way_out = "drop the column's default at the source, or make it NOT NULL there"
    setting = f"{IGNORE_DEFAULT}=true"
    if is_apicurio:
        saw = "Apicurio's converter writes an explicit NULL as the column's default"
        remedy = f"{way_out}; or use Confluent's converter with {setting}"
    else:
        saw = "the connector's converter writes an explicit NULL as the column's default"
        saw += "" if converter else f", unless it is Confluent's with {setting}"
        remedy = (
            f"set {setting} (Confluent's converter; Apicurio's has no such setting); or {way_out}"
        )
    return Finding(
        f"table {wish.table} column {column}",
        "warning",
        f"{saw}; nothing downstream can tell the two",
        remedy,
    )


# Source: Confluent's RestClientException says `error code: 409` (or 40901) and names the subject;
# Apicurio's client throws RuleViolationException. Connect's own DataException names the topic.
_REFUSED = re.compile(
    r"\b40901\b|error code: 409\b|RuleViolationException|[Ii]ncompatible (schema|artifact)"
)
_SUBJECT = re.compile(r'(?:subject "|Incompatible artifact: )([^"\s]+)')
_TOPIC = re.compile(r"(?:of|from|for) topic:? '?([A-Za-z0-9._-]+)")
_THROWN = re.compile(r"(?:[a-z_][a-zA-Z0-9_]*\.)+([A-Z]\w*(?:Exception|Error))")


def check_connectors(
    connectors: Iterable[ConnectorReading],
    topics: Sequence[str],
    compatibility: Mapping[str, str | None],
) -> Iterator[Finding]:
    """Judge the connectors that write these topics: a part that FAILED writes nothing more.

    In: compatibility levels by subject, as far as the registry told them.
    """
    for connector in connectors:
        # One whose topics can't be told is judged too, unless nothing of ours can be meant.
        if not any(connector.may_write(topic) for topic in topics):
            continue
        where = f"connector {connector.name}"
        yield from _idle_parts(where, connector)
        for part, trace in connector.failed.items():
            if _REFUSED.search(trace):
                yield _refused(f"{where} {part}", connector.name, trace, compatibility)
            else:
                yield _failed(f"{where} {part}", connector.name, trace)


def _failed(where: str, name: str, trace: str) -> Finding:
    incident = triage(trace)
    if incident is not None:
        remedy = incident.remedy_for(name)
        return Finding(where, "error", f"it FAILED: {incident.means}", remedy, 1, lets_start=True)
    thrown = _THROWN.findall(trace)
    return Finding(
        where,
        "error",
        "it FAILED" + (f" ({thrown[-1]})" if thrown else ""),
        f"read its trace at /connectors/{name}/status, correct the cause, and restart it: "
        f"{_restart(name)}",
        1,
        lets_start=True,
    )


def _idle_parts(where: str, connector: ConnectorReading) -> Iterator[Finding]:
    """A part that neither runs nor FAILED writes nothing either."""
    states = connector.states
    idle = {p: s for p, s in states.items() if s not in ("RUNNING", "FAILED")}
    if idle:
        said = ", ".join(f"{part} is {state}" for part, state in idle.items())
        verb = "resume" if {"PAUSED", "STOPPED"} & set(idle.values()) else "restart"
        remedy = (
            f"PUT /connectors/{connector.name}/resume"
            if verb == "resume"
            else _restart(connector.name)
        )
        yield Finding(where, "error", f"{said}: it writes nothing", remedy, 1, lets_start=True)
    elif states and not any(part.startswith("task") for part in states):
        remedy = _restart(connector.name)
        saw = "it has no task: it writes nothing"
        yield Finding(where, "error", saw, remedy, 1, lets_start=True)
    elif not connector.failed:
        yield Finding(where, "ok", "runs" if states else "no part of it failed")


def _refused(where: str, name: str, trace: str, compatibility: Mapping[str, str | None]) -> Finding:
    subject, topic = _first(_SUBJECT, trace), _first(_TOPIC, trace)
    level = compatibility.get(subject or f"{topic}-value")
    named = (("subject", subject), ("topic", topic))
    what = next((f"{kind} {name}" for kind, name in named if name), "its trace does not say which")
    return Finding(
        where,
        "error",
        f"it FAILED: the registry refused the table's new schema (409), {what}"
        + (f", compatibility level {level}" if level else "")
        + "; the changes wait in the source's log",
        "such as a changed type, or a NOT NULL column without a default, which a default at the source "
        "heals; else set the compatibility to NONE (of the subject; with Apicurio of the whole registry, as "
        "it takes NONE of a subject for no rule), as cdc-sink judges each change by itself, let one record "
        f"pass, and set it back; either way restart: {_restart(name)}",
        1,
        lets_start=True,
    )


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.search(text)
    return found[1].rstrip(".") if found else None


def _restart(name: str) -> str:
    return f"POST /connectors/{name}/restart?includeTasks=true&onlyFailed=true"
