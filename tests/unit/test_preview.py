"""What `cdc-sink plan` says of schema versions that no record was written with yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from http_double import HttpDouble
from iceberg_tables import commit, ledger, make_table
from test_writer_schemas import key_schema, value_schema

from cdc_sink.cli import main as cli
from cdc_sink.errors import SchemaError
from cdc_sink.table.schema.columns import Column
from cdc_sink.table.schema.evolution import AddColumn, RenameColumn
from cdc_sink.table.schema.policy import TablePolicy
from cdc_sink.table.schema.preview import Versions, preview

ID = Column("id", "long", required=True)
KEYS = {9: key_schema("id")}


def versions(*written: int, **columns_of: dict[str, Any]) -> Versions:
    values = {int(name[1:]): value_schema({"id": "long", **v}) for name, v in columns_of.items()}
    return Versions(values, KEYS, written)


@pytest.mark.parametrize(
    ("written", "coming"),
    [((), (5,)), ((7,), (3, 5)), ((7, 3), (5,)), ((7, 3, 5), ()), ((3,), (5,)), ((99,), (5,))],
)
def test_versions_to_come_lie_behind_the_last_written_one_whatever_their_ids(
    written: tuple[int, ...], coming: tuple[int, ...]
) -> None:
    assert versions(*written, v7={}, v3={}, v5={}).coming() == coming


def test_each_version_to_come_is_planned_not_the_newest_alone() -> None:
    three = versions(1, v1={}, v2={"a": "int"}, v3={"b": "int"})
    seen = preview([ID], ["id"], three, TablePolicy())
    assert seen.changes == (AddColumn(Column("a", "int")), AddColumn(Column("b", "int")))
    assert (seen.coming, seen.unfilled) == ((2, 3), ("a",))


def test_a_rename_is_planned_as_one_and_a_written_version_plans_nothing() -> None:
    both = versions(1, v1={"n": "int"}, v2={"m": "int"})
    policy = TablePolicy(renames={"n": "m"})
    current = [ID, Column("n", "int")]
    assert preview(current, ["id"], both, policy).changes == (RenameColumn("n", "m"),)
    done = Versions(both.values, both.keys, (1, 2))
    assert preview([ID, Column("m", "int")], ["id"], done, policy).changes == ()


def test_a_changed_primary_key_is_refused_before_a_record_has_it() -> None:
    both = versions(1, v1={"n": "long"}, v2={"n": "long", "x": "int"})
    changed = Versions(both.values, {9: key_schema("id"), 10: key_schema("n")}, (1,))
    with pytest.raises(SchemaError, match=r"the table's rows have the key \(id\)"):
        preview([ID, Column("n", "long")], ["id"], changed, TablePolicy())


# --- the command ----------------------------------------------------------------------------------

TOPIC = "pg.public.customers"


def register(double: HttpDouble, subject: str, *schemas: str) -> None:
    """Give a subject these versions; ids count from 1 for values, from 101 for keys."""
    first = 101 if subject.endswith("-key") else 1
    double.answers[f"/subjects/{subject}/versions"] = (200, list(range(1, len(schemas) + 1)))
    for number, schema in enumerate(schemas):
        body = {"subject": subject, "version": number + 1, "id": first + number, "schema": schema}
        double.answers[f"/subjects/{subject}/versions/{number + 1}"] = (200, body)


def configured(folder: Path, double: HttpDouble, **settings: object) -> Path:
    content = {
        "pipeline": "shop",
        "kafka": {"bootstrap_servers": "127.0.0.1:1"},
        "registry": {"url": double.url, "timeout_s": 5},
        "catalog": {
            "type": "jdbc",
            "uri": f"jdbc:sqlite:{folder}/catalog.db",
            "warehouse": f"{folder}/warehouse",
        },
        "checkpoints": f"{folder}/checkpoints",
        "tables": [{"topic": TOPIC, **settings}, {"topic": "pg.public.others"}],
    }
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def planned(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    code = cli.run(["plan", str(path), *options])
    return code, capsys.readouterr().out


@pytest.fixture
def shop(tmp_path: Path, double: HttpDouble) -> Path:
    """A table (id) that has what schema 1 sent, and a table that isn't there yet."""
    commit(make_table(tmp_path), ledger({0: 3}, schema_ids=(1,)))
    register(double, f"{TOPIC}-key", key_schema("id"))
    for suffix, schema in (("key", key_schema("id")), ("value", value_schema({"id": "long"}))):
        register(double, f"pg.public.others-{suffix}", schema)
    return tmp_path


def test_the_plan_shows_what_a_version_that_is_not_written_yet_will_do(
    shop: Path, double: HttpDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = value_schema({"id": "long"}), value_schema({"id": "long", "n": "int"})
    register(double, f"{TOPIC}-value", old, new)
    before = sorted(path.name for path in shop.rglob("*"))
    code, printed = planned(configured(shop, double), capsys)
    assert code == 0
    assert "-- registered and not written yet: schema id 2\n" in printed
    assert "ALTER TABLE `lake`.`shop`.`customers` ADD COLUMN `n` int;\n" in printed
    assert "CREATE TABLE `lake`.`shop`.`others`" in printed
    assert sorted(path.name for path in shop.rglob("*")) == sorted([*before, "shop.yaml"])

    code, printed = planned(configured(shop, double), capsys, "--output", "json")
    said = json.loads(printed)
    assert said["notes"]["shop.customers"] == [
        "registered and not written yet: schema id 2",
        "column n: older rows hold NULL",
    ]
    assert len(said["tables"]["shop.customers"]) == 2
    assert (code, said["refusals"]) == (0, {})


def test_a_refusal_that_waits_is_printed_with_its_remedies_and_ends_with_1(
    shop: Path, double: HttpDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = value_schema({"id": "long"}), value_schema({"id": "string"})
    register(double, f"{TOPIC}-value", old, new)
    code, printed = planned(configured(shop, double), capsys)
    assert code == 1
    assert "-- REFUSED, the table would stop: key column id: the table holds long, " in printed
    assert "-- remedy: give the column a new name at the source" in printed
    assert "CREATE TABLE `lake`.`shop`.`others`" in printed

    frozen = configured(shop, double, schema_change="frozen")
    register(double, f"{TOPIC}-value", old, value_schema({"id": "long", "n": "int"}))
    code, printed = planned(frozen, capsys, "--output", "json")
    refusal = json.loads(printed)["refusals"]["shop.customers"]
    assert (code, refusal["where"]) == (1, "column n")
    assert "schema_change: additive" in refusal["remedy"]


def test_a_topic_without_schemas_is_the_configurations_and_hides_no_other_table(
    shop: Path, double: HttpDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    double.answers[f"/subjects/{TOPIC}-value/versions"] = (404, {"error_code": 40401})
    code, printed = planned(configured(shop, double), capsys)
    assert code == 2
    assert f"the registry has no schema under {TOPIC}-key and {TOPIC}-value yet" in printed
    assert "CREATE TABLE `lake`.`shop`.`others`" in printed
