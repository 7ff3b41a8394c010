"""The README's library example, as it stands there, against the real chain."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions
from psycopg import Connection

from cdc_sink import apply_changes, read_changes, verify
from cdc_sink.clients.catalog import load_table
from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import Pipeline, load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.observe.table_facts import read_ledger
from tests.chain.installed import Installed, install, spark_home
from tests.chain.pipelines import Lake
from tests.chain.settings import database_of

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
TOPIC = "readme_pg.public.customers"
RECORDS = 6  # two source snapshot rows, an update, a delete with its tombstone, an insert
LIMIT_S = 300


def block(language: str, holding: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (found,) = (text for text in blocks if holding in text)
    return str(found)


@pytest.fixture
def here(chain: Chain, tmp_path: Path) -> Path:
    """A folder with the README's shop.yaml, its addresses made those of the chain."""
    content = yaml.safe_load(block("yaml", "pipeline: shop"))
    content["kafka"]["bootstrap_servers"] = chain.bootstrap_servers
    content["registry"]["url"] = chain.registry_url
    content["catalog"]["uri"] = f"jdbc:sqlite:{tmp_path}/catalog.db"
    content["catalog"]["warehouse"] = f"{tmp_path}/warehouse"
    content["checkpoints"] = f"{tmp_path}/checkpoints"
    content["tables"][0]["topic"] = TOPIC
    content["tables"][0]["source"]["table"] = "public.customers"
    content["databases"] = {"postgres": database_of(chain.postgres, "readme", tmp_path)}
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


@pytest.fixture
def pipeline(here: Path) -> Pipeline:
    return load_config(here / "shop.yaml")


@pytest.fixture
def customers(chain: Chain, pipeline: Pipeline) -> Iterator[Connection[Any]]:
    """Six records in the topic."""
    chain.postgres.create_database("readme")
    with chain.postgres.connect("readme") as connection:
        connection.execute("CREATE TABLE customers (id int PRIMARY KEY, email text)")
        connection.execute("INSERT INTO customers VALUES (1, 'ann@example.com'), (2, 'bo@x.org')")
        tables = ["public.customers"]
        settings = chain.postgres_connector("readme_pg", "readme", tables, slot="readme")
        chain.add_connector("readme_pg", settings)
        wait_for(pipeline, 2)
        connection.execute("UPDATE customers SET email = 'ann@example.org' WHERE id = 1")
        connection.execute("DELETE FROM customers WHERE id = 2")
        connection.execute("INSERT INTO customers VALUES (3, NULL)")
        wait_for(pipeline, RECORDS)
        yield connection


def wait_for(pipeline: Pipeline, records: int) -> None:
    cluster, until = Cluster(pipeline.kafka), time.monotonic() + LIMIT_S
    while cluster.topic(TOPIC) is None or sum(cluster.end_offsets(TOPIC).values()) < records:
        assert time.monotonic() < until, f"{TOPIC} never had {records} records"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(tmp_path_factory.mktemp("installed"))


