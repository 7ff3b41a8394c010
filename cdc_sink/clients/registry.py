"""The schema registry: writer schemas by id, and the versions of a subject.

Rules this file owns: an id means one schema for ever, so it is cached for the life of the process;
every call has a time limit; an answer that says "no such id" is the data's fault, a silent or
broken registry is nobody's fault and is retried.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from cdc_sink import config
from cdc_sink.clients.registry_errors import unavailable, unknown, unreachable, user_refused
from cdc_sink.errors import CdcSinkError, ConfigError, SchemaError

# Source: Confluent Schema Registry API, error codes; Apicurio's ccompat/v7 uses the same.
_NO_SUBJECT = 40401
_NO_SCHEMA = 40403
_NO_LEVEL_OF_ITS_OWN = 40408
_APICURIO = "/apis/ccompat/"

_NO_REGISTRY = "the answer isn't a schema registry's"

Answer = TypeVar("Answer")


class RegistryClient:
    """The writer schemas of one registry; safe to share between threads."""

    def __init__(self, registry: config.Registry) -> None:
        self._url = registry.url
        self._schemas: dict[int, str] = {}
        settings: dict[str, object] = {
            "url": registry.url,
            "timeout": registry.timeout_s,
            # One quick second try; longer waits belong to the supervisor, which logs them.
            "max.retries": 1,
            "retries.wait.ms": 100,
            "retries.max.wait.ms": 200,
        }
        if registry.user is not None and registry.password is not None:
            settings["basic.auth.user.info"] = f"{registry.user}:{registry.password.reveal()}"
        self._client = SchemaRegistryClient(settings)

    def schema(self, schema_id: int) -> str:
        """Return the writer schema of an id as JSON text.

        Raises: SchemaError when the registry doesn't know the id or it isn't plain Avro,
        UnavailableError when it doesn't answer.
        """
        if schema_id not in self._schemas:
            answer = self._ask(lambda: self._client.get_schema(schema_id), f"schema id {schema_id}")
            if answer is None:
                raise unknown(self._url, f"schema id {schema_id}")
            self._schemas[schema_id] = self._avro_text(answer, f"schema id {schema_id}")
        return self._schemas[schema_id]

    def versions(self, subject: str) -> dict[int, str]:
        """Return the schemas of a subject by id, oldest version first; empty for no such subject.

        Raises: SchemaError when one isn't plain Avro, UnavailableError when the registry doesn't
        answer.
        """
        where = f"subject {subject}"
        found: dict[int, str] = {}
        for version in self._versions(subject, where):
            answer = self._ask(partial(self._client.get_version, subject, version), where)
            if answer is None or answer.schema_id is None:
                continue  # deleted between the two questions
            if not _is_id(answer.schema_id):
                raise unavailable(self._url, where, _NO_REGISTRY)
            text = self._avro_text(answer.schema, f"{where} version {version}")
            found[answer.schema_id] = self._schemas[answer.schema_id] = text
        return found

    def _versions(self, subject: str, where: str) -> list[int]:
        versions = self._ask(lambda: self._client.get_versions(subject), where) or []
        if not isinstance(versions, list) or not all(map(_is_id, versions)):
            raise unavailable(self._url, where, _NO_REGISTRY)
        return versions

    def compatibility(self, subject: str) -> str:
        """Return the compatibility level that holds for a subject: its own, or the registry's.

        Raises: UnavailableError when the registry doesn't answer.
        """
        own = self._ask(lambda: self._client.get_compatibility(subject), f"subject {subject}")
        # Apicurio 2.6 says NONE of a subject that has no rule of its own, and drops the rule for NONE.
        if own is not None and not (own == "NONE" and _APICURIO in self._url):
            return str(own)
        return str(self._ask(self._client.get_compatibility, "compatibility level") or "NONE")

    def ping(self) -> None:
        """Ask the registry something it always knows.

        Raises: UnavailableError when it doesn't answer, ConfigError when it isn't one.
        """
        self._ask(self._client.get_subjects, "list of subjects")

    def _ask(self, question: Callable[[], Answer], what: str) -> Answer | None:
        """The one place where foreign errors become ours; None = the registry has no such thing."""
        try:
            return question()
        except SchemaRegistryError as cause:
            if cause.error_code in (_NO_SUBJECT, _NO_SCHEMA, _NO_LEVEL_OF_ITS_OWN):
                return None
            raise self._refused(cause, what) from cause
        except httpx2.TimeoutException as cause:
            raise unavailable(self._url, what, "no answer within the time limit") from cause
        except httpx2.HTTPError as cause:
            raise unreachable(self._url, what, cause) from cause
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            # The client parses answers without checking them; what it stumbles over lands here.
            raise unavailable(self._url, what, _NO_REGISTRY) from cause

    def _refused(self, cause: SchemaRegistryError, what: str) -> CdcSinkError:
        status = cause.http_status_code
        if status in (401, 403):
            return user_refused(self._url, what, status)
        if status in (404, 405):
            return ConfigError(
                f"registry {self._url}",
                f"{what}: there is no registry at this address (HTTP {status})",
                remedy="correct registry.url; Apicurio's ends in /apis/ccompat/v7",
            )
        return unavailable(self._url, what, f"it answered HTTP {status}")

    def _avro_text(self, schema: Schema, what: str) -> str:
        text, kind = schema.schema_str, schema.schema_type or "AVRO"
        if kind != "AVRO" or schema.references or not isinstance(text, str):
            saw = f"{what} is {kind!s:.20}" + (" with references" if schema.references else "")
            raise SchemaError(
                f"registry {self._url}",
                f"{saw}, expected one self-contained Avro schema",
                remedy="set the connector's converters to Avro without schema references",
            )
        return text


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 32
