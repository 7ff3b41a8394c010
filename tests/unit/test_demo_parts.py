"""What the demo decides without starting a server: its folder, its configuration, its words."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest

from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.hosting.workdir import lock_workdir
from cdc_sink.demo.folder import DemoFolder
from cdc_sink.demo.progress import Progress, TableProgress
from cdc_sink.demo.screen import Closing, render_closing, render_line
from cdc_sink.demo.shop.tables import TABLES
from cdc_sink.errors import ConfigError

VALUES = {
    "kafka": "127.0.0.1:9092",
    "registry": "http://127.0.0.1:8081/apis/ccompat/v7",
    "postgres_port": 5432,
    "postgres_user": "postgres",
    "mysql_port": 3306,
    "mysql_user": "root",
}
PASSWORDS = {"postgres": "secret of postgres", "mysql": "secret of mysql"}


@pytest.fixture
def folder(tmp_path: Path) -> DemoFolder:
    return DemoFolder(tmp_path / "demo")


def configured(folder: DemoFolder) -> Pipeline:
    folder.path.mkdir()
    return folder.write_config(VALUES, PASSWORDS)


def closing(folder: DemoFolder, *, is_equal: bool = True, is_kept: bool = False) -> str:
    shop = configured(folder).databases["postgres"]
    told = Closing(folder, is_equal, is_kept, sent=1234, tables=6, rows=99, commits=12, shop=shop)
    return "\n".join(render_closing(told))


def test_an_earlier_demo_is_swept_out(folder: DemoFolder) -> None:
    folder.take().close()
    folder.config.touch()
    folder.warehouse.mkdir()
    folder.take().close()
    assert not folder.config.exists()
    assert not folder.warehouse.exists()


def test_somebody_elses_folder_is_left_alone(folder: DemoFolder) -> None:
    folder.path.mkdir()
    thesis = folder.path / "thesis.txt"
    thesis.touch()
    with pytest.raises(ConfigError, match="not empty, and no demo made it; nothing was started"):
        folder.take()
    assert thesis.exists()


def test_a_folder_whose_chain_runs_is_left_alone(folder: DemoFolder) -> None:
    folder.take().close()
    with lock_workdir(folder.chain), pytest.raises(ConfigError, match="chain down --workdir"):
        folder.take()


def test_the_configuration_names_every_table_of_the_shop_and_its_source(
    folder: DemoFolder,
) -> None:
    pipeline = configured(folder)
    assert {table.name: table.source and table.source.table for table in pipeline.tables} == {
        f"shop.{table.name}": f"{'public' if table.side == 'postgres' else 'shop'}.{table.name}"
        for table in TABLES
    }
    assert pipeline.catalog.uri == f"jdbc:sqlite:{folder.catalog}"


def test_the_configuration_holds_no_password(folder: DemoFolder) -> None:
    pipeline = configured(folder)
    assert "secret of" not in folder.config.read_text()
    password = pipeline.databases["mysql"].password
    assert password is not None
    assert password.reveal() == "secret of mysql"


def test_a_log_line_says_lag_and_freshness_of_every_table() -> None:
    tables = (
        TableProgress("shop.orders", 20, "running", 7, 3.25),
        TableProgress("shop.payments", 10, "running", 0, 0.0),
        TableProgress("shop.products", 0, "waiting", None, None),
    )
    line = render_line(Progress("traffic, 4 of 60 s", 4.0, tables))
    assert line == (
        "traffic, 4 of 60 s: 30 events sent, 7 records wait (lag/freshness: "
        "orders 7/3.2 s, payments 0/caught up, products ?/unknown)"
    )


def test_an_unknown_lag_is_not_still() -> None:
    unknown = TableProgress("shop.products", 0, "waiting", None, None)
    assert not Progress("", 0, (unknown,)).is_still


def test_the_last_screen_says_how_to_bring_the_chain_back(folder: DemoFolder) -> None:
    text = closing(folder)
    assert "6 Iceberg tables, 99 rows, every one equal to its source." in text
    assert f"cdc-sink chain up --detach --workdir {folder.chain}" in text
    assert "Ctrl-C" not in text


def test_the_last_screen_of_a_kept_chain_says_how_to_change_the_shop(folder: DemoFolder) -> None:
    text = closing(folder, is_kept=True)
    assert "host=127.0.0.1 port=5432 user=postgres dbname=shop" in text
    assert text.endswith("Chain and pipeline go on until you press Ctrl-C.")


def test_the_last_screen_does_not_call_a_difference_equal(folder: DemoFolder) -> None:
    assert "every one compared with its source: NOT equal." in closing(folder, is_equal=False)


def test_the_last_screen_activates_the_environment_unless_it_is(
    folder: DemoFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    assert "bin/activate" in closing(folder)
    monkeypatch.setenv("PATH", f"/usr/bin{os.pathsep}{sysconfig.get_path('scripts')}")
    folder.config.parent.rename(folder.path.with_name("first"))
    assert "bin/activate" not in closing(folder)
