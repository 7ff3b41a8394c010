"""Kafka records as Debezium's connectors write them, for tests without a broker.

Envelope, source block and framing are those of recorded schemas (tests/unit/samples); only the table's
columns are free.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from cdc_sink.debezium.position import SourcePosition
from cdc_sink.debezium.wire.confluent import frame_prefix
from cdc_sink.errors import SchemaError
from cdc_sink.table.ledger.offsets import OffsetRange

SAMPLES = Path(__file__).parent.parent / "unit" / "samples"
RECORDED = {
    "postgresql": "postgresql_customers",
    "mysql": "mysql_order_lines",
    "mariadb": "mysql_order_lines",  # the same fields
    "oracle": "postgresql_customers",  # nothing recorded: with the fields documented for it
}
KAFKA: list[tuple[str, pa.DataType]] = [
    ("key", pa.binary()),
    ("value", pa.binary()),
    ("topic", pa.string()),
    ("partition", pa.int32()),
    ("offset", pa.int64()),
    ("timestamp", pa.timestamp("us")),
    ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
]
TS_MS = 1_770_000_000_000
NO_COMMIT = -1  # in the place of the last commit: the slot is new, and none was seen
ROUTED = "__dbz__physicalTableIdentifier"

Row = Mapping[str, Any]


def optional(node: Any) -> list[Any]:
    return ["null", node]


def semantic(base: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": base, "connect.version": 1, "connect.name": name, **more}


def decimal(precision: int, scale: int) -> dict[str, Any]:
    name = "org.apache.kafka.connect.data.Decimal"
    digits = {"precision": precision, "scale": scale}
    return semantic("bytes", name, logicalType="decimal", **digits)


class Registry:
    """Writer schemas by id, in the order they were registered."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.asked: list[int] = []

    def register(self, schema: Any) -> int:
        self.texts[len(self.texts) + 1] = json.dumps(schema)
        return len(self.texts)

    def schema(self, schema_id: int) -> str:
        self.asked.append(schema_id)
        if schema_id not in self.texts:
            raise SchemaError(
                "registry", f"unknown schema id {schema_id}", remedy="restore the deleted schema"
            )
        return self.texts[schema_id]


