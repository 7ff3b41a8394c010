"""The Iceberg catalog: one description, rendered for two engines, and read without Spark.

Rules this file owns: Spark and pyiceberg open the same catalog under the same name; reading changes
nothing, not even by creating a catalog's own tables; every question has a time limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import requests
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import (
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    NotInstalledError,
    OAuthError,
    RESTError,
    UnauthorizedError,
)
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.table import StaticTable, Table
from sqlalchemy.exc import OperationalError, ProgrammingError, SQLAlchemyError

from cdc_sink import config
from cdc_sink.errors import CdcSinkError, ConfigError, StateError, UnavailableError

Answer = TypeVar("Answer")

EXTENSIONS = "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
_TIMEOUT_S = 30
_NO_CATALOG_TABLES = re.compile(r"no such table|does not exist|UndefinedTable", re.IGNORECASE)


# --- rendering ----------------------------------------------------------------------------------


def spark_properties(catalog: config.Catalog) -> dict[str, str]:
    """Render the catalog as Spark properties, the SQL extensions included.

    Raises: ConfigError when a secret can't be read.
    Source: Iceberg 1.12 docs, "Spark configuration" and "JDBC catalog".
    """
    rendered: dict[str, str] = {"type": catalog.type}
    if catalog.uri is not None:
        rendered["uri"] = _jdbc_uri(catalog.uri) if catalog.type == "jdbc" else catalog.uri
    if catalog.warehouse is not None:
        rendered["warehouse"] = catalog.warehouse
    if catalog.type == "jdbc":
        rendered["jdbc.schema-version"] = "V1"
    rendered |= config.revealed(catalog.properties)
    prefix = f"spark.sql.catalog.{catalog.name}"
    properties = {f"{prefix}.{key}": value for key, value in rendered.items()}
    return {
        "spark.sql.extensions": EXTENSIONS,
        prefix: "org.apache.iceberg.spark.SparkCatalog",
        **properties,
    }


def session_properties(catalog: config.Catalog) -> dict[str, str]:
    """The Spark properties that a session must have before it can write this catalog's tables."""
    return {
        **spark_properties(catalog),
        # A table must stay the one whose ledger was read until its batch is committed.
        f"spark.sql.catalog.{catalog.name}.cache.expiration-interval-ms": "-1",
    }


def pyiceberg_properties(catalog: config.Catalog) -> dict[str, str]:
    """Render the catalog as pyiceberg properties.

    Raises: ConfigError when a secret can't be read.
    """
    given = config.revealed(catalog.properties)
    rendered: dict[str, str] = {"type": "sql" if catalog.type == "jdbc" else catalog.type}
    if catalog.type == "jdbc":
        rendered["uri"] = _sqlalchemy_uri(str(catalog.uri), given)
        rendered["init_catalog_tables"] = "false"  # reading must not create them
    elif catalog.uri is not None:
        rendered["uri"] = catalog.uri
    if catalog.warehouse is not None:
        rendered["warehouse"] = catalog.warehouse
    return rendered | {key: value for key, value in given.items() if not key.startswith("jdbc.")}


def _jdbc_uri(uri: str) -> str:
    if not uri.startswith("jdbc:sqlite:") or "busy_timeout=" in uri:
        return uri
    # Several processes write to one file; without a limit SQLite gives up at once (SQLITE_BUSY).
    return f"{uri}{'&' if '?' in uri else '?'}busy_timeout=30000"


def _sqlalchemy_uri(uri: str, given: dict[str, str]) -> str:
    if uri.startswith("jdbc:sqlite:"):
        return f"sqlite:///{_sqlite_file(uri)}?timeout={_TIMEOUT_S}"
    parts = urlsplit(uri.removeprefix("jdbc:"))
    asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    user = given.get("jdbc.user", asked.get("user", ""))
    password = given.get("jdbc.password", asked.get("password", ""))
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    query = {"connect_timeout": "10"}
    if "sslmode" in asked:
        query["sslmode"] = asked["sslmode"]
    return f"postgresql+psycopg://{login}{parts.netloc}{parts.path}?{urlencode(query)}"


def _sqlite_file(uri: str) -> Path:
    return Path(uri.removeprefix("jdbc:sqlite:").partition("?")[0])


# --- reading ------------------------------------------------------------------------------------


class _TimedAdapter(requests.adapters.HTTPAdapter):
    """Every HTTP request ends in time; pyiceberg sets no limit."""

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = kwargs.get("timeout") or _TIMEOUT_S
        return super().send(request, *args, **kwargs)


class _TimedRestCatalog(RestCatalog):
    def _create_session(self) -> requests.Session:
        session = super()._create_session()
        # The AWS request signer mounts an adapter of its own, for this address; it stays.
        for scheme in ("http://", "https://"):
            session.mount(scheme, _TimedAdapter())
        return session


