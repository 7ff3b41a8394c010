"""What `verify` says of its findings: as JSON, as a screen, and in a line each."""

from __future__ import annotations

import json

from cdc_sink.cli.verbs.verify import exit_code, render_findings, render_json, render_screen
from cdc_sink.errors import ConfigError, UnavailableError
from cdc_sink.verification.range_sums import KeyDifference
from cdc_sink.verification.verify import Verification

DIFFERENT = Verification(
    table="shop.customers",
    source="postgres:public.customers",
    snapshot_id=7,
    rows_source=3,
    rows_table=4,
    ranges=3,
    ranges_differing=2,
    ranges_examined=2,
    differences=(
        KeyDifference({"id": 1}, "different", ("name",)),
        KeyDifference({"id": 4}, "extra"),
    ),
    columns_compared=("id", "name"),
    columns_missing=("level",),
)


def test_the_json_keeps_its_promise() -> None:
    rendered = render_json("shop", [DIFFERENT], ["shop.orders"], keys=1)
    assert json.loads(json.dumps(rendered)) == {
        "version": 1,
        "pipeline": "shop",
        "equal": False,
        "not_verified": ["shop.orders"],
        "tables": [
            {
                "table": "shop.customers",
                "source": "postgres:public.customers",
                "equal": False,
                "exists": True,
                "snapshot_id": 7,
                "rows_source": 3,
                "rows_table": 4,
                "ranges": 3,
                "ranges_differing": 2,
                "ranges_examined": 2,
                "differing": 2,
                "columns_compared": ["id", "name"],
                "columns_missing": ["level"],
                "columns_not_comparable": [],
                "columns_only_in_table": [],
                "columns_computed": [],
                "columns_masked": [],
                "failure": None,
                "differences": [{"key": {"id": 1}, "kind": "different", "columns": ["name"]}],
            }
        ],
    }


def test_the_screen_names_the_first_keys_and_says_how_many_more() -> None:
    assert list(render_findings([DIFFERENT], keys=1)) == [
        "shop.customers: columns missing in the table: level",
        "shop.customers: id=1 differs in name",
        "shop.customers: … and 1 more keys (--keys)",
    ]


def test_the_verdict_says_when_columns_were_not_compared() -> None:
    whole = Verification("t", "s")
    partly = Verification("t", "s", columns_only_in_table=("a",), columns_computed=("b",))
    screen = render_screen("shop", [whole, partly, DIFFERENT])
    assert list(screen.columns[-1].cells) == [
        "equal",
        "equal, 2 columns not compared",
        "DIFFERS",
    ]


def test_what_differs_outranks_what_could_not_be_compared() -> None:
    silent = Verification("t", "s", failure=UnavailableError("d", "silent", remedy="start it"))
    wrong = Verification("t", "s", failure=ConfigError("d", "wrong", remedy="correct it"))
    assert exit_code([silent, wrong, DIFFERENT]) == 1
    assert (exit_code([silent, wrong]), exit_code([silent]), exit_code([])) == (2, 3, 0)
