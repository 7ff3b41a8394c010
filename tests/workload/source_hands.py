"""Other hands on the connector: its snapshot begun again on the same topics, Connect killed inside of it."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import psycopg

from cdc_sink.clients.connect import ConnectClient
from cdc_sink.clients.kafka import Cluster
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.errors import CdcSinkError

LIMIT_S = 120.0
_SNAPSHOT_S = 20.0  # a snapshot of these tables begins long before


class SourceHands:
    """What others do to one connector. `connect` opens a connection to its database."""

    def __init__(
        self, chain: Chain, name: str, settings: Mapping[str, str], connect: Callable[[], Any]
    ) -> None:
        self._chain, self._name, self._settings = chain, name, settings
        self._open = connect

    def kill(self) -> str:
        """Kill Connect and start it again."""
        self._chain.kill("connect")
        self._chain.restart("connect")
        return "killed"

    def forget(self, draw: random.Random) -> str:
        """Remove the connector with its offsets, and sometimes a slot with it."""
        self._ask("PUT", "/stop")
        self._ask("DELETE", "/offsets")
        self._ask("DELETE", "")
        slot = self._settings.get("slot.name")
        if slot is None or draw.random() < 0.5:
            return "offsets deleted"
        self._drop_slot(slot)
        return "offsets deleted, slot dropped"

    def snapshot_again(self, draw: random.Random) -> str:
        """Let the connector take a new source snapshot, a moment after its end."""
        told = self.forget(draw)
        pause_s = draw.choice((0.0, 1.0, 4.0))
        threading.Event().wait(pause_s)
        self.begin()
        return f"{told}, away for {pause_s:g} s"

    def snapshot_killed(self, draw: random.Random, topic: str, cluster: Cluster) -> str:
        """The same, and Connect is killed as soon as the snapshot has sent a record of one topic."""
        told = self.forget(draw)
        before = _end(cluster, topic)
        self._ask_with("PUT", "/config", self._settings)
        until = time.monotonic() + _SNAPSHOT_S
        while (end := _end(cluster, topic)) <= before and time.monotonic() < until:
            threading.Event().wait(0.01)
        self._chain.kill("connect")
        threading.Event().wait(draw.choice((0.0, 2.0)))
        self._chain.restart("connect")
        return f"{told}, killed after {end - before} records of {topic}"

    def route_otherwise(self) -> str:
        """Let the connector spread its records in turns, until it is made anew the next time."""
        partitioner = "org.apache.kafka.clients.producer.RoundRobinPartitioner"
        settings = {**self._settings, "producer.override.partitioner.class": partitioner}
        self._chain.add_connector(self._name, settings, limit_s=LIMIT_S)
        return "records are spread in turns"

    def rebuild_registry(self, draw: random.Random) -> str:
        """Lose the registry's schemas; what is registered from now on gets other ids."""
        self._chain.kill("registry")
        for file in (self._chain.workdir / "registry").glob("schemas*"):
            file.unlink()
        self._chain.restart("registry")
        registry, first = self._chain.registry_url, draw.randrange(20)
        httpx2.put(f"{registry}/config", json={"compatibility": "NONE"}).raise_for_status()
        for number in range(first):
            schema = {"type": "record", "name": f"Other{number}", "fields": []}
            body = {"schema": json.dumps(schema)}
            url = f"{registry}/subjects/other-{number}-value/versions"
            httpx2.post(url, json=body, timeout=30).raise_for_status()
        self.kill()  # what a connector has registered it does not register again
        return f"made anew, with {first} schemas of others first"

    def begin(self) -> None:
        """Make the connector, and return when it runs."""
        self._chain.add_connector(self._name, self._settings, limit_s=LIMIT_S)

    def heal(self) -> str:
        """Restart what FAILED of the connector, as the manual says; what failed, or nothing."""
        try:
            status = ConnectClient(self._chain.connect_url).status(self._name) or {}
        except CdcSinkError:
            return ""
        failed = [part for part, state in status.items() if state == "FAILED"]
        if not failed:
            return ""
        self._ask("POST", "/restart?includeTasks=true&onlyFailed=true")
        return f"connector {self._name}: {', '.join(failed)} FAILED"

    def _drop_slot(self, slot: str) -> None:
        until = time.monotonic() + LIMIT_S
        while True:
            with self._open() as connection:
                try:
                    connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
                except psycopg.Error:  # its connection ends a moment later
                    if time.monotonic() > until:
                        raise
                else:
                    return
            threading.Event().wait(0.5)

    def _ask(self, verb: str, path: str) -> None:
        self._ask_with(verb, path, None)

    def _ask_with(self, verb: str, path: str, body: Mapping[str, str] | None) -> None:
        """Ask Connect until it agrees: it refuses while a connector is about to stop."""
        url = f"{self._chain.connect_url}/connectors/{self._name}{path}"
        until = time.monotonic() + LIMIT_S
        while True:
            try:
                answer = httpx2.request(verb, url, json=body, timeout=30)
                if answer.status_code < 300 or (answer.status_code, verb) == (404, "DELETE"):
                    return
                told = f"HTTP {answer.status_code}: {answer.text[:300]}"
            except httpx2.HTTPError as silent:
                told = str(silent)
            if time.monotonic() > until:
                raise AssertionError(f"{verb} {url}: {told}")
            threading.Event().wait(0.5)


def _end(cluster: Cluster, topic: str) -> int:
    return sum(cluster.end_offsets(topic).values())
