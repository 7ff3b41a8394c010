"""A table follows its source while it runs, and stops before it would guess."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from debezium import ITEMS, Event, SourceTable, Topic, decimal, item, optional
from lake import PIPELINE, Lake, Writer
from schema_versions import Versions, field_ids, table_of, types

from cdc_sink.errors import ConfigError, SchemaError, StateError
from cdc_sink.spark.failpoints import TABLE_HALF_EVOLVED
from cdc_sink.spark.write import table_setup as shape_module
from cdc_sink.table.schema.columns import spark_type
from cdc_sink.table.schema.metadata_columns import metadata_columns
from cdc_sink.table.schema.policy import TableMode

BEFORE = SourceTable({"id": "int", "n": optional("int"), "price": optional(decimal(6, 2))})
AFTER = SourceTable(
    {
        "id": "int",
        "n": optional("long"),
        "price": optional(decimal(12, 2)),
        "extra": optional("string"),
    }
)
OLD = [{"id": 1, "n": 1, "price": None}, {"id": 2, "n": 2, "price": None}]
NEW = {"id": 3, "n": 2**40, "price": None, "extra": "e"}


def stocked(lake: Lake, name: str, table: SourceTable = BEFORE, **settings: Any) -> Writer:
    topic = Topic(table)
    topic.send_all(Event("c", row, (1, n)) for n, row in enumerate(OLD))
    writer = lake.writer(name, topic, **settings)
    writer.write()
    return writer


def grow(writer: Writer) -> None:
    """The source grows in the middle of a batch, and one old record comes late."""
    topic, old = writer.topic, writer.topic.value_id
    topic.send(Event("u", OLD[0] | {"n": 10}, (2, 1)))
    new = topic.write_as(AFTER)
    topic.send(Event("c", NEW, (2, 2)))
    topic.table, topic.value_id = BEFORE, old
    topic.send(Event("u", OLD[1] | {"n": 20}, (2, 3)))
    topic.table, topic.value_id = AFTER, new


GROWN: list[Mapping[str, object]] = [
    {"id": 1, "n": 10, "price": None, "extra": None},
    {"id": 2, "n": 20, "price": None, "extra": None},
    NEW,
]


def test_a_table_grows_in_the_middle_of_a_batch(lake: Lake, name: str) -> None:
    writer = stocked(lake, name)
    assert types(writer) == {"id": "int", "n": "int", "price": "decimal(6, 2)"}
    grow(writer)
    writer.write(2)
    assert types(writer) == {"id": "int", "n": "long", "price": "decimal(12, 2)", "extra": "string"}
    assert writer.rows() == GROWN
    assert writer.topic.registry.asked == [1, 2, 3]
    assert writer.ledger.schema_ids == (1, 3)

    writer.topic.write_as(SourceTable({"id": "int", "extra": optional("string")}))
    writer.topic.send(Event("u", {"id": 3, "extra": "alone"}, (3, 1)))
    writer.write(5)
    assert writer.rows()[2] == {"id": 3, "n": None, "price": None, "extra": "alone"}
    assert types(writer) == {"id": "int", "n": "long", "price": "decimal(12, 2)", "extra": "string"}


def test_a_kill_between_two_statements_and_the_rows_is_repaired(lake: Lake, name: str) -> None:
    writer = stocked(lake, name)
    grow(writer)
    writer.spark.sql(f"ALTER TABLE {writer.target.identifier} ADD COLUMN extra string")
    assert writer.rows()[0] == {"id": 1, "n": 1, "price": None, "extra": None}
    dataclasses.replace(writer).write(2)
    assert writer.rows() == GROWN


def test_a_column_that_cannot_become_the_other_type_stops_the_table(lake: Lake, name: str) -> None:
    writer = stocked(lake, name)
    before = writer.table.metadata
    writer.topic.send(Event("u", OLD[0] | {"n": 10}, (2, 1)))
    writer.topic.write_as(SourceTable({**AFTER.columns, "n": optional("string")}))
    writer.topic.send(Event("c", NEW | {"n": "text"}, (2, 2)))
    with pytest.raises(SchemaError) as refused:
        writer.write(2)
    assert str(refused.value) == (
        "column n: the table holds int, the writer sends string, and the one can't become the other "
        "without loss; nothing was written; set `on_incompatible: second_column` (into n__string) for the "
        "table; or give the column a new name at the source; or build a new table from a new source snapshot "
        "in a new topic."
    )
    assert writer.table.metadata == before


def test_a_type_without_an_exact_column_stops_the_table(lake: Lake, name: str) -> None:
    writer = stocked(lake, name)
    before = writer.table.metadata
    writer.topic.write_as(SourceTable({**BEFORE.columns, "huge": optional(decimal(50, 2))}))
    writer.topic.send(Event("c", OLD[0] | {"huge": Decimal("1.00")}, (2, 2)))
    with pytest.raises(
        SchemaError, match=r"column huge: type decimal\(50,2\) has no exact table type"
    ):
        writer.write(2)
    assert writer.table.metadata == before


@pytest.mark.parametrize("when", ["first", "later"])
def test_a_source_column_named_as_ours_is_refused(lake: Lake, name: str, when: str) -> None:
    bad = SourceTable({**BEFORE.columns, "_CDC_op": optional("string")})
    writer = stocked(lake, name) if when == "later" else lake.writer(name, Topic(bad))
    if when == "later":
        writer.topic.write_as(bad)
    writer.topic.send(Event("c", NEW | {"_CDC_op": "x", "n": 1}, (2, 2)))
    with pytest.raises(ConfigError, match=r"the name _cdc_op is kept .* ReplaceField transform\."):
        writer.write(writer.topic.end() - 1)
    assert writer.exists is (when == "later")


OURS = metadata_columns(TableMode.MIRROR)
CREATE = (
    "CREATE TABLE {} (id bigint NOT NULL, name string, "
    + ", ".join(f"{name} {spark_type(kind)}" for name, kind in OURS.items())
    + ") USING iceberg TBLPROPERTIES ('format-version' = '2'{})"
)


def made_by_hand(lake: Lake, name: str, *, owner: str | None, **settings: Any) -> Writer:
    topic = Topic(ITEMS)
    topic.send(Event("c", item(1, "a"), (1, 1)))
    writer = lake.writer(name, topic, **settings)
    writer.spark.sql("CREATE NAMESPACE IF NOT EXISTS lake.shop")
    owned = f", 'cdc-sink.pipeline' = '{owner}'" if owner else ""
    writer.spark.sql(CREATE.format(writer.target.identifier, owned))
    return writer


@pytest.mark.parametrize("owner", [None, "another"])
def test_a_table_without_our_ledger_is_not_touched(
    lake: Lake, name: str, owner: str | None
) -> None:
    writer = made_by_hand(lake, name, owner=owner)
    before = writer.table.metadata
    with pytest.raises(StateError, match="was not written by cdc-sink: it has no ledger"):
        writer.write()
    assert writer.table.metadata == before


@pytest.mark.parametrize("has_ours", [True, False])
def test_an_adopted_table_keeps_its_rows(lake: Lake, name: str, has_ours: bool) -> None:
    writer = made_by_hand(lake, name, owner=None, adopt=True)
    if not has_ours:
        writer.spark.sql(f"ALTER TABLE {writer.target.identifier} DROP COLUMN {', '.join(OURS)}")
    writer.spark.sql(
        f"INSERT INTO {writer.target.identifier} VALUES (7, 'was here'{', NULL' * len(OURS) * has_ours})"
    )
    writer.write()
    assert writer.rows() == [item(1, "a"), item(7, "was here")]


def test_a_kill_between_creating_the_table_and_its_first_ledger_is_repaired(
    lake: Lake, name: str
) -> None:
    writer = made_by_hand(lake, name, owner=PIPELINE)
    writer.write()
    assert writer.rows() == [item(1, "a")]
    assert writer.table.schema().identifier_field_names() == {"id"}
    assert writer.ledger.next_offsets == {0: 1, 1: 0}


def test_a_frozen_table_stops_at_a_new_column(lake: Lake, name: str) -> None:
    writer = stocked(lake, name, schema_change="frozen")
    before = writer.table.metadata
    grow(writer)
    with pytest.raises(SchemaError, match="the table is frozen, and its source asks to widen n"):
        writer.write(2)
    assert writer.table.metadata == before


# --- renames --------------------------------------------------------------------------------------


def test_a_rename_by_hint_keeps_the_field_id_and_takes_records_of_both_names(
    lake: Lake, name: str
) -> None:
    both = Versions(
        table_of({"note": optional("string"), "n": optional("int")}),
        table_of({"remark": optional("string"), "n": optional("int")}),
    )
    both.send(1, "c", id=1, note="one", n=1)
    writer = lake.writer(name, both.topic, renames={"note": "remark"})
    writer.write()
    before = field_ids(writer)
    assert list(before) == ["id", "note", "n"]

    both.send(1, "c", id=2, note="two", n=2)
    both.send(2, "c", id=3, remark="three", n=3)
    both.send(1, "u", id=1, note="one more", n=1)
    writer.write(1)
    expected = [
        {"id": 1, "remark": "one more", "n": 1},
        {"id": 2, "remark": "two", "n": 2},
        {"id": 3, "remark": "three", "n": 3},
    ]
    assert writer.rows() == expected
    assert field_ids(writer) == {"id": before["id"], "remark": before["note"], "n": before["n"]}

    schemas = len(writer.table.metadata.schemas)
    both.send(1, "u", id=2, note="late", n=2)
    late = dataclasses.replace(writer)
    late.write(4)  # a new driver that meets the old name only
    late.write(1)  # a replay of everything
    expected[1] = {"id": 2, "remark": "late", "n": 2}
    assert writer.rows() == expected
    assert len(writer.table.metadata.schemas) == schemas


def test_a_rename_without_a_hint_adds_a_column(lake: Lake, name: str) -> None:
    both = Versions(
        table_of({"note": optional("string")}), table_of({"remark": optional("string")})
    )
    both.send(1, "c", id=1, note="one")
    both.send(2, "c", id=2, remark="two")
    writer = lake.writer(name, both.topic)
    writer.write()
    assert writer.rows() == [
        {"id": 1, "note": "one", "remark": None},
        {"id": 2, "note": None, "remark": "two"},
    ]


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_a_renamed_key_column_stays_key_partition_and_identity(
    lake: Lake, name: str, in_one_batch: bool
) -> None:
    columns = {"n": optional("int")}
    both = Versions(
        SourceTable({"id": "long", **columns}),
        SourceTable({"uid": "long", **columns}, key=("uid",)),
    )
    for key in (1, 2, 3):
        both.send(1, "c", id=key, n=key)
    writer = lake.writer(name, both.topic, renames={"id": "uid"}, buckets=4)
    writer.write()
    before = writer.table.schema().find_field("id").field_id
    both.send(1, "u", id=1, n=10)
    both.send(2, "u", uid=2, n=20)
    both.send(2, "d", uid=3)
    both.send(1, "c", id=4, n=40)
    if in_one_batch:
        writer.write(3)
    else:
        for record in range(3, 7):
            dataclasses.replace(writer).write(record, record + 1)
    both.topic.table = both.known[1][0]
    assert writer.rows() == [
        {"uid": 1, "n": 10},
        {"uid": 2, "n": 20},
        {"uid": 4, "n": 40},
    ]
    assert writer.table.schema().identifier_field_names() == {"uid"}
    assert writer.table.schema().find_field("uid").field_id == before
    (partition,) = writer.table.spec().fields
    assert (str(partition.transform), partition.source_id) == ("bucket[4]", before)


def test_another_primary_key_is_refused_also_by_a_driver_that_never_saw_the_first(
    lake: Lake, name: str
) -> None:
    columns = {"id": "long", "line": "long"}
    both = Versions(SourceTable(columns), SourceTable(columns, key=("id", "line")))
    both.send(1, "c", id=1, line=1)
    writer = lake.writer(name, both.topic)
    writer.write()
    both.send(2, "c", id=1, line=2)
    with pytest.raises(SchemaError, match=r"the table's rows have the key \(id\)"):
        dataclasses.replace(writer).write(1)
    with pytest.raises(SchemaError, match="name different columns"):
        writer.write(1)


# --- cut short, and side by side ------------------------------------------------------------------


class Killed(Exception):
    """The driver ended here."""


@pytest.mark.parametrize("statements", [1, 2, 3])
def test_an_evolution_cut_short_is_completed_by_the_next_driver(
    lake: Lake, name: str, statements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Versions(
        table_of({"note": optional("string"), "n": optional("int"), "t": optional("string")}),
        table_of({"remark": optional("string"), "n": optional("long"), "t": optional("int")}),
    )
    both.send(1, "c", id=1, note="one", n=1, t="t")
    settings = {"renames": {"note": "remark"}, "on_incompatible": "second_column"}
    writer = lake.writer(name, both.topic, **settings)
    writer.write()
    both.send(2, "c", id=2, remark="two", n=2**40, t=2)
    both.send(1, "c", id=3, note="three", n=3, t="three")

    passed: list[str] = []

    def killed(instant: str) -> None:
        passed.append(instant)
        if passed.count(TABLE_HALF_EVOLVED) == statements:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shape_module, "failpoint", killed)
        with pytest.raises(Killed):
            writer.write(1)
    ran = {"remark" in types(writer), types(writer)["n"] == "long", "t__int" in types(writer)}
    assert (ran == {True}) == (statements == 3)
    dataclasses.replace(writer).write(1)
    assert writer.rows() == [
        {"id": 1, "remark": "one", "n": 1, "t": "t", "t__int": None},
        {"id": 2, "remark": "two", "n": 2**40, "t": None, "t__int": 2},
        {"id": 3, "remark": "three", "n": 3, "t": "three", "t__int": None},
    ]
    assert types(writer)["n"] == "long"


def test_two_tables_of_a_pipeline_evolve_at_once(lake: Lake, name: str) -> None:
    writers = [stocked(lake, f"{name}_{side}") for side in ("left", "right")]
    for writer in writers:
        grow(writer)
    together = threading.Barrier(2, timeout=120)
    failures: list[BaseException] = []

    def run(writer: Writer) -> None:
        try:
            together.wait()
            writer.write(2)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [writer.rows() for writer in writers] == [GROWN, GROWN]


def test_a_topic_prefix_with_hyphens_goes_all_the_way(lake: Lake, name: str) -> None:
    hyphens = "my-shop-1.public.order-items"
    both = Versions(
        table_of({"price": optional(decimal(6, 2))}, name=hyphens),
        table_of({"price": optional(decimal(8, 2)), "note": optional("string")}, name=hyphens),
    )
    assert hyphens in both.topic.registry.texts[both.known[0][1]]
    assert hyphens in both.topic.registry.texts[both.known[0][2]]
    both.send(1, "c", id=1, price=Decimal("1.25"))
    both.send(2, "c", id=2, price=Decimal("123456.25"), note="new")
    both.send(1, "d", id=1)
    writer = lake.writer(name, both.topic)
    writer.write(0, 2)
    assert [row["id"] for row in writer.rows()] == [1, 2]
    writer.write(2)
    assert writer.rows() == [{"id": 2, "price": Decimal("123456.25"), "note": "new"}]
    assert writer.ledger.stream.topic == hyphens


def test_a_table_of_an_earlier_build_is_refused_with_the_way_on(lake: Lake, name: str) -> None:
    """Its metadata columns are one struct. The ledger is there, and readable; nothing is written."""
    writer = stocked(lake, name)
    table, ledger = writer.target.identifier, writer.ledger
    writer.spark.sql(f"ALTER TABLE {table} DROP COLUMN {', '.join(OURS)}")
    writer.spark.sql(f"ALTER TABLE {table} ADD COLUMNS (_cdc struct<op: string, pos_hi: bigint>)")
    writer.topic.send(Event("c", NEW | {"n": 1}, (9, 1)))
    before = writer.table.metadata
    way_on = "made by an earlier build.*`cdc-sink backfill` with `--into` and another target"
    with pytest.raises(StateError, match=way_on):
        writer.write(writer.topic.end() - 1)
    assert (writer.table.metadata, writer.ledger) == (before, ledger)
