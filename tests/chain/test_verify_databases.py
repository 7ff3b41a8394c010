"""Values, columns and keys as `verify` reads them from real databases, and what they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from cdc_sink.config import Database
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.errors import ConfigError, UnavailableError
from cdc_sink.verification.databases.open_database import open_database
from cdc_sink.verification.databases.source_database import SourceDatabase
from tests.chain import databases as of_chain
from tests.chain.databases import VERIFIED as NAME

execute = partial(of_chain.execute, database=NAME)


def printed(database: SourceDatabase, table: str) -> list[tuple[Any, ...]]:
    return [row for rows in database.rows(table, database.columns(table)) for row in rows]


# --- values as they are printed -------------------------------------------------------------------


def test_postgresql_prints_every_type_without_loss(
    chain: Chain, databases: Mapping[str, Database]
) -> None:
    execute(
        chain,
        "postgres",
        "CREATE DOMAIN short_time AS time(3)",
        "CREATE DOMAIN shift AS short_time",
        """CREATE TABLE odd ("a.b""c%d" bigint PRIMARY KEY, r real, d double precision, c char(3),
             b bytea, t shift, tz timestamptz, ts timestamp, day date, one bit, bits bit(10),
             doc jsonb, twice bigint GENERATED ALWAYS AS ("a.b""c%d" * 2) STORED, a int[])""",
        """INSERT INTO odd VALUES (1, 0.1, 0.1, 'x', '\\x00ff', '24:00', 'infinity',
             '0044-03-15 BC', '10000-01-01', B'1', B'1000000001', '{"b": 1.10, "a": 1}', DEFAULT,
             '{1,2}')""",
    )
    with open_database(databases["postgres"]) as database:
        columns = database.columns("public.odd")
        assert [(column.name, column.kind) for column in columns] == [
            ('a.b"c%d', "plain"),
            ("r", "real"),
            ("d", "plain"),
            ("c", "plain"),
            ("b", "bytes"),
            ("t", "time"),
            ("tz", "zoned"),
            ("ts", "stamp"),
            ("day", "stamp"),
            ("one", "bits"),
            ("bits", "bits"),
            ("doc", "json"),
            ("twice", "plain"),
            ("a", "plain"),
        ]
        assert [column.name for column in columns if column.is_generated] == ["twice"]
        assert [" | ".join(map(str, row)) for row in printed(database, "public.odd")] == [
            "1 | 0.1 | 0.1 | x   | b'\\x00\\xff' | 24:00:00 | infinity | 0044-03-15 00:00:00 BC | "
            '10000-01-01 | 1 | 1000000001 | {"a": 1, "b": 1.10} | 2 | {1,2}'
        ]
        assert database.key_columns("public.odd") == ('a.b"c%d',)


def test_mysql_prints_every_type_without_loss(
    chain: Chain, databases: Mapping[str, Database]
) -> None:
    execute(
        chain,
        "mysql",
        """CREATE TABLE odd (`a.b``c%d` bigint unsigned, part int, f float, f4 float(7,4),
             d double, t time(6), y year, z int zerofill, c char(3), fixed binary(3), one bit(1),
             bits bit(10), s set('x','y'), doc json, ts timestamp(6) NULL, flag boolean,
             twice int GENERATED ALWAYS AS (part * 2) STORED, PRIMARY KEY (part, `a.b``c%d`))""",
        """INSERT INTO odd (`a.b``c%d`, part, f, f4, d, t, y, z, c, fixed, one, bits, s, doc, ts,
             flag) VALUES (18446744073709551615, 1, 16777217, 0.1, -0e0, '-838:59:59', 2024, 7,
             'x', x'00', 1, b'1000000001', 'y,x', '{"b": 1.0, "a": 1}',
             '2024-06-01 12:00:00.000001', true)""",
    )
    with open_database(databases["mysql"]) as database:
        columns = database.columns(f"{NAME}.odd")
        kinds = {column.name: column.kind for column in columns}
        assert kinds["f"] == kinds["f4"] == "real"
        assert kinds["one"] == "bits"
        assert kinds["bits"] == "bits"
        assert kinds["t"] == "time"
        assert kinds["doc"] == "json_doubles"
        assert [column.name for column in columns if column.is_generated] == ["twice"]
        assert [" | ".join(map(str, row)) for row in printed(database, f"{NAME}.odd")] == [
            "18446744073709551615 | 1 | 16777216 | 0.10000000149011612 | -0 | -838:59:59.000000 | "
            "2024 | 0000000007 | x | b'\\x00\\x00\\x00' | 1 | 1000000001 | x,y | "
            '{"a": 1, "b": 1.0} | 2024-06-01 12:00:00.000001 | 1 | 2'
        ]
        assert database.key_columns(f"{NAME}.odd") == ("part", "a.b`c%d")


@pytest.mark.parametrize(("side", "schema"), [("postgres", "public"), ("mysql", NAME)])
def test_one_open_database_shows_one_state(
    chain: Chain, databases: Mapping[str, Database], side: str, schema: str
) -> None:
    execute(chain, side, "CREATE TABLE still (id int PRIMARY KEY)", "INSERT INTO still VALUES (1)")
    with open_database(databases[side]) as database:
        before = printed(database, f"{schema}.still")
        execute(chain, side, "INSERT INTO still VALUES (2)")
        assert printed(database, f"{schema}.still") == before == [("1",)]


@pytest.mark.parametrize("side", ["postgres", "mysql"])
def test_a_source_that_is_not_there_says_what_is_wrong(
    databases: Mapping[str, Database], side: str
) -> None:
    with open_database(databases[side]) as database, pytest.raises(ConfigError, match=r"x\.gone"):
        database.columns("x.gone")
    with pytest.raises(UnavailableError, match="does not answer"):
        open_database(databases[side].model_copy(update={"port": 1}))


# --- what only the databases can answer -----------------------------------------------------------


@pytest.mark.parametrize("side", ["mysql", "mariadb"])
def test_mysql_columns_that_this_user_may_not_see_are_no_columns_that_are_not_there(
    chain: Chain, databases: Mapping[str, Database], side: str
) -> None:
    execute(
        chain,
        side,
        "CREATE TABLE partly (id int PRIMARY KEY, v text, secret text)",
        "CREATE USER IF NOT EXISTS partly_reader",
        f"GRANT SELECT (id, v) ON {NAME}.partly TO partly_reader",
    )
    reader = {"user": "partly_reader", "password": None}
    with (
        open_database(databases[side].model_copy(update=reader)) as database,
        pytest.raises(ConfigError, match="refused to read"),
    ):
        database.columns(f"{NAME}.partly")


@pytest.mark.parametrize(
    "grant",
    ["GRANT SELECT (id) ON guarded TO guarded_reader", "GRANT SELECT ON guarded TO guarded_reader"],
)
def test_postgresql_rows_or_columns_that_this_user_may_not_see_are_an_error(
    chain: Chain, databases: Mapping[str, Database], grant: str
) -> None:
    execute(
        chain,
        "postgres",
        "DROP TABLE IF EXISTS guarded",
        "DROP ROLE IF EXISTS guarded_reader",
        "CREATE TABLE guarded (id int PRIMARY KEY, owner text)",
        "INSERT INTO guarded VALUES (1, 'guarded_reader'), (2, 'other')",
        "CREATE ROLE guarded_reader LOGIN",
        "ALTER TABLE guarded ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY own ON guarded USING (owner = current_user)",
        grant,
    )
    reader = databases["postgres"].model_copy(update={"user": "guarded_reader"})
    with (
        open_database(reader) as database,
        pytest.raises(ConfigError, match="refused to read"),
    ):
        printed(database, "public.guarded")


def test_of_two_tables_that_differ_in_case_each_has_its_own_columns(
    chain: Chain, databases: Mapping[str, Database]
) -> None:
    for side, schema in (("postgres", "public"), ("mysql", NAME), ("mariadb", NAME)):
        quote = '"' if side == "postgres" else "`"
        execute(
            chain,
            side,
            f"CREATE TABLE {quote}Twin{quote} (id int PRIMARY KEY, a int)",
            "CREATE TABLE twin (key_ int PRIMARY KEY, b int, c int)",
        )
        with open_database(databases[side]) as database:
            assert [one.name for one in database.columns(f"{schema}.Twin")] == ["id", "a"]
            assert [one.name for one in database.columns(f"{schema}.twin")] == ["key_", "b", "c"]
            assert database.key_columns(f"{schema}.Twin") == ("id",)
