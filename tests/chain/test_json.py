"""Connect's own JsonConverter, for all types of both databases, through the whole chain."""

from __future__ import annotations

from cdc_sink.check.rules.connect_json import JSON_CONVERTER
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.verification.verify import verify
from tests.chain.pipelines import Lake, run_once, wait_for_records
from tests.chain.source_types import (
    MYSQL,
    POSTGRES,
    POSTGRES_OPTIONS,
    Columns,
    Mode,
    created,
    inserted,
)
from tests.chain.test_types import STAND_INS, run, settings_of, topic

TABLE = "js_values"
# Types that test_types.py has to make first.
MADE = (*STAND_INS, "vector", "halfvec", "sparsevec", "mood", "xml")
CONVERTERS = {
    f"{side}.converter{more}": value
    for side in ("key", "value")
    for more, value in (
        ("", JSON_CONVERTER),
        (".schemas.enable", "true"),
        (".replace.null.with.default", "false"),
    )
}
UNSIGNED = {"bigint.unsigned.handling.mode": "long"}
OPTIONS: dict[str, dict[str, object]] = {
    "postgres": POSTGRES_OPTIONS,
    "mysql": {"biu": {"unsigned": True}, "n65": {"type": "string"}},
}
MODES = (
    Mode("js_pg", "postgres", (TABLE,), CONVERTERS),
    Mode("js_my", "mysql", (TABLE,), {**CONVERTERS, **UNSIGNED}),
)
# A name that Avro refuses, and a default beside NULLs.
ODD: dict[str, Columns] = {
    "postgres": {
        '"odd-name"': ("text DEFAULT 'd'", "E'\\U0001F600\\u0001\\\\'", "''"),
    },
    "mysql": {"`odd-name`": ("varchar(9) DEFAULT 'd'", "'\U0001f600 \\n'", "''")},
}


def columns_of(server: str) -> Columns:
    known = POSTGRES if server == "postgres" else MYSQL
    plain = {
        name: parts
        for name, parts in known.items()
        if parts[0].partition("(")[0].removesuffix("[]") not in MADE
    }
    return {**plain, **ODD[server]}


def changes(server: str) -> list[str]:
    """Rows of every value and NULL, then an update, a key update and a delete."""
    odd = next(iter(ODD[server]))
    return [
        *inserted(TABLE, columns_of(server), 10),
        f"UPDATE {TABLE} SET {odd} = NULL WHERE id = 11",
        f"UPDATE {TABLE} SET id = 99 WHERE id = 12",
        f"DELETE FROM {TABLE} WHERE id = 1",
    ]


def test_every_type_arrives_as_json_as_it_is_at_its_source(chain: Chain, lake: Lake) -> None:
    for mode in MODES:
        columns = columns_of(mode.server)
        run(chain, mode.server, created(TABLE, columns), *inserted(TABLE, columns, 0))
        chain.add_connector(mode.name, settings_of(chain, mode))
    for mode in MODES:
        wait_for_records(chain, topic(mode, TABLE), 3)
        run(chain, mode.server, *changes(mode.server))
    for mode in MODES:
        # A key update is a delete, a tombstone and an insert; a delete has its tombstone too.
        wait_for_records(chain, topic(mode, TABLE), 3 + 3 + 1 + 3 + 2)
        chain.remove_connector(mode.name)
    tables: list[dict[str, object]] = [
        {
            "topic": topic(mode, TABLE),
            "target": f"types.{mode.name}",
            "wire": "json",
            "buckets": 0,
            "source": {
                "database": mode.server,
                "table": f"{'public' if mode.server == 'postgres' else 'shop'}.{TABLE}",
            },
            "columns": {
                name: given
                for name, given in OPTIONS[mode.server].items()
                if name in columns_of(mode.server)
            },
        }
        for mode in MODES
    ]
    pipeline = lake.pipeline(*tables)
    running = run_once(pipeline, lake.spark)
    assert [str(query.error) for query in running.queries if query.error] == []
    found = {one.table: one for one in verify(pipeline, wait_s=0)}
    assert {name: one.differences for name, one in found.items() if one.differences} == {}
    assert {name: one.rows_table for name, one in found.items()} == dict.fromkeys(found, 5)
    assert [name for name, one in found.items() if not one.equal] == []
