"""Other framings, rewritten: nothing is cut silently, and every fault keeps its name."""

from __future__ import annotations

import pytest
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    header_schema_id_serializer,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.debezium.wire.confluent import (
    Frame,
    FramingError,
    frame_prefix,
    marked_fault,
    parse_frame,
)
from cdc_sink.debezium.wire.other_framings import (
    UNKNOWN_ID,
    apicurio_id,
    content_id_of,
    guid_header,
    with_apicurio_id,
    with_guid,
    with_long_id,
)

BODIES = st.binary(max_size=20)
GUID = bytes(range(16))


def frame(value: bytes | None) -> Frame:
    found = parse_frame(value)
    assert isinstance(found, Frame)
    return found


def fault(value: bytes | None) -> str:
    with pytest.raises(FramingError) as caught:
        parse_frame(value)
    return caught.value.code


@given(st.integers(1, 2**32 - 1), BODIES)
def test_an_eight_byte_id_that_fits_becomes_a_frame_of_it(number: int, body: bytes) -> None:
    assert frame(with_long_id(b"\x00" + number.to_bytes(8, "big") + body)) == Frame(number, body)


@given(st.integers(2**32, 2**64 - 1) | st.just(0), BODIES)
def test_an_eight_byte_id_that_does_not_fit_is_a_fault(number: int, body: bytes) -> None:
    assert fault(with_long_id(b"\x00" + number.to_bytes(8, "big") + body)) == "id_out_of_range"


@given(st.integers(1, 2**32 - 1), st.binary(min_size=4))
def test_a_four_byte_frame_is_never_taken_for_an_eight_byte_one(number: int, body: bytes) -> None:
    assert fault(with_long_id(frame_prefix(number) + body)) == "id_out_of_range"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", "short_value"),
        (b"\x00", "short_long_id"),
        (b"\x00\x00\x00\x00\x00\x00\x00\x01", "short_long_id"),
        (b"\x01\x00\x00\x00\x00\x00\x00\x00\x07", "wrong_magic"),
        (b'{"a": 1}', "wrong_magic"),
    ],
)
def test_what_is_no_eight_byte_frame_keeps_its_own_fault(value: bytes, code: str) -> None:
    assert fault(with_long_id(value)) == code


def apicurio(body: bytes | None, *headers: tuple[str, bytes | None]) -> bytes | None:
    return with_apicurio_id(body, apicurio_id("value", headers))


def long(number: int) -> bytes:
    return number.to_bytes(8, "big")


@given(st.integers(1, 2**24 - 1), st.integers(1, 2**24 - 1), BODIES)
def test_global_and_content_ids_never_share_a_number(one: int, other: int, body: bytes) -> None:
    by_global = frame(apicurio(body, ("apicurio.value.globalId", long(one))))
    by_content = frame(apicurio(body, ("apicurio.value.contentId", long(other))))
    assert (by_global.payload, by_content.payload) == (body, body)
    assert by_global.schema_id != by_content.schema_id
    assert (by_global.schema_id, content_id_of(by_global.schema_id)) == (one, None)
    assert content_id_of(by_content.schema_id) == other
    assert by_content.schema_id < 2**31  # fits the table's column


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ((), "no_id_header"),
        ((("apicurio.key.globalId", long(7)),), "no_id_header"),
        ((("apicurio.value.globalId", None),), "no_id_header"),
        ((("apicurio.value.artifactId", b"shop-value"),), "no_id_header"),
        ((("apicurio.value.globalId", b"7"),), "bad_id_header"),
        ((("apicurio.value.contentId", long(7) + b"\x00"),), "bad_id_header"),
        ((("apicurio.value.globalId", long(0)),), "id_out_of_range"),
        ((("apicurio.value.globalId", long(2**24)),), "id_out_of_range"),
        ((("apicurio.value.contentId", long(2**32 + 7)),), "id_out_of_range"),
    ],
)
def test_a_body_without_a_readable_id_is_a_fault(
    headers: tuple[tuple[str, bytes | None], ...], code: str
) -> None:
    assert fault(apicurio(b"body", *headers)) == code


def test_the_last_header_of_a_name_counts() -> None:
    twice = (("apicurio.value.globalId", long(7)), ("apicurio.value.globalId", long(8)))
    assert frame(apicurio(b"body", *twice)).schema_id == 8


def test_null_stays_null_whatever_the_headers_say() -> None:
    assert with_long_id(None) is None
    assert apicurio(None, ("apicurio.value.globalId", long(7))) is None
    assert apicurio(None) is None
    assert with_guid(None, None, {}) is None


def test_a_guid_that_is_not_known_yet_gets_an_id_that_nobody_knows() -> None:
    header = b"\x01" + GUID
    assert frame(with_guid(b"body", header, {})) == Frame(UNKNOWN_ID, b"body")
    assert frame(with_guid(b"body", header, {GUID: 7})) == Frame(7, b"body")


@pytest.mark.parametrize("header", [b"", GUID, b"\x00" + GUID, b"\x01" + GUID + b"\x00"])
def test_a_guid_header_of_another_layout_is_a_fault(header: bytes) -> None:
    assert fault(with_guid(b"body", header, {GUID: 7})) == "bad_id_header"
    assert fault(with_guid(b"body", None, {GUID: 7})) == "no_id_header"


@pytest.mark.parametrize(
    ("side", "field"), [("key", MessageField.KEY), ("value", MessageField.VALUE)]
)
def test_what_confluents_own_serializer_writes_is_read(side: str, field: str) -> None:
    schema = '{"type": "record", "name": "Row", "fields": [{"name": "id", "type": "long"}]}'
    client = SchemaRegistryClient.new_client({"url": "mock://framing"})
    settings = {"schema.id.serializer": header_schema_id_serializer}
    context = SerializationContext("t", field, [])
    body = AvroSerializer(client, schema, conf=settings)({"id": 3}, context)
    registered = client.lookup_schema(f"t-{side}", Schema(schema, "AVRO"))
    given = guid_header(side, context.headers)
    assert given is not None
    framed = with_guid(body, given, {given[1:]: registered.schema_id})
    plain = AvroSerializer(client, schema)({"id": 3}, SerializationContext("t", field))
    assert framed == plain


@given(st.binary())
def test_only_a_fault_mark_is_taken_for_one(value: bytes) -> None:
    assert marked_fault(value) is None
