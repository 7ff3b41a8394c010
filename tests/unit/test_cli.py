"""The command line: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
import structlog
import yaml

from cdc_sink.cli import main as cli
from cdc_sink.cli.error_text import exit_code_of, render_failure
from cdc_sink.cli.logs import LogFormat, configure_logs
from cdc_sink.errors import CdcSinkError, ConfigError, SchemaError, UnavailableError


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    structlog.reset_defaults()


@pytest.fixture
def silent_pipeline(tmp_path: Path) -> Iterator[Path]:
    """A valid configuration whose servers all refuse connections."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening
        port = unused.getsockname()[1]
        path = tmp_path / "shop.yaml"
        content = {
            "pipeline": "shop",
            "kafka": {"bootstrap_servers": f"127.0.0.1:{port}", "timeout_s": 0.2},
            "registry": {"url": f"http://127.0.0.1:{port}", "timeout_s": 0.2},
            "catalog": {
                "type": "jdbc",
                "uri": f"jdbc:sqlite:{tmp_path}/catalog.db",
                "warehouse": f"{tmp_path}/warehouse",
            },
            "checkpoints": f"{tmp_path}/checkpoints",
            "tables": [{"topic": "pg.public.customers"}],
        }
        path.write_text(yaml.safe_dump(content))
        yield path


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def test_a_failure_is_a_sentence_a_chain_and_a_next_step() -> None:
    error = caused(
        SchemaError("shop.customers", "column x is an array", remedy="leave it out"),
        caused(UnavailableError("registry", "silent", remedy="start it"), OSError("s3cret")),
    )
    assert render_failure(error, verbose=False).splitlines() == [
        "Error: shop.customers: column x is an array; nothing was written.",
        "  because of cdc_sink.errors.UnavailableError: "
        "registry: silent; nothing was written; start it.",
        "  because of OSError",
        "Next: leave it out.",
    ]


def test_a_traceback_is_shown_only_when_asked_for() -> None:
    with pytest.raises(ConfigError) as failure:
        raise ConfigError("file", "wrong", remedy="correct it")
    assert "Traceback" not in render_failure(failure.value, verbose=False)
    assert "Traceback" in render_failure(failure.value, verbose=True)


def test_an_unknown_exception_is_called_a_bug_and_its_text_is_kept_back() -> None:
    with pytest.raises(ValueError, match="s3cret") as failure:
        int("s3cret")
    text = render_failure(failure.value, verbose=False)
    assert text.startswith("Error: a bug in cdc-sink: ValueError in test_cli.py line")
    assert "cdc-sink -v" in text
    assert "s3cret" not in text
    assert exit_code_of(failure.value) == 1


def test_a_missing_extra_names_what_to_install() -> None:
    error = ModuleNotFoundError("No module named 'pyspark'", name="pyspark.sql")
    assert "pip install 'cdc-sink[spark]'" in render_failure(error, verbose=False)
    assert exit_code_of(error) == 2


@pytest.mark.parametrize(
    ("kind", "code"), [(ConfigError, 2), (UnavailableError, 3), (SchemaError, 1)]
)
def test_our_errors_bring_their_exit_code(kind: type[CdcSinkError], code: int) -> None:
    assert exit_code_of(kind("here", "seen", remedy="do")) == code


