"""SQL reads a position exactly as Python does, from right source blocks and from wrong ones."""

from __future__ import annotations

from typing import Any

import pytest
from lake import Lake

from cdc_sink.debezium.position import SourcePosition, position_of, position_sql

SHAPES = {
    "postgresql": "sequence string",
    "postgresql/snapshot": "sequence string, snapshot string",
    "mysql": "file string, pos bigint",
    "mariadb": "file string, pos bigint",
    "oracle": "commit_scn string, txSeq bigint",
    "sqlserver": "commit_lsn string",
}
BLOCKS: dict[str, list[tuple[Any, ...]]] = {
    "postgresql": [
        (text,)
        for text in (
            *(
                '["24023128","24023160"]',
                '["0","0"]',
                '[null,"7"]',
                '["7",null]',
                "[null,null]",
                None,
            ),
            *(
                "",
                "null",
                "[]",
                '["1"]',
                '["1","2","3"]',
                "[1,2]",
                '["1", "2"]',
                '["a","2"]',
                '["+1","2"]',
            ),
            *('["-1","2"]', '["01","2"]', '["","2"]', '["1","2"]x', '["1","2"]\n', '["null","2"]'),
            *('["999999999999999999","2"]', '["1234567890123456789","2"]', '["\u0661","2"]'),
        )
    ],
    "postgresql/snapshot": [
        (text, snapshot)
        for text in ('["3","7"]', '[null,"7"]', '["7",null]', "[null,null]", '[null,"x"]', None)
        for snapshot in ("false", None, "true", "first", "last", "incremental")
    ],
    "mysql": [
        *(("binlog.000001", 4), ("binlog.1000000", 2**39 - 1), ("a.b.7", 4), ("binlog", 4)),
        *(("000003", 4), ("binlog.", 4), ("binlog.x", 4), (".5", 4), ("binlog.+3", 4), (None, 4)),
        *(("binlog.1234567890123456789", 4), ("b.7", -1), ("b.7", 2**39), ("b.7", None)),
    ],
    "mariadb": [
        *(("mariadb-bin.000001", 4), ("b.1000000", 2**39 - 1), ("binlog", 4), (None, 4)),
        *(("b.7", -1), ("b.7", 2**39), ("b.7", None)),
    ],
    "oracle": [
        *(("2345678", 7), ("0", 0), ("999999999999999999", 2**62), ("2345678", None)),
        *(("2345678", -1), (None, 1), ("0023", 1), ("23,1", 1), ("1234567890123456789", 1)),
    ],
    "sqlserver": [
        *(("00000027:00000758:0005",), ("7fffffff:FFFFFFFF:ffff",), ("80000000:00000000:0000",)),
        *((None,), ("",), ("27:758:5",), ("00000027:00000758:0005 ",), ("00000027:0000075G:0005",)),
    ],
}


@pytest.mark.parametrize("case", SHAPES)
def test_sql_and_python_read_the_same_position(lake: Lake, case: str) -> None:
    connector = case.partition("/")[0]
    names = [part.split()[0] for part in SHAPES[case].split(", ")]
    rows = [(number, block) for number, block in enumerate(BLOCKS[case])]
    shape = SHAPES[case].replace(" ", ": ").replace(",:", ",")
    frame = lake.spark.createDataFrame(rows, f"number int, source struct<{shape}>")
    read = frame.selectExpr("number", f"{position_sql(connector, 'source', names)} AS position")
    found = {r.number: r.position and SourcePosition(*r.position) for r in read.collect()}
    assert found == {
        number: position_of(connector, dict(zip(names, block, strict=True)))
        for number, block in rows
    }
    assert any(found.values())