@dataclass(frozen=True)
class SourceTable:
    """A table at its source: the connector, its columns as Avro types, its key columns."""

    columns: Mapping[str, Any]
    key: tuple[str, ...] = ("id",)
    connector: str = "postgresql"
    name: str = "shop.public.items"
    log: str = "binlog"  # name of MySQL's log files
    origin: Mapping[str, str] = field(
        default_factory=dict
    )  # of the source block, where not by the name
    defaults: Mapping[str, Any] = field(default_factory=dict)  # as Avro's JSON has them
    routed: str | None = (
        None  # what the router writes into the key: the topic of the physical table
    )

    def value_schema(self) -> dict[str, Any]:
        envelope = self._recorded()
        defined: set[str] = set()
        fields = [_entry(n, _named_once(node, defined)) for n, node in self.columns.items()]
        fields = [_with_default(entry, self.defaults.get(entry["name"])) for entry in fields]
        row = {"type": "record", "name": "Value", "fields": fields}
        envelope["fields"][0]["type"] = ["null", {**row, "connect.name": f"{self.name}.Value"}]
        return envelope | {"namespace": self.name, "connect.name": f"{self.name}.Envelope"}

    def key_schema(self) -> dict[str, Any]:
        fields = [
            _with_default(
                {"name": name, "type": _not_null(self.columns[name])}, self.defaults.get(name)
            )
            for name in self.key
        ]
        if self.routed is not None:
            fields.append({"name": ROUTED, "type": "string"})
        return {"type": "record", "name": "Key", "namespace": self.name, "fields": fields}

    def source(self, event: Event) -> dict[str, Any]:
        position = None if event.position is None else SourcePosition(*event.position)
        entries = next(f for f in self._recorded()["fields"] if f["name"] == "source")
        block = {f["name"]: _blank(f["type"]) for f in entries["type"]["fields"]}
        block |= {"connector": self.connector, "snapshot": event.snapshot}
        block |= {k: v for k, v in self._origin().items() if k in block}
        # The log carries the time, so a second delivery of a change says the same as its first.
        moved = 1000 * position.hi + position.lo % 1000 if position else 0
        ts_ms = TS_MS + moved if event.ts_ms is None else event.ts_ms
        block |= {"ts_ms": ts_ms, "ts_us": ts_ms * 1000 + 7}
        if position is None:
            return block
        if self.connector == "postgresql":
            hi = "null" if position.hi == NO_COMMIT else f'"{position.hi}"'
            return block | {"sequence": f'[{hi},"{position.lo}"]'}
        if self.connector == "oracle":
            return block | {"commit_scn": str(position.hi), "txSeq": position.lo}
        return block | {"file": f"{self.log}.{position.hi:06d}", "pos": position.lo, "row": 0}

    def _origin(self) -> dict[str, str]:
        """As Debezium says it: of the topic's name unless given."""
        prefix, schema, table = self.name.split(".")
        return {"name": prefix, "db": "shop", "schema": schema, "table": table, **self.origin}

    def _recorded(self) -> dict[str, Any]:
        recorded = RECORDED[self.connector]
        text = (SAMPLES / f"{recorded}_value.json").read_text(encoding="utf-8")
        family = recorded.split("_")[0]
        text = text.replace(f"connector.{family}", f"connector.{self.connector}")
        envelope: dict[str, Any] = json.loads(text)
        source = next(f for f in envelope["fields"] if f["name"] == "source")["type"]["fields"]
        if self.connector == "oracle":
            source += [_entry("commit_scn", optional("string")), _entry("txSeq", optional("long"))]
        return envelope


def _entry(name: str, node: Any) -> dict[str, Any]:
    return {"name": name, "type": node} | (
        {"default": None} if isinstance(node, list) and node[0] == "null" else {}
    )


def _with_default(entry: dict[str, Any], value: Any) -> dict[str, Any]:
    """As converters write it: where NULL is allowed too, the default's type comes first."""
    if value is None:
        return entry
    node = entry["type"]
    node = [_not_null(node), "null"] if isinstance(node, list) else node
    return entry | {"type": node, "default": value}


def _named_once(node: Any, defined: set[str]) -> Any:
    """A record is defined where it comes first and named from then on, as converters write it."""
    if isinstance(node, list):
        return [_named_once(branch, defined) for branch in node]
    if not isinstance(node, dict):
        return node
    if node["type"] == "array":
        return node | {"items": _named_once(node["items"], defined)}
    name = f"{node.get('namespace')}.{node.get('name')}"
    if name in defined:
        return name
    if node["type"] == "record":
        defined.add(name)
    return node


def _not_null(node: Any) -> Any:
    return next(n for n in node if n != "null") if isinstance(node, list) else node


def _blank(node: Any) -> Any:
    if isinstance(node, list) and "null" in node:
        return None
    return "" if node == "string" else 0


@dataclass(frozen=True)
class Event:
    """One change event of one row: the whole image, and the position as (hi, lo).

    `ts_ms` follows from the position unless given. `before`: the whole row, as with a full replica identity.
    """

    op: str
    row: Row
    position: tuple[int, int] | None = (0, 1)
    snapshot: str = "false"
    ts_ms: int | None = None
    before: Row | None = None


