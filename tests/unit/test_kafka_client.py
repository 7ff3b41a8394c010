"""The Kafka client's time limits and the rendering of its properties."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdc_sink import config
from cdc_sink.clients.kafka import Cluster, spark_kafka_options
from cdc_sink.errors import ConfigError, UnavailableError


@pytest.fixture(scope="module")
def nobody() -> Iterator[Cluster]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: the port refuses
        servers = f"127.0.0.1:{unused.getsockname()[1]}"
        yield Cluster(config.Kafka(bootstrap_servers=servers, timeout_s=0.2))


@pytest.mark.parametrize(
    "ask",
    [
        lambda cluster: cluster.cluster_id(),
        lambda cluster: cluster.topic("t"),
        lambda cluster: cluster.start_offsets("t"),
        lambda cluster: cluster.end_offsets("t"),
        lambda cluster: cluster.topic_config("t"),
    ],
)
def test_every_question_to_a_missing_broker_ends_in_time(
    nobody: Cluster, ask: Callable[[Cluster], object]
) -> None:
    with pytest.raises(UnavailableError, match=r"no answer within 0\.2 s") as failure:
        ask(nobody)
    assert failure.value.retry


def test_a_property_the_client_does_not_know_is_a_config_error() -> None:
    kafka = config.Kafka(bootstrap_servers="127.0.0.1:1", properties={"sasl.pasword": "hidden"})
    with pytest.raises(ConfigError) as failure:
        Cluster(kafka)
    assert "hidden" not in str(failure.value)


def test_plain_properties_reach_spark_as_they_are() -> None:
    kafka = config.Kafka(bootstrap_servers="b:1", properties={"security.protocol": "PLAINTEXT"})
    assert spark_kafka_options(kafka) == {
        "kafka.bootstrap.servers": "b:1",
        "kafka.isolation.level": "read_committed",
        "kafka.security.protocol": "PLAINTEXT",
    }


@pytest.mark.parametrize(
    ("mechanism", "module"),
    [("PLAIN", "plain.PlainLoginModule"), ("SCRAM-SHA-512", "scram.ScramLoginModule")],
)
def test_a_log_in_is_rendered_for_java_with_its_quotes_escaped(
    monkeypatch: pytest.MonkeyPatch, mechanism: str, module: str
) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD_OF_A_TEST", 'a"b\\c')
    kafka = config.Kafka(
        bootstrap_servers="b:1",
        properties={
            "sasl.mechanisms": mechanism,
            "sasl.username": "sink",
            "sasl.password": config.Secret(env="KAFKA_PASSWORD_OF_A_TEST"),
        },
    )
    assert spark_kafka_options(kafka) == {
        "kafka.bootstrap.servers": "b:1",
        "kafka.isolation.level": "read_committed",
        "kafka.sasl.mechanism": mechanism,
        "kafka.sasl.jaas.config": f"org.apache.kafka.common.security.{module} required "
        'username="sink" password="a\\"b\\\\c";',
    }


def test_the_isolation_is_the_one_that_is_asked_for() -> None:
    kafka = config.Kafka(
        bootstrap_servers="b:1", properties={"isolation.level": "read_uncommitted"}
    )
    assert spark_kafka_options(kafka)["kafka.isolation.level"] == "read_uncommitted"


def test_certificates_reach_executors_by_content(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----")
    kafka = config.Kafka(
        bootstrap_servers="b:1",
        properties={
            "ssl.ca.location": str(ca),
            "ssl.key.pem": "key",
            "ssl.endpoint.identification.algorithm": "none",
        },
    )
    assert spark_kafka_options(kafka) == {
        "kafka.bootstrap.servers": "b:1",
        "kafka.isolation.level": "read_committed",
        "kafka.ssl.truststore.certificates": "-----BEGIN CERTIFICATE-----",
        "kafka.ssl.truststore.type": "PEM",
        "kafka.ssl.keystore.key": "key",
        "kafka.ssl.keystore.type": "PEM",
        "kafka.ssl.endpoint.identification.algorithm": "",
    }
