"""Converters that don't write the usual framing: what Apicurio's real one sends ends in an equal table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx2
import pytest
from pyspark.sql import SparkSession

from cdc_sink.check.check import check_pipeline
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.hosting.cache import AVRO_CONVERTER
from cdc_sink.verification.verify import verify
from tests.chain.databases import connector, execute
from tests.chain.pipelines import Lake, require_equal, streaming, wait_for_records

# The worker's own converters are left alone: these are the connector's. What isn't said is the default.
CASES = {
    "apicurio_headers": {"headers.enabled": "true"},
    "apicurio_headers by content": {"headers.enabled": "true", "use-id": "contentId"},
    "apicurio_8_byte": {"headers.enabled": "false", "as-confluent": "false", "use-id": "globalId"},
}


def converters(chain: Chain, settings: dict[str, str]) -> dict[str, str]:
    given = {"auto-register": "true", "url": native_url(chain), **settings}
    of_both = {f".apicurio.registry.{name}": value for name, value in given.items()}
    return {
        f"{side}.converter{name}": value
        for side in ("key", "value")
        for name, value in {"": AVRO_CONVERTER, **of_both}.items()
    }


def native_url(chain: Chain) -> str:
    return chain.registry_url.replace("/ccompat/v7", "/registry/v2")


def part_global_from_content_ids(chain: Chain, name: str) -> None:
    """Let the two ids of whatever comes next be far apart: no schema may be found by the wrong one.

    The registry counts both up by themselves, and a refused artifact takes an id of content only.
    How far each has come before depends on what else was registered here.
    """

    def register(artifact: str, content: str) -> httpx2.Response:
        headers = {
            "Content-Type": "application/json; artifactType=AVRO",
            "X-Registry-ArtifactId": artifact,
        }
        return httpx2.post(
            f"{native_url(chain)}/groups/default/artifacts", headers=headers, content=content
        )

    for artifact in (f"{name}_{number}" for number in range(50)):
        known = register(artifact, f'{{"type": "fixed", "size": 1, "name": "{artifact}"}}')
        assert known.status_code == 200
        if known.json()["contentId"] - known.json()["globalId"] >= 20:
            return
        assert register(artifact, '"string"').status_code == 409
    raise AssertionError(f"the ids stay side by side: {known.json()}")


def name_of(case: str) -> str:
    return "frames_" + case.replace(" ", "_")


def table_of(case: str, **changes: object) -> dict[str, object]:
    source = {"database": "postgres", "table": f"public.{name_of(case)}"}
    topic = f"{name_of(case)}.public.{name_of(case)}"
    return {"topic": topic, "wire": case.split()[0], "source": source, **changes}


@contextmanager
def connected(chain: Chain, case: str) -> Iterator[None]:
    name = name_of(case)
    execute(
        chain,
        "postgres",
        f"CREATE TABLE {name} (id int PRIMARY KEY, name text, total numeric(10,2))",
        f"INSERT INTO {name} SELECT i, 'first', i / 7.0 FROM generate_series(1, 100) i",
    )
    part_global_from_content_ids(chain, name)
    settings = connector(chain, "postgres", name, [f"public.{name}"])
    chain.add_connector(name, settings | converters(chain, CASES[case]))
    wait_for_records(chain, f"{name}.public.{name}", 100)
    yield
    chain.remove_connector(name)


@dataclass(frozen=True)
class Framed:
    """All cases in one pipeline, and what was found; a table that differed would have failed it."""

    lake: Lake
    pipeline: Pipeline
    rows: dict[str, int]
    errors: dict[str, str]


@pytest.fixture(scope="module")
def framed(
    chain: Chain, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Framed]:
    lake = Lake(tmp_path_factory.mktemp("framed"), chain, spark)
    with ExitStack() as connectors:
        for case in CASES:
            connectors.enter_context(connected(chain, case))
        pipeline = lake.pipeline(*map(table_of, CASES), connect={"url": chain.connect_url})
        with streaming(pipeline, spark) as running:
            require_equal(pipeline)
            for case in CASES:
                change(chain, name_of(case))
            require_equal(pipeline)
            errors = {one.target.name: str(one.error) for one in running.queries if one.error}
        rows = {one.table: one.rows_table for one in verify(pipeline) if one.equal}
        yield Framed(lake, pipeline, rows, errors)


def change(chain: Chain, name: str) -> None:
    execute(
        chain,
        "postgres",
        f"UPDATE {name} SET name = 'second' WHERE id % 3 = 0",
        f"DELETE FROM {name} WHERE id % 5 = 0",
        f"UPDATE {name} SET id = id + 1000 WHERE id = 1",
        f"ALTER TABLE {name} ADD COLUMN more int",
        f"INSERT INTO {name} VALUES (200, 'new', 1, 7)",
        f"UPDATE {name} SET more = id WHERE id < 50",
    )


@pytest.mark.parametrize("case", CASES)
def test_a_table_equals_its_source_whatever_frames_its_records(framed: Framed, case: str) -> None:
    assert framed.rows.get(f"shop.{name_of(case)}") == 100 - 20 + 1
    assert framed.errors == {}


def test_check_knows_the_framing_of_each_converter(framed: Framed) -> None:
    said = [one for one in check_pipeline(framed.pipeline) if ".converter" in one.saw]
    assert said == []


@pytest.mark.parametrize("case", CASES)
def test_check_names_the_framing_that_a_converter_writes_instead(framed: Framed, case: str) -> None:
    connect = {"url": framed.lake.chain.connect_url}
    other = framed.lake.pipeline(table_of(case, wire="confluent"), connect=connect)
    told = [one.remedy for one in check_pipeline(other) if ".converter writes" in one.saw]
    assert [remedy.split(" for ")[0] for remedy in told] == [f"set `wire: {case.split()[0]}`"] * 2
