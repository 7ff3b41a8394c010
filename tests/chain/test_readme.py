"""The README's library example, as it stands there, against the real chain."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cdc_sink.clients.catalog import load_table
from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import Pipeline, load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.observe.table_facts import read_ledger

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
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


@pytest.fixture
def pipeline(here: Path) -> Pipeline:
    return load_config(here / "shop.yaml")


@pytest.fixture
def customers(chain: Chain, pipeline: Pipeline) -> None:
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


def wait_for(pipeline: Pipeline, records: int) -> None:
    cluster, until = Cluster(pipeline.kafka), time.monotonic() + LIMIT_S
    while cluster.topic(TOPIC) is None or sum(cluster.end_offsets(TOPIC).values()) < records:
        assert time.monotonic() < until, f"{TOPIC} never had {records} records"
        time.sleep(0.2)


@pytest.mark.usefixtures("customers")
def test_the_example_masks_a_column_and_goes_on_where_it_ended(
    here: Path, pipeline: Pipeline
) -> None:
    (here / "example.py").write_text(block("python", "foreachBatch"))
    for _ in range(2):  # the second run finds nothing to do
        ended = subprocess.run(
            [sys.executable, "example.py"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
    table = load_table(pipeline.catalog, "shop.customers")
    assert table is not None
    found = table.scan(selected_fields=("id", "email")).to_arrow().to_pylist()
    assert {row["id"]: row["email"] for row in found} == {
        1: hashlib.sha256(b"ann@example.org").hexdigest(),
        3: None,
    }
    read = read_ledger(table)
    assert read is not None
    assert read[0].next_offsets == {0: RECORDS}
