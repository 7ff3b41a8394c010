"""What a session gets from us, and what of it a user's `spark.conf` may replace."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc_sink.config import Catalog, Defaults, Kafka, Pipeline, Registry, Spark
from cdc_sink.spark.run import session

JARS = (Path("/jars/iceberg.jar"), Path("/jars/kafka.jar"))


@pytest.fixture(autouse=True)
def _jars_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "jars", lambda *_groups: JARS)


def properties(master: str | None, **conf: str) -> dict[str, str]:
    dotted = {name.replace("__", "."): value for name, value in conf.items()}
    pipeline = Pipeline(
        name="shop",
        kafka=Kafka(bootstrap_servers="127.0.0.1:1"),
        registry=Registry(url="http://127.0.0.1:1"),
        catalog=Catalog(type="hadoop", warehouse="/lake"),
        checkpoints="/checkpoints",
        spark=Spark.model_validate({"master": master, "conf": dotted}),
        defaults=Defaults(namespace="shop"),
        tables=(),
    )
    return dict(session._properties(pipeline, submitted=False, log_file=None))


def test_a_users_jars_class_path_and_java_options_stand_behind_ours() -> None:
    ours = properties("spark://host:7077")
    names = (
        "spark.jars",
        "spark.driver.extraClassPath",
        "spark.driver.extraJavaOptions",
        "spark.executor.extraJavaOptions",
    )
    added = {name.replace(".", "__"): "mine" for name in names}
    both = properties("spark://host:7077", **added)
    separators = {"spark.jars": ",", "spark.driver.extraClassPath": ":"}
    for name in names:
        assert both[name] == f"{ours[name]}{separators.get(name, ' ')}mine"


def test_any_other_property_is_the_users_where_he_gives_one() -> None:
    assert properties("local[2]", spark__ui__enabled="true")["spark.ui.enabled"] == "true"


@pytest.mark.parametrize(
    ("master", "has_other_jvms"),
    [
        (None, False),
        ("local", False),
        ("local[*]", False),
        ("local-cluster[2,1,1024]", True),
        ("spark://host:7077", True),
        ("yarn", True),
    ],
)
def test_jars_are_sent_where_other_jvms_need_them(master: str | None, has_other_jvms: bool) -> None:
    """The driver has them on its class path; in one JVM Spark would copy them once more."""
    found = properties(master)
    assert "/jars/iceberg.jar" in found["spark.driver.extraClassPath"]
    assert ("spark.jars" in found) == has_other_jvms
