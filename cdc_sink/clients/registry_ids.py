"""Writer schemas by names that the Confluent-compatible API has no call for in every registry.

Rules this file owns: Apicurio's global ids are asked of its native API, whose address follows from that of
the compatible one; GUIDs are asked of a Confluent registry of version 8 or later; as in registry.py, "no
such thing" is the data's fault, and a silent or broken server is nobody's and is retried.
"""

from __future__ import annotations

import json
from typing import Any

import httpx2

from cdc_sink import config
from cdc_sink.clients.registry_errors import unavailable, unknown, user_refused
from cdc_sink.errors import ConfigError, SchemaError

_DEFAULT_CONTEXT = "."
_MOST_IDS = 1 << 31


def native_apis(url: str) -> tuple[str, ...]:
    """The addresses that Apicurio's own API can have, the likelier one first.

    In:     the address of its Confluent-compatible API.
    Raises: ConfigError when this isn't an address of Apicurio.
    Source: 2.x has ccompat/v6 and v7 and registry/v2; 3.x ccompat/v7 and v8, registry/v3, and v2 still.
    """
    base, found, version = url.rstrip("/").partition("/apis/ccompat/")
    if not found:
        raise ConfigError(
            f"registry {url}",
            "this isn't the address of an Apicurio registry, whose ids the table's `wire` names",
            remedy="set registry.url to Apicurio's, which ends in /apis/ccompat/v7, or correct `wire`",
        )
    versions = ("v3", "v2") if version == "v8" else ("v2", "v3")
    return tuple(f"{base}/apis/registry/{v}" for v in versions)


class SchemaLookup:
    """Asks one registry; keeps nothing, its callers do."""

    def __init__(self, registry: config.Registry) -> None:
        self._url = registry.url.rstrip("/")
        login = None
        if registry.user is not None and registry.password is not None:
            login = registry.user, registry.password.reveal()
        self._client = httpx2.Client(timeout=registry.timeout_s, auth=login)

    def by_global_id(self, global_id: int) -> str:
        """Return the schema of an Apicurio global id as JSON text.

        Raises: SchemaError for an unknown id; ConfigError when there is no such API; UnavailableError.
        """
        what = f"global id {global_id}"
        for api in native_apis(self._url):
            answer = self._get(f"{api}/ids/globalIds/{global_id}", what)
            if answer.status_code == 200:
                if isinstance(_parsed(answer), dict):
                    return answer.text
                raise unavailable(self._url, what, "the answer isn't a schema")
            # Any server says 404 to a path it doesn't have; Apicurio names its exception besides.
            body = _parsed(answer)
            if isinstance(body, dict) and str(body.get("name", "")).endswith("NotFoundException"):
                raise unknown(self._url, what)
        raise ConfigError(
            f"registry {self._url}",
            f"{what}: Apicurio's own API isn't there, neither v2 nor v3 (HTTP 404)",
            remedy="let /apis/registry be reached beside /apis/ccompat, or write content ids "
            "(use-id=contentId)",
        )

    def by_guid(self, guid: str) -> str:
        """Return the schema of a GUID as JSON text.

        Raises: SchemaError for an unknown GUID or one that isn't plain Avro; UnavailableError.
        """
        what = f"schema GUID {guid}"
        answer = self._get(f"{self._url}/schemas/guids/{guid}", what)
        body = _parsed(answer)
        if answer.status_code == 404:
            raise unknown(self._url, what)
        if not isinstance(body, dict) or not isinstance(body.get("schema"), str):
            raise unavailable(self._url, what, "the answer isn't a schema registry's")
        if body.get("schemaType", "AVRO") != "AVRO" or body.get("references"):
            raise SchemaError(
                f"registry {self._url}",
                f"{what} is no Avro schema, or one with references; expected one self-contained Avro schema",
                remedy="set the connector's converters to Avro without schema references",
            )
        return str(body["schema"])

    def id_of_guid(self, guid: str) -> int | None:
        """Return the registry's id of a GUID, in the default context where it has one; None for no such GUID.

        Raises: ConfigError when the registry knows no GUIDs; UnavailableError.
        """
        what = f"schema GUID {guid}"
        answer = self._get(f"{self._url}/schemas/guids/{guid}/ids", what)
        body = _parsed(answer)
        if answer.status_code == 404:
            if isinstance(body, dict) and body.get("error_code") == 40403:
                return None
            raise ConfigError(
                f"registry {self._url}",
                f"{what}: the registry has no GUIDs (HTTP 404)",
                remedy="use a Confluent registry of version 8 or later, or correct registry.url",
            )
        try:
            ids = {str(one["context"]): one["id"] for one in body}
        except (TypeError, KeyError) as cause:
            raise unavailable(self._url, what, "the answer isn't a schema registry's") from cause
        if not all(type(i) is int and 0 < i < _MOST_IDS for i in ids.values()):
            raise unavailable(self._url, what, "the answer isn't a schema registry's")
        if not ids:
            return None
        return int(ids.get(_DEFAULT_CONTEXT, ids[min(ids)]))

    def _get(self, url: str, what: str) -> httpx2.Response:
        """The one place where foreign errors become ours; the answer has status 200 or 404."""
        try:
            answer = self._client.get(url)
        except httpx2.TimeoutException as cause:
            raise unavailable(self._url, what, "no answer within the time limit") from cause
        except httpx2.HTTPError as cause:
            raise unavailable(self._url, what, "it can't be reached") from cause
        if answer.status_code in (401, 403):
            raise user_refused(self._url, what, answer.status_code)
        if answer.status_code not in (200, 404):
            raise unavailable(self._url, what, f"it answered HTTP {answer.status_code}")
        return answer


def _parsed(answer: httpx2.Response) -> Any:
    try:
        return json.loads(answer.text)
    except (ValueError, RecursionError):
        return None
