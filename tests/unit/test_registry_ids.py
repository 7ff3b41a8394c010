"""Schemas by global id and by GUID, against a small HTTP server that answers as the registries do."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from http_double import HttpDouble

from cdc_sink import config
from cdc_sink.clients.registry_ids import SchemaLookup, native_apis
from cdc_sink.errors import CdcSinkError, ConfigError, SchemaError, UnavailableError

SCHEMA = '{"type":"string"}'
GUID = "00010203-0405-0607-0809-0a0b0c0d0e0f"
CCOMPAT = "/apis/ccompat/v7"
NATIVE = "/apis/registry/v2/ids/globalIds/7"
# As Apicurio 2.6.13 says it.
NO_CONTENT = {
    "message": "No content with ID '7' was found.",
    "error_code": 404,
    "detail": "ContentNotFoundException: No content with ID '7' was found.",
    "name": "ContentNotFoundException",
}


def lookup_at(url: str) -> SchemaLookup:
    return SchemaLookup(config.Registry(url=url, timeout_s=0.2))


@pytest.mark.parametrize(
    ("url", "first"),
    [
        ("http://r:1/apis/ccompat/v7", "http://r:1/apis/registry/v2"),
        ("http://r:1/apis/ccompat/v7/", "http://r:1/apis/registry/v2"),
        ("http://r:1/apis/ccompat/v8", "http://r:1/apis/registry/v3"),
        ("https://r/behind/apis/ccompat/v6", "https://r/behind/apis/registry/v2"),
    ],
)
def test_the_native_address_follows_from_the_compatible_one(url: str, first: str) -> None:
    assert native_apis(url)[0] == first


def test_a_registry_that_is_not_apicurios_has_no_global_ids() -> None:
    with pytest.raises(ConfigError, match="isn't the address of an Apicurio registry") as failure:
        native_apis("http://registry:8081")
    assert "/apis/ccompat/v7" in failure.value.remedy


def test_a_global_id_is_asked_of_the_native_api(double: HttpDouble) -> None:
    double.answers[NATIVE] = (200, SCHEMA.encode())
    assert lookup_at(double.url + CCOMPAT).by_global_id(7) == SCHEMA
    assert double.asked == [f"GET {NATIVE}"]


def test_the_other_version_is_tried_where_the_first_is_not_there(double: HttpDouble) -> None:
    double.answers[NATIVE.replace("v2", "v3")] = (200, SCHEMA.encode())
    assert lookup_at(double.url + CCOMPAT).by_global_id(7) == SCHEMA


def test_an_unknown_global_id_is_a_schema_error(double: HttpDouble) -> None:
    double.answers[NATIVE] = (404, NO_CONTENT)
    double.answers[NATIVE.replace("v2", "v3")] = (200, b'{"other": "space"}')
    with pytest.raises(SchemaError, match="unknown global id 7") as failure:
        lookup_at(double.url + CCOMPAT).by_global_id(7)
    assert not failure.value.retry


def test_a_proxy_that_hides_the_native_api_is_a_config_error(double: HttpDouble) -> None:
    double.answers[NATIVE] = (404, b"<html>no such page</html>")
    with pytest.raises(ConfigError, match="own API isn't there"):
        lookup_at(double.url + CCOMPAT).by_global_id(7)


def test_a_guid_has_an_id_and_a_schema(double: HttpDouble) -> None:
    ids = [{"context": ".other", "id": 3}, {"context": ".", "id": 12}]
    double.answers[f"/schemas/guids/{GUID}/ids"] = (200, ids)
    double.answers[f"/schemas/guids/{GUID}"] = (200, {"schema": SCHEMA, "guid": GUID})
    lookup = lookup_at(double.url)
    assert (lookup.id_of_guid(GUID), lookup.by_guid(GUID)) == (12, SCHEMA)


def test_a_guid_outside_the_default_context_has_the_id_of_the_first_one(double: HttpDouble) -> None:
    ids = [{"context": ".b", "id": 3}, {"context": ".a", "id": 12}]
    double.answers[f"/schemas/guids/{GUID}/ids"] = (200, ids)
    assert lookup_at(double.url).id_of_guid(GUID) == 12


@pytest.mark.parametrize("answer", [(200, []), (404, {"error_code": 40403, "message": "no"})])
def test_an_unknown_guid_has_no_id(double: HttpDouble, answer: tuple[int, object]) -> None:
    double.answers[f"/schemas/guids/{GUID}/ids"] = answer
    assert lookup_at(double.url).id_of_guid(GUID) is None


def test_a_registry_without_guids_is_a_config_error(double: HttpDouble) -> None:
    with pytest.raises(ConfigError, match="the registry has no GUIDs"):
        lookup_at(double.url).id_of_guid(GUID)


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
    double.answers[f"/schemas/guids/{GUID}"] = (200, body)
    with pytest.raises(SchemaError, match="expected one self-contained Avro schema"):
        lookup_at(double.url).by_guid(GUID)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((500, {"error_code": 50001}), UnavailableError),
        ((200, b"\x00garbage"), UnavailableError),
        ((200, ["garbage"]), UnavailableError),
        ((200, [{"context": ".", "id": "1"}]), UnavailableError),
        ((200, [{"context": ".", "id": 2**31}]), UnavailableError),
        ((401, {}), ConfigError),
    ],
)
@pytest.mark.parametrize(
    "ask",
    [
        lambda lookup: lookup.by_global_id(7),
        lambda lookup: lookup.by_guid(GUID),
        lambda lookup: lookup.id_of_guid(GUID),
    ],
)
def test_a_broken_answer_says_whose_fault_it_is(
    double: HttpDouble,
    ask: Callable[[SchemaLookup], object],
    answer: tuple[int, object],
    kind: type[CdcSinkError],
) -> None:
    paths = [NATIVE, f"{CCOMPAT}/schemas/guids/{GUID}", f"{CCOMPAT}/schemas/guids/{GUID}/ids"]
    double.answers |= dict.fromkeys(paths, answer)
    with pytest.raises(kind) as failure:
        ask(lookup_at(double.url + CCOMPAT))
    assert double.url in str(failure.value)
    assert "garbage" not in str(failure.value)


def test_a_missing_registry_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: the port refuses
        url = f"http://127.0.0.1:{unused.getsockname()[1]}{CCOMPAT}"
        with pytest.raises(UnavailableError, match="can't be reached"):
            lookup_at(url).by_global_id(7)


def test_a_hanging_registry_is_unavailable_after_the_time_limit() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # connections are taken by the kernel and never answered
        url = f"http://127.0.0.1:{silent.getsockname()[1]}{CCOMPAT}"
        with pytest.raises(UnavailableError, match="no answer within the time limit"):
            lookup_at(url).by_global_id(7)
