from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.errors import ConfigError, SchemaError
from cdc_sink.sql import quote
from cdc_sink.table.schema.columns import (
    Column,
    ddl_type,
    iceberg_type,
    plain_type,
    require_distinct,
    spark_type,
)
from cdc_sink.table.schema.ddl import create_events_sql, create_table_sql
from cdc_sink.table.schema.metadata_columns import is_metadata

PLAIN = ["boolean", "int", "long", "float", "double", "string", "binary", "date"]
ICEBERG_TYPES = st.one_of(
    st.sampled_from([*PLAIN, "timestamp", "timestamptz"]),
    st.integers(1, 38).flatmap(
        lambda p: st.integers(0, p).map(lambda scale: f"decimal({p},{scale})")
    ),
)
TABLE = "`lake`.`shop`.`orders`"
ID = Column("id", "long", required=True)


def created(*columns: Column, keys: list[str], buckets: int = 0, **more: str) -> list[str]:
    return create_table_sql(
        TABLE,
        columns,
        keys,
        buckets=buckets,
        bucket_column=more.pop("bucket_column", None),
        properties=more,
    )


@given(ICEBERG_TYPES)
def test_type_names_round_trip_through_spark(iceberg: str) -> None:
    assert iceberg_type(spark_type(iceberg)) == iceberg


@pytest.mark.parametrize(
    ("iceberg", "spark"),
    [
        ("long", "bigint"),
        ("timestamp", "timestamp_ntz"),
        ("timestamptz", "timestamp"),
        ("decimal(10,2)", "decimal(10,2)"),
    ],
)
def test_a_timestamp_without_zone_never_becomes_one_with(iceberg: str, spark: str) -> None:
    assert spark_type(iceberg) == spark


def test_ddl_says_the_zone_whatever_the_session_prefers() -> None:
    assert ddl_type("timestamptz") == "timestamp_ltz"
    assert ddl_type("timestamp") == "timestamp_ntz"


@pytest.mark.parametrize("name", ["uuid", "time", "list<uuid>", "struct<a:time>", "tinyint"])
def test_a_type_no_source_column_has_is_refused(name: str) -> None:
    scalar = re.findall(r"\w+", name)[-1]
    with pytest.raises(SchemaError, match=scalar):
        spark_type(name)
    with pytest.raises(SchemaError, match=scalar):
        iceberg_type(name.replace("list<", "array<"))


SPARSE = "struct<dimensions:int,vector:list<struct<key:int,value:double>>>"


@pytest.mark.parametrize(
    ("iceberg", "spark"),
    [
        ("list<timestamptz>", "array<timestamp>"),
        ("list<decimal(10,2)>", "array<decimal(10,2)>"),
        ("map<string,string>", "map<string,string>"),
        (SPARSE, SPARSE.replace("list<", "array<")),
    ],
)
def test_a_nested_type_has_a_name_on_both_sides(iceberg: str, spark: str) -> None:
    assert spark_type(iceberg) == spark
    assert iceberg_type(spark) == iceberg


def test_ids_and_nullability_of_a_nested_type_are_left_out_of_its_name() -> None:
    shown = (
        "struct<16: dimensions: optional int, 17: vector: optional "
        "list<struct<19: key: required int, 20: value: optional double>>>"
    )
    assert plain_type(shown) == SPARSE
    assert plain_type("map<string, decimal(10, 2)>") == "map<string,decimal(10,2)>"


def test_ddl_says_the_zone_inside_a_list_too() -> None:
    assert ddl_type("list<timestamptz>") == "array<timestamp_ltz>"
    assert ddl_type("list<timestamp>") == "array<timestamp_ntz>"


