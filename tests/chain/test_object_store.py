"""The example configuration on what it names: a PostgreSQL catalog, tables and checkpoints on S3.

Its addresses, logins and tables are replaced by those of the chain, everything else stays as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest
import yaml

from cdc_sink.clients.catalog import load_table
from cdc_sink.config import Pipeline, load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.hosting.ports import choose_ports
from cdc_sink.observe.table_facts import read_ledger
from tests.chain.databases import connector, execute
from tests.chain.pipelines import require_equal, wait, wait_for_records
from tests.chain.settings import database_of

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "conf" / "production.example.yaml"
BUCKET = "shop-lake"  # the example's
ITEMS = "store_pg.public.store_items"
LOGIN = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "eu-west-1"}


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """An S3 server with the example's bucket; it ends with the block."""
    port = choose_ports(["s3"], folder / "ports.json")["s3"]
    url = f"http://127.0.0.1:{port}"
    with (folder / "s3.log").open("wb") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait(lambda: answers(url), "the S3 server")
        boto3.client(
            "s3",
            endpoint_url=url,
            region_name=LOGIN["AWS_REGION"],
            aws_access_key_id=LOGIN["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=LOGIN["AWS_SECRET_ACCESS_KEY"],
        ).create_bucket(
            Bucket=BUCKET,
            CreateBucketConfiguration={"LocationConstraint": LOGIN["AWS_REGION"]},
        )
        yield url
    finally:
        server.kill()
        server.wait()


def answers(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False


def example_on(chain: Chain, s3: str, folder: Path) -> dict[str, Any]:
    """The example's settings, with addresses and logins of the chain."""
    settings: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    settings["kafka"] = {"bootstrap_servers": chain.bootstrap_servers}
    settings["registry"] = {"url": chain.registry_url}
    settings["connect"] = {"url": chain.connect_url}
    catalog = settings["catalog"]
    server = chain.postgres
    catalog["uri"] = f"jdbc:postgresql://{server.host}:{server.port}/store_catalog"
    catalog["properties"]["jdbc.user"] = server.user
    # Neither of the two servers is Amazon's: where they are and which way they are asked.
    catalog["properties"] |= {"s3.endpoint": s3, "s3.path-style-access": "true"}
    settings["spark"]["conf"] |= {
        "spark.executor.memory": "512m",
        "spark.hadoop.fs.s3a.endpoint": s3,
        "spark.hadoop.fs.s3a.path.style.access": "true",
    }
    settings["tables"] = [
        {"topic": ITEMS, "source": {"database": "postgres", "table": "public.store_items"}}
    ]
    settings["databases"] = {"postgres": database_of(server, "shop", folder)}
    return settings


@dataclass(frozen=True)
class Stored:
    """What two runs left: one that cdc-sink started, and one on a cluster through spark-submit."""

    config: Path
    pipeline: Pipeline
    plan_before: str
    submitted: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def stored(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    folder = tmp_path_factory.mktemp("stored")
    execute(
        chain,
        "postgres",
        "CREATE TABLE store_items (id int PRIMARY KEY, name text, price numeric(10,2))",
        "INSERT INTO store_items SELECT i, 'item ' || i, i FROM generate_series(1, 50) i",
    )
    chain.postgres.create_database("store_catalog")
    chain.add_connector(
        "store_pg", connector(chain, "postgres", "store_pg", ["public.store_items"])
    )
    wait_for_records(chain, ITEMS, 50)
    with s3_server(folder) as s3, pytest.MonkeyPatch.context() as patched:
        for name, value in (LOGIN | {"CATALOG_PASSWORD": chain.postgres.password}).items():
            patched.setenv(name, value)
        config = folder / "production.yaml"
        config.write_text(yaml.safe_dump(example_on(chain, s3, folder)))
        plan = verb("plan", config)
        verb("run", config, "--once", "--spark-log", str(folder / "spark.log"))
        execute(
            chain,
            "postgres",
            "UPDATE store_items SET price = price + 1 WHERE id < 20",
            "DELETE FROM store_items WHERE id > 40",
        )
        wait_for_records(chain, ITEMS, 50 + 19 + 20)
        with Chain(folder / "cluster", parts=("spark",)) as cluster:
            ended = submit(cluster.spark_master_url, config, folder)
        yield Stored(config, load_config(config), plan, ended)
    chain.remove_connector("store_pg")


def test_the_example_ends_equal_by_run_and_by_spark_submit(stored: Stored) -> None:
    assert stored.submitted.returncode == 0, stored.submitted.stderr[-3000:]
    require_equal(stored.pipeline, wait_s=0)
    table = load_table(stored.pipeline.catalog, "shop.store_items")
    assert table is not None
    assert table.location().startswith(f"s3://{BUCKET}/warehouse")
    read = read_ledger(table)
    assert read is not None
    assert read[0].next_offsets == {0: 50 + 19 + 20}
    assert read[0].totals.redelivered == 0


def test_plan_and_status_speak_of_the_tables_as_they_are(stored: Stored) -> None:
    assert "CREATE TABLE" in stored.plan_before
    assert "MERGE INTO" in stored.plan_before
    assert "CREATE TABLE" not in verb("plan", stored.config)
    status = json.loads(verb("status", stored.config, "--output", "json"))
    assert [(t["table"], t["lag_records"]) for t in status["tables"]] == [("shop.store_items", 0)]


def submit(master: str, config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run jobs/stream.py once, as the README says it is submitted."""
    command = [
        str(Path(sys.executable).with_name("spark-submit")),
        *("--master", master, "--packages", verb("packages", config).strip()),
        *("--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.ui.enabled=false"),
        str(REPOSITORY / "jobs" / "stream.py"),
        *("--config", str(config), "--once"),
    ]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


def verb(name: str, config: Path, *options: str) -> str:
    """Run one verb as a user does; it must end well."""
    program = Path(sys.executable).with_name("cdc-sink")
    done = subprocess.run(
        [program, name, config, *options], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
