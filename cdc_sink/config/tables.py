"""What a pipeline is told about one table, and about all tables under `defaults`.

Rules this file owns: as for models.py; a default stops a table rather than lose or guess data.
"""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from cdc_sink.config.columns import ColumnSettings
from cdc_sink.config.secrets import Frozen
from cdc_sink.debezium.options import UNAVAILABLE, FieldNames, TableOptions
from cdc_sink.table.schema.metadata_columns import is_metadata
from cdc_sink.table.schema.policy import TableMode, TablePolicy

TARGET = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$"


class TableSettings(Frozen):
    """What may be set for all tables under `defaults`, and again for one."""

    mode: TableMode = Field(
        default=TableMode.MIRROR,
        description="what the table holds: mirror, the source's current rows; append, every change event as "
        "a row of its own (`_cdc_op` says which; a delete has the key alone), also for source tables without "
        "a key; default mirror: the table equals its source",
    )
    wire: Literal[
        "confluent", "apicurio_8_byte", "apicurio_headers", "confluent_headers", "json"
    ] = Field(
        default="confluent",
        description="how the connector's converters write keys and values: confluent, Avro behind a zero "
        "byte and a 4-byte schema id; apicurio_8_byte, Avro behind a zero byte and an 8-byte id; "
        "apicurio_headers or confluent_headers, Avro alone with its id in the record's headers; json, "
        "Connect's JsonConverter with schemas; default confluent: what Confluent's converter writes, and "
        "Apicurio's with as-confluent",
    )
    outbox: bool = Field(
        default=False,
        description="the topic has events of Debezium's outbox router, which have no envelope: the table "
        "holds a row per event, named by the record's header `id`, and `order` is kafka; default false: "
        "the topic has the changes of a table",
    )
    order: Literal["source", "kafka"] = Field(
        default="source",
        description="how redelivered changes are recognised: source, by the position in the source's log, "
        "which every record must have; kafka, not at all: for records without a position. With kafka a "
        "tombstone deletes its row, and after a restart of the connector the table shows older states for a "
        "while; default source: newest wins at every moment",
    )

    sources: Literal["one", "many"] = Field(
        default="one",
        description="how many source tables the topic has changes of: one; many, such as shards that a "
        "transform routes into one topic: their rows are told apart by the key field of Debezium's router "
        "(key.enforce.uniqueness), or, where keys have none, by the column `_cdc_source`, which becomes part "
        "of the key; with `order: source` alone; default one: a change of another source stops the table",
    )
    buckets: int = Field(
        default=8,
        ge=0,
        le=10_000,
        description="number of partitions by hash of the key, [0, 10000], 0 = unpartitioned; "
        "default 8: a batch rewrites an eighth of a small table; only read when a table is made",
    )
    trigger_s: float = Field(
        default=5,
        ge=0,
        le=86_400,
        description="seconds between micro-batches, [0, 86400]; default 5: fresh, and at most 12 "
        "table commits a minute",
    )
    max_records_per_batch: int = Field(
        default=100_000,
        ge=1,
        description="records read per micro-batch, at least 1; default 100000: fits one core's "
        "memory and takes seconds, so a crash repeats little",
    )
    missing_topic: Literal["wait", "fail"] = Field(
        default="wait",
        description="a topic that isn't there yet: wait for it, or park the table; default wait: "
        "Debezium makes the topic with a table's first row; `run --once` does not wait, and leaves the table",
    )
    adopt: bool = Field(
        default=False,
        description="write to an existing table that has no ledger of ours; default false: "
        "somebody else's table isn't touched unasked",
    )
    field_names: FieldNames = Field(
        default="as_sent",
        description="what the columns are called: as_sent, as the fields of the records; source, as the "
        "columns of the source table, by undoing field.name.adjustment.mode=avro_unicode; default "
        "as_sent: nothing in a record tells `a_u005fb` from a column of that name",
    )
    key_partition: Literal["hashed", "fixed"] = Field(
        default="hashed",
        description="how the records of a topic with several partitions are spread: hashed, by Kafka's hash "
        "of their key, which is looked at in every record; fixed, by something else that never changes for "
        "a key, which is for you to know; default hashed: Kafka orders a key's changes in one partition only",
    )
    foreign_commits: Literal["stop", "accept"] = Field(
        default="stop",
        description="a table commit of another program that changed rows, such as a DELETE by hand: stop the "
        "table, or accept the rows as they are; compaction changes no row and is always fine; default stop: "
        "the table would differ from its source without a word",
    )
    bad_record: Literal["quarantine_key", "stop"] = Field(
        default="quarantine_key",
        description="a record that can't be read goes to the dead letters together with all later ones of "
        "its key, or stops the table; default quarantine_key: the other keys go on, and nothing is lost. "
        "A record whose key can't be read stops the table always",
    )
    unavailable_value: Literal["quarantine_key", "set_null", "stop"] = Field(
        default="quarantine_key",
        description="a value that the connector left out and that no stored row has: quarantine_key, "
        "set_null or stop; default quarantine_key: a value is never guessed",
    )
    truncate: Literal["stop", "apply", "ignore"] = Field(
        default="stop",
        description="TRUNCATE at the source: stop; apply (empties the table; the topic must have one "
        "partition, or nothing orders it against the rows); ignore; default stop: it is rarely meant "
        "for the copy",
    )
    on_resnapshot: Literal["delete", "keep", "stop"] = Field(
        default="stop",
        description="rows that a new, complete source snapshot does not name though the stream sent no "
        "delete of them: delete them, keep them, or stop the table; what an interrupted first snapshot left "
        "behind is deleted, unless keep is set; default stop: the snapshot may have been of a part of the "
        "rows, and nothing in the topic tells",
    )
    schema_change: Literal["additive", "frozen"] = Field(
        default="additive",
        description="what a change of the source's columns may do to the table: add, widen and rename "
        "columns, or nothing (the table stops; a dropped column still turns null); default additive: "
        "nothing stored is lost by it",
    )
    on_incompatible: Literal["stop", "second_column"] = Field(
        default="stop",
        description="what becomes of values when a source column gets a type that the table's column can't "
        "hold: stop, the table stops; second_column, they go to a second column `name__type`, and `name` is "
        "null in their rows; default stop: whether readers can use two columns is for you to say",
    )
    generation: int = Field(
        default=0,
        ge=0,
        description="raised by the operator after a reset source: rows of a greater generation "
        "outrank all older ones; default 0: no reset yet",
    )

    unavailable_placeholder: str = Field(
        default=UNAVAILABLE,
        min_length=1,
        description="the connector's unavailable.value.placeholder, which stands for a large value "
        "that did not change; `hex:` and hex digits as there; default "
        f"{UNAVAILABLE}: the connector's own",
    )

    @field_validator("unavailable_placeholder")
    @classmethod
    def _require_hex(cls, given: str) -> str:
        if given.startswith("hex:") and not re.fullmatch(r"hex:([0-9A-Fa-f]{2})+", given):
            raise ValueError("behind `hex:` stand pairs of hex digits")
        return given


