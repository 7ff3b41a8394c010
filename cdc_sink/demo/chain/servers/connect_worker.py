"""Kafka Connect of the chain, one distributed worker with the Debezium connectors and Avro."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cdc_sink.demo.chain.hosting import cache
from cdc_sink.demo.chain.hosting.ports import HOST
from cdc_sink.demo.chain.hosting.process import Launch
from cdc_sink.demo.chain.hosting.service import answers, java_launch, render_properties
from cdc_sink.demo.chain.servers.kafka import LARGEST_RECORD_BYTES
from cdc_sink.jars.jars import jars

CONNECTORS = ("debezium-mysql", "debezium-postgres")


@dataclass(frozen=True)
class ConnectWorker:
    """One worker; its connectors, offsets and states live in Kafka and survive a restart."""

    folder: Path
    port: int
    bootstrap_servers: str
    registry_native_url: str
    connectors: tuple[str, ...] = CONNECTORS  # jar groups
    name: str = "connect"

    @property
    def endpoint(self) -> str:
        """The REST interface."""
        return f"http://{HOST}:{self.port}"

    def prepare(self) -> None:
        """Unpack the plugins once and write the worker's properties."""
        self.folder.mkdir(exist_ok=True)
        plugins = cache.plugins(self.connectors)
        self._properties_file.write_text(render_properties(self._properties(plugins)))

    def launch(self) -> Launch:
        """A heap of 640 MB carries two connectors and records of 16 MB."""
        main = "org.apache.kafka.connect.cli.ConnectDistributed"
        file = str(self._properties_file)
        return java_launch(self.folder, jars("connect"), main, file, heap_mb=640)

    def is_ready(self) -> bool:
        """True when it joined its group: before, /connectors does not answer."""
        return answers(f"{self.endpoint}/connectors")

    @property
    def _properties_file(self) -> Path:
        return self.folder / "connect.properties"

    def _properties(self, plugins: Path) -> dict[str, str]:
        converters = {
            f"{side}.converter{key}": value
            for side in ("key", "value")
            for key, value in self._converter().items()
        }
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "group.id": "connect",
            "listeners": self.endpoint,
            "rest.advertised.host.name": HOST,
            "plugin.path": str(plugins),
            "plugin.discovery": "service_load",
            "config.storage.topic": "connect_configs",
            "offset.storage.topic": "connect_offsets",
            "status.storage.topic": "connect_status",
            "config.storage.replication.factor": "1",
            "offset.storage.replication.factor": "1",
            "status.storage.replication.factor": "1",
            "offset.storage.partitions": "1",
            "status.storage.partitions": "1",
            # Written down every second, so that a kill redelivers little, yet does redeliver.
            "offset.flush.interval.ms": "1000",
            "scheduled.rebalance.max.delay.ms": "0",
            "producer.max.request.size": str(LARGEST_RECORD_BYTES),
            "producer.compression.type": "lz4",
            **converters,
        }

    def _converter(self) -> dict[str, str]:
        """Confluent framing: byte 0, four bytes of schema id, Avro."""
        return {
            "": cache.AVRO_CONVERTER,
            ".apicurio.registry.url": self.registry_native_url,
            ".apicurio.registry.auto-register": "true",
            ".apicurio.registry.find-latest": "false",
            ".apicurio.registry.as-confluent": "true",
            ".apicurio.registry.use-id": "contentId",
            ".apicurio.registry.headers.enabled": "false",
        }
