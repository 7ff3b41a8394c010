"""MySQL's zero dates are no dates: what Debezium makes of them, and that `verify` finds each one."""

from __future__ import annotations

from datetime import UTC, date, datetime

from cdc_sink.clients.catalog import load_table
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.table.schema.metadata_columns import metadata_columns
from cdc_sink.table.schema.policy import TableMode
from cdc_sink.verification.verify import verify
from tests.chain.pipelines import Lake, run_once, wait_for_records
from tests.chain.source_types import Mode
from tests.chain.test_types import run, settings_of, topic

TABLE = "ty_zero"
MODE = Mode("ty_zero", "mysql", (TABLE,))
KINDS = {"day": "date", "at": "datetime(6)", "ts": "timestamp(6)"}
COLUMNS = {name: f"{kind} NULL" for name, kind in KINDS.items()} | {
    f"{name}_nn": f"{kind} NOT NULL" for name, kind in KINDS.items()
}
ZERO = "SET SESSION sql_mode = ''"


def inserted(id_: int) -> tuple[str, str]:
    values = ", ".join("0" for _ in COLUMNS)
    return ZERO, f"INSERT INTO {TABLE} (id, {', '.join(COLUMNS)}) VALUES ({id_}, {values})"


def test_a_zero_date_arrives_as_null_or_as_the_epoch_and_verify_finds_it(
    chain: Chain, lake: Lake
) -> None:
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    run(chain, "mysql", ZERO, f"CREATE TABLE {TABLE} (id int PRIMARY KEY, {columns})")
    run(chain, "mysql", *inserted(1))
    chain.add_connector(MODE.name, settings_of(chain, MODE))
    wait_for_records(chain, topic(MODE, TABLE), 1)
    run(chain, "mysql", *inserted(2))
    wait_for_records(chain, topic(MODE, TABLE), 2)
    chain.remove_connector(MODE.name)
    pipeline = lake.pipeline(
        {
            "topic": topic(MODE, TABLE),
            "target": "types.zero",
            "source": {"database": "mysql", "table": f"shop.{TABLE}"},
        }
    )
    running = run_once(pipeline, lake.spark)
    assert [str(query.error) for query in running.queries if query.error] == []
    table = load_table(pipeline.catalog, "types.zero")
    assert table is not None
    found = table.scan().to_arrow().drop_columns(list(metadata_columns(TableMode.MIRROR)))
    rows = sorted(found.to_pylist(), key=lambda r: r["id"])
    epoch = datetime(1970, 1, 1)
    arrived = {
        **dict.fromkeys(KINDS),
        "day_nn": date(1970, 1, 1),
        "at_nn": epoch,
        "ts_nn": epoch.replace(tzinfo=UTC),
    }
    assert rows == [{"id": 1, **arrived}, {"id": 2, **arrived}]
    (found,) = verify(pipeline, wait_s=0)
    named = [(one.key, one.columns) for one in found.differences]
    assert named == [({"id": 1}, tuple(COLUMNS)), ({"id": 2}, tuple(COLUMNS))]
