"""The Kafka broker of the chain: one node, KRaft, no automatic topics.

A consumer must not create the topic it waits for, hence auto.create.topics.enable=false: Connect
makes the topics of its connectors, everybody else asks for them.
"""

from __future__ import annotations

import base64
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from cdc_sink.demo.chain.hosting import cache
from cdc_sink.demo.chain.hosting.ports import HOST, is_listening
from cdc_sink.demo.chain.hosting.process import Launch, run_kept
from cdc_sink.demo.chain.hosting.service import java_launch, render_properties
from cdc_sink.jars.jars import jars

LARGEST_RECORD_BYTES = 16 * 1024 * 1024
_TEMPLATE = "kafka-4.3.1-data"


@dataclass(frozen=True)
class KafkaBroker:
    """One broker that is its own controller."""

    folder: Path
    port: int
    controller_port: int
    name: str = "kafka"

    @property
    def endpoint(self) -> str:
        """The bootstrap servers."""
        return f"{HOST}:{self.port}"

    def prepare(self) -> None:
        """Write the properties; a new work folder gets a formatted log with its own cluster id."""
        self.folder.mkdir(exist_ok=True)
        data = self.folder / "data"
        self._properties_file.write_text(render_properties(self._properties(data)))
        if not data.exists():
            cache.copy_folder(cache.keep(_TEMPLATE, self._format), data)
            meta = data / "meta.properties"
            meta.write_text(_with_new_ids(meta.read_text()))

    def launch(self) -> Launch:
        """A heap of 384 MB carries demo and tests."""
        file = str(self._properties_file)
        return java_launch(self.folder, jars("kafka"), "kafka.Kafka", file, heap_mb=384)

    def is_ready(self) -> bool:
        """True when the broker answers a metadata request."""
        if not is_listening(self.port):
            return False
        admin = AdminClient({"bootstrap.servers": self.endpoint, "log_level": 0})
        try:
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    @property
    def _properties_file(self) -> Path:
        return self.folder / "kraft.properties"

    def _format(self, template: Path) -> None:
        properties = template.with_name("format.properties")
        properties.write_text(render_properties(self._properties(template)))
        args = ("format", "-t", _new_id(), "-c", str(properties), "--ignore-formatted")
        tool = "kafka.tools.StorageTool"
        run_kept("kafka", java_launch(template.parent, jars("kafka"), tool, *args, heap_mb=128))

    def _properties(self, data: Path) -> dict[str, str]:
        size = str(LARGEST_RECORD_BYTES)
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{self.endpoint},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.endpoint}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(data),
            "auto.create.topics.enable": "false",
            "message.max.bytes": size,
            "replica.fetch.max.bytes": size,
            "log.retention.ms": "-1",
            "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
            # A killed broker is let in again when its old session is over, by default after 9 s.
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "500",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
        }


def _with_new_ids(meta: str) -> str:
    """Replace the ids that the copied first data folder would share with every other one."""
    meta = re.sub(r"(?m)^cluster\.id=.*$", f"cluster.id={_new_id()}", meta)
    return re.sub(r"(?m)^directory\.id=.*$", f"directory.id={_new_id()}", meta)


def _new_id() -> str:
    """Kafka's own form, 22 characters of URL-safe base64; a leading '-' would read as a flag."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
