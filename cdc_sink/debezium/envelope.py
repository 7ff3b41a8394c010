"""What one Debezium record is, read from its Avro writer schema alone.

Rules owned here:
- The record's *name* says what it is; topic names don't (a heartbeat or a transaction topic can
  match a table pattern). Only `….Envelope` is a table change, or `….Value`, the row that a transform
  made of one (flattened.py).
- Column types are known only through `connect.name`; a schema without these attributes is refused,
  because a timestamp in microseconds would look like any other long.
- Of the envelope only `after`, `op` and the needed part of `source` are decoded. `before` is not, but
  where a delete has no key to go by: PostgreSQL fills it with type zeros under the default replica
  identity, and takes no delete of a table without a key then.

Source: Debezium 3.6 `Envelope`, `SchemaFactory`; Confluent and Apicurio Avro converters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import Any

from cdc_sink.debezium.adjusted_names import own_name
from cdc_sink.debezium.avro_schema import SOURCE_NAME, Node, non_null, parse_tree, render_tree
from cdc_sink.debezium.flattened import AddedFields, Order, require_ordered
from cdc_sink.debezium.options import UNAVAILABLE, USUAL, ColumnOption, TableOptions
from cdc_sink.debezium.origin import ORIGIN_FIELDS
from cdc_sink.debezium.position import optional_position_fields, position_fields
from cdc_sink.errors import SchemaError


class Op(StrEnum):
    """What happened to the row; Debezium's letters."""

    READ = "r"
    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    TRUNCATE = "t"
    MESSAGE = "m"


class RecordKind(Enum):
    """What a record is, by the name of its Avro record."""

    TABLE_CHANGE = "table change"
    HEARTBEAT = "heartbeat"
    TRANSACTION = "transaction metadata"
    SCHEMA_CHANGE = "schema change"
    MESSAGE = "logical message"
    FLATTENED = "flattened row"
    KEY = "record key"
    UNKNOWN = "record of another kind"


_KIND_BY_LAST_NAME = {
    "Envelope": RecordKind.TABLE_CHANGE,
    "Heartbeat": RecordKind.HEARTBEAT,
    "TransactionMetadataValue": RecordKind.TRANSACTION,
    "SchemaChangeValue": RecordKind.SCHEMA_CHANGE,
    "MessageValue": RecordKind.MESSAGE,
    "Value": RecordKind.FLATTENED,
    "Key": RecordKind.KEY,
}
# PostgreSQL logs a deleted row's replica identity only: a key of other columns would arrive as zeros, and a
# changed key as a plain update.
CHOSEN_KEY = "message.key.columns (on PostgreSQL together with REPLICA IDENTITY FULL)"
_OTHER_REMEDY = "give the topic of one table; this one carries another kind of record"
_METADATA_REMEDY = "set value.converter.connect.meta.data=true on the connector"

# Fields of `source` that are read besides the position: how fresh, from which kind of read, of which table.
_SOURCE_EXTRAS = ("ts_ms", "ts_us", "snapshot", *ORIGIN_FIELDS)
# Of what is read outside the row, these are numbers and the rest is text.
_NUMBERS = frozenset({"pos", "row", "txSeq", "ts_ms", "ts_us"})
_SOURCE_NAME = re.compile(r"io\.debezium\.connector\.(\w+)\.Source")


@dataclass(frozen=True)
class AvroField:
    """One column or key field as its writer schema declares it.

    `avro_type` is the non-null branch; `semantic` is `connect.name`, Debezium's own type name;
    `default_given` is true when the schema carries a default other than null, which is `default`, as the
    schema's JSON has it; `option` and
    `placeholder` are what the configuration adds; `decoded_as`, the name in the decoded record where
    Avro refuses the source's own.
    """

    name: str
    avro_type: Any
    nullable: bool
    semantic: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    default_given: bool = False
    default: Any = None
    option: ColumnOption = USUAL
    placeholder: str = UNAVAILABLE
    decoded_as: str | None = None

    @property
    def decoded_name(self) -> str:
        """Return the name of the field in the decoded record."""
        return self.decoded_as or self.name


def with_options(fields: Iterable[AvroField], options: TableOptions) -> tuple[AvroField, ...]:
    """Give each column what the configuration says about it, its own name first.

    Raises: SchemaError when it shall have its own name, and that can't be told.
    """
    if options.field_names == "source":
        fields = [_with_own_name(one) for one in fields]
    return tuple(
        replace(one, option=options.columns.get(one.name, USUAL), placeholder=options.placeholder)
        for one in fields
    )


