"""What a session gets from us, and what of it a user's `spark.conf` may replace."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc_sink.config import Pipeline
from cdc_sink.jars.packages import packages_of, without_package
from cdc_sink.spark.run import session, session_jars

JARS = (Path("/jars/iceberg.jar"), Path("/jars/kafka.jar"))
S3_FILE_IO = {"io-impl": "org.apache.iceberg.aws.s3.S3FileIO"}


@pytest.fixture(autouse=True)
def _jars_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_jars, "jars", lambda *_groups: JARS)


def pipeline(
    *, catalog: dict[str, object] | None = None, checkpoints: str = "/checkpoints", **spark: object
) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "shop",
            "kafka": {"bootstrap_servers": "127.0.0.1:1"},
            "registry": {"url": "http://127.0.0.1:1"},
            "catalog": catalog or {"type": "hadoop", "warehouse": "/lake"},
            "checkpoints": checkpoints,
            "spark": spark,
            "defaults": {"namespace": "shop"},
            "tables": (),
        }
    )


def properties(master: str | None, jars: str = "locked", **conf: str) -> dict[str, str]:
    dotted = {name.replace("__", "."): value for name, value in conf.items()}
    asked = pipeline(master=master, jars=jars, conf=dotted)
    return dict(session._properties(asked, submitted=False, log_file=None))


@pytest.mark.parametrize(
    ("jars", "names"),
    [
        ("locked", ("spark.jars", "spark.driver.extraClassPath")),
        ("packages", ("spark.jars.packages",)),
        ("provided", ()),
    ],
)
def test_a_users_jars_class_path_and_java_options_stand_behind_ours(
    jars: str, names: tuple[str, ...]
) -> None:
    names = (*names, "spark.driver.extraJavaOptions", "spark.executor.extraJavaOptions")
    ours = properties("spark://host:7077", jars)
    both = properties(
        "spark://host:7077", jars, **{name.replace(".", "__"): "mine" for name in names}
    )
    separators = {
        "spark.jars": ",",
        "spark.jars.packages": ",",
        "spark.driver.extraClassPath": ":",
    }
    for name in names:
        assert both[name] == f"{ours[name]}{separators.get(name, ' ')}mine"


@pytest.mark.parametrize(
    ("catalog", "checkpoints", "more"),
    [
        ({"type": "hadoop", "warehouse": "/lake"}, "/c", []),
        ({"type": "jdbc", "uri": "jdbc:sqlite:/c.db", "warehouse": "/lake"}, "/c", ["sqlite"]),
        (
            {"type": "jdbc", "uri": "jdbc:postgresql://h/c", "warehouse": "s3://b/l"}
            | {"properties": S3_FILE_IO},
            "s3a://b/c",
            ["postgresql", "aws", "s3a"],
        ),
        ({"type": "jdbc", "uri": "jdbc:postgresql://h/c", "warehouse": "s3a://b/l"}, "/c",
         ["postgresql", "s3a"]),
        ({"type": "glue"}, "hdfs://n/c", ["aws"]),
        ({"type": "rest", "uri": "http://h", "warehouse": "lake"}, "/c", []),
        ({"type": "rest", "uri": "http://h", "warehouse": "s3://b/l"}, "/c", ["aws"]),
    ],
)  # fmt: skip
def test_the_packages_are_those_that_catalog_warehouse_and_checkpoints_need(
    catalog: dict[str, object], checkpoints: str, more: list[str]
) -> None:
    needed = packages_of(pipeline(catalog=catalog, checkpoints=checkpoints))
    assert [one.group for one in needed] == ["spark"] * 3 + more


@pytest.mark.parametrize(
    ("checkpoints", "conf", "found"),
    [
        ("/c", {}, []),
        ("s3a://b/c", {}, []),
        ("hdfs://n/c", {}, []),
        ("s3://b/c", {}, [("s3", True)]),
        ("s3://b/c", {"spark.jars.packages": "org.example:mine:1"}, [("s3", True)]),
        ("s3://b/c", {"spark.hadoop.fs.s3.impl": "org.example.Mine"}, []),
        ("gs://b/c", {}, [("gs", False)]),
        ("gs://b/c", {"spark.jars.packages": "org.example:gcs:1"}, []),
        ("abfss://b@h/c", {}, [("abfss", False)]),
    ],
)
def test_an_address_that_no_package_can_read_is_named(
    checkpoints: str, conf: dict[str, str], found: list[tuple[str, bool]]
) -> None:
    lacking = without_package(pipeline(checkpoints=checkpoints, conf=conf))
    assert [(one.scheme, one.is_certain) for one in lacking] == found


def test_a_package_that_spark_could_not_fetch_is_named_with_the_reason() -> None:
    said = """
        module not found: org.example#absent;1.0
    ::::::::::::::::::::::::::::::::::::::::::::::
    :: org.example#absent;1.0: not found
    java.lang.RuntimeException: [unresolved dependency: org.example#absent;1.0: not found]
    """
    assert session_jars.unresolved(said) == ("org.example:absent:1.0 (not found)",)


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
