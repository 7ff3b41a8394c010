"""Whatever a registry answers: a schema text, or a CdcSinkError."""

from __future__ import annotations

import json
from typing import Any

import pytest
from http_double import HttpDouble

from cdc_sink import config
from cdc_sink.clients.registry import RegistryClient
from cdc_sink.errors import CdcSinkError, ConfigError, SchemaError, UnavailableError

NO_REGISTRY = "the answer isn't a schema registry's"
DEEP = b'{"schema":' * 100_000


def registry_at(double: HttpDouble) -> RegistryClient:
    return RegistryClient(config.Registry(url=double.url, timeout_s=5))


@pytest.mark.parametrize(
    "body", [DEEP, b"[" * 100_000, b"[7]", b'"schema"', b"7", b"", b"\xff\xfe"]
)
def test_an_answer_that_is_no_object_is_no_registrys(double: HttpDouble, body: bytes) -> None:
    double.answers["/schemas/ids/7"] = (200, body)
    with pytest.raises(UnavailableError, match=NO_REGISTRY):
        registry_at(double).schema(7)


@pytest.mark.parametrize("schema", [None, 7, True, 1.5, "", {"type": "long"}, ["null"]])
@pytest.mark.parametrize("kind", [None, "AVRO", "JSON", 7, ["AVRO"], "x" * 10**5])
def test_a_schema_is_a_text_or_refused(double: HttpDouble, schema: Any, kind: Any) -> None:
    double.answers["/schemas/ids/7"] = (200, {"schema": schema, "schemaType": kind})
    try:
        text = registry_at(double).schema(7)
    except CdcSinkError as error:
        assert isinstance(error, SchemaError | UnavailableError)  # noqa: PT017
        assert len(str(error)) < 1_000  # noqa: PT017
        return
    assert text == schema == ""


@pytest.mark.parametrize("references", ["a", 7, [7], [{}], [[]], {"a": 1}])
def test_references_of_any_form_are_refused(double: HttpDouble, references: Any) -> None:
    body = {"schema": '"long"', "references": references}
    double.answers["/schemas/ids/7"] = (200, body)
    with pytest.raises((SchemaError, UnavailableError)):
        registry_at(double).schema(7)


@pytest.mark.parametrize(
    "versions", [["1"], ["latest/../.."], [{"a": 1}], [None], [-1], [1.5], [True], {"1": 2}, "12"]
)
def test_versions_that_are_no_numbers_are_not_asked_for(double: HttpDouble, versions: Any) -> None:
    double.answers["/subjects/s/versions"] = (200, versions)
    with pytest.raises(UnavailableError, match=NO_REGISTRY):
        registry_at(double).versions("s")
    assert double.asked == ["GET /subjects/s/versions"]


@pytest.mark.parametrize("schema_id", ["7", -1, 1 << 32, 1.5, True, [7], {"id": 7}])
def test_an_id_that_does_not_fit_four_bytes_is_no_registrys(
    double: HttpDouble, schema_id: Any
) -> None:
    double.answers["/subjects/s/versions"] = (200, [1])
    body = {"subject": "s", "version": 1, "id": schema_id, "schema": '"long"'}
    double.answers["/subjects/s/versions/1"] = (200, body)
    with pytest.raises(UnavailableError, match=NO_REGISTRY):
        registry_at(double).versions("s")


@pytest.mark.parametrize(
    "subject", ["a/b", "../config", "a?b#c", "a b", "%2e%2e", "\u05e9-value", "a\nb", "x" * 250]
)
def test_a_subject_reaches_the_registry_as_one_name(double: HttpDouble, subject: str) -> None:
    double.answers["/config"] = (200, ["what ../config would be answered with"])
    with pytest.raises(ConfigError, match="HTTP 404"):
        registry_at(double).versions(subject)
    (asked,) = double.asked
    path = asked.removeprefix("GET /subjects/").removesuffix("/versions")
    assert not set(path) & set("/?# \n")
    assert json.dumps(asked).isprintable()