def _with_own_name(field: AvroField) -> AvroField:
    own = own_name(field.name, field.parameters)
    return replace(field, name=own, decoded_as=field.decoded_name)


@dataclass(frozen=True)
class Envelope:
    """The parts of an envelope's writer schema that decide how its records are read.

    `added` is what the transform added to a flattened row, None for a whole envelope; `connector` is empty
    where nothing tells which one wrote the row.
    """

    name: str
    connector: str
    columns: tuple[AvroField, ...]
    source_fields: tuple[str, ...]
    added: AddedFields | None = None

    @classmethod
    def parse(cls, writer_schema_json: str, order: Order = "source") -> Envelope:
        """Read what a table change's writer schema declares.

        In:     order, the table's: a flattened row needs more for `source`.
        Out:    columns in the order of the source table.
        Raises: SchemaError when the schema is not a table change with its type names.
        """
        return cls._of_tree(_change_tree(writer_schema_json), order)

    @classmethod
    def _of_tree(cls, tree: Node, order: Order) -> Envelope:
        if _kind(tree) is RecordKind.FLATTENED:
            return cls._of_row(tree, order)
        source = _record(tree, "source")
        after = _record(tree, "after")
        return cls(
            name=tree["name"],
            connector=_connector(tree["name"], source),
            columns=tuple(_avro_field(column) for column in after["fields"]),
            source_fields=tuple(entry["name"] for entry in source["fields"]),
        )

    @classmethod
    def _of_row(cls, tree: Node, order: Order) -> Envelope:
        added = AddedFields.of(tree)
        if order == "source":
            require_ordered(tree["name"], added)
        columns = [entry for entry in tree["fields"] if entry["name"] not in added.names]
        return cls(
            name=tree["name"],
            connector=added.connector or "",
            columns=tuple(_avro_field(column) for column in columns),
            source_fields=added.source_fields(order),
            added=added,
        )


def record_kind(writer_schema_json: str) -> RecordKind:
    """Say what records of this writer schema are."""
    return _kind(parse_tree(writer_schema_json))


def record_name(writer_schema_json: str) -> str:
    """The full name of a record's writer schema."""
    name: str = parse_tree(writer_schema_json)["name"]
    return name


def parse_key(writer_key_schema_json: str) -> tuple[AvroField, ...]:
    """Read the key columns, in key order, from a record key's writer schema.

    Raises: SchemaError when the key is not a record, as after a key-changing transform.
    """
    tree = parse_tree(writer_key_schema_json)
    if not isinstance(tree, dict) or tree.get("type") != "record" or not tree["fields"]:
        raise SchemaError(
            "record key",
            "the key is not an Avro record of key columns",
            remedy=f"give the source table a primary key or set {CHOSEN_KEY}, and remove "
            "transforms that replace the key",
        )
    return tuple(_avro_field(entry) for entry in tree["fields"])


def spark_schema(writer_schema_json: str) -> str:
    """Rewrite a key's or value's writer schema so that Spark's from_avro accepts it.

    Out:    fits the same bytes: only names of records, logical types and attributes differ.
    Source: avro_schema.py.
    """
    return render_tree(parse_tree(writer_schema_json))


def reader_schema(
    writer_schema_json: str,
    columns: Sequence[str],
    order: Order = "source",
    *,
    with_before: bool = False,
) -> str:
    """Cut an envelope's writer schema down to what is read.

    In:     columns the table needs; those the writer doesn't have are left out; the table's order.
    Out:    reader schema JSON: after{columns}, op, source{position, time, snapshot, origin}, if asked for
            before{columns}; of a flattened row the columns, and of what was added the same. No position for
            order kafka.
    Raises: SchemaError when `source` lacks a field of the position, or one is of another type.
    """
    tree = _change_tree(writer_schema_json)
    envelope = Envelope._of_tree(tree, order)
    if envelope.added is not None:
        wanted = ({*columns} - envelope.added.names) | {*envelope.added.read(order)}
        kept = [entry for entry in tree["fields"] if entry["name"] in wanted]
        return render_tree({**tree, "fields": kept})
    needed, optional = _position(envelope.connector, order)
    missing = [name for name in needed if name not in envelope.source_fields]
    if missing:
        raise SchemaError(
            envelope.name,
            f"the source block has no field {', '.join(missing)}, which orders the changes",
            remedy="remove the transform that cuts the source block",
        )
    _require_types(tree, ("op",))
    _require_types(_record(tree, "source"), (*needed, *optional, *_SOURCE_EXTRAS))
    rows = ("before", "after") if with_before else ("after",)
    cut = {
        **{name: _cut_record(tree, name, columns) for name in rows},
        "op": _field_type(tree, "op"),
        "source": _cut_record(tree, "source", (*needed, *optional, *_SOURCE_EXTRAS)),
    }
    fields = [{"name": name, "type": node} for name, node in cut.items()]
    return render_tree({**tree, "fields": fields})


