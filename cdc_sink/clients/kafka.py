"""The Kafka cluster, asked without Spark: who it is, which topics it has, where they begin and end.

Rules this file owns: every question has a time limit; the client's own log goes to the logger
`cdc_sink.kafka`, not to stderr; properties are written once, by librdkafka's names, and rendered
for Java's client here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeVar

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)

# Its stubs lack what this module hands on, and the types of OffsetSpec.
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    OffsetSpec,
)

from cdc_sink import config
from cdc_sink.errors import CdcSinkError, ConfigError, UnavailableError

Answer = TypeVar("Answer")

# Records of an aborted transaction are no changes: a connector with exactly-once support leaves them behind.
COMMITTED = "read_committed"
_REFUSED = {
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}


@dataclass(frozen=True)
class TopicFacts:
    """One incarnation of a topic: a topic deleted and made again has another `topic_id`."""

    name: str
    topic_id: str
    partitions: int


@dataclass(frozen=True)
class RawRecord:
    """One record of a topic, as it lies there."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Cluster:
    """One Kafka cluster."""

    def __init__(self, kafka: config.Kafka) -> None:
        self._servers = kafka.bootstrap_servers
        self._timeout_s = kafka.timeout_s
        self._last_errors: set[int] = set()
        is_committed = str(kafka.properties.get("isolation.level", COMMITTED)) == COMMITTED
        self._isolation = (
            IsolationLevel.READ_COMMITTED if is_committed else IsolationLevel.READ_UNCOMMITTED
        )
        self._settings: dict[str, Any] = {
            "reconnect.backoff.max.ms": 1000,
            **config.revealed(kafka.properties),
            "bootstrap.servers": kafka.bootstrap_servers,
            "error_cb": lambda error: self._last_errors.add(error.code()),
        }
        try:
            self._admin = AdminClient(self._settings, logger=logging.getLogger("cdc_sink.kafka"))
        except (KafkaException, ValueError, TypeError) as cause:
            raise ConfigError(
                "kafka.properties",
                "the client refuses a property or its value",
                remedy="use librdkafka's names and values, such as security.protocol, "
                "sasl.mechanisms, sasl.username, ssl.ca.location",
            ) from cause

    def cluster_id(self) -> str:
        """Return the cluster's id.

        Raises: UnavailableError when no broker answers in time.
        """
        limit = self._timeout_s
        asked = self._ask(
            lambda: self._admin.describe_cluster(request_timeout=limit).result(limit + 1),
            "cluster id",
        )
        return str(asked.cluster_id)

    def topic(self, topic: str) -> TopicFacts | None:
        """Return what the cluster knows of a topic; None when there is none of that name.

        Raises: UnavailableError when no broker answers in time.
        """
        limit = self._timeout_s
        try:
            asked = self._ask(
                lambda: self._admin.describe_topics(
                    TopicCollection([topic]), request_timeout=limit
                )[topic].result(limit + 1),
                f"topic {topic}",
            )
        except _NoSuchTopic:
            return None
        return TopicFacts(topic, str(asked.topic_id), len(asked.partitions))

    def start_offsets(self, topic: str) -> dict[int, int]:
        """Return the offset of the oldest record there still is, by partition.

        Raises: UnavailableError when no broker answers in time; ConfigError for no such topic.
        """
        return self._offsets(topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Return where reading ends now, by partition: behind the last record, or before an open transaction.

        Raises: UnavailableError when no broker answers in time; ConfigError for no such topic.
        """
        return self._offsets(topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def newest_record_ms(self, topic: str) -> int | None:
        """Return when a topic's newest record was sent, ms since 1970; None for an empty topic.

        Raises: UnavailableError when no broker answers in time; ConfigError for no such topic.
        Source: KIP-734, ListOffsets with the greatest timestamp.
        """
        spec = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
        stamps = [one.timestamp for one in self._listed(topic, spec).values()]
        return max((stamp for stamp in stamps if stamp > 0), default=None)

    def newest(self, topic: str, count: int) -> list[RawRecord]:
        """Return the newest records of a topic by their time, oldest first; fewer where it has no more.

        Raises: UnavailableError when no broker answers in time; ConfigError for no such topic.
        """
        begins, ends = self.start_offsets(topic), self.end_offsets(topic)
        first = {p: max(begins[p], end - count) for p, end in ends.items()}
        left = {p for p, end in ends.items() if first[p] < end}
        consumer = Consumer(
            {
                **self._settings,
                "group.id": "cdc-sink-check",  # nothing is committed under it
                "enable.auto.commit": False,
                "isolation.level": self._settings.get("isolation.level", COMMITTED),
            },
            logger=logging.getLogger("cdc_sink.kafka"),
        )
        found: list[RawRecord] = []
        until = time.monotonic() + self._timeout_s
        try:
            consumer.assign([TopicPartition(topic, p, first[p]) for p in sorted(left)])
            while left and time.monotonic() < until:
                for one in consumer.consume(500, timeout=0.2):
                    if one.error() is None:
                        found.append(_raw(one))
                # Behind the last record may be marks of transactions: only the position tells.
                places = consumer.position([TopicPartition(topic, p) for p in sorted(left)])
                left -= {one.partition for one in places if one.offset >= ends[one.partition]}
        finally:
            consumer.close()
        if left:
            raise self._translated(f"records of topic {topic}", None)
        return sorted(found, key=lambda r: (r.timestamp_ms, r.partition, r.offset))[-count:]

    def topic_config(self, topic: str) -> dict[str, str]:
        """Return a topic's settings by Kafka's names, such as retention.ms.

        Raises: UnavailableError when no broker answers in time; ConfigError for no such topic.
        """
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        limit = self._timeout_s
        try:
            asked = self._ask(
                lambda: self._admin.describe_configs([resource], request_timeout=limit)[
                    resource
                ].result(limit + 1),
                f"settings of topic {topic}",
            )
        except _NoSuchTopic:
            self._refuse_missing(topic)
        return {name: str(entry.value) for name, entry in asked.items()}

    def _offsets(self, topic: str, which: OffsetSpec) -> dict[int, int]:
        return {partition: one.offset for partition, one in self._listed(topic, which).items()}

    def _listed(self, topic: str, which: OffsetSpec) -> dict[int, Any]:
        facts = self.topic(topic)
        if facts is None:
            self._refuse_missing(topic)
        limit = self._timeout_s
        asked = self._ask(
            lambda: self._admin.list_offsets(
                {TopicPartition(topic, number): which for number in range(facts.partitions)},
                isolation_level=self._isolation,
                request_timeout=limit,
            ),
            f"offsets of topic {topic}",
        )
        what = f"offsets of topic {topic}"
        found = {
            place.partition: self._ask(partial(answer.result, limit + 1), what)
            for place, answer in asked.items()
        }
        return dict(sorted(found.items()))

    def _refuse_missing(self, topic: str) -> NoReturn:
        raise ConfigError(
            f"topic {topic}",
            f"there is no such topic on {self._servers}",
            remedy="correct the topic's name, or start the connector that writes it",
        )

    def _ask(self, question: Callable[[], Answer], what: str) -> Answer:
        """The one place where foreign errors become ours."""
        try:
            return question()
        except KafkaException as cause:
            code = cause.args[0].code() if cause.args else None
            if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID):
                raise _NoSuchTopic from cause
            raise self._translated(what, code) from cause
        except TimeoutError as cause:
            raise self._translated(what, None) from cause

    def _translated(self, what: str, code: int | None) -> CdcSinkError:
        # A refused log-in shows as a time-out; the reason comes through the error callback.
        self._admin.poll(0)
        if _REFUSED & {code, *self._last_errors}:
            return ConfigError(
                f"kafka {self._servers}",
                f"{what}: the broker refuses this user or this encryption",
                remedy="correct security.protocol, sasl.* and ssl.* under kafka.properties, or the "
                "user's rights",
            )
        return UnavailableError(
            f"kafka {self._servers}",
            f"{what}: no answer within {self._timeout_s:g} s",
            remedy="start the brokers or correct kafka.bootstrap_servers; the table is tried again "
            "by itself",
        )


def _raw(message: Message) -> RawRecord:
    key, value = message.key(), message.value()
    return RawRecord(
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        None if key is None else bytes(key),
        None if value is None else bytes(value),
    )


class _NoSuchTopic(Exception):
    """The cluster says that it has no such topic."""


def spark_kafka_options(kafka: config.Kafka) -> dict[str, str]:
    """Render the connection for Spark's Kafka source: Java's names, each with the prefix `kafka.`.

    Certificates are passed by content: executors then need no file.
    Raises: ConfigError when a secret or a certificate can't be read.
    Source: librdkafka CONFIGURATION.md; Kafka 4.3 consumer configs; KIP-651 (PEM stores).
    """
    given = config.revealed(kafka.properties)
    rendered = {"bootstrap.servers": kafka.bootstrap_servers, "isolation.level": COMMITTED}
    rendered |= _java_log_in(given)
    rendered |= _java_certificates(given)
    for name, value in given.items():
        if name == "ssl.endpoint.identification.algorithm":
            rendered[name] = "" if value == "none" else value
        elif name not in _RENDERED_ELSEWHERE:
            rendered[name] = value
    return {f"kafka.{name}": value for name, value in rendered.items()}


_RENDERED_ELSEWHERE = {
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.pem",
}


def _java_log_in(given: Mapping[str, str]) -> dict[str, str]:
    mechanism = given.get("sasl.mechanisms", given.get("sasl.mechanism"))
    if mechanism is None:
        return {}
    rendered = {"sasl.mechanism": mechanism}
    if "sasl.username" in given:
        kind = "plain.Plain" if mechanism == "PLAIN" else "scram.Scram"
        user = _jaas_quoted(given["sasl.username"])
        password = _jaas_quoted(given.get("sasl.password", ""))
        rendered["sasl.jaas.config"] = (
            f"org.apache.kafka.common.security.{kind}LoginModule required "
            f"username={user} password={password};"
        )
    return rendered


def _jaas_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _java_certificates(given: Mapping[str, str]) -> dict[str, str]:
    rendered: dict[str, str] = {}
    for ours, theirs in (
        ("ssl.ca", "ssl.truststore.certificates"),
        ("ssl.certificate", "ssl.keystore.certificate.chain"),
        ("ssl.key", "ssl.keystore.key"),
    ):
        content = given.get(f"{ours}.pem")
        if content is None and f"{ours}.location" in given:
            content = config.Secret(file=given[f"{ours}.location"]).reveal()
        if content is not None:
            rendered[theirs] = content
            rendered[".".join(theirs.split(".")[:2]) + ".type"] = "PEM"
    return rendered
