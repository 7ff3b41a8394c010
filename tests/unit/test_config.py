"""A configuration is one value or one list of everything that is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_sink.config import Secret, Table, load_config, revealed
from cdc_sink.config.load import InvalidConfigError
from cdc_sink.config.reference import render_reference
from cdc_sink.errors import ConfigError

ROOT = Path(__file__).parents[2]
SMALLEST = """
pipeline: shop
kafka: {bootstrap_servers: 127.0.0.1:9092}
registry: {url: "http://127.0.0.1:8081/apis/ccompat/v7"}
catalog: {type: jdbc, uri: "jdbc:sqlite:/lake/catalog.db", warehouse: /lake/warehouse}
checkpoints: /lake/checkpoints
tables:
  - topic: shop_pg.public.Customers
"""


def write(folder: Path, text: str = SMALLEST, **changes: object) -> Path:
    content = yaml.safe_load(text)
    content.update(changes)
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def problems(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(InvalidConfigError) as failure:
        load_config(path, environ=environ or {})
    return [str(problem) for problem in failure.value.problems]


def test_the_smallest_file_is_complete(tmp_path: Path) -> None:
    pipeline = load_config(write(tmp_path), environ={})
    assert pipeline.name == "shop"
    assert pipeline.checkpoints == "file:///lake/checkpoints"
    assert pipeline.catalog.warehouse == "file:///lake/warehouse"
    assert pipeline.dead_letters == "shop.dead_letters"
    (table,) = pipeline.tables
    assert (table.name, table.namespace, table.table_name) == (
        "shop.customers",
        "shop",
        "customers",
    )
    assert (table.buckets, table.trigger_s, table.max_records_per_batch) == (8, 5, 100_000)
    assert (table.missing_topic, table.adopt, table.generation) == ("wait", False, 0)
    assert (table.source, table.bucket_column) == (None, None)
    assert pipeline.checkpoint_of(table) == "file:///lake/checkpoints/shop/shop.customers"


def test_the_production_example_is_valid_and_names_every_setting() -> None:
    path = ROOT / "conf" / "production.example.yaml"
    pipeline = load_config(path, environ={})
    assert [table.name for table in pipeline.tables] == [
        "shop.customers",
        "sales.orders",
        "shop.countries",
    ]
    text = path.read_text()
    missing = [name for name in Table.model_fields if f"{name}:" not in text]
    assert missing == []


def test_the_reference_page_says_what_the_models_say() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == render_reference(), "write render_reference() to docs/configuration.md"


def test_all_problems_are_reported_at_once_with_path_and_rule(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        pipeline="Shop",
        registry={"url": "ftp://x"},
        catalog={"type": "jdbx"},
        surprise=1,
        tables=[{"topic": "a.b", "buckts": 7, "trigger_s": -1}, {"target": "nodot"}],
    )
    found = problems(path)
    assert [line.partition(":")[0] for line in found] == [
        "pipeline",
        "registry.url",
        "catalog.type",
        "tables.0.trigger_s",
        "tables.0.buckts",
        "tables.1.topic",
        "tables.1.target",
        "surprise",
    ]
    assert "surprise: unknown key" in found
    assert "tables.1.topic: required" in found
    assert any("(it is -1)" in line for line in found)


def test_a_fault_in_defaults_is_reported_once_and_not_per_table(tmp_path: Path) -> None:
    tables = [{"topic": "a.b"}, {"topic": "a.c"}]
    found = problems(write(tmp_path, defaults={"buckets": -2}, tables=tables))
    assert [line.partition(":")[0] for line in found] == ["defaults.buckets"]


def test_a_table_overrides_defaults_and_defaults_override_ours(tmp_path: Path) -> None:
    defaults = {"namespace": "sales", "buckets": 4, "trigger_s": 60}
    tables = [{"topic": "a.b"}, {"topic": "a.c", "buckets": 0, "target": "x.y.z"}]
    first, second = load_config(
        write(tmp_path, defaults=defaults, tables=tables), environ={}
    ).tables
    assert (first.name, first.buckets, first.trigger_s) == ("sales.b", 4, 60)
    assert (second.name, second.buckets, second.trigger_s) == ("x.y.z", 0, 60)
    assert (second.namespace, second.table_name) == ("x.y", "z")


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ([{"topic": "a.b"}, {"topic": "a.b", "target": "x.y"}], "tables.1.topic: the same topic"),
        ([{"topic": "a.b"}, {"topic": "c.b"}], "tables.1.target: the same target as tables.0"),
        ([{"topic": "a.b"}, {"topic": "c.d", "target": "Shop.B"}], "the same target as tables.0"),
        ([{"topic": "a.dead_letters"}], "tables.0.target: dead_letters is"),
        ([{"topic": "a.b", "source": {"database": "pg", "table": "t"}}], "no such name under"),
        ([{"topic": "a.b", "buckets": 0, "bucket_column": "id"}], "has no meaning"),
        ([{"topic": "a.b", "mode": "append", "bucket_column": "id"}], "has no meaning"),
        ([], "tables: at least one table"),
    ],
)
def test_tables_that_get_in_each_others_way_are_refused(
    tmp_path: Path, tables: list[object], expected: str
) -> None:
    (found,) = problems(write(tmp_path, tables=tables))
    assert expected in found


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    environ = {
        "CDC_SINK__KAFKA__BOOTSTRAP_SERVERS": "broker:9093",
        "CDC_SINK__KAFKA__PROPERTIES": "{security.protocol: SSL}",
        "CDC_SINK__DEFAULTS__BUCKETS": "3",
        "CDC_SINK__REGISTRY__USER": "sink",
        "CDC_SINK__REGISTRY__PASSWORD__ENV": "REGISTRY_PASSWORD",
        "CDC_SINK_OUTPUT": "json",
    }
    pipeline = load_config(write(tmp_path), environ=environ)
    assert pipeline.kafka.bootstrap_servers == "broker:9093"
    assert pipeline.kafka.properties == {"security.protocol": "SSL"}
    assert pipeline.tables[0].buckets == 3
    assert pipeline.registry.password == Secret(env="REGISTRY_PASSWORD")


def test_a_misspelled_variable_is_refused(tmp_path: Path) -> None:
    environ = {"CDC_SINK__KAFKA__BOOTSTRAP": "x:1", "CDC_SINK__PIPELINE__X": "y"}
    found = problems(write(tmp_path), environ)
    assert "kafka.bootstrap: unknown key" in found
    assert any(line.startswith("pipeline.x: CDC_SINK__PIPELINE__X points") for line in found)


def test_a_key_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(SMALLEST + "checkpoints: /elsewhere\n")
    with pytest.raises(ConfigError, match="'checkpoints' comes twice"):
        load_config(path, environ={})


@pytest.mark.parametrize(
    ("content", "saw"),
    [
        (None, "can't be read"),
        ("a: [", "not YAML"),
        ("- a list", "must be a mapping"),
        ("", "must be a mapping"),
    ],
)
def test_a_file_that_is_no_configuration_is_a_config_error(
    tmp_path: Path, content: str | None, saw: str
) -> None:
    path = tmp_path / "pipeline.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=saw):
        load_config(path, environ={})


@settings(max_examples=20, deadline=None)  # each example writes a file
@given(hidden=st.text(st.characters(categories=["L", "N"]), min_size=6, max_size=20))
def test_a_value_that_may_be_secret_is_never_shown(
    tmp_path_factory: pytest.TempPathFactory, hidden: str
) -> None:
    hidden = f"s3cret{hidden}"
    path = write(
        tmp_path_factory.mktemp("config"),
        kafka={"bootstrap_servers": hidden, "properties": {"bootstrap.servers": hidden}},
        registry={"url": f"http://user:{hidden}@x", "password": hidden, "pasword": hidden},
        catalog={"type": "jdbc", "uri": f"postgresql://u:{hidden}@h/d", "properties": [hidden]},
    )
    with pytest.raises(InvalidConfigError) as failure:
        load_config(path, environ={})
    for shown in (str(failure.value), repr(failure.value), repr(failure.value.__cause__)):
        assert hidden not in shown


def test_yaml_that_is_cut_off_does_not_show_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text("password: s3cret\n  x: [")
    with pytest.raises(ConfigError) as failure:
        load_config(path, environ={})
    assert "s3cret" not in str(failure.value)
    assert failure.value.__cause__ is None


def test_a_secret_shows_its_reference_and_reveals_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("p w\n")
    monkeypatch.setenv("PASSWORD_OF_A_TEST", "hidden")
    from_env = Secret(env="PASSWORD_OF_A_TEST")
    from_file = Secret(file=str(tmp_path / "password"))
    assert (from_env.reveal(), from_file.reveal()) == ("hidden", "p w")
    assert repr(from_env) == "Secret(env: PASSWORD_OF_A_TEST, value: ****)"
    assert revealed({"a": "b", "c": from_file}) == {"a": "b", "c": "p w"}


@pytest.mark.parametrize("secret", [Secret(env="NOT_SET_ANYWHERE"), Secret(file="/not/there")])
def test_a_secret_that_leads_nowhere_is_a_config_error(secret: Secret) -> None:
    with pytest.raises(ConfigError, match=r"NOT_SET_ANYWHERE|/not/there"):
        secret.reveal()


@pytest.mark.parametrize("location", ["checkpoints", "./checkpoints"])
def test_a_relative_path_is_refused(tmp_path: Path, location: str) -> None:
    (found,) = problems(write(tmp_path, checkpoints=location))
    assert "absolute path" in found


@pytest.mark.parametrize(
    "catalog",
    [
        {"type": "jdbc", "warehouse": "/w"},
        {"type": "jdbc", "uri": "jdbc:sqlite:/c.db"},
        {"type": "jdbc", "uri": "jdbc:oracle:x", "warehouse": "/w"},
        {"type": "rest", "warehouse": "lake"},
        {"type": "hadoop"},
    ],
)
def test_a_catalog_without_what_its_type_needs_is_refused(
    tmp_path: Path, catalog: dict[str, str]
) -> None:
    (found,) = problems(write(tmp_path, catalog=catalog))
    assert found.startswith("catalog: ")


def test_a_rest_warehouse_is_a_name(tmp_path: Path) -> None:
    catalog = {"type": "rest", "uri": "http://127.0.0.1:1", "warehouse": "lake"}
    assert load_config(write(tmp_path, catalog=catalog), environ={}).catalog.warehouse == "lake"


def test_javas_names_for_kafka_properties_are_refused_with_ours(tmp_path: Path) -> None:
    properties = {"sasl.jaas.config": "x", "ssl.truststore.location": "/t"}
    kafka = {"bootstrap_servers": "b:1", "properties": properties}
    (found,) = problems(write(tmp_path, kafka=kafka))
    assert "sasl.jaas.config" in found
    assert "sasl.username" in found


def test_a_table_is_found_by_target_and_by_topic(tmp_path: Path) -> None:
    pipeline = load_config(write(tmp_path), environ={})
    assert pipeline.table("shop.customers") is pipeline.tables[0]
    assert pipeline.table("shop_pg.public.Customers") is pipeline.tables[0]
    with pytest.raises(ConfigError, match=r"no table 'x'; it has shop\.customers"):
        pipeline.table("x")


def test_a_database_knows_its_port(tmp_path: Path) -> None:
    databases = {
        "pg": {"type": "postgresql", "host": "h", "database": "d", "user": "u"},
        "my": {"type": "mysql", "host": "h", "database": "d", "user": "u", "port": 3307},
    }
    pipeline = load_config(write(tmp_path, databases=databases), environ={})
    assert {name: one.port for name, one in pipeline.databases.items()} == {"pg": 5432, "my": 3307}


@pytest.mark.parametrize(
    ("renames", "rule"),
    [
        ({"a": "b", "b": "c"}, "a → b → c: no chains or swaps"),
        ({"a": "b", "b": "a"}, "a → b → a: no chains or swaps"),
        ({"a": "a"}, "a → a → a: no chains or swaps"),
        ({"Email": "email"}, "two names that differ by more than case"),
        ({"a": "_CDC_op"}, "neither is the name of a metadata column"),
    ],
)
def test_renames_that_say_two_things_are_refused_with_a_sentence(
    tmp_path: Path, renames: dict[str, str], rule: str
) -> None:
    (found,) = problems(write(tmp_path, tables=[{"topic": "a.b", "renames": renames}]))
    assert found.startswith("tables.0.renames: ")
    assert rule in found


def test_what_a_schema_change_may_do_is_said_per_table_or_for_all(tmp_path: Path) -> None:
    tables = [{"topic": "a.b"}, {"topic": "a.c", "on_incompatible": "stop", "renames": {"a": "b"}}]
    defaults = {"schema_change": "frozen", "on_incompatible": "second_column"}
    first, second = load_config(
        write(tmp_path, tables=tables, defaults=defaults), environ={}
    ).tables
    assert (first.schema_change, first.on_incompatible, first.renames) == (
        "frozen",
        "second_column",
        {},
    )
    assert (second.schema_change, second.on_incompatible, second.renames) == (
        "frozen",
        "stop",
        {"a": "b"},
    )
    (plain,) = load_config(write(tmp_path), environ={}).tables
    assert (plain.schema_change, plain.on_incompatible) == ("additive", "stop")


def test_connect_is_optional_and_its_user_comes_with_a_password(tmp_path: Path) -> None:
    assert load_config(write(tmp_path), environ={}).connect is None
    connect = {"url": "http://127.0.0.1:8083", "user": "u"}
    assert problems(write(tmp_path, connect=connect)) == [
        "connect: `user` and `password` come together"
    ]