def run_block(here: Path, installed: Installed, **variables: str) -> None:
    """The README's block, run as it stands there."""
    (here / "example.py").write_text(block("python", "transforms="))
    ended = subprocess.run(
        [installed.python, "example.py"],
        cwd=here,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def emails(pipeline: Pipeline) -> dict[int, str | None]:
    table = load_table(pipeline.catalog, "shop.customers")
    assert table is not None
    found = table.scan(selected_fields=("id", "email")).to_arrow().to_pylist()
    return {row["id"]: row["email"] for row in found}


def by_foreach_batch(lake: Lake) -> Pipeline:
    """The same rows, by a query of one's own, masked by the configuration; its second run finds nothing."""
    masked = {"topic": TOPIC, "columns": {"email": {"mask": "sha256"}}}
    pipeline = lake.pipeline(masked)
    target = pipeline.target("shop.customers")
    for _ in range(2):
        query = (
            read_changes(lake.spark, target)
            .writeStream.foreachBatch(lambda rows, batch: apply_changes(rows, batch, target))
            .option("checkpointLocation", target.checkpoint)
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
    return pipeline


def hashed(email: str) -> str:
    return hashlib.sha256(email.encode()).hexdigest()


def grow_topic(chain: Chain) -> None:
    """A second partition; the connector's producer learns of it at its next start."""
    admin = AdminClient({"bootstrap.servers": chain.bootstrap_servers})
    admin.create_partitions([NewPartitions(TOPIC, 2)])[TOPIC].result(LIMIT_S)
    chain.restart("connect")


def damage(chain: Chain, key: bytes, partition: int) -> None:
    """A record of this key that is no Avro."""
    producer = Producer({"bootstrap.servers": chain.bootstrap_servers})
    producer.produce(TOPIC, key=key, value=b"no Avro", partition=partition)
    producer.flush(LIMIT_S)


def newest_key(chain: Chain) -> tuple[bytes, int]:
    """The key of the last record of a partition that has one."""
    consumer = Consumer({"bootstrap.servers": chain.bootstrap_servers, "group.id": "readme"})
    consumer.assign([TopicPartition(TOPIC, 0, RECORDS - 1)])
    (record,) = consumer.consume(1, timeout=LIMIT_S)
    consumer.close()
    return bytes(record.key() or b""), 0


def test_the_example_keeps_every_promise_and_goes_on_where_it_ended(
    here: Path,
    chain: Chain,
    pipeline: Pipeline,
    customers: Connection[Any],
    installed: Installed,
    new_lake: Callable[[], Lake],
) -> None:
    """First with the pyspark of pip, then with a Spark distribution."""
    run_block(here, installed)
    assert emails(pipeline) == {1: hashed("ann@example.org"), 3: None}
    assert emails(by_foreach_batch(new_lake())) == emails(pipeline)
    key, partition = newest_key(chain)  # of customer 3
    damage(chain, key, partition)
    grow_topic(chain)
    customers.execute("ALTER TABLE customers ADD COLUMN city text")
    customers.execute(
        "INSERT INTO customers SELECT i, 'c' || i, 'Ulm' FROM generate_series(4, 9) i"
    )
    wait_for(pipeline, RECORDS + 1 + 6)
    run_block(here, installed, **spark_home(here))
    assert emails(pipeline) == {
        1: hashed("ann@example.org"),
        3: None,
        **{i: hashed(f"c{i}") for i in range(4, 10)},
    }
    table = load_table(pipeline.catalog, "shop.customers")
    assert table is not None
    cities = table.scan(selected_fields=("city",)).to_arrow().to_pylist()
    assert sum(row["city"] == "Ulm" for row in cities) == 6
    (verified,) = verify(pipeline)
    assert verified.columns_masked == ("email",)
    assert [each.kind for each in verified.differences] == []  # customer 3 waits, as it is there
    read = read_ledger(table)
    assert read is not None
    ledger = read[0]
    assert sum(ledger.next_offsets.values()) == RECORDS + 1 + 6
    assert ledger.next_offsets[1] > 0
    assert ledger.quarantined == 1


def test_an_installation_writes_the_files_of_a_new_pipeline(
    installed: Installed, tmp_path: Path
) -> None:
    """What README names is in the wheel: an example that can be read, connectors, jobs."""

    def cdc_sink(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [installed.program, *arguments], cwd=tmp_path, capture_output=True, text=True
        )

    assert cdc_sink("init", "shop").returncode == 0
    found = {str(path.relative_to(tmp_path / "shop")) for path in tmp_path.rglob("*.*")}
    assert found >= {"pipeline.yaml", "connectors/postgresql.json", "jobs/stream.py"}
    packages = cdc_sink("packages", "shop/pipeline.yaml")
    assert "org.postgresql:postgresql:" in packages.stdout
    assert "hadoop-aws" in packages.stdout
    job = subprocess.run(
        [installed.python, "shop/jobs/stream.py", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "--config" in job.stdout
    again = cdc_sink("init", "shop")
    assert again.returncode == 2
    assert "these files are there already: pipeline.yaml" in again.stderr
