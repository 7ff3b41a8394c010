"""A connector as Kafka Connect tells of it: what it writes is decided from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cdc_sink.debezium.captures import captures

HISTORY_SERVERS = "schema.history.internal.kafka.bootstrap.servers"


@dataclass(frozen=True)
class ConnectorReading:
    """A connector: the settings that were kept, and the trace of each part that FAILED."""

    name: str
    settings: Mapping[str, str]
    failed: Mapping[str, str]
    states: Mapping[str, str] = field(default_factory=dict)  # of each part: connector, task 0 …

    def writes(self, topic: str) -> bool:
        """Whether it is known to write the topic."""
        return captures(self.settings, topic) is True

    def shares_brokers(self, bootstrap_servers: str) -> bool:
        """Whether its schema history is known to be kept by these brokers."""
        own = self.settings.get(HISTORY_SERVERS, "").split(",")
        return bool(set(own) & set(bootstrap_servers.split(",")))

    def may_write(self, topic: str) -> bool:
        """Whether its settings don't tell that it doesn't write the topic."""
        return captures(self.settings, topic) is not False
