"""Kafka Connect's REST interface: the few calls the demo, the tests and `check` need.

Rule this file owns: of a connector's settings only those are kept that the caller names; the others may be
secret.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx2

from cdc_sink import config
from cdc_sink.debezium.connector import ConnectorReading
from cdc_sink.errors import CdcSinkError, ConfigError, UnavailableError

_POLL_S = 0.2  # Connect tells of a connector's state only when it is asked


class ConnectClient:
    """One Connect worker group."""

    def __init__(
        self, url: str, *, timeout_s: float = 30, login: tuple[str, str] | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._client = httpx2.Client(timeout=timeout_s, auth=login)

    @classmethod
    def of(cls, given: config.Connect) -> ConnectClient:
        """Open a client; nothing is asked yet. Raises ConfigError when the password can't be read."""
        login = None
        if given.user is not None and given.password is not None:
            login = given.user, given.password.reveal()
        return cls(given.url, timeout_s=given.timeout_s, login=login)

    def connectors(self, keep: Callable[[str], bool]) -> list[ConnectorReading]:
        """Return every connector, with the traces of its parts that FAILED.

        In:     keep, whether a setting of that name is kept.
        Raises: UnavailableError when Connect is silent, ConfigError when it refuses the user.
        """
        path = "/connectors?expand=info&expand=status"
        answer = self._call("GET", path)
        try:
            return [
                ConnectorReading(
                    name=str(name),
                    settings={k: v for k, v in one["info"]["config"].items() if keep(k)},
                    failed=dict(_failed_parts(one["status"])),
                    states=_states(one["status"]),
                )
                for name, one in sorted(answer.items())
            ]
        except (KeyError, TypeError, AttributeError) as cause:
            raise self._unavailable("the answer isn't Kafka Connect's") from cause

    def source_offset(self, name: str) -> Mapping[str, Any] | None:
        """Return how far a connector of one source has read, as Connect keeps it; None for not known.

        Raises: as for `connectors`.
        Source: Kafka 4.3 REST, GET /connectors/{name}/offsets (KIP-875).
        """
        answer = self._call("GET", f"/connectors/{quote(name, safe='')}/offsets")
        try:
            offsets = [one["offset"] for one in (answer or {"offsets": []})["offsets"]]
        except (KeyError, TypeError) as cause:
            raise self._unavailable("the answer isn't Kafka Connect's") from cause
        return offsets[0] if len(offsets) == 1 and isinstance(offsets[0], dict) else None

    def put_connector(self, name: str, settings: Mapping[str, str]) -> None:
        """Create the connector or change its settings; the same settings again change nothing.

        Raises: ConfigError when Connect refuses the settings, UnavailableError when it is silent.
        """
        self._call("PUT", f"/connectors/{quote(name, safe='')}/config", settings)

    def status(self, name: str) -> dict[str, str] | None:
        """Return the states by part: `connector`, `task 0`, …; None for no such connector.

        Raises: UnavailableError when Connect is silent.
        """
        answer = self._call("GET", f"/connectors/{quote(name, safe='')}/status")
        if answer is None:
            return None
        return _states(answer)

    def wait_running(self, name: str, timeout_s: float) -> None:
        """Return when the connector and at least one task run.

        Raises: ConfigError when a part FAILED, UnavailableError after `timeout_s` seconds.
        """
        until = time.monotonic() + timeout_s
        states: dict[str, str] = {}
        while time.monotonic() < until:
            states = self.status(name) or {}
            if len(states) > 1 and set(states.values()) == {"RUNNING"}:
                return
            if "FAILED" in states.values():
                raise ConfigError(
                    f"connector {name}",
                    f"it failed: {states}",
                    remedy=f"read the trace at {self._url}/connectors/{name}/status",
                )
            time.sleep(_POLL_S)
        raise UnavailableError(
            f"connector {name}",
            f"not running after {timeout_s:g} s: {states or 'unknown'}",
            remedy="read the log of Kafka Connect",
        )

    def delete(self, name: str) -> None:
        """Remove the connector; nothing happens when there is none.

        Raises: UnavailableError when Connect is silent.
        """
        self._call("DELETE", f"/connectors/{quote(name, safe='')}")

    def _call(self, verb: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        """The one place where foreign errors become ours; None = no such connector."""
        try:
            answer = self._client.request(verb, self._url + path, json=body)
        except httpx2.HTTPError as cause:
            raise self._unavailable("it can't be reached") from cause
        if answer.status_code == 404:
            return None
        if answer.status_code == 400:
            # Connect's text names the settings at fault, and may quote their values.
            raise ConfigError(
                f"connect {self._url}{path}",
                "Connect refuses the connector's settings (HTTP 400)",
                remedy="PUT the same settings to /connector-plugins/<class>/config/validate, which "
                "names the faults",
            )
        if answer.status_code in (401, 403):
            raise self._refused(answer.status_code)
        if answer.status_code >= 300:
            # 409: the group is rebalancing, which passes.
            raise self._unavailable(f"{path}: it answered HTTP {answer.status_code}")
        try:
            return answer.json() if answer.content else {}
        except ValueError as cause:
            raise self._unavailable(f"{path}: the answer isn't JSON") from cause

    def _refused(self, status: int) -> CdcSinkError:
        return ConfigError(
            f"connect {self._url}",
            f"the user is refused (HTTP {status})",
            remedy="correct connect.user and connect.password, or the user's rights",
        )

    def _unavailable(self, saw: str) -> UnavailableError:
        return UnavailableError(f"connect {self._url}", saw, remedy="start Kafka Connect")


def _states(status: Mapping[str, Any]) -> dict[str, str]:
    states = {"connector": str(status["connector"]["state"])}
    return states | {f"task {task['id']}": str(task["state"]) for task in status["tasks"]}


def _failed_parts(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    parts = [("connector", status["connector"])]
    parts += [(f"task {task['id']}", task) for task in status["tasks"]]
    for name, part in parts:
        if part["state"] == "FAILED":
            yield name, str(part.get("trace") or "")
