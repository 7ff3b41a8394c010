"""The registry's answers, against a small HTTP server that gives them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest
from http_double import HttpDouble

from cdc_sink import config
from cdc_sink.clients.registry import RegistryClient
from cdc_sink.errors import CdcSinkError, ConfigError, SchemaError, UnavailableError

SCHEMA = '{"type":"string"}'


def registry_at(url: str) -> RegistryClient:
    return RegistryClient(config.Registry(url=url, timeout_s=0.2))


def test_a_schema_is_asked_for_once(double: HttpDouble) -> None:
    double.answers["/schemas/ids/7"] = (200, {"schema": SCHEMA})
    registry = registry_at(double.url)
    assert [registry.schema(7), registry.schema(7)] == [SCHEMA, SCHEMA]
    assert double.asked == ["GET /schemas/ids/7"]


def test_an_unknown_id_is_a_schema_error_that_is_not_retried(double: HttpDouble) -> None:
    double.answers["/schemas/ids/7"] = (404, {"error_code": 40403, "message": "no"})
    with pytest.raises(SchemaError, match="unknown schema id 7") as failure:
        registry_at(double.url).schema(7)
    assert not failure.value.retry


def test_the_versions_of_a_subject_come_oldest_first(double: HttpDouble) -> None:
    double.answers["/subjects/shop.t-value/versions"] = (200, [1, 3])
    for version, schema_id in ((1, 12), (3, 9)):
        body = {"subject": "shop.t-value", "version": version, "id": schema_id, "schema": SCHEMA}
        double.answers[f"/subjects/shop.t-value/versions/{version}"] = (200, body)
    registry = registry_at(double.url)
    assert list(registry.versions("shop.t-value")) == [12, 9]
    double.asked.clear()
    assert registry.schema(12) == SCHEMA
    assert double.asked == []


def test_an_unknown_subject_has_no_versions(double: HttpDouble) -> None:
    double.answers["/subjects/x/versions"] = (404, {"error_code": 40401, "message": "no"})
    assert registry_at(double.url).versions("x") == {}


def test_a_subject_without_a_level_has_the_registrys(double: HttpDouble) -> None:
    double.answers["/config/x"] = (404, {"error_code": 40408, "message": "no"})
    double.answers["/config"] = (200, {"compatibilityLevel": "BACKWARD"})
    assert registry_at(double.url).compatibility("x") == "BACKWARD"
    double.answers["/config/x"] = (200, {"compatibilityLevel": "NONE"})
    assert registry_at(double.url).compatibility("x") == "NONE"


def test_apicurios_none_of_a_subject_means_the_registrys_level(double: HttpDouble) -> None:
    path = "/apis/ccompat/v7"
    double.answers[f"{path}/config"] = (200, {"compatibilityLevel": "BACKWARD"})
    double.answers[f"{path}/config/x"] = (200, {"compatibilityLevel": "NONE"})
    assert registry_at(double.url + path).compatibility("x") == "BACKWARD"
    double.answers[f"{path}/config/x"] = (200, {"compatibilityLevel": "FULL"})
    assert registry_at(double.url + path).compatibility("x") == "FULL"


@pytest.mark.parametrize(
    "body",
    [
        {"schema": SCHEMA, "schemaType": "JSON"},
        {"schema": SCHEMA, "references": [{"name": "a", "subject": "b", "version": 1}]},
    ],
)
def test_a_schema_that_is_not_plain_avro_is_refused(
    double: HttpDouble, body: dict[str, object]
) -> None:
    double.answers["/schemas/ids/7"] = (200, body)
    with pytest.raises(SchemaError, match="expected one self-contained Avro schema"):
        registry_at(double.url).schema(7)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((500, {"error_code": 50001, "message": "broken"}), UnavailableError),
        ((503, b"<html>down</html>"), UnavailableError),
        ((200, b"\x00garbage"), UnavailableError),
        ((200, []), UnavailableError),
        ((401, {"error_code": 401, "message": "who"}), ConfigError),
        ((404, b"<html>no such page</html>"), ConfigError),
    ],
)
def test_a_broken_answer_says_whose_fault_it_is(
    double: HttpDouble, answer: tuple[int, object], kind: type[CdcSinkError]
) -> None:
    double.answers["/schemas/ids/7"] = answer
    with pytest.raises(kind) as failure:
        registry_at(double.url).schema(7)
    assert double.url in str(failure.value)
    assert "garbage" not in str(failure.value)


def test_a_missing_registry_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: the port refuses
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UnavailableError, match="can't be reached"):
            registry_at(url).ping()


def test_a_hanging_registry_is_unavailable_after_the_time_limit() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # connections are taken by the kernel and never answered
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(UnavailableError, match="no answer within the time limit"):
            registry_at(url).ping()
        assert time.monotonic() - begin < 3


@pytest.mark.parametrize(
    "ask", [lambda r: r.versions("s"), lambda r: r.compatibility("s"), lambda r: r.ping()]
)
def test_every_question_is_translated(
    double: HttpDouble, ask: Callable[[RegistryClient], object]
) -> None:
    double.answers |= dict.fromkeys(
        ("/subjects", "/subjects/s/versions", "/config/s"), (500, {"error_code": 1, "message": ""})
    )
    with pytest.raises(UnavailableError):
        ask(registry_at(double.url))
