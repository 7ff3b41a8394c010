"""The workload's statements: the same for a seed, of every kind, and always of columns that are there."""

from __future__ import annotations

import re
from collections import Counter
from typing import get_args

import pytest

from tests.workload.statements import Alterations, Lane, Transaction
from tests.workload.tables import KEYS, Database, WorkTable, create_sql, make_tables, types_of

DATABASES: tuple[Database, ...] = get_args(Database)


def play(
    database: Database, seed: int, count: int, *, truncates: bool = False
) -> list[Transaction]:
    """Transactions with an alteration after each tenth."""
    tables = make_tables(database, seed, "default")
    lane = Lane(database, seed, 0, truncates=truncates)
    alterations = Alterations(database, seed)
    played = []
    for number in range(count):
        played.append(lane.next(tables))
        if number % 10 == 9:
            table = alterations.next(tables).table
            tables[table.name] = table
    return played


@pytest.mark.parametrize("database", DATABASES)
def test_a_seed_gives_the_same_statements_and_another_seed_others(database: Database) -> None:
    assert play(database, 7, 60) == play(database, 7, 60) != play(database, 8, 60)
    assert make_tables(database, 7, "full") == make_tables(database, 7, "full")


@pytest.mark.parametrize("database", DATABASES)
def test_every_kind_of_statement_comes_and_truncate_only_when_asked_for(database: Database) -> None:
    words = ["INSERT", "UPDATE", "DELETE", "SAVEPOINT", "ROLLBACK TO", "RELEASE"]
    words += ["ON CONFLICT"] if database == "postgresql" else ["REPLACE", "ON DUPLICATE KEY"]
    played = play(database, 7, 600)
    sql = [statement.sql for one in played for statement in one.statements]
    assert [word for word in words if not any(word in each for each in sql)] == []
    assert not any("TRUNCATE" in each for each in sql)
    assert 30 < sum(one.is_rolled_back for one in played) < 120
    asked = play(database, 7, 600, truncates=True)
    assert any("TRUNCATE" in statement.sql for one in asked for statement in one.statements)


@pytest.mark.parametrize("database", DATABASES)
def test_statements_hold_as_many_values_as_places(database: Database) -> None:
    for transaction in play(database, 7, 300):
        for statement in transaction.statements:
            assert statement.sql.count("%s") == len(statement.parameters), statement.sql


@pytest.mark.parametrize("database", DATABASES)
def test_the_keys_of_a_table_differ(database: Database) -> None:
    for table in make_tables(database, 7, "default").values():
        assert len({table.key_of(number) for number in range(KEYS)}) == KEYS


@pytest.mark.parametrize("database", DATABASES)
def test_alterations_are_of_every_kind_and_no_name_comes_twice(database: Database) -> None:
    tables, alterations = make_tables(database, 7, "default"), Alterations(database, 7)
    seen = {name: {c.name for c in table.columns} for name, table in tables.items()}
    kinds: Counter[str] = Counter()
    for _ in range(200):
        before, alteration = tables, alterations.next(tables)
        ends = {statement.sql for statement in alteration.statements} & {"COMMIT", "ROLLBACK"}
        kinds[" ".join(sorted(ends))] += 1
        table = alteration.table
        tables = tables | {table.name: table}
        fresh = {c.name for c in table.columns} - {c.name for c in before[table.name].columns}
        assert fresh.isdisjoint(seen[table.name])
        seen[table.name] |= fresh
        kinds[" ".join(re.findall(r"ADD|DROP|TYPE|MODIFY|NOT NULL", alteration.sql)[:2])] += 1
    assert min(kinds.values()) > 1
    assert len(kinds) == (7 if database == "postgresql" else 5)


@pytest.mark.parametrize("database", DATABASES)
def test_a_type_becomes_only_a_wider_one_that_exists(database: Database) -> None:
    types = types_of(database)
    assert [one.name for one in types.values() if one.wider and one.wider not in types] == []


def identities(tables: dict[str, WorkTable]) -> int:
    return sum(
        "IDENTITY FULL" in sql for t in tables.values() for sql in create_sql(t, "postgresql")
    )


def test_some_tables_send_whole_old_rows_or_all_do() -> None:
    some, every = (make_tables("postgresql", 7, toast) for toast in ("default", "full"))
    assert 0 < identities(some) < len(some)
    assert identities(every) == len(every)
    large = [any(c.type.is_large for c in table.columns) for table in some.values()]
    full = [table.is_full for table in some.values()]
    assert {(True, True), (True, False)} <= set(zip(large, full, strict=True))