def open_catalog(catalog: config.Catalog) -> IcebergCatalog:
    """Open the catalog through pyiceberg, for reading; `with` closes its connections.

    Raises: UnavailableError when it doesn't answer or isn't there yet, ConfigError when the user is
    refused or pyiceberg can't read this type.
    """
    if catalog.type == "hadoop":
        raise ConfigError(
            f"catalog {catalog.name}",
            "a hadoop catalog is a folder, there is nothing to open",
            remedy="read its tables one by one with load_table",
        )
    if not _is_there(catalog):
        raise _unavailable(catalog, "its SQLite file isn't there yet")
    properties: dict[str, str | None] = {**pyiceberg_properties(catalog)}
    if catalog.type == "rest":
        given = pyiceberg_properties(catalog)
        return _ask(catalog, lambda: _TimedRestCatalog(catalog.name, **given))
    return _ask(catalog, lambda: load_catalog(catalog.name, **properties))


def load_table(catalog: config.Catalog, target: str) -> Table | None:
    """Return the table as it is now, or None when there is none.

    Raises: UnavailableError, ConfigError as `open_catalog`; StateError when the catalog names a
    metadata file that isn't there.
    """
    if catalog.type == "hadoop":
        return _ask(catalog, lambda: _load_hadoop_table(catalog, target))
    if not _is_there(catalog):
        return None  # the first table made through it will create it
    with open_catalog(catalog) as opened:
        try:
            return _ask(catalog, lambda: opened.load_table(tuple(target.split("."))))
        except _NotThere:
            return None


def open_files(catalog: config.Catalog, location: str) -> FileIO:
    """Return pyiceberg's access to files at a location, with the catalog's own properties.

    Raises: ConfigError when a secret can't be read or there is no access to such an address.
    """
    try:
        return load_file_io(pyiceberg_properties(catalog), location)
    except (ValueError, ImportError) as cause:
        raise ConfigError(
            location.partition(":")[0] + ":",
            "pyiceberg has no access to files of this kind",
            remedy="name checkpoints and warehouse by s3, gs, abfs, hdfs or file addresses",
        ) from cause


def read_text(files: FileIO, location: str) -> str | None:
    """Return the content of a small file; None when it isn't there.

    Raises: UnavailableError when the storage doesn't answer.
    """
    try:
        with files.new_input(location).open() as stream:
            return stream.read().decode("utf-8")
    except FileNotFoundError:
        return None
    except OSError as cause:
        raise UnavailableError(
            location, "the storage doesn't answer", remedy="start it, or correct its address"
        ) from cause


def _is_there(catalog: config.Catalog) -> bool:
    uri = str(catalog.uri)
    return not uri.startswith("jdbc:sqlite:") or _sqlite_file(uri).exists()


def _load_hadoop_table(catalog: config.Catalog, target: str) -> Table | None:
    """Follow version-hint.text, then look for newer files: the hint may lag behind one commit.

    Source: Iceberg 1.12, HadoopTableOperations.findVersion.
    """
    folder = f"{catalog.warehouse}/{target.replace('.', '/')}/metadata"
    files = open_files(catalog, folder)
    hint = read_text(files, f"{folder}/version-hint.text")
    if hint is None:
        return None
    version = int(hint)
    while files.new_input(f"{folder}/v{version + 1}.metadata.json").exists():
        version += 1
    return StaticTable.from_metadata(
        f"{folder}/v{version}.metadata.json", pyiceberg_properties(catalog)
    )


class _NotThere(Exception):
    """The catalog says that it has no such table."""


def _ask(catalog: config.Catalog, question: Callable[[], Answer]) -> Answer:
    """The one place where foreign errors become ours."""
    try:
        return question()
    except (NoSuchTableError, NoSuchNamespaceError) as cause:
        raise _NotThere from cause
    except SQLAlchemyError as cause:
        if isinstance(cause, OperationalError | ProgrammingError) and _NO_CATALOG_TABLES.search(
            str(cause.orig)
        ):
            raise _NotThere from cause
        raise _unavailable(catalog, "its database doesn't answer, or is locked") from cause
    except FileNotFoundError as cause:
        raise StateError(
            f"catalog {catalog.name}",
            "a table's metadata file isn't there",
            remedy="restore the file, or roll the catalog back to a metadata file that exists",
        ) from cause
    except (OSError, RESTError) as cause:
        raise _translated(catalog, cause) from cause
    except (NotInstalledError, ImportError) as cause:
        raise ConfigError(
            f"catalog {catalog.name}",
            f"pyiceberg has no support for {catalog.type} here",
            remedy=f'pip install "pyiceberg[{catalog.type}]"',
        ) from cause


def _translated(catalog: config.Catalog, cause: Exception) -> CdcSinkError:
    if isinstance(cause, UnauthorizedError | ForbiddenError | OAuthError | PermissionError):
        return ConfigError(
            f"catalog {catalog.name}",
            "the user is refused",
            remedy="correct the credentials under catalog.properties, or the user's rights",
        )
    # requests' own errors are OSErrors, as is everything a file system says.
    return _unavailable(catalog, "it doesn't answer")


def _unavailable(catalog: config.Catalog, saw: str) -> UnavailableError:
    return UnavailableError(
        f"catalog {catalog.name}",
        saw,
        remedy="start the catalog or correct catalog.uri; the table is tried again by itself",
    )
