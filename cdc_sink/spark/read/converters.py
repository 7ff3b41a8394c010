"""What differs between converters: how a topic's records are framed, and who knows their writer schemas.

Everything after this point sees one framing only: a zero byte, a 4-byte schema id, the Avro body.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cdc_sink.clients.registry import RegistryClient
from cdc_sink.clients.registry_errors import NO_SCHEMA_REMEDY
from cdc_sink.clients.registry_ids import SchemaLookup, native_apis
from cdc_sink.config import Target
from cdc_sink.debezium.wire.other_framings import (
    SIDES,
    apicurio_id_sql,
    content_id_of,
    guid_header_sql,
    is_guid_sql,
    with_apicurio_id_sql,
    with_guid_sql,
    with_long_id_sql,
)
from cdc_sink.errors import SchemaError
from cdc_sink.spark.read.connect_json import Json
from cdc_sink.spark.read.converter import Converter
from cdc_sink.spark.read.decode import with_raw
from cdc_sink.spark.read.outbox import Outbox

# A producer that makes a GUID per record must not make a question per record.
MOST_NEW_GUIDS = 1000


class Confluent:
    """Avro behind a zero byte and a 4-byte schema id: records are taken as they are."""

    def __init__(self, registry: RegistryClient) -> None:
        self.registry = registry

    def framed(self, records: DataFrame) -> DataFrame:
        """They are framed."""
        return records

    def learn(self, records: DataFrame) -> None:
        """There is nothing to learn."""

    def schema(self, schema_id: int) -> str:
        """Ask the registry."""
        return self.registry.schema(schema_id)


class ApicurioLongIds:
    """Avro behind a zero byte and Apicurio's 8-byte global id; the schema id is the global id."""

    def __init__(self, lookup: SchemaLookup) -> None:
        self.lookup = lookup

    def framed(self, records: DataFrame) -> DataFrame:
        """Cut the id to four bytes; a larger one is a fault."""
        return _rewritten(records, {side: with_long_id_sql(side) for side in SIDES})

    def learn(self, records: DataFrame) -> None:
        """There is nothing to learn."""

    def schema(self, schema_id: int) -> str:
        """Ask Apicurio's own API."""
        return self.lookup.by_global_id(schema_id)


class ApicurioHeaders:
    """Avro alone, its global or content id in a header; the schema id says which of the two it is."""

    def __init__(self, registry: RegistryClient, lookup: SchemaLookup) -> None:
        self.registry = registry
        self.lookup = lookup

    def framed(self, records: DataFrame) -> DataFrame:
        """Put the id before the body."""
        sql = {side: with_apicurio_id_sql(side, f"{side}_given") for side in SIDES}
        given = {f"{side}_given": apicurio_id_sql(side) for side in SIDES}
        return _rewritten(records, sql, given)

    def learn(self, records: DataFrame) -> None:
        """There is nothing to learn."""

    def schema(self, schema_id: int) -> str:
        """Ask Apicurio's own API for a global id, the compatible one for a content id."""
        content_id = content_id_of(schema_id)
        if content_id is None:
            return self.lookup.by_global_id(schema_id)
        return self.registry.schema(content_id)


class ConfluentHeaders:
    """Avro alone, the GUID of its schema in a header; the schema id is the one the registry has for it."""

    def __init__(self, lookup: SchemaLookup) -> None:
        self.lookup = lookup
        self._ids: dict[bytes, int] = {}
        self._unknown: set[bytes] = set()

    def framed(self, records: DataFrame) -> DataFrame:
        """Put the id before the body; `UNKNOWN_ID` until the GUID was learned."""
        sql = {side: with_guid_sql(side, f"{side}_given", self._ids) for side in SIDES}
        given = {f"{side}_given": guid_header_sql(side) for side in SIDES}
        return _rewritten(records, sql, given)

    def learn(self, records: DataFrame) -> None:
        """Ask for the ids of GUIDs that were not seen before; one small job.

        Raises: SchemaError when they are too many, or two have one id; ConfigError; UnavailableError.
        """
        new = _guids(records) - set(self._ids)
        if len(new) > MOST_NEW_GUIDS:
            raise SchemaError(
                "schema GUIDs",
                f"one batch holds records of {len(new)} new ones, more than {MOST_NEW_GUIDS}",
                remedy="look for a producer that registers a schema per record",
            )
        self._unknown = set()
        for guid in sorted(new):
            found = self.lookup.id_of_guid(str(uuid.UUID(bytes=guid)))
            if found is None:
                self._unknown.add(guid)
            elif found in self._ids.values():
                raise self._one_id_for_two(found)
            else:
                self._ids[guid] = found

    def schema(self, schema_id: int) -> str:
        """Ask the registry, by GUID."""
        for guid, known in self._ids.items():
            if known == schema_id:
                return self.lookup.by_guid(str(uuid.UUID(bytes=guid)))
        raise SchemaError(
            "registry",
            f"unknown schema GUIDs {', '.join(sorted(str(uuid.UUID(bytes=g)) for g in self._unknown))[:400]}",
            remedy=NO_SCHEMA_REMEDY,
        )

    def _one_id_for_two(self, schema_id: int) -> SchemaError:
        return SchemaError(
            "schema GUIDs",
            f"two of them have schema id {schema_id}, in two contexts of the registry",
            remedy="let the connectors of one topic register their schemas in one context",
        )


def converter_of(target: Target, registry: RegistryClient) -> Converter:
    """How the records of the target's topic are read.

    Raises: ConfigError when nothing here reads them, or the registry is of another kind than `wire`.
    """
    records = _wire_of(target, registry)
    return Outbox(records) if target.table.outbox else records


def _wire_of(target: Target, registry: RegistryClient) -> Converter:
    wire, where = target.table.wire, target.pipeline.registry
    if wire == "confluent":
        return Confluent(registry)
    if wire == "json":
        return Json(target.name)
    if wire == "confluent_headers":
        return ConfluentHeaders(SchemaLookup(where))
    native_apis(where.url)
    lookup = SchemaLookup(where)
    if wire == "apicurio_8_byte":
        return ApicurioLongIds(lookup)
    return ApicurioHeaders(registry, lookup)


def _rewritten(
    records: DataFrame, sql: Mapping[str, str], given: Mapping[str, str] | None = None
) -> DataFrame:
    """Replace columns; `given` are read first, and once only, however often `sql` names them."""
    before = {name: F.expr(text) for name, text in (given or {}).items()}
    read = with_raw(records).withColumns(before) if before else with_raw(records)
    after = {name: F.expr(text) for name, text in sql.items()}
    return read.withColumns(after).drop(*(given or ()))


def _guids(records: DataFrame) -> set[bytes]:
    """The GUIDs in the headers of a batch."""
    columns = []
    for side in SIDES:
        given = guid_header_sql(side)
        is_one = F.expr(f"{side} IS NOT NULL AND {is_guid_sql(given)}")
        columns.append(F.collect_set(F.when(is_one, F.expr(f"substring({given}, 2)"))).alias(side))
    seen = records.agg(*columns).first()
    assert seen is not None
    return {bytes(guid) for side in SIDES for guid in seen[side]}
