"""Kafka Connect's REST interface: the few calls the demo and the tests need."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx2

from cdc_sink.errors import ConfigError, UnavailableError

_POLL_S = 0.2


class Connect:
    """One Connect worker group."""

    def __init__(self, url: str, *, timeout_s: float = 30) -> None:
        self._url = url.rstrip("/")
        self._client = httpx2.Client(timeout=timeout_s)

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
        states = {"connector": str(answer["connector"]["state"])}
        states |= {f"task {task['id']}": str(task["state"]) for task in answer["tasks"]}
        return states

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
        if answer.status_code >= 300:
            # 409: the group is rebalancing, which passes.
            raise self._unavailable(f"{path}: it answered HTTP {answer.status_code}")
        try:
            return answer.json() if answer.content else {}
        except ValueError as cause:
            raise self._unavailable(f"{path}: the answer isn't JSON") from cause

    def _unavailable(self, saw: str) -> UnavailableError:
        return UnavailableError(f"connect {self._url}", saw, remedy="start Kafka Connect")