def test_a_table_is_created_with_key_partition_and_metadata_columns() -> None:
    statements = created(
        ID,
        Column("name", "string", doc="it's"),
        keys=["id"],
        buckets=8,
        **{"format-version": "3"},
    )
    assert statements == [
        "CREATE TABLE `lake`.`shop`.`orders` (\n"
        "  `id` bigint NOT NULL,\n"
        "  `name` string COMMENT 'it\\'s',\n"
        "  `_cdc_op` string,\n"
        "  `_cdc_source_ts` timestamp_ltz,\n"
        "  `_cdc_position_hi` bigint,\n"
        "  `_cdc_position_lo` bigint,\n"
        "  `_cdc_partition` int,\n"
        "  `_cdc_offset` bigint,\n"
        "  `_cdc_generation` int\n"
        ") USING iceberg\n"
        "PARTITIONED BY (bucket(8, `id`))\n"
        "TBLPROPERTIES ('format-version' = '3')",
        "ALTER TABLE `lake`.`shop`.`orders` SET IDENTIFIER FIELDS `id`",
    ]


def test_key_columns_are_required_even_when_not_declared_so() -> None:
    assert "`id` bigint NOT NULL" in created(Column("id", "long"), keys=["id"])[0]


def test_zero_buckets_means_no_partition() -> None:
    assert "PARTITIONED" not in created(ID, keys=["id"])[0]


def test_a_table_without_key_has_neither_identifier_nor_partition() -> None:
    (statement,) = created(Column("a", "int"), keys=[], buckets=8)
    assert "PARTITIONED" not in statement


def test_the_bucket_column_can_be_any_key_column() -> None:
    columns = (ID, Column("line", "int", required=True))
    statement = created(*columns, keys=["id", "line"], buckets=4, bucket_column="line")[0]
    assert "bucket(4, `line`)" in statement


@pytest.mark.parametrize("name", ["_cdc_op", "_CDC_Offset", "_cdc_unavailable"])
def test_a_source_column_with_the_name_of_a_metadata_column_is_refused_with_ways_out(
    name: str,
) -> None:
    with pytest.raises(ConfigError, match=r"column\.exclude\.list.*ReplaceField"):
        created(ID, Column(name, "int"), keys=["id"])


def test_two_columns_that_differ_only_in_case_are_refused_by_name() -> None:
    with pytest.raises(SchemaError, match="columns Id and iD"):
        require_distinct(["Id", "name", "iD"])


def test_a_key_column_that_is_no_column_is_refused() -> None:
    with pytest.raises(SchemaError, match="key column other"):
        created(ID, keys=["other"])


@pytest.mark.parametrize("kind", ["float", "double"])
def test_a_float_is_no_key(kind: str) -> None:
    with pytest.raises(SchemaError, match="identifier field"):
        created(Column("x", kind), keys=["x"])


def test_a_bucket_column_outside_the_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="not one of the key columns"):
        created(ID, Column("a", "int"), keys=["id"], buckets=4, bucket_column="a")


def test_a_type_without_buckets_is_refused() -> None:
    with pytest.raises(ConfigError, match="no buckets of boolean"):
        created(Column("b", "boolean"), keys=["b"], buckets=4)


QUOTED = re.compile(r"`(?:[^`]|``)*`|'(?:[^'\\]|\\.)*'", re.DOTALL)


@given(st.text(min_size=1).filter(lambda name: not is_metadata(name)), st.text(min_size=1))
def test_names_and_comments_stay_inside_their_quotes(name: str, doc: str) -> None:
    odd = created(Column(name, "int", doc=doc), keys=[name], buckets=2)
    plain = created(Column("x", "int", doc="y"), keys=["x"], buckets=2)
    assert [QUOTED.sub("", text) for text in odd] == [QUOTED.sub("", text) for text in plain]
    assert all(quote(name) in QUOTED.findall(text) for text in odd)


def test_a_table_of_events_has_no_key_and_names_what_was_left_out() -> None:
    columns = [Column("id", "long"), Column("note", "string")]
    (statement,) = create_events_sql(TABLE, columns, properties={"format-version": "3"})
    assert "NOT NULL" not in statement
    assert "PARTITIONED" not in statement
    assert "`_cdc_unavailable` string\n" in statement
    assert "'format-version' = '3'" in statement


def test_a_table_of_events_tells_columns_apart_as_any_other() -> None:
    with pytest.raises(SchemaError, match="only in case"):
        create_events_sql(TABLE, [Column("a", "long"), Column("A", "long")], properties={})