def _position(connector: str, order: Order) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields of `source` that are needed, and those that are read if they are there."""
    if order == "kafka":
        return (), ()
    return position_fields(connector), optional_position_fields(connector)


def _change_tree(writer_schema_json: str) -> Node:
    """The record of a table change; a flattened row that may be null is taken by itself."""
    tree = parse_tree(writer_schema_json)
    kind = _kind(tree)
    if kind is RecordKind.FLATTENED:
        tree, _ = non_null(tree)
    elif kind is not RecordKind.TABLE_CHANGE:
        # Only the name of a named type was looked at; others may carry anything as an attribute.
        name = tree["name"] if _is_named(tree) else "unnamed schema"
        raise SchemaError(name, f"a {kind.value}, not a table change", remedy=_OTHER_REMEDY)
    if "connect.name" not in tree:
        raise SchemaError(
            tree["name"], "the schema carries no connect.name attributes", remedy=_METADATA_REMEDY
        )
    return tree


def _is_named(tree: Node) -> bool:
    return (
        isinstance(tree, dict)
        and "name" in tree
        and tree.get("type") in ("record", "enum", "fixed")
    )


def _kind(tree: Node) -> RecordKind:
    node, _ = non_null(tree)
    if not isinstance(node, dict) or node.get("type") != "record":
        return RecordKind.UNKNOWN
    kind = _KIND_BY_LAST_NAME.get(node["name"].rpartition(".")[2], RecordKind.UNKNOWN)
    # Only the row keeps what it was inside the envelope, where it may be null.
    return kind if node is tree or kind is RecordKind.FLATTENED else RecordKind.UNKNOWN


def _connector(envelope: str, source: Node) -> str:
    match = _SOURCE_NAME.fullmatch(source.get("connect.name", source["name"]))
    if match is None:
        raise SchemaError(
            envelope,
            f"the source block is {source['name']}, not one of a Debezium connector",
            remedy="check which program writes the topic",
        )
    return "mongodb" if match[1] == "mongo" else match[1]


def _field_type(record: Node, name: str) -> Node:
    for entry in record["fields"]:
        if entry["name"] == name:
            return entry["type"]
    raise SchemaError(
        record["name"],
        f"the envelope has no field {name}",
        remedy="remove the transform that changes the envelope",
    )


def _record(envelope: Node, name: str) -> Node:
    node, _ = non_null(_field_type(envelope, name))
    if isinstance(node, dict) and node.get("type") == "record":
        return node
    raise SchemaError(
        envelope["name"],
        f"the field {name} is not a record",
        remedy="remove the transform that changes the envelope",
    )


def _require_types(record: Node, names: Sequence[str]) -> None:
    """Spark would convert a field of another type by rules of its own."""
    for entry in record["fields"]:
        node, _ = non_null(entry["type"])
        expected = ("int", "long") if entry["name"] in _NUMBERS else ("string",)
        base = node["type"] if isinstance(node, dict) else node
        if entry["name"] in names and base not in expected:
            raise SchemaError(
                record["name"],
                f"the field {entry['name']} is not of type {' or '.join(expected)}",
                remedy="remove the transform that changes the envelope",
            )


def _cut_record(envelope: Node, name: str, keep: Sequence[str]) -> Node:
    record = _record(envelope, name)
    wanted = frozenset(keep)
    cut = {**record, "fields": [entry for entry in record["fields"] if entry["name"] in wanted]}
    _, nullable = non_null(_field_type(envelope, name))
    return ["null", cut] if nullable else cut


def array_element(array: AvroField) -> AvroField:
    """Return the elements of an array column as a field of their own, with the column's options."""
    return replace(array, **_typed(array.avro_type["items"]))


def _avro_field(entry: Node) -> AvroField:
    default = entry.get("default")
    own = entry.get(SOURCE_NAME)
    return AvroField(
        name=own or entry["name"],
        default_given=default is not None,
        default=default,
        decoded_as=entry["name"] if own else None,
        **_typed(entry["type"]),
    )


def _typed(avro_type: Node) -> dict[str, Any]:
    node, nullable = non_null(avro_type)
    attributes = node if isinstance(node, dict) else {}
    return {
        "avro_type": node,
        "nullable": nullable,
        "semantic": attributes.get("connect.name"),
        "parameters": dict(attributes.get("connect.parameters", {})),
    }
