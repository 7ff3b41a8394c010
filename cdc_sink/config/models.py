"""What a pipeline is told, as values that never change.

Rules this file owns: every setting has its unit, interval, default and the reason for the default;
a default stops a table rather than lose or guess data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cdc_sink.change.column_option import UNAVAILABLE, TableOptions
from cdc_sink.config.columns import ColumnSettings
from cdc_sink.config.secrets import Frozen, Properties, Secret, TextOrSecret
from cdc_sink.config.secrets import revealed as revealed
from cdc_sink.errors import ConfigError

NAME = r"^[a-z0-9_-]+$"
TARGET = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$"
_ADDRESS = r"^[^\s,:/]+:\d{1,5}(,[^\s,:/]+:\d{1,5})*$"
_JAVA_ONLY = ("sasl.jaas.config", "ssl.truststore.", "ssl.keystore.type")
_DEFAULT_PORT = {"postgresql": 5432, "mysql": 3306}


def _as_location(given: str) -> str:
    """A relative path is refused: it would depend on the folder a job starts in."""
    if re.match(r"^[a-zA-Z][a-zA-Z0-9+.-]*:/", given):
        return given.rstrip("/")
    if given.startswith("/"):
        return "file://" + given.rstrip("/")
    raise ValueError("must be a URI such as s3://bucket/path, or an absolute path")


class Kafka(Frozen):
    """The broker that holds the change events."""

    bootstrap_servers: str = Field(
        pattern=_ADDRESS, description="host:port, several separated by commas; no default"
    )
    properties: Properties = Field(
        default_factory=dict,
        description="client properties by librdkafka's names (security.protocol, sasl.username); "
        "a value may be a secret; default none: plain text connection",
    )
    timeout_s: float = Field(
        default=10,
        gt=0,
        le=300,
        description="seconds, (0, 300], default 10: a broker answers in one",
    )

    @field_validator("properties")
    @classmethod
    def _refuse_owned(cls, given: Properties) -> Properties:
        owned = sorted({"bootstrap.servers", "group.id", "auto.offset.reset"} & given.keys())
        if owned:
            raise ValueError(f"{', '.join(owned)}: set by cdc-sink itself, remove it here")
        java = sorted(name for name in given if name.startswith(_JAVA_ONLY))
        if java:
            raise ValueError(
                f"{', '.join(java)}: use librdkafka's names, which are translated for Java: "
                "sasl.username, sasl.password, ssl.ca.location, ssl.certificate.location, "
                "ssl.key.location"
            )
        return given


class HttpService(Frozen):
    """A server that is asked over HTTP."""

    url: str = Field(
        pattern=r"^https?://[^\s@]+$",
        description="base address, without user or password; no default",
    )
    user: str | None = Field(
        default=None, description="user for basic authentication; default none"
    )
    password: Secret | None = Field(
        default=None, description="reference to the password; default none"
    )
    timeout_s: float = Field(
        default=10, gt=0, le=300, description="seconds, (0, 300], default 10: it answers in one"
    )

    @model_validator(mode="after")
    def _require_both(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("`user` and `password` come together")
        return self


class Registry(HttpService):
    """The schema registry that knows the writer schemas (Confluent's API)."""


class Connect(HttpService):
    """Kafka Connect's REST interface, where the connectors run; read by check only."""


class Catalog(Frozen):
    """The Iceberg catalog that holds the tables."""

    name: str = Field(
        default="lake",
        pattern=r"^[a-z0-9_]+$",
        description="the catalog's name in Spark; default lake",
    )
    type: Literal["jdbc", "rest", "hive", "glue", "hadoop"] = Field(
        description="no default: where tables live is never guessed"
    )
    uri: str | None = Field(
        default=None,
        description="address for jdbc (jdbc:sqlite:…, jdbc:postgresql://…), rest and hive",
    )
    warehouse: str | None = Field(
        default=None,
        description="URI or absolute path under which tables are made; a name for rest",
    )
    properties: Properties = Field(
        default_factory=dict,
        description="given to Spark's and to pyiceberg's catalog; a value may be a secret",
    )

    @model_validator(mode="after")
    def _require_parts_of_type(self) -> Self:
        if self.type in ("jdbc", "rest", "hive") and self.uri is None:
            raise ValueError(f"a {self.type} catalog needs `uri`")
        if self.type in ("jdbc", "hadoop") and self.warehouse is None:
            raise ValueError(f"a {self.type} catalog needs `warehouse`")
        known = r"^jdbc:(sqlite:/|postgresql://)"
        if self.type == "jdbc" and not re.match(known, str(self.uri)):
            raise ValueError("`uri` must begin with jdbc:sqlite:/ or jdbc:postgresql://")
        return self

    @model_validator(mode="after")
    def _require_location(self) -> Self:
        if self.type != "rest" and self.warehouse is not None:
            # object.__setattr__: the one way to normalise a field of a frozen model that
            # depends on another field.
            object.__setattr__(self, "warehouse", _as_location(self.warehouse))
        return self


class Spark(Frozen):
    """What is added to the Spark session."""

    master: str | None = Field(
        default=None, description="default none: what spark-submit says, or local[*] without it"
    )
    conf: dict[Annotated[str, Field(pattern=r"^spark\.")], TextOrSecret] = Field(
        default_factory=dict, description="Spark properties, each named spark.…; default none"
    )


class TableSettings(Frozen):
    """What may be set for all tables under `defaults`, and again for one."""

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
        "Debezium makes the topic with a table's first row",
    )
    adopt: bool = Field(
        default=False,
        description="write to an existing table that has no ledger of ours; default false: "
        "somebody else's table isn't touched unasked",
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
    schema_change: Literal["additive", "frozen"] = Field(
        default="additive",
        description="what a change of the source's columns may do to the table: add, widen and rename "
        "columns, or nothing (the table stops; a dropped column still turns null); default additive: "
        "nothing stored is lost by it",
    )
    on_incompatible: Literal["stop", "second_column", "text"] = Field(
        default="stop",
        description="a source column's new type that the table's column can't hold: stop the table; "
        "write it to a second column `name__type` from then on, `name` being null; or write its exact "
        "text to `name` if that is a string already, else to a second column `name__string`; default "
        "stop: which one readers can use is for you to say",
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
            if old.lower() == new.lower() or "_cdc" in (old.lower(), new.lower()):
                raise ValueError(
                    f"{old} → {new}: two names that differ by more than case, and neither is _cdc"
                )
        return given

    columns: dict[str, ColumnSettings] = Field(
        default_factory=dict, description="options of single columns, by name; default none"
    )

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
        return TableOptions(columns, self.unavailable_placeholder)

    @property
    def table_name(self) -> str:
        """The last part of the target."""
        return self.target.rpartition(".")[2]


class Database(Frozen):
    """A source database that verify may read."""

    type: Literal["postgresql", "mysql"] = Field(description="mysql serves MariaDB too")
    host: str = Field(description="host name or address")
    port: int = Field(ge=1, le=65535, description="default 5432 for postgresql, 3306 for mysql")
    database: str = Field(description="database to connect to")
    user: str = Field(description="a user that may SELECT the tables")
    password: Secret | None = Field(
        default=None, description="reference to the password; default none"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_port(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("port") is None:
            return {**given, "port": _DEFAULT_PORT.get(str(given.get("type")), 5432)}
        return given


class Pipeline(Frozen):
    """Everything one pipeline is told; complete, so that nothing downstream knows a default."""

    name: str = Field(
        pattern=NAME, description="[a-z0-9_-]+; part of the checkpoints' paths, so never rename it"
    )
    kafka: Kafka
    registry: Registry
    connect: Connect | None = None
    catalog: Catalog
    checkpoints: Annotated[str, Field(description="URI or absolute path all executors can reach")]
    spark: Spark = Spark()
    defaults: Defaults
    tables: tuple[Table, ...]
    databases: dict[str, Database] = Field(default_factory=dict)

    _location = field_validator("checkpoints")(_as_location)

    @property
    def dead_letters(self) -> str:
        """The table of this pipeline's dead letters."""
        return f"{self.defaults.namespace}.dead_letters"

    def checkpoint_of(self, table: Table) -> str:
        """Return where the streaming query of a table keeps its checkpoint."""
        return f"{self.checkpoints}/{self.name}/{table.name}"

    def table(self, name: str) -> Table:
        """Return the table whose target or topic is `name`.

        Raises: ConfigError that lists the tables there are.
        """
        for table in self.tables:
            if name in (table.name, table.topic):
                return table
        known = ", ".join(table.name for table in self.tables)
        raise ConfigError(
            f"pipeline {self.name}", f"no table {name!r}; it has {known}", remedy="name one of them"
        )

    def target(self, name: str) -> Target:
        """Return one table together with its pipeline, as the library's calls want it.

        Raises: ConfigError that lists the tables there are.
        """
        return Target(self, self.table(name))


@dataclass(frozen=True)
class Target:
    """One table of a pipeline, seen from the job that writes it: names and places, nothing else."""

    pipeline: Pipeline
    table: Table

    @property
    def where(self) -> str:
        """The target as errors and logs name it, such as `shop.customers`."""
        return self.table.name

    @property
    def identifier(self) -> str:
        """The table for Spark SQL: catalog, namespace and name, each quoted."""
        parts = (self.pipeline.catalog.name, *self.table.name.split("."))
        return ".".join("`" + part.replace("`", "``") + "`" for part in parts)

    @property
    def checkpoint(self) -> str:
        """Where Spark keeps the checkpoint of this table's query."""
        own = self.pipeline.checkpoint_of(self.table)
        # Offsets of an older generation may belong to a topic that is no more.
        return f"{own}.g{self.table.generation}" if self.table.generation else own

    @property
    def dead_letters(self) -> str:
        """The pipeline's dead-letter table for Spark SQL, quoted."""
        parts = (self.pipeline.catalog.name, *self.pipeline.dead_letters.split("."))
        return ".".join("`" + part.replace("`", "``") + "`" for part in parts)

    @property
    def identity_file(self) -> str:
        """Beside the checkpoint: which cluster, topic and table it belongs to."""
        return f"{self.checkpoint}.identity.json"

    @property
    def lease_file(self) -> str:
        """Beside the checkpoint: which driver runs the query now, and how it is doing."""
        return f"{self.checkpoint}.lease.json"
