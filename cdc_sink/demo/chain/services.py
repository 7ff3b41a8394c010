"""Which parts the chain can have, what each needs, and in which order they are made and started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cdc_sink.demo.chain.hosting.service import Service
from cdc_sink.demo.chain.servers.connect_worker import CONNECTORS, ConnectWorker
from cdc_sink.demo.chain.servers.kafka import KafkaBroker
from cdc_sink.demo.chain.servers.mariadb import MariaDb
from cdc_sink.demo.chain.servers.mysql import MySql
from cdc_sink.demo.chain.servers.postgres import Postgres
from cdc_sink.demo.chain.servers.registry import RegistryServer
from cdc_sink.demo.chain.servers.spark_cluster import SparkMaster, SparkWorker
from cdc_sink.errors import ConfigError
from cdc_sink.jars.jars import MARIADB_GROUPS

CHAIN = ("postgres", "mysql", "kafka", "registry", "connect")
EVERYTHING = (*CHAIN, "mariadb", "spark")
_NEEDS = {"connect": ("kafka", "registry")}
_JARS = {
    "kafka": ("kafka",),
    "registry": ("registry",),
    "connect": ("connect", "converter", *CONNECTORS),
    "mysql": ("mysqld",),
    "mariadb": MARIADB_GROUPS,
}


def require_known(parts: Sequence[str]) -> tuple[str, ...]:
    """Return the parts in the order of their start. Raises: ConfigError when they can't work."""
    unknown = sorted(set(parts) - set(EVERYTHING))
    lonely = [name for name in parts for need in _NEEDS.get(name, ()) if need not in parts]
    if unknown or lonely:
        saw = f"unknown: {', '.join(unknown)}" if unknown else "connect needs kafka and registry"
        raise ConfigError(
            "chain: parts",
            saw,
            data="nothing was started",
            remedy=f"choose from {', '.join(EVERYTHING)}",
        )
    return tuple(name for name in EVERYTHING if name in parts)


def jar_groups(names: Sequence[str]) -> list[str]:
    """Name the jars that the parts need before they can be made."""
    return [group for name in names for group in _JARS.get(name, ())]


def port_names(names: Sequence[str]) -> list[str]:
    """Name the ports that the parts listen on."""
    several = {
        "kafka": ("kafka", "kafka_controller"),
        "spark": ("spark", "spark_ui", "spark_worker_1_ui", "spark_worker_2_ui"),
    }
    return [port for name in names for port in several.get(name, (name,))]


def build(workdir: Path, names: Sequence[str], ports: Mapping[str, int]) -> dict[str, Service]:
    """Make the part objects, in the order in which they are started."""
    parts: list[Service] = []
    if "kafka" in names:
        parts.append(KafkaBroker(workdir / "kafka", ports["kafka"], ports["kafka_controller"]))
    if "registry" in names:
        parts.append(RegistryServer(workdir / "registry", ports["registry"]))
    if "connect" in names:
        kafka = KafkaBroker(workdir / "kafka", ports["kafka"], ports["kafka_controller"])
        registry = RegistryServer(workdir / "registry", ports["registry"])
        parts.append(
            ConnectWorker(
                workdir / "connect",
                ports["connect"],
                kafka.endpoint,
                registry.native_url,
                connectors=_connectors(names),
            )
        )
    if "postgres" in names:
        parts.append(Postgres(workdir / "postgres", ports["postgres"]))
    if "mysql" in names:
        parts.append(MySql(workdir / "mysql", ports["mysql"]))
    if "mariadb" in names:
        parts.append(MariaDb(workdir / "mariadb", ports["mariadb"]))
    if "spark" in names:
        master = SparkMaster(workdir / "spark-master", ports["spark"], ports["spark_ui"])
        parts.append(master)
        for number in (1, 2):
            name = f"spark-worker-{number}"
            parts.append(
                SparkWorker(workdir / name, name, ports[f"spark_worker_{number}_ui"], master)
            )
    return {part.name: part for part in parts}


def _connectors(names: Sequence[str]) -> tuple[str, ...]:
    """Name the jar groups of the connectors that Connect loads."""
    return (*CONNECTORS, "debezium-mariadb") if "mariadb" in names else CONNECTORS