@dataclass
class Topic:
    """The records of one table's topic; offsets count up per partition."""

    table: SourceTable
    registry: Registry = field(default_factory=Registry)
    records: list[tuple[Any, ...]] = field(default_factory=list)
    value_id: int = 0
    key_id: int = 0

    def __post_init__(self) -> None:
        self.write_as(self.table)

    def write_as(self, table: SourceTable) -> int:
        """From now on records are written with another version of the table; its schema id."""
        self.table = table
        self.value_id = self.registry.register(table.value_schema())
        if not table.key:
            return self.value_id
        keys = json.dumps(table.key_schema())
        known = [i for i, text in self.registry.texts.items() if text == keys]
        self.key_id = known[0] if known else self.registry.register(table.key_schema())
        return self.value_id

    def written_by(self, table: SourceTable) -> None:
        """The next records are of a table that may have written before: a registry knows its schema again."""
        known = {text: i for i, text in self.registry.texts.items()}
        values, keys = json.dumps(table.value_schema()), json.dumps(table.key_schema())
        if values not in known:
            self.write_as(table)
            return
        self.table, self.value_id, self.key_id = table, known[values], known[keys]

    def send(self, event: Event, partition: int = 0) -> int:
        return self.raw(self.key(event.row), self.value(event), partition)

    def send_all(self, events: Iterable[Event], partition: int = 0) -> None:
        for event in events:
            self.send(event, partition)

    def tombstone(self, row: Row, partition: int = 0) -> int:
        return self.raw(self.key(row), None, partition)

    def raw(
        self,
        key: bytes | None,
        value: bytes | None,
        partition: int = 0,
        headers: Mapping[str, bytes] | None = None,
    ) -> int:
        """Append a record of any bytes; returns its offset."""
        offset = self.end(partition)
        given = list((headers or {}).items())
        self.records.append((key, value, self.table.name, partition, offset, None, given))
        return offset

    def end(self, partition: int = 0) -> int:
        return sum(record[3] == partition for record in self.records)

    def key(self, row: Row) -> bytes | None:
        if not self.table.key:
            return None
        key = {k: row[k] for k in self.table.key} | {ROUTED: self.table.routed}
        return _framed(self.key_id, self.table.key_schema(), key)

    def value(self, event: Event) -> bytes:
        body = {
            "before": event.before,
            "after": None if event.op == "d" else event.row,
            "source": self.table.source(event),
            "op": event.op,
            "ts_ms": TS_MS,
        }
        return _framed(self.value_id, self.table.value_schema(), body)

    def offsets(self, first: int = 0, end: int | None = None) -> OffsetRange:
        """The offsets of the records from one sequence number to another, as Spark's offset log has them."""
        first_offsets: dict[int, int] = {}
        ends: dict[int, int] = {}
        for number, record in enumerate(self.records[:end]):
            partition, offset = record[3], record[4]
            if number >= first:
                first_offsets[partition] = min(offset, first_offsets.get(partition, offset))
            ends[partition] = max(offset + 1, ends.get(partition, 0))
        return OffsetRange({p: first_offsets.get(p, stop) for p, stop in ends.items()}, ends)

    def batch(
        self, spark: SparkSession, first: int = 0, end: int | None = None, *, tasks: int = 2
    ) -> DataFrame:
        """The records from one sequence number to another, as Spark's Kafka source gives them."""
        return kafka_batch(spark, self.records[first:end]).coalesce(tasks)


def kafka_batch(spark: SparkSession, records: Iterable[tuple[Any, ...]]) -> DataFrame:
    """Records as Spark's Kafka source gives them.

    Through Arrow the JVM holds them; from rows of Python's each job would start Python workers.
    """
    names = [name for name, _ in KAFKA]
    rows = [dict(zip(names, record, strict=True)) for record in records]
    return spark.createDataFrame(pa.Table.from_pylist(rows, pa.schema(KAFKA)))


def _framed(schema_id: int, schema: dict[str, Any], body: Any) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), body)
    return frame_prefix(schema_id) + buffer.getvalue()


ITEMS = SourceTable({"id": "long", "name": optional("string")})


def item(key: int, name: str | None = None) -> Row:
    return {"id": key, "name": name}
