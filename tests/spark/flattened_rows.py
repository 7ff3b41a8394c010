"""Records as Debezium's transform ExtractNewRecordState leaves them, in each of its delete modes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from debezium import Event, SourceTable, Topic, _framed, optional

ORDERED = ("op", "source.ts_ms", "source.sequence")
TYPES = {"op": "string", "sequence": "string", "file": "string", "snapshot": "string"}
COLUMNS = {"id": "long", "name": optional("string"), "count": "int", "__mine": optional("string")}


@dataclass(frozen=True)
class Unwrapped(SourceTable):
    """A table whose connector has the transform; `add` is its `add.fields`."""

    mode: str = "rewrite"
    add: tuple[str, ...] = ORDERED

    @property
    def rewrites(self) -> bool:
        return self.mode.startswith("rewrite")

    def value_schema(self) -> dict[str, Any]:
        fields = [{"name": name, "type": node} for name, node in self.columns.items()]
        for field in self.add:
            name, kind = _name(field), TYPES.get(field.rpartition(".")[2], "long")
            fields.append({"name": name, "type": optional(kind)})
        if self.rewrites:
            fields.append({"name": "__deleted", "type": optional("string")})
        name = f"{self.name}.Value"
        row = {"type": "record", "name": name, "connect.name": name, "fields": fields}
        # What is as it was inside the envelope may be null, as there.
        return row if self.add or self.rewrites else optional(row)

    def row(self, event: Event) -> dict[str, Any]:
        """A deleted row is what PostgreSQL gives by default: its key, and zeros where null is not allowed."""
        row: dict[str, Any] = {name: None for name in self.columns} | dict(event.row)
        if event.op == "d":
            blank = {name: None if isinstance(t, list) else 0 for name, t in self.columns.items()}
            row = blank | {name: event.row[name] for name in self.key}
        block = self.source(event)
        snapshot = (
            None if event.snapshot == "false" else event.snapshot
        )  # only substituted by Connect
        known = {"op": event.op, "ts_ms": 1, "snapshot": snapshot}
        for field in self.add:
            bare = field.rpartition(".")[2]
            row[_name(field)] = (
                known[field] if field in known else (block | {"snapshot": snapshot})[bare]
            )
        return row | ({"__deleted": str(event.op == "d").lower()} if self.rewrites else {})


def _name(field: str) -> str:
    return "__" + field.replace(".", "_")


@dataclass
class FlatTopic(Topic):
    """A topic of a connector that has the transform, at least at times: see `write_as`."""

    def value(self, event: Event) -> bytes:
        table = self.table
        if not isinstance(table, Unwrapped):
            return super().value(event)
        return _framed(self.value_id, table.value_schema(), table.row(event))

    def send(self, event: Event, partition: int = 0) -> int:
        """A delete may be a tombstone, or have one behind it."""
        table, mode = self.table, getattr(self.table, "mode", "envelope")
        if event.op != "d":
            return super().send(event, partition)
        if isinstance(table, Unwrapped) and not table.rewrites:
            return self.tombstone(event.row, partition)
        offset = super().send(event, partition)
        if mode != "rewrite":
            self.tombstone(event.row, partition)
        return offset

    def send_moved(self, event: Event, old: Mapping[str, Any], partition: int = 0) -> int:
        """The second half of a key update, with the header that names the old key."""
        text = ",".join(f'"{name}":{value}' for name, value in old.items())
        header = {"__debezium.oldkey": f"{{{text}}}".encode()}
        return self.raw(self.key(event.row), self.value(event), partition, header)


def items(mode: str = "rewrite", add: tuple[str, ...] = ORDERED) -> Unwrapped:
    return Unwrapped(COLUMNS, mode=mode, add=add)


WHOLE = SourceTable(COLUMNS)


def row(
    key: int, name: str | None = None, count: int = 1, mine: str | None = "m"
) -> dict[str, Any]:
    return {"id": key, "name": name, "count": count, "__mine": mine}
