"""Other hands on a table's topic: more partitions, and a transaction that is taken back."""

from __future__ import annotations

import random
import threading

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from cdc_sink.clients.kafka import Cluster

MOST_PARTITIONS = 5
_COPIED = 40  # records of an aborted transaction
_STRAYS = 5
_LIMIT_S = 30


class TopicHands:
    """What others do to the topics of one cluster."""

    def __init__(self, servers: str, cluster: Cluster) -> None:
        self._servers, self._cluster = servers, cluster
        self._admin = AdminClient({"bootstrap.servers": servers})
        self._transactions = 0

    def grow(self, topic: str, draw: random.Random) -> str:
        """Add one or two partitions; nothing to a topic that has many."""
        found = self._cluster.topic(topic)
        if found is None or found.partitions >= MOST_PARTITIONS:
            return ""
        partitions = min(MOST_PARTITIONS, found.partitions + draw.choice((1, 2)))
        grown = self._admin.create_partitions([NewPartitions(topic, partitions)])
        grown[topic].result(_LIMIT_S)
        return f"{found.partitions} -> {partitions} partitions"

    def abort(self, topic: str, draw: random.Random) -> str:
        """Write older records and one that is no record at all, and take all of it back."""
        old = self._some(topic, draw)
        self._transactions += 1
        name = f"{topic}-{self._transactions}"
        producer = Producer({"bootstrap.servers": self._servers, "transactional.id": name})
        producer.init_transactions(_LIMIT_S)
        producer.begin_transaction()
        for one in old:
            producer.produce(
                topic, key=one.key(), value=one.value(), partition=one.partition() or 0
            )
        producer.produce(topic, key=b"no", value=b"record", partition=0)
        producer.flush(_LIMIT_S)
        threading.Event().wait(draw.choice((0.0, 0.0, 3.0)))  # readers wait before an open one
        producer.abort_transaction(_LIMIT_S)
        return f"{len(old) + 1} records"

    def stray(self, source: str, topic: str, draw: random.Random) -> str:
        """Write some records of one topic into another one, where their keys' bytes put them."""
        if self._cluster.topic(source) is None or self._cluster.topic(topic) is None:
            return ""
        found = [one for one in self._some(source, draw) if one.value() is not None][:_STRAYS]
        # Kafka's own rule, which is not the default of this client.
        producer = Producer({"bootstrap.servers": self._servers, "partitioner": "murmur2_random"})
        for one in found:
            producer.produce(topic, key=one.key(), value=one.value())
        producer.flush(_LIMIT_S)
        return f"{len(found)} records of {source}" if found else ""

    def delete(self, topics: list[str]) -> None:
        """Delete topics for good, and return when they are gone."""
        for gone in self._admin.delete_topics(topics).values():
            gone.result(_LIMIT_S)
        while any(self._cluster.topic(topic) is not None for topic in topics):
            threading.Event().wait(0.2)

    def keys(self, topic: str) -> list[bytes]:
        """The keys of all records of a small topic; none where there is no such topic."""
        if self._cluster.topic(topic) is None:
            return []
        ends = self._cluster.end_offsets(topic)
        spans = {p: (0, end) for p, end in ends.items() if end}
        return [bytes(one.key() or b"") for one in self._read(topic, spans)]

    def _some(self, topic: str, draw: random.Random) -> list[Message]:
        ends = self._cluster.end_offsets(topic)
        partition = draw.choice(sorted(ends))
        end = ends[partition]
        first = max(0, end - draw.randrange(1, 4 * _COPIED))
        span = (first, min(end, first + _COPIED))
        return self._read(topic, {partition: span} if span[0] < span[1] else {})

    def _read(self, topic: str, spans: dict[int, tuple[int, int]]) -> list[Message]:
        """Read between offsets; control records between them may leave fewer."""
        found: list[Message] = []
        for partition, (first, end) in spans.items():
            consumer = Consumer(
                {
                    "bootstrap.servers": self._servers,
                    "group.id": "workload",
                    "enable.auto.commit": False,
                    "enable.partition.eof": False,
                }
            )
            consumer.assign([TopicPartition(topic, partition, first)])
            read = consumer.consume(end - first, timeout=2)
            consumer.close()
            found += [one for one in read if one.error() is None and (one.offset() or 0) < end]
        return found


def number_of(key: bytes) -> int:
    """Read a key of one Avro int: five bytes of framing, then a zigzag number."""
    value = 0
    for place, byte in enumerate(key[5:]):
        value |= (byte & 0x7F) << (7 * place)
    return (value >> 1) ^ -(value & 1)
