"""What a pipeline is told, as values that never change.

Rules this file owns: every setting has its unit, interval, default and the reason for the default;
a default stops a table rather than lose or guess data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from cdc_sink.config.secrets import Frozen, Properties, Secret, TextOrSecret
from cdc_sink.config.secrets import revealed as revealed
from cdc_sink.config.tables import Defaults, Table
from cdc_sink.errors import ConfigError

NAME = r"^[a-z0-9_-]+$"
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
    """Kafka Connect's REST interface, where the connectors run; read by check, run and status."""


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
    jars: Literal["packages", "locked", "provided"] = Field(
        default="packages",
        description="where a session that cdc-sink starts has its jars from: packages, by Spark's own "
        "spark.jars.packages; locked, by cdc-sink's lock, which has a checksum of each; provided, they are "
        "there already; default packages: what Spark's users know. spark-submit is told by its own options "
        "(`cdc-sink packages`)",
    )
    conf: dict[Annotated[str, Field(pattern=r"^spark\.")], TextOrSecret] = Field(
        default_factory=dict,
        description="Spark properties, each named spark.…; jars, class path and Java options are added to "
        "those that cdc-sink sets, any other property replaces that of cdc-sink; default none",
    )


class Database(Frozen):
    """A source database that verify may read, and check ask."""

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
    def name(self) -> str:
        """The table as people, errors and logs name it, such as `shop.customers`."""
        return self.table.name

    @property
    def identifier(self) -> str:
        """The table for Spark SQL: catalog, namespace and name, each quoted."""
        parts = (self.pipeline.catalog.name, *self.table.name.split("."))
        return ".".join("`" + part.replace("`", "``") + "`" for part in parts)

    @property
    def needs_one_partition_per_key(self) -> bool:
        """Kafka's order has to order the changes of a key, and nobody vouches for its partition."""
        settings = self.table
        is_mirror = not (settings.mode.keeps_events or settings.outbox)
        return is_mirror and settings.key_partition == "hashed"

    @property
    def checkpoint(self) -> str:
        """Where Spark keeps the checkpoint of this table's query."""
        own = self.pipeline.checkpoint_of(self.table)
        # Offsets of an older generation may belong to a topic that is no more.
        return f"{own}.g{self.table.generation}" if self.table.generation else own

    def beside(self, suffix: str) -> str:
        """A table of ours beside the target for Spark SQL, quoted: its name with a suffix."""
        return f"{self.identifier[:-1]}__{suffix}`"

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
