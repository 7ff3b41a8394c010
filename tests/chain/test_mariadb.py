"""How MariaDB tells columns and values; its changes are in test_redelivery.py and test_workload.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc_sink.config import Database
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.verification.databases.open_database import open_database
from tests.chain import databases
from tests.chain.settings import database_of


def execute(chain: Chain, *statements: str, side: str = "mariadb") -> None:
    databases.execute(chain, side, *statements)


@pytest.mark.parametrize("side", ["mysql", "mariadb"])
def test_only_computed_columns_are_told_to_be_computed(
    chain: Chain, tmp_path: Path, side: str
) -> None:
    """MySQL calls a column with a default expression DEFAULT_GENERATED, which it is not."""
    execute(
        chain,
        """CREATE TABLE defaults (id int PRIMARY KEY, made timestamp DEFAULT CURRENT_TIMESTAMP,
             changed datetime(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
             twice int GENERATED ALWAYS AS (id * 2) STORED, thrice int AS (id * 3) VIRTUAL)""",
        side=side,
    )
    with open_database(database(chain, tmp_path, side)) as opened:
        columns = opened.columns("shop.defaults")
    execute(chain, "DROP TABLE defaults", side=side)
    assert {column.name: column.is_generated for column in columns} == {
        "id": False,
        "made": False,
        "changed": False,
        "twice": True,
        "thrice": True,
    }


def test_mariadb_prints_every_type_without_loss(chain: Chain, tmp_path: Path) -> None:
    execute(
        chain,
        """CREATE TABLE odd (`a.b``c%d` bigint unsigned, part int, f float, f4 float(7,4),
             d double, t time(6), y year, z int zerofill, c char(3), fixed binary(3), one bit(1),
             bits bit(10), s set('x','y'), doc json, ts timestamp(6) NULL, flag boolean, u uuid,
             i4 inet4, i6 inet6, hidden int INVISIBLE DEFAULT 3, PRIMARY KEY (part, `a.b``c%d`))""",
        """INSERT INTO odd (`a.b``c%d`, part, f, f4, d, t, y, z, c, fixed, one, bits, s, doc, ts,
             flag, u, i4, i6) VALUES (18446744073709551615, 1, 16777217, 0.1, -0e0, '-838:59:59',
             2024, 7, 'x', x'00', 1, b'1000000001', 'y,x', '{"b": 1.0,  "a": 1}',
             '2024-06-01 12:00:00.000001', true, '123E4567-e89b-12d3-a456-426655440000', '10.0.0.1',
             '2001:DB8::1')""",
    )
    with open_database(database(chain, tmp_path, "mariadb")) as opened:
        columns = opened.columns("shop.odd")
        (rows,) = list(opened.rows("shop.odd", columns))
        key = opened.key_columns("shop.odd")
    execute(chain, "DROP TABLE odd")
    kinds = {column.name: column.kind for column in columns if column.kind != "plain"}
    assert kinds == {
        "f": "real",
        "f4": "real",
        "t": "time",
        "one": "bits",
        "bits": "bits",
        "fixed": "bytes",
        "ts": "stamp",
    }
    # JSON is a text with a check here: kept, sent and compared as it was written.
    assert [" | ".join(map(str, row)) for row in rows] == [
        "18446744073709551615 | 1 | 16777216 | 0.10000000149011612 | -0 | -838:59:59.000000 | 2024 "
        '| 0000000007 | x | b\'\\x00\\x00\\x00\' | 1 | 1000000001 | x,y | {"b": 1.0,  "a": 1} | '
        "2024-06-01 12:00:00.000001 | 1 | 123e4567-e89b-12d3-a456-426655440000 | 10.0.0.1 | "
        "2001:db8::1 | 3"
    ]
    assert key == ("part", "a.b`c%d")


def database(chain: Chain, folder: Path, side: str) -> Database:
    return Database.model_validate(database_of(getattr(chain, side), "shop", folder))
