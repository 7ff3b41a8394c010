"""A record as people read it; what can't be decoded is said, and shows no byte of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from http_double import HttpDouble

from cdc_sink import config
from cdc_sink.clients.decoded_record import decoded
from cdc_sink.config import Pipeline
from cdc_sink.errors import UnavailableError

TEXT = json.dumps({"type": "record", "name": "Key", "fields": [{"name": "id", "type": "int"}]})
KEY = b"\x00\x00\x00\x00\x07\x0e"  # schema 7, the number 7


def pipeline(url: str) -> Pipeline:
    return Pipeline.model_validate(
        {
            "name": "shop",
            "kafka": {"bootstrap_servers": "127.0.0.1:1"},
            "registry": {"url": url, "timeout_s": 0.2},
            "catalog": {"type": "hadoop", "warehouse": "/lake"},
            "checkpoints": "/checkpoints",
            "defaults": {"namespace": "shop"},
            "tables": (),
        }
    )


def table(wire: str, **columns: dict[str, str]) -> config.Table:
    return config.Table.model_validate(
        {"topic": "pg.public.t", "target": "shop.t", "wire": wire, "columns": columns}
    )


@pytest.mark.parametrize(
    ("wire", "value", "shown"),
    [
        ("confluent", KEY, {"id": 7}),
        ("confluent", None, None),
        ("confluent", b"\x00\x00\x00\x00\x08\x0e", "can't be decoded: unknown schema id 8"),
        ("confluent", b"secret", "can't be decoded: the bytes have no schema id"),
        ("confluent", b"\x00\x00", "can't be decoded: the bytes have no schema id"),
        (
            "confluent",
            KEY[:5] + b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            "can't be decoded: the bytes don't fit their schema (IndexError)",
        ),
        ("json", b'{"schema": {}, "payload": {"id": 7}}', {"id": 7}),
        ("json", b"secret", "can't be decoded: the bytes are no JSON"),
        (
            "confluent_headers",
            b"secret",
            "not decoded: under `wire: confluent_headers` the schema's id is in the headers; --bytes "
            "shows the bytes",
        ),
    ],
)
def test_a_value_is_shown_as_its_schema_says(
    double: HttpDouble, wire: str, value: bytes | None, shown: Any
) -> None:
    double.answers["/schemas/ids/7"] = (200, {"schema": TEXT})
    double.answers["/schemas/ids/8"] = (404, {"error_code": 40403, "message": "no"})
    found = decoded({"key": KEY, "value": value}, pipeline(double.url), table(wire))
    assert found["value"] == shown
    assert "secret" not in str(found)


def test_a_silent_registry_is_said() -> None:
    with pytest.raises(UnavailableError):
        decoded({"key": KEY, "value": None}, pipeline("http://127.0.0.1:1"), table("confluent"))


@pytest.mark.parametrize("envelope", [True, False])
def test_a_masked_column_stays_hidden(envelope: bool) -> None:
    row = {"id": 7, "name": "secret", "city": "Ulm"}
    payload = {"before": None, "after": row, "op": "c"} if envelope else row
    value = json.dumps({"schema": {}, "payload": payload}).encode()
    masked = table("json", name={"mask": "sha256"})
    found = decoded({"key": None, "value": value}, pipeline("http://127.0.0.1:1"), masked)["value"]
    assert (found["after"] if envelope else found) == row | {"name": "****"}
