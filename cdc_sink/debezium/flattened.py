"""A row that Debezium's transform ExtractNewRecordState made of an envelope: what it added, what it lacks.

Rules owned here:
- A field counts as added only by its exact name and its type: `__`, the field's name, with or without its
  block, and null allowed. What else begins with `__` is a column of the source. The transform's names of
  one's own (`add.fields=op:what`) can't be told from columns, and are columns.
- Without a block `ts_ms` is when the connector saw the change, so it says nothing of the source.
- With `order: source` a row must say what an envelope says: op, source time, position, and whether it is
  deleted. A tombstone can't stand for a delete there: it has no position, so one that is redelivered could
  not be told from a new one, and it would take away a row whose insert is dropped as redelivered.
- With `order: kafka` any row is taken. What has no op is an update, which inserts where nothing is; a
  tombstone is a delete in every mode: where a delete came before it, it changes nothing.
- A deleted row is its key. PostgreSQL fills its other columns with zeros under the usual replica identity.

Source: Debezium 3.6 `ExtractNewRecordState` and its `FieldReference`; `delete.tombstone.handling.mode`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from cdc_sink.debezium.avro_schema import Node, base_of, non_null
from cdc_sink.debezium.origin import ORIGIN_FIELDS
from cdc_sink.debezium.position import optional_position_fields, position_fields
from cdc_sink.errors import SchemaError
from cdc_sink.sql import literal, quote

Order = Literal["source", "kafka"]

PREFIX: Final = "__"
DELETED: Final = "__deleted"
TRANSFORM: Final = "ExtractNewRecordState"
_TIMES: Final = ("ts_ms", "ts_us")

_TEXTS: Final = (
    *("version", "connector", "name", "snapshot", "db", "sequence", "schema", "table", "gtid", "file"),
    *("query", "origin", "txId", "scn", "commit_scn", "lcr_position", "rs_id", "user_name", "redo_sql"),
    *("row_id", "start_scn", "change_lsn", "commit_lsn", "collection", "lsid"),
)  # fmt: skip
_NUMBERS: Final = (
    *(
        *_TIMES,
        "ts_ns",
        "server_id",
        "pos",
        "row",
        "thread",
        "txId",
        "lsn",
        "xmin",
        "origin_lsn",
        "ssn",
    ),
    *("redo_thread", "commit_ts_ms", "start_ts_ms", "txSeq", "event_serial_no", "ord", "txnNumber"),
    "wallTime",
)
_TRANSACTION: Final = {"id": "string", "total_order": "number", "data_collection_order": "number"}
# A field that only one kind of connector has; the first kind that has one is it.
_TELLING: Final = {
    "mysql": ("file", "pos", "row", "gtid", "server_id"),
    "oracle": ("commit_scn", "scn", "txSeq"),
    "sqlserver": ("commit_lsn", "change_lsn"),
    "postgresql": ("sequence", "lsn", "xmin"),
}
_POSITIONS: Final = (
    "source.sequence (PostgreSQL), source.file,source.pos (MySQL, MariaDB), "
    "source.commit_scn,source.txSeq (Oracle) or source.commit_lsn (SQL Server)"
)


def _meanings() -> dict[str, tuple[str, frozenset[str]]]:
    """What each name means that the transform gives, as `add.fields` calls it, and of which kinds it is."""
    found = {DELETED: ("deleted", frozenset({"string"})), "__op": ("op", frozenset({"string"}))}
    for name in (*_TIMES, "ts_ns"):
        found[f"__{name}"] = (name, frozenset({"number"}))
    for name, kind in _TRANSACTION.items():
        found[f"__transaction_{name}"] = (f"transaction.{name}", frozenset({kind}))
        if name != "id":  # a column `__id` is the likelier one
            found[f"__{name}"] = (f"transaction.{name}", frozenset({kind}))
    for name in {*_TEXTS, *_NUMBERS}:
        kinds = {"string"} if name in _TEXTS else set()
        meant = (f"source.{name}", frozenset(kinds | ({"number"} if name in _NUMBERS else set())))
        found[f"__source_{name}"] = meant
        found.setdefault(f"__{name}", meant)
    return found


_MEANINGS: Final = _meanings()


@dataclass(frozen=True)
class AddedFields:
    """The fields that the transform added to a row: their names by what they mean."""

    names: frozenset[str]
    by_meaning: Mapping[str, str]

    @classmethod
    def of(cls, row: Node) -> AddedFields:
        """Find them in a row's writer schema, an Avro record."""
        return cls.named([one["name"] for one in row["fields"] if _is_added(one)])

    @classmethod
    def named(cls, names: Collection[str]) -> AddedFields:
        """Take every name that the transform gives for added."""
        known = [name for name in names if name in _MEANINGS]
        # The one with its block in the name is found last, and stays.
        longest_last = sorted(known, key=len)
        return cls(frozenset(known), {_MEANINGS[name][0]: name for name in longest_last})

    @property
    def connector(self) -> str | None:
        """Which connector writes such fields; None when none of them tells."""
        for connector, fields in _TELLING.items():
            if any(f"source.{name}" in self.by_meaning for name in fields):
                return connector
        return None

    def source_fields(self, order: Order) -> tuple[str, ...]:
        """The fields of the source block that the row has, as far as they are read."""
        wanted = [*_TIMES, "snapshot", *ORIGIN_FIELDS]
        if order == "source" and self.connector is not None:
            wanted += [*position_fields(self.connector), *optional_position_fields(self.connector)]
        return tuple(name for name in wanted if f"source.{name}" in self.by_meaning)

    def read(self, order: Order) -> list[str]:
        """Names of the added fields that are read."""
        meant = ["deleted", "op", *(f"source.{name}" for name in self.source_fields(order))]
        return [self.by_meaning[one] for one in meant if one in self.by_meaning]