class Defaults(TableSettings):
    """Settings for every table that doesn't say otherwise."""

    namespace: str = Field(
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
        description="namespace of tables without `target` and of the dead-letter table; default: "
        "the pipeline's name",
    )


class SourceTable(Frozen):
    """The database table behind a topic; read by verify only."""

    database: str = Field(description="a name under `databases`")
    table: str = Field(description="the table as its database names it: schema.table")
    binary: Literal["base64", "base64-url-safe", "hex"] = Field(
        default="base64",
        description="how binary columns that arrive as text are written, the connector's "
        "binary.handling.mode; default base64: the first of its text modes",
    )


class Table(TableSettings):
    """One topic and the Iceberg table that is kept equal to its source."""

    topic: str = Field(
        pattern=r"^[A-Za-z0-9._-]{1,249}$", description="Kafka topic of one source table"
    )
    target: str = Field(
        pattern=TARGET,
        description="namespace.table; default: <namespace>.<last part of the topic>, lower-cased",
    )
    source: SourceTable | None = Field(default=None, description="for verify; default none")
    bucket_column: str | None = Field(
        default=None, description="key column to hash; default: the first column of the record key"
    )
    renames: dict[str, str] = Field(
        default_factory=dict,
        description="columns renamed at the source, `old: new`: the table's column is renamed, and "
        "records with the old name go on to fill it; may be said before or with the rename, and stays "
        "as long as the topic has records with the old name; default none: a rename adds a column",
    )

    @field_validator("renames")
    @classmethod
    def _require_plain_renames(cls, given: dict[str, str]) -> dict[str, str]:
        for old, new in given.items():
            if new in given:
                raise ValueError(
                    f"{old} → {new} → {given[new]}: no chains or swaps; say for every old name what the "
                    "column is called now"
                )
            if old.lower() == new.lower() or is_metadata(old) or is_metadata(new):
                raise ValueError(
                    f"{old} → {new}: two names that differ by more than case, and neither is the name of a "
                    "metadata column, such as _cdc_op"
                )
        return given

    transform: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="`module:function`, a function of your own that is given the changes of each batch as a "
        "DataFrame and may change, add and drop columns of `after` (docs/library.md); default none",
    )
    columns: dict[str, ColumnSettings] = Field(
        default_factory=dict, description="options of single columns, by name; default none"
    )

    @model_validator(mode="after")
    def _require_comparable(self) -> Self:
        if self.sources == "many" and (self.order == "kafka" or self.outbox):
            raise ValueError(
                "`sources: many` needs `order: source`: only positions tell what a source sent twice"
            )
        if self.sources == "many" and self.source is not None:
            raise ValueError(
                "`source` names one table to verify with, and `sources: many` says that there are several; "
                "remove `source`"
            )
        return self

    @property
    def name(self) -> str:
        """The target as people write it, such as shop.customers."""
        return self.target

    @property
    def namespace(self) -> str:
        """The target without its last part."""
        return self.target.rpartition(".")[0]

    @property
    def options(self) -> TableOptions:
        """What decoding has to know about the columns."""
        columns = {name: one.option for name, one in self.columns.items()}
        return TableOptions(columns, self.unavailable_placeholder, self.field_names)

    @property
    def masks(self) -> dict[str, str]:
        """By column, what the table gets instead of its values."""
        return {name: one.mask for name, one in self.columns.items() if one.mask is not None}

    @property
    def policy(self) -> TablePolicy:
        """What the rules of a table have to know."""
        return TablePolicy(
            mode=self.mode,
            order=self.order,
            sources=self.sources,
            schema_change=self.schema_change,
            on_incompatible=self.on_incompatible,
            renames=self.renames,
            options=self.options,
            buckets=self.buckets,
            bucket_column=self.bucket_column,
        )

    @property
    def table_name(self) -> str:
        """The last part of the target."""
        return self.target.rpartition(".")[2]