def test_help_lists_every_verb_without_importing_one() -> None:
    program = (
        "import sys; from cdc_sink.cli.main import run; run(['--help']);"
        "print([m for m in sys.modules if m.startswith(('pyspark', 'pyiceberg', 'cdc_sink.cli.'))])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    for verb in cli.VERBS:
        assert f"  {verb} " in printed
    loaded = printed.splitlines()[-1]
    assert loaded == str(["cdc_sink.cli.error_text", "cdc_sink.cli.logs", "cdc_sink.cli.main"])


@pytest.mark.parametrize("verb", ["check", "status"])
def test_a_verb_has_help_with_its_exit_codes(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([verb, "--help"]) == 0
    printed = capsys.readouterr().out
    assert "Exit code" in printed
    assert "CDC_SINK_CONFIG" in printed


@pytest.mark.parametrize("arguments", [["bogus"], ["status"], ["--log-format", "xml", "status"]])
def test_a_wrong_command_line_ends_with_2(arguments: list[str]) -> None:
    assert cli.run(arguments) == 2


def test_a_broken_file_ends_with_2_and_every_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("pipeline: Shop\nsurprise: 1\ntables: []\n")
    assert cli.run(["status", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "  surprise: unknown key\n" in printed.err
    assert "  tables: at least one table\n" in printed.err
    assert "Next: correct the file" in printed.err


def test_check_reports_a_broken_file_as_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text("pipeline: Shop\n")
    assert cli.run(["check", str(path), "--output", "json"]) == 2
    printed = json.loads(capsys.readouterr().out)
    assert printed["exit_code"] == 2
    assert {
        "where": f"{path} kafka",
        "level": "error",
        "saw": "required",
        "remedy": "correct the file; docs/configuration.md lists every key",
        "table": None,
        "lets_start": False,
    } in printed["findings"]


def test_status_of_silent_servers_says_unknown_and_ends_with_3(
    silent_pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["status", str(silent_pipeline), "--output", "json"]) == 3
    printed = capsys.readouterr()
    (table,) = json.loads(printed.out)["tables"]
    assert (table["state"], table["lag_records"]) == ("not started", None)
    assert list(table["unread"]) == ["offsets"]
    assert printed.err.startswith("Not read: kafka 127.0.0.1:")


def test_check_of_silent_servers_names_each_once_and_changes_nothing(
    silent_pipeline: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    java = silent_pipeline.parent / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(silent_pipeline.parent))
    assert cli.run(["check", str(silent_pipeline), "--output", "json"]) == 3
    findings = json.loads(capsys.readouterr().out)["findings"]
    errors = [one["where"].partition(" ")[0] for one in findings if one["level"] == "error"]
    assert errors == ["registry", "kafka"]
    warnings = [one["saw"] for one in findings if one["level"] == "warning"]
    assert "its SQLite file isn't there yet" in warnings
    assert sorted(path.name for path in silent_pipeline.parent.iterdir()) == ["bin", "shop.yaml"]


def test_check_prints_errors_first_and_counts_what_is_fine(
    silent_pipeline: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cli.run(["check", str(silent_pipeline)])
    lines = capsys.readouterr().out.splitlines()
    levels = [line.split()[0] for line in lines if line.startswith(("error", "warning", "ok"))]
    assert levels == sorted(levels)
    assert set(levels) == {"error", "warning"}
    assert "kafka.bootstrap_servers;" in " ".join(lines).split()
    assert max(map(len, lines[1:])) <= 80
    assert lines[-1].endswith("fine (`cdc-sink -v check` shows them)")


def test_check_shows_what_is_fine_when_asked(
    silent_pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run(["-v", "check", str(silent_pipeline)])
    assert "pyspark: installed" in capsys.readouterr().out


def test_check_says_what_it_found_where_no_sample_can_be_read(
    silent_pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["check", str(silent_pipeline), "--output", "json", "--sample", "3"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert any(one["level"] == "error" for one in said["findings"])
    assert "samples" not in said


def test_json_logs_are_one_object_a_line_for_ours_and_the_libraries() -> None:
    stream = StringIO()
    configure_logs(LogFormat.JSON, stream=stream)
    structlog.get_logger().info("the table is caught up", table="shop.customers", records=3)
    logging.getLogger("some.library").warning("slow %s", "disk")
    logging.getLogger("some.library").info("chatter")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "event": "the table is caught up",
        "level": "info",
        "table": "shop.customers",
        "records": 3,
    }
    assert (second["event"], second["level"]) == ("slow disk", "warning")


def test_human_logs_are_a_sentence_and_fields_without_colours_off_a_terminal() -> None:
    stream = StringIO()
    configure_logs(stream=stream)
    structlog.get_logger().info("the table is caught up", table="shop.customers")
    structlog.get_logger().debug("not asked for")
    (line,) = stream.getvalue().splitlines()
    assert "the table is caught up" in line
    assert "table=shop.customers" in line
    assert "\x1b" not in line
