"""How far a table is behind, from its ledger, its topic's ends and its lease."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest
from iceberg_tables import ledger

from cdc_sink.cli.verbs.status import exit_code, render_json, render_screen
from cdc_sink.debezium.heartbeat import Heartbeat
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import CdcSinkError, StateError, UnavailableError
from cdc_sink.observe.status import TableFacts, TableStatus, table_status
from cdc_sink.table.lease import Lease, QueryState
from cdc_sink.table.ledger.ledger import Totals
from cdc_sink.table.ledger.repartitioning import Moving
from cdc_sink.table.ledger.source_snapshot import Over, Run

NOW = 1_700_000_000_000
LEDGER = ledger({})
SILENT = UnavailableError("kafka b:1", "no answer", remedy="start it")
BROKEN = StateError("table", "ledger can't be read", remedy="repair it")


def lease(state: str = "running", age_ms: int = 1_000, error: str | None = None) -> Lease:
    return Lease("host", 42, "2026-01-01T00:00:00Z", NOW - age_ms, QueryState(state), error)


def status(**facts: object) -> TableStatus:
    values: dict[str, object] = {
        "table": "shop.customers",
        "topic": "t",
        "ledger": ledger({0: 90, 1: 50}),
        "batch": {"newest_source_ts_ms": NOW - 2_500, "committed_at_ms": NOW - 2_000},
        "lease": lease(),
        "start_offsets": {0: 0, 1: 0},
        "end_offsets": {0: 100, 1: 50},
        "cluster_id": LEDGER.stream.cluster_id,
        "topic_id": LEDGER.stream.topic_id,
        **facts,
    }
    return table_status(TableFacts(**values), NOW)  # type: ignore[arg-type]


def test_lag_is_what_the_topic_has_and_the_ledger_has_not() -> None:
    assert status().lag_records == 10


def test_a_partition_the_ledger_does_not_name_counts_from_its_oldest_record() -> None:
    found = status(start_offsets={0: 0, 1: 0, 2: 5}, end_offsets={0: 90, 1: 50, 2: 8})
    assert found.lag_records == 3


def test_a_table_without_a_ledger_waits_for_the_whole_topic() -> None:
    found = status(ledger=None, batch=None, start_offsets={0: 4, 1: 0}, lease=None)
    assert (found.lag_records, found.freshness_s, found.state) == (146, None, "not started")


def test_offsets_of_a_recreated_topic_are_no_negative_lag() -> None:
    assert status(end_offsets={0: 3, 1: 60}).lag_records == 10


def test_freshness_is_the_age_of_the_newest_change_while_others_wait() -> None:
    assert status().freshness_s == 2.5


def test_a_table_that_is_caught_up_is_fresh_however_old_its_rows_are() -> None:
    assert status(end_offsets={0: 90, 1: 50}).freshness_s == 0.0


def test_a_source_clock_that_is_ahead_is_no_negative_freshness() -> None:
    assert status(batch={"newest_source_ts_ms": NOW + 5_000}).freshness_s == 0.0


@pytest.mark.parametrize("part", ["ledger", "offsets"])
def test_what_could_not_be_read_is_unknown_and_never_zero(part: str) -> None:
    unread: dict[str, object] = (
        {"ledger": None} if part == "ledger" else {"start_offsets": None, "end_offsets": None}
    )
    found = status(failures={part: SILENT}, **unread)
    assert (found.lag_records, found.freshness_s) == (None, None)


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"lease": lease()}, "running"),
        ({"lease": lease(age_ms=60_000)}, "running"),
        ({"lease": lease(age_ms=60_001)}, "stopped (driver gone)"),
        ({"lease": lease("backing_off", 60_001)}, "stopped (driver gone)"),
        ({"lease": lease("waiting")}, "waiting"),
        ({"lease": lease("parked", 10**9)}, "parked"),
        ({"lease": lease("stopped", 10**9)}, "stopped"),
        ({"lease": None}, "stopped"),
        ({"lease": None, "ledger": None}, "not started"),
        ({"lease": None, "ledger": None, "failures": {"ledger": SILENT}}, "stopped"),
        ({"lease": None, "failures": {"lease": SILENT}}, "unknown"),
    ],
)
def test_the_state_is_what_the_lease_says_while_it_lives(
    facts: Mapping[str, object], state: str
) -> None:
    assert status(**facts).state == state


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"host": "a"}', '{"pid": "x"}'])
def test_a_lease_that_is_cut_off_is_none(text: str) -> None:
    assert Lease.from_json(text) is None


def test_a_lease_is_read_as_a_driver_writes_it() -> None:
    written = {
        "host": "host",
        "pid": 42,
        "started": "2026-01-01T00:00:00Z",
        "renewed_at_ms": NOW - 1_000,
        "state": "running",
        "error": None,
    }
    assert Lease.from_json(json.dumps(written)) == lease()


@pytest.mark.parametrize(
    ("failures", "state", "code"),
    [
        ({}, "running", 0),
        ({}, "parked", 1),
        ({"offsets": SILENT}, "running", 3),
        ({"offsets": SILENT}, "parked", 1),
        ({"offsets": SILENT, "ledger": BROKEN}, "running", 1),
    ],
)
def test_the_exit_code_tells_parked_from_silent(
    failures: Mapping[str, CdcSinkError], state: str, code: int
) -> None:
    assert exit_code([status(), status(failures=failures, lease=lease(state))]) == code


def test_the_json_has_exactly_the_documented_keys() -> None:
    printed = render_json("shop", NOW, [status(failures={"lease": SILENT})])
    assert json.loads(json.dumps(printed)) == {
        "version": 1,
        "pipeline": "shop",
        "read_at_ms": NOW,
        "tables": [
            {
                "table": "shop.customers",
                "topic": "t",
                "state": "unknown",
                "lag_records": 10,
                "freshness_s": 2.5,
                "last_commit_ms": NOW - 2_000,
                "next_offsets": {"0": 90, "1": 50},
                "end_offsets": {"0": 100, "1": 50},
                "totals": {
                    "records": 0,
                    "applied": 0,
                    "redelivered": 0,
                    "tombstones": 0,
                    "ignored": 0,
                    "dead_letters": 0,
                },
                "quarantined": 0,
                "batch": {"newest_source_ts_ms": NOW - 2_500, "committed_at_ms": NOW - 2_000},
                "error": None,
                "troubles": [],
                "writer": "unknown",
                "heartbeat_age_s": None,
                "undecided": None,
                "unread": {"lease": "kafka b:1: no answer"},
            }
        ],
    }


@pytest.mark.parametrize(
    ("changes", "until"),
    [
        ({"quarantined": 3}, "3 dead letters are replayed or released"),
        (
            {"moving": Moving(1)},
            "more records of shop_pg.public.customers are applied, since its partitions grew",
        ),
        (
            {"moving": Moving(1, {0: 91, 1: 50})},
            "customers is applied up to {0: 91, 1: 50}",
        ),
        ({"moving": Moving(1, {0: 90, 1: 50})}, None),  # the batch that ends it decides
        ({}, None),
    ],
)
def test_what_a_snapshot_may_have_left_in_the_table_is_said(
    changes: dict[str, Any], until: str | None
) -> None:
    run = Run(SourcePosition(1, 1), {0: 0}, Over.ESTABLISHED, {0: 90, 1: 50})
    asked = dataclasses.replace(ledger({0: 90, 1: 50}), run=run, **changes)
    said = status(ledger=asked).undecided
    assert (said or "").endswith(until or "")
    assert (said is None) is (until is None) is asked.has_to_decide
    assert status(ledger=dataclasses.replace(asked, run=None)).undecided is None


RUNS = {"connector": "RUNNING", "task 0": "RUNNING"}
AT_END: dict[str, object] = {"end_offsets": {0: 90, 1: 50}}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"cluster_id": "other"}, "the brokers are cluster other"),
        ({"topic_id": None, "start_offsets": {}, "end_offsets": {}}, "topic t is gone"),
        ({"topic_id": "other"}, "topic t was deleted and made again"),
        (
            {"start_offsets": {0: 95, 1: 0}},
            "partition 0 begins at offset 95, the table's ledger ends at 90",
        ),
        ({"connectors": {}}, "no connector of Kafka Connect writes t"),
        (
            {"connectors": {"pg": {**RUNS, "task 0": "FAILED"}}},
            "connector pg does not run: task 0 FAILED",
        ),
        ({"connectors": {"pg": {**RUNS, "connector": "STOPPED"}}}, "connector STOPPED"),
        ({"connectors": {"pg": {"connector": "RUNNING"}}}, "connector pg has no task"),
    ],
)
def test_a_table_that_is_cut_off_is_never_called_caught_up(
    facts: dict[str, object], said: str
) -> None:
    found = status(**{**AT_END, **facts})
    assert [said in trouble for trouble in found.troubles] == [True]
    assert (found.freshness_s, found.exit_code) == (
        None if found.lag_records in (0, None) else 2.5,
        1,
    )


def test_a_table_whose_writer_runs_has_no_trouble() -> None:
    found = status(**AT_END, connectors={"pg": RUNS})
    assert (found.troubles, found.freshness_s, found.exit_code) == ((), 0.0, 0)


POSTGRES = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "heartbeat.interval.ms": "5000",
}
MYSQL = {**POSTGRES, "connector.class": "io.debezium.connector.mysql.MySqlConnector"}


@pytest.mark.parametrize(
    ("facts", "writer", "code"),
    [
        ({}, "unknown", 0),
        ({"connectors": {"pg": RUNS}}, "alive", 0),
        ({"connectors": {}}, "in trouble", 1),
        ({"heartbeat": Heartbeat(NOW - 4_000)}, "alive", 0),
        ({"heartbeat": Heartbeat(NOW - 90_000)}, "unknown", 0),
        ({"heartbeat": Heartbeat(NOW + 5_000, "pg", POSTGRES)}, "alive", 0),
        ({"heartbeat": Heartbeat(NOW - 61_000, "pg", POSTGRES)}, "in trouble", 1),
        # Its database is gone, and it is called RUNNING while it tries again.
        (
            {"heartbeat": Heartbeat(NOW - 61_000, "pg", POSTGRES), "connectors": {"pg": RUNS}},
            "in trouble",
            1,
        ),
        # MySQL's connector beats with events only.
        (
            {"heartbeat": Heartbeat(NOW - 10**8, "my", MYSQL), "connectors": {"my": RUNS}},
            "alive",
            0,
        ),
    ],
)
def test_a_writer_is_alive_only_when_something_tells(
    facts: dict[str, object], writer: str, code: int
) -> None:
    found = status(**{**AT_END, **facts})
    assert (found.writer, found.exit_code) == (writer, code)
    assert (found.freshness_s == 0.0) is (code == 0)


def test_a_table_whose_writer_is_unknown_says_so_to_people() -> None:
    from rich.console import Console

    for facts, is_said in (({}, True), ({"connectors": {"pg": RUNS}}, False)):
        console = Console(width=200)
        with console.capture() as shown:
            console.print(render_screen("shop", NOW, [status(**{**AT_END, **facts})]))
        assert ("nothing is known of what writes it" in shown.get()) is is_said


def test_a_driver_that_is_gone_ends_with_one() -> None:
    assert status(lease=lease(age_ms=3_600_000)).exit_code == 1


def test_what_could_not_be_asked_is_no_trouble() -> None:
    found = status(
        cluster_id=None, topic_id=None, failures={"offsets": SILENT, "connector": SILENT}
    )
    assert (found.troubles, found.exit_code) == ((), 3)


def test_an_error_with_brackets_is_shown_whole() -> None:
    from rich.console import Console

    console = Console(width=200)
    parked = status(lease=lease("parked", error="t[red]: op 'x'"))
    with console.capture() as shown:
        console.print(render_screen("shop", NOW, [parked]))
    assert "t[red]: op 'x'" in shown.get()


def test_the_account_of_a_table_sums_up_and_says_what_waits() -> None:
    from rich.console import Console

    totals = Totals(applied=1_500, tombstones=20, dead_letters=3)
    counted = dataclasses.replace(ledger({0: 90, 1: 50}), totals=totals, quarantined=2)
    console = Console(width=200)
    with console.capture() as shown:
        console.print(render_screen("shop", NOW, [status(ledger=counted)]))
    assert (
        "shop.customers: 1,523 records = 1,500 applied + 20 tombstones + 3 dead letters; 2 wait: "
        "cdc-sink dead-letters list" in shown.get()
    )
