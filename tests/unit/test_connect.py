"""Kafka Connect's answers, against a small HTTP server that gives them."""

from __future__ import annotations

import pytest
from http_double import HttpDouble

from cdc_sink.check.rules.judged import is_judged
from cdc_sink.clients.connect import ConnectClient
from cdc_sink.errors import CdcSinkError, ConfigError, UnavailableError


def status_of(connector: str, *tasks: str) -> tuple[int, object]:
    parts = [{"id": number, "state": state} for number, state in enumerate(tasks)]
    return 200, {"name": "shop", "connector": {"state": connector}, "tasks": parts}


def test_a_connector_is_put_by_name(double: HttpDouble) -> None:
    double.answers["/connectors/shop%2Fpg/config"] = (201, {})
    ConnectClient(double.url).put_connector("shop/pg", {"a": "b"})
    assert double.asked == ["PUT /connectors/shop%2Fpg/config"]
    assert double.bodies == [{"a": "b"}]


def test_the_status_names_each_part(double: HttpDouble) -> None:
    double.answers["/connectors/shop/status"] = status_of("RUNNING", "RUNNING", "PAUSED")
    connect = ConnectClient(double.url)
    assert connect.status("shop") == {
        "connector": "RUNNING",
        "task 0": "RUNNING",
        "task 1": "PAUSED",
    }
    assert connect.status("nothing") is None


def test_waiting_ends_when_the_connector_and_its_tasks_run(double: HttpDouble) -> None:
    double.answers["/connectors/shop/status"] = status_of("RUNNING", "RUNNING")
    ConnectClient(double.url).wait_running("shop", 5)
    assert double.asked == ["GET /connectors/shop/status"]


@pytest.mark.parametrize("answer", [status_of("RUNNING"), status_of("RUNNING", "UNASSIGNED")])
def test_a_connector_without_a_running_task_is_unavailable_after_the_limit(
    double: HttpDouble, answer: tuple[int, object]
) -> None:
    double.answers["/connectors/shop/status"] = answer
    with pytest.raises(UnavailableError, match="not running after"):
        ConnectClient(double.url).wait_running("shop", 0.01)


def test_a_failed_task_ends_the_waiting_at_once(double: HttpDouble) -> None:
    double.answers["/connectors/shop/status"] = status_of("RUNNING", "FAILED")
    with pytest.raises(ConfigError, match="task 0"):
        ConnectClient(double.url).wait_running("shop", 60)


def test_deleting_what_is_not_there_is_fine(double: HttpDouble) -> None:
    ConnectClient(double.url).delete("nothing")
    assert double.asked == ["DELETE /connectors/nothing"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((400, {"message": "database.password s3cret is wrong"}), ConfigError),
        ((409, {"message": "rebalancing"}), UnavailableError),
        ((500, b"<html>"), UnavailableError),
        ((200, b"<html>"), UnavailableError),
    ],
)
def test_a_refusal_says_whose_fault_it_is_and_keeps_the_text_back(
    double: HttpDouble, answer: tuple[int, object], kind: type[CdcSinkError]
) -> None:
    double.answers["/connectors/shop/config"] = answer
    with pytest.raises(kind) as failure:
        ConnectClient(double.url).put_connector("shop", {})
    assert "s3cret" not in str(failure.value)


def test_connectors_are_read_with_their_traces_and_without_what_may_be_secret(
    double: HttpDouble,
) -> None:
    kept = {"topic.prefix": "shop_pg", "value.converter": "c.C", "transforms.a.add.fields": "op"}
    secret = {"database.password": "s3cret", "transforms.a.key": "s3cret"}
    settings = kept | secret
    tasks = [{"id": 0, "state": "FAILED", "trace": "why"}, {"id": 1, "state": "RUNNING"}]
    double.answers["/connectors"] = (
        200,
        {
            "pg": {
                "info": {"name": "pg", "config": settings},
                "status": {"connector": {"state": "RUNNING"}, "tasks": tasks},
            }
        },
    )
    (found,) = ConnectClient(double.url).connectors(is_judged)
    assert found.name == "pg"
    assert found.settings == kept
    assert found.failed == {"task 0": "why"}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((401, {}), ConfigError),
        ((403, {}), ConfigError),
        ((500, {}), UnavailableError),
        ((200, ["pg"]), UnavailableError),
        ((200, {"pg": {}}), UnavailableError),
    ],
)
def test_connectors_that_cannot_be_read_say_why(
    double: HttpDouble, answer: tuple[int, object], kind: type[CdcSinkError]
) -> None:
    double.answers["/connectors"] = answer
    with pytest.raises(kind):
        ConnectClient(double.url).connectors(is_judged)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"offsets": [{"partition": {"server": "s"}, "offset": {"lsn": 7}}]}, {"lsn": 7}),
        ({"offsets": []}, None),
        ({"offsets": [{"partition": {}, "offset": None}]}, None),
        # Two sources in one connector: which offset is a table's can't be told.
        ({"offsets": [{"partition": {}, "offset": {}}, {"partition": {}, "offset": {}}]}, None),
    ],
)
def test_a_connectors_place_in_its_source_is_what_connect_keeps(
    double: HttpDouble, answer: object, expected: object
) -> None:
    double.answers["/connectors/shop/offsets"] = (200, answer)
    assert ConnectClient(double.url).source_offset("shop") == expected


def test_a_connector_without_offsets_has_no_place(double: HttpDouble) -> None:
    assert ConnectClient(double.url).source_offset("nothing") is None
    double.answers["/connectors/shop/offsets"] = (200, ["x"])
    with pytest.raises(UnavailableError):
        ConnectClient(double.url).source_offset("shop")
