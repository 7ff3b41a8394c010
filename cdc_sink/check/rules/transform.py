"""What the transform ExtractNewRecordState takes from a table's records, decided from its settings.

Rules this file owns: what nothing in the records tells is asked of the settings, above all deletes that the
transform drops; what a table lacks for its `order` is named at once, with the settings that give it.

Source: Debezium 3.6 `ExtractNewRecordState`; `delete.tombstone.handling.mode` took the place of
`drop.tombstones` and `delete.handling.mode`, which are gone since 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from cdc_sink.check.rules.table import Finding, SchemaReading, WantedTable
from cdc_sink.debezium.captures import ROUTER_SETTINGS
from cdc_sink.debezium.connector import ConnectorReading
from cdc_sink.debezium.envelope import Envelope
from cdc_sink.debezium.flattened import (
    DELETED,
    PREFIX,
    TRANSFORM,
    AddedFields,
    lacking,
    settings_for,
)
from cdc_sink.debezium.position import position_fields
from cdc_sink.errors import CdcSinkError

_CLASS = "connector.class"
_FIELDS, _PREFIX = "add.fields", "add.fields.prefix"
_MODE, _OLD_MODES = "delete.tombstone.handling.mode", ("delete.handling.mode", "drop.tombstones")
_NULLS = "replace.null.with.default"
_JUDGED = {"type", _FIELDS, _PREFIX, _MODE, *_OLD_MODES, _NULLS, *ROUTER_SETTINGS}
_REWRITES = ("rewrite", "rewrite-with-tombstone")
_CONNECTOR = re.compile(r"io\.debezium\.connector\.(\w+)\.")


def is_of_a_transform(setting: str) -> bool:
    """Say whether a connector's setting is judged here; none of them is ever a secret."""
    head, _, rest = setting.partition(".")
    if head != "transforms":
        return setting == _CLASS
    return not rest or rest.partition(".")[2] in _JUDGED


def check_transform(
    wish: WantedTable, schemas: SchemaReading, connector: ConnectorReading | None
) -> Iterator[Finding]:
    """Judge what the transform makes of a table's records; nothing for a connector without one.

    In: connector, the one that writes the topic; None when it isn't known.
    """
    for name, settings in _transforms(connector):
        assert connector is not None, "it has transforms"
        where = f"connector {connector.name} transform {name}"
        found = [
            *_check_deletes(wish, where, settings),
            *_check_fields(wish, where, settings, _connector_of(connector)),
            *_check_nulls(wish, where, settings, schemas),
        ]
        mode = settings.get(_MODE, "tombstone")
        fine = f"it flattens rows, {_MODE}={mode}: enough for `order: {wish.policy.order}`"
        yield from found or [Finding(where, "ok", fine)]


def _transforms(connector: ConnectorReading | None) -> Iterator[tuple[str, Mapping[str, str]]]:
    settings = {} if connector is None else connector.settings
    for name in (part.strip() for part in settings.get("transforms", "").split(",")):
        start = f"transforms.{name}."
        own = {k.removeprefix(start): v for k, v in settings.items() if k.startswith(start)}
        if own.get("type", "").endswith(f".{TRANSFORM}"):
            yield name, own


def _connector_of(connector: ConnectorReading) -> str | None:
    """The connector as positions call it; None for one whose order is not known."""
    match = _CONNECTOR.match(connector.settings.get(_CLASS, ""))
    try:
        return match[1] if match and position_fields(match[1]) else None
    except CdcSinkError:
        return None


def _check_deletes(wish: WantedTable, where: str, settings: Mapping[str, str]) -> Iterator[Finding]:
    if settings.get(_MODE) == "drop":
        yield Finding(
            where,
            "error",
            f"{_MODE}=drop: a deleted row never leaves {wish.table}, and nothing in the topic tells",
            f"set {_MODE}=rewrite, and take a new source snapshot into a new topic for the deletes that "
            "are lost",
            1,
        )
    given = [name for name in _OLD_MODES if name in settings]
    if given and _MODE not in settings:
        yield Finding(
            where,
            "warning",
            f"{' and '.join(given)}: Debezium takes no notice of it since 3.2, and before that drops deletes "
            "unless told otherwise",
            f"set {_MODE} instead, to rewrite for `order: source`",
        )


def _check_fields(
    wish: WantedTable, where: str, settings: Mapping[str, str], connector: str | None
) -> Iterator[Finding]:
    """Judge what is added; in the mode `drop` there are no deletes to be marked, which is said already."""
    prefix = settings.get(_PREFIX, PREFIX)
    if prefix != PREFIX and settings.get(_FIELDS):
        yield Finding(
            where,
            "warning",
            f"{_PREFIX}={prefix}: the added fields can't be told from columns and become columns of "
            f"{wish.table}",
            f"leave {_PREFIX} at {PREFIX}",
        )
    if wish.policy.order == "kafka":
        return
    mode = settings.get(_MODE, "rewrite" if _sets_old_mode(settings) else "tombstone")
    names = _added_names(settings.get(_FIELDS, ""), prefix)
    if mode in (*_REWRITES, "drop"):
        names.append(DELETED)
    missing = lacking(AddedFields.named(names), connector)
    if missing:
        said = ", ".join(f"{_MODE}=rewrite" if one == "deleted" else one for one in missing)
        yield Finding(
            where,
            "error",
            f"its rows lack {said}, which `order: source` of {wish.table} needs",
            f"set {settings_for(missing, connector)}, and let a new topic begin so; or set "
            "`order: kafka` for the table",
            1,
        )


def _sets_old_mode(settings: Mapping[str, str]) -> bool:
    return settings.get("delete.handling.mode") == "rewrite"


def _added_names(add_fields: str, prefix: str) -> list[str]:
    """The fields' names in the row: `op` → `__op`, `source.lsn` → `__source_lsn`, `op:what` → `__what`."""
    names = []
    for field in filter(None, (part.strip() for part in add_fields.split(","))):
        given, _, own = field.partition(":")
        names.append(prefix + (own or given.replace(".", "_")))
    return names


def _check_nulls(
    wish: WantedTable, where: str, settings: Mapping[str, str], schemas: SchemaReading
) -> Iterator[Finding]:
    if settings.get(_NULLS, "true").lower() == "false" or schemas.value is None:
        return
    try:
        columns = Envelope.parse(schemas.value, wish.policy.order).columns
    except CdcSinkError:
        return  # reported by check_schemas
    names = [column.name for column in columns if column.nullable and column.default_given]
    if names:
        yield Finding(
            where,
            "warning",
            f"it writes an explicit NULL of {wish.table} {', '.join(names)} as the column's default",
            f"set {_NULLS}=false",
        )