def _is_added(entry: Node) -> bool:
    node, nullable = non_null(entry["type"])
    _, kinds = _MEANINGS.get(entry["name"], ("", frozenset()))
    kind = "number" if base_of(node) in ("int", "long") else base_of(node)
    return nullable and kind in kinds


def lacking(added: AddedFields, connector: str | None) -> tuple[str, ...]:
    """Name what a row lacks for `order: source`, as `add.fields` calls it; `deleted` is the mode's part.

    In: connector, None when nothing tells which it is.
    """
    wanted = ["op", "source.ts_ms"]
    wanted += ["position"] if connector is None else _position_of(connector)
    if any(f"source.{name}" in added.by_meaning for name in _TIMES):
        wanted.remove("source.ts_ms")
    return tuple(name for name in (*wanted, "deleted") if name not in added.by_meaning)


def settings_for(missing: Collection[str], connector: str | None) -> str:
    """Say which settings of the transform give what is missing; `add.fields` is named whole."""
    said = []
    if set(missing) - {"deleted"}:
        fields = "add.fields=op,source.ts_ms,source.snapshot"
        if connector is None:
            said.append(f"{fields} and in it the position, {_POSITIONS}")
        else:
            said.append(",".join([fields, *_position_of(connector, whole=True)]))
    if "deleted" in missing:
        said.append("delete.tombstone.handling.mode=rewrite")
    return " and ".join(said)


def _position_of(connector: str, *, whole: bool = False) -> list[str]:
    more = optional_position_fields(connector) if whole else ()
    return [f"source.{name}" for name in (*position_fields(connector), *more)]


def require_ordered(name: str, added: AddedFields) -> None:
    """Refuse a row that does not say what `order: source` needs, all of it at once.

    Raises: SchemaError with the transform's settings.
    """
    missing = lacking(added, added.connector)
    if not missing:
        return
    known = {"deleted": DELETED, "position": "the position in the source's log"}
    said = ", ".join(known.get(one, PREFIX + one.replace(".", "_")) for one in missing)
    remedy = (
        f"set {settings_for(missing, added.connector)} on the {TRANSFORM} transform and let a new topic "
        "begin so, or set `order: kafka` for the table, which takes these rows as they are"
    )
    if "deleted" in missing:
        remedy += (
            "; if it had rows before the transform's mode changed, look with `cdc-sink verify` "
        )
        remedy += "for deletes that came as tombstones since"
    raise SchemaError(
        name, f"a flattened row without {said}: `order: source` needs it", remedy=remedy
    )


def envelope_sql(
    row: str, added: AddedFields, order: Order, sure: Sequence[str], *, with_before: bool = False
) -> str:
    """Render a decoded row in the shape of a decoded envelope: struct<after, op, source>, or with `before`.

    In:  sure, fields of the row of which not all are null, unless the row could not be decoded.
    Out: NULL for a NULL; a row that could not be decoded gets no op.
    """

    def field(meaning: str) -> str | None:
        name = added.by_meaning.get(meaning)
        return None if name is None else f"{row}.{quote(name)}"

    op = _op_sql(row, field("op"), field("deleted"), order, sure)
    block = {"ts_ms": "CAST(NULL AS BIGINT)", "snapshot": "CAST(NULL AS STRING)"}
    for name in added.source_fields(order):
        block[name] = str(field(f"source.{name}"))
    parts = ", ".join(f"{literal(name)}, {sql}" for name, sql in block.items())
    before = f"'before', CASE WHEN ({op}) = 'd' THEN {row} END, " if with_before else ""
    return (
        f"CASE WHEN {row} IS NOT NULL THEN named_struct({before}"
        f"'after', CASE WHEN ({op}) <> 'd' THEN {row} END, 'op', {op}, 'source', named_struct({parts})) END"
    )


def _op_sql(
    row: str, op: str | None, deleted: str | None, order: Order, sure: Sequence[str]
) -> str:
    whens = []
    if order == "kafka":
        nothing = " AND ".join(f"{row}.{quote(name)} IS NULL" for name in sure)
        whens.append(f"WHEN {nothing or 'true'} THEN CAST(NULL AS STRING)")
        op = "'u'" if op is None else f"coalesce({op}, 'u')"
    if deleted is not None:
        whens.append(f"WHEN {deleted} = 'true' THEN 'd'")
    return f"CASE {' '.join(whens)} ELSE {op} END"
