"""Converters that don't write the usual framing: what Apicurio's real one sends ends in an equal table."""

from __future__ import annotations

from contextlib import closing

import httpx2
import pytest

from cdc_sink.check.check import check_pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.demo.chain.hosting.cache import AVRO_CONVERTER
from tests.chain.pipelines import Lake, require_equal, streaming, wait_for_records

# The worker's own converters are left alone: these are the connector's. What isn't said is the default.
CASES = {
    "apicurio_headers": {"headers.enabled": "true"},
    "apicurio_headers by content": {"headers.enabled": "true", "use-id": "contentId"},
    "apicurio_8_byte": {"headers.enabled": "false", "as-confluent": "false", "use-id": "globalId"},
}


def execute(stack: Chain, *statements: str) -> None:
    with closing(stack.postgres.connect("shop")) as opened, opened.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def converters(stack: Chain, settings: dict[str, str]) -> dict[str, str]:
    given = {"auto-register": "true", "url": native_url(stack), **settings}
    of_both = {f".apicurio.registry.{name}": value for name, value in given.items()}
    return {
        f"{side}.converter{name}": value
        for side in ("key", "value")
        for name, value in {"": AVRO_CONVERTER, **of_both}.items()
    }


def native_url(stack: Chain) -> str:
    return stack.registry_url.replace("/ccompat/v7", "/registry/v2")


def part_global_from_content_ids(stack: Chain, name: str) -> None:
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
            f"{native_url(stack)}/groups/default/artifacts", headers=headers, content=content
        )

    for artifact in (f"{name}_{number}" for number in range(50)):
        known = register(artifact, f'{{"type": "fixed", "size": 1, "name": "{artifact}"}}')
        assert known.status_code == 200
        if known.json()["contentId"] - known.json()["globalId"] >= 20:
            return
        assert register(artifact, '"string"').status_code == 409
    raise AssertionError(f"the ids stay side by side: {known.json()}")


@pytest.mark.parametrize("case", CASES)
def test_a_table_equals_its_source_whatever_frames_its_records(
    stack: Chain, lake: Lake, case: str
) -> None:
    name = "frames_" + case.replace(" ", "_")
    table, topic = f"public.{name}", f"{name}.public.{name}"
    execute(
        stack,
        f"CREATE TABLE {name} (id int PRIMARY KEY, name text, total numeric(10,2))",
        f"INSERT INTO {name} SELECT i, 'first', i / 7.0 FROM generate_series(1, 100) i",
    )
    part_global_from_content_ids(stack, name)
    settings = stack.postgres_connector(name, "shop", [table], slot=name)
    stack.add_connector(name, settings | converters(stack, CASES[case]))
    wait_for_records(stack, topic, 100)
    wire = case.split()[0]
    wish = {"topic": topic, "wire": wire, "source": {"database": "postgres", "table": table}}
    pipeline = lake.pipeline(wish, connect={"url": stack.connect_url})
    with streaming(pipeline, lake.spark) as running:
        require_equal(pipeline)
        execute(
            stack,
            f"UPDATE {name} SET name = 'second' WHERE id % 3 = 0",
            f"DELETE FROM {name} WHERE id % 5 = 0",
            f"UPDATE {name} SET id = id + 1000 WHERE id = 1",
            f"ALTER TABLE {name} ADD COLUMN more int",
            f"INSERT INTO {name} VALUES (200, 'new', 1, 7)",
            f"UPDATE {name} SET more = id WHERE id < 50",
        )
        require_equal(pipeline)
        assert running.queries[0].error is None
    assert [one for one in check_pipeline(pipeline) if ".converter" in one.saw] == []
    other = lake.pipeline({**wish, "wire": "confluent"}, connect={"url": stack.connect_url})
    told = [one.remedy for one in check_pipeline(other) if ".converter writes" in one.saw]
    assert [remedy.split(" for ")[0] for remedy in told] == [f"set `wire: {wire}`"] * 2
    stack.remove_connector(name)
