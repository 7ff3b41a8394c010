"""A table's records come from one source table, and a schema id stands for one schema."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.debezium.origin import Origin
from cdc_sink.errors import StateError
from cdc_sink.table.ledger.one_source import (
    fingerprint,
    require_one_origin,
    require_roles,
    require_same_schemas,
)

SHOP = Origin("shop.public.items", "postgresql", "shop", "eu", "public", "items")
PARTS = [part.name for part in dataclasses.fields(Origin)]
ORIGINS = st.builds(Origin, *(st.sampled_from(["a", "b"]) for _ in PARTS))


def least_and_greatest(origins: list[Origin]) -> list[Origin]:
    """What a batch tells of its origins."""
    ordered = sorted(origins, key=dataclasses.astuple)
    return list(dict.fromkeys([ordered[0], ordered[-1]]))


@given(st.lists(ORIGINS, min_size=1, max_size=5), st.none() | ORIGINS)
def test_a_table_goes_on_only_if_all_its_changes_have_one_origin(
    batch: list[Origin], known: Origin | None
) -> None:
    everything = {*batch, *([known] if known else [])}
    told = least_and_greatest(batch)
    if len(everything) == 1:
        assert require_one_origin(told, known, "topic", "shop.t") == batch[0]
    else:
        with pytest.raises(StateError, match="holds changes of more than one source"):
            require_one_origin(told, known, "topic", "shop.t")


@pytest.mark.parametrize("part", PARTS)
def test_the_sentence_names_what_differs_and_nothing_else(part: str) -> None:
    other = dataclasses.replace(SHOP, **{part: "other"})
    with pytest.raises(StateError) as stopped:
        require_one_origin([other], SHOP, "shop.public.items", "shop.items")
    said = part.replace("record", "writer schema").replace("name", "logical name")
    assert f"source: {said} {getattr(SHOP, part)!r} and 'other' (the table was written from" in str(
        stopped.value
    )


def test_a_batch_without_changes_says_nothing_of_the_origin() -> None:
    assert require_one_origin([], None, "topic", "shop.t") is None
    assert require_one_origin([], SHOP, "topic", "shop.t") == SHOP


def test_an_origin_is_read_as_it_was_written() -> None:
    assert Origin.from_json(SHOP.to_json()) == SHOP
    assert Origin.from_json(None) is None


def test_a_schema_id_that_stands_for_another_schema_stops_the_table() -> None:
    one, two = (json.dumps({"type": "record", "name": n, "fields": []}) for n in ("A", "B"))
    spaced = json.dumps(json.loads(one), indent=2)
    known = require_same_schemas({}, {1: fingerprint(one), 2: fingerprint(two)}, "shop.t")
    assert require_same_schemas(known, {1: fingerprint(spaced)}, "shop.t") == known
    with pytest.raises(StateError, match="schema id 1 is another schema than when records of it"):
        require_same_schemas(known, {1: fingerprint(two)}, "shop.t")


def test_an_id_that_was_never_applied_is_told_by_its_schemas_role() -> None:
    envelope, key, row, mine = (
        json.dumps({"type": "record", "name": name, "namespace": "shop.t", "fields": []})
        for name in ("Envelope", "Key", "Value", "MyOwnKeyRecord")
    )
    require_roles({1: envelope, 2: row, 5: mine}, {3: key, 4: mine, 6: row}, "shop.t")
    with pytest.raises(StateError, match="id 3 stands in values and is a key's schema: the reg"):
        require_roles({1: envelope, 3: key}, {}, "shop.t")
    with pytest.raises(StateError, match="id 1 stands in keys and is a change's schema: the reg"):
        require_roles({}, {3: key, 1: envelope}, "shop.t")


def test_what_only_some_records_say_is_kept_and_not_held_against_the_others() -> None:
    """A transform that flattens came or went: rows say less than envelopes."""
    row = dataclasses.replace(SHOP, name=None, database=None, schema=None)
    assert require_one_origin([row, SHOP], None, "topic", "shop.t") == SHOP
    assert require_one_origin([row], SHOP, "topic", "shop.t") == SHOP
    other = dataclasses.replace(SHOP, database="us")
    with pytest.raises(StateError, match="database 'eu' and 'us'"):
        require_one_origin([row, other], SHOP, "topic", "shop.t")
