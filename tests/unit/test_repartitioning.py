"""When keys may be in two partitions, and when that is over."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from cdc_sink.debezium.origin import Origin
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import StateError
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.ledger.many_sources import KnownSource, lanes_of
from cdc_sink.table.ledger.repartitioning import Moving, grown_before
from cdc_sink.table.ledger.stream_identity import StreamIdentity

OPENED = Ledger.opened(StreamIdentity("shop", "q1", "cluster", "topic", "topic-1"), [0, 1])


def never() -> Mapping[int, int]:
    raise AssertionError("the topic's ends were asked for without need")


def begun(
    ledger: Ledger, partitions: int = 2, *key_ids: int, ends: Mapping[int, int] | None = None
) -> Ledger:
    return ledger.beginning(partitions, key_ids or (1,), never if ends is None else lambda: ends)


def test_nothing_moves_in_a_topic_that_stays_as_it_is() -> None:
    first = begun(OPENED)
    assert first.moving is None
    assert begun(first, 2, 1).moving is None
    assert first.key_schema_ids == (1,)


def test_a_topic_that_grew_moves_keys_until_the_connector_is_known_to_know() -> None:
    applied = begun(OPENED).advanced({0: 5, 1: 5}, {}, [])
    grown = begun(applied, 3)
    assert grown.moving == Moving(2, placed_by=2)
    assert grown.next_offsets == {0: 5, 1: 5, 2: 0}
    assert begun(grown, 3).moving == Moving(2, placed_by=2)  # nothing in the new partition yet
    proven = begun(grown.advanced({2: 1}, {}, []), 3, ends={0: 9, 1: 9, 2: 4})
    assert proven.moving == Moving(2, {0: 9, 1: 9, 2: 4}, placed_by=2)
    nearly = begun(proven.advanced({0: 9, 1: 8, 2: 4}, {}, []), 3)
    assert nearly.moving == proven.moving
    assert begun(nearly.advanced({1: 9}, {}, []), 3).moving is None


def test_each_source_of_a_table_of_many_has_a_connector_that_must_know() -> None:
    sources = tuple(KnownSource(Origin(name, name, "db", "s", "t")) for name in ("a", "b"))
    applied = dataclasses.replace(begun(OPENED).advanced({0: 5, 1: 5}, {}, []), sources=sources)
    grown = begun(applied, 3)
    of_one, of_other = (lanes_of(number, [2])[0] for number in (0, 1))
    one = grown.advanced({2: 1}, {of_one: SourcePosition(1, 1)}, [])
    assert begun(one, 3).moving == Moving(2, placed_by=2)
    both = one.advanced({2: 2}, {of_other: SourcePosition(1, 1)}, [])
    assert begun(both, 3, ends={2: 2}).moving == Moving(2, {2: 2}, placed_by=2)


def test_it_grows_again_while_it_moves_and_keys_may_move_twice() -> None:
    grown = begun(begun(OPENED).advanced({0: 5}, {}, []), 3)
    assert grown.moving == Moving(2, once=True, placed_by=2)
    assert begun(Ledger.from_json(grown.to_json()), 4).moving == Moving(3, once=False)


def test_a_topic_that_grew_before_the_start_moves_keys_until_the_last_partition_is_met() -> None:
    assert grown_before(3, ()) is None
    assert grown_before(3, (1,)) == Moving(2, once=True, placed_by=1)
    assert grown_before(4, (1, 2)) == Moving(3, once=False)
    ledger = dataclasses.replace(OPENED, next_offsets={0: 0, 1: 0, 2: 0})
    first = begun(dataclasses.replace(ledger, moving=grown_before(3, (2,))), 3)
    assert first.moving == Moving(2, placed_by=2)
    proven = begun(first.advanced({2: 1}, {}, []), 3, ends={0: 9, 1: 9, 2: 4})
    assert proven.moving == Moving(2, {0: 9, 1: 9, 2: 4}, placed_by=2)


def test_another_key_schema_moves_keys_from_its_first_record_on() -> None:
    applied = begun(OPENED).advanced({0: 5, 1: 5}, {}, [])
    changed = begun(applied, 2, 1, 7, ends={0: 8, 1: 8})
    assert changed.moving == Moving(2, {0: 8, 1: 8}, placed_by=2)
    assert begun(changed, 2, 7).moving == changed.moving
    assert begun(changed.advanced({0: 8, 1: 8}, {}, []), 2, 7).moving is None


def test_it_survives_the_ledgers_text() -> None:
    grown = begun(begun(OPENED), 3)
    assert Ledger.from_json(grown.to_json()) == grown


def test_a_phase_goes_on_only_with_the_deletes_that_it_remembered() -> None:
    """Growing again keeps them; another table's, none, and those of an older ledger's own stop."""
    kept = Moving(2, deletes="one")
    again = begun(dataclasses.replace(OPENED, moving=kept), 3)
    assert again.moving == Moving(2, None, once=False, deletes="one")
    kept.require_deletes("one", "shop.t")
    Moving(2).require_deletes("of a batch that was not committed", "shop.t")
    in_ledger = Moving.from_json({"grown_from": 2, "until": None, "deleted": {"k": [1, 1]}})
    for moving, found in ((kept, "two"), (kept, None), (in_ledger, None), (in_ledger, "one")):
        with pytest.raises(StateError, match="deleted while keys moved is not remembered any more"):
            moving.require_deletes(found, "shop.t")
