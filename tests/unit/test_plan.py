"""Facts in, plan out: which step a micro-batch is, and what the ledger says after it."""

from __future__ import annotations

import dataclasses

import pytest

from cdc_sink.debezium.position import SourcePosition
from cdc_sink.errors import StateError
from cdc_sink.table.ledger.ledger import Ledger, Totals
from cdc_sink.table.ledger.repartitioning import Moving
from cdc_sink.table.ledger.stream_identity import StreamIdentity
from cdc_sink.table.plan import BatchFacts, Plan, Step, plan_batch, plan_events

LEDGER = Ledger.opened(StreamIdentity("shop", "q1", "cluster", "topic", "topic-1"), [0, 1])
ONE_PARTITION = Ledger.opened(StreamIdentity("shop", "q1", "cluster", "topic", "topic-1"), [0])
UPDATES = BatchFacts(
    records=10,
    tombstones=1,
    redelivered=2,
    reads=0,
    upserted_keys=4,
    deleted_keys=1,
    split_keys=0,
    overtaken_keys=0,
    ends_redelivered=False,
    highest_partition=1,
    next_offsets={0: 7, 1: 5},
    high_water={0: SourcePosition(1, 2)},
    schema_ids=(3,),
    newest_source_ts_ms=1_770_000_000_000,
)
NOTHING_LEFT = {"upserted_keys": 0, "deleted_keys": 0}


def planned(*, is_empty: bool = False, folded_exactly: bool = False, **facts: object) -> Plan:
    changed = dataclasses.replace(UPDATES, **facts)  # type: ignore[arg-type]
    if changed.truncates:
        changed = dataclasses.replace(changed, highest_partition=0)
    ledger = ONE_PARTITION if changed.truncates else LEDGER
    return plan_batch(
        changed, ledger, is_empty=is_empty, folded_exactly=folded_exactly, where="shop.t"
    )


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        ({}, Step.MERGE),
        ({"is_empty": True}, Step.FIRST_LOAD),
        ({"upserted_keys": 0}, Step.MERGE),
        ({"upserted_keys": 0, "is_empty": True}, Step.OFFSETS_ONLY),
        (NOTHING_LEFT, Step.OFFSETS_ONLY),
        ({**NOTHING_LEFT, "is_empty": True}, Step.OFFSETS_ONLY),
        ({"reads": 9}, Step.MERGE),
        ({"reads": 8}, Step.REFOLD_IN_KAFKA_ORDER),
        ({"reads": 1}, Step.REFOLD_IN_KAFKA_ORDER),
        ({"reads": 1, "is_empty": True}, Step.REFOLD_IN_KAFKA_ORDER),
        ({"reads": 1, "folded_exactly": True}, Step.MERGE),
        ({"ends_redelivered": True}, Step.REFOLD_IN_KAFKA_ORDER),
        ({"ends_redelivered": True, "folded_exactly": True}, Step.MERGE),
        ({"overtaken_keys": 1}, Step.REFOLD_IN_KAFKA_ORDER),
        ({"unfilled_keys": 1, "lacking_keys": 1}, Step.REFOLD_WITH_FILLS),
        ({"unfilled_keys": 1, "reads": 1}, Step.REFOLD_IN_KAFKA_ORDER),
        ({"lacking_keys": 1}, Step.MERGE),
        ({"lacking_keys": 1, "is_empty": True}, Step.NEEDS_QUARANTINE),
        ({"unknown_keys": 1}, Step.NEEDS_QUARANTINE),
        ({"truncates": 1, "lacking_keys": 1}, Step.NEEDS_QUARANTINE),
        ({"truncates": 1}, Step.REPLACE_ALL),
        ({"truncates": 1, **NOTHING_LEFT}, Step.REPLACE_ALL),
        ({"truncates": 1, "is_empty": True}, Step.FIRST_LOAD),
        ({"truncates": 1, "ignores_truncates": True}, Step.MERGE),
    ],
)
def test_the_step_follows_from_the_facts(facts: dict[str, object], step: Step) -> None:
    assert planned(**facts).step is step  # type: ignore[arg-type]


def test_a_replay_is_skipped_and_leaves_the_ledger_alone() -> None:
    replay = dataclasses.replace(
        UPDATES, records=0, highest_partition=None, next_offsets={}, high_water={}
    )
    plan = plan_batch(replay, LEDGER, is_empty=False, folded_exactly=False, where="shop.t")
    assert plan == Plan(Step.SKIP, LEDGER)


@pytest.mark.parametrize("facts", [{}, {"is_empty": True}, NOTHING_LEFT])
def test_the_ledger_says_what_the_batch_brought(facts: dict[str, object]) -> None:
    expected = LEDGER.advanced(
        UPDATES.next_offsets,
        UPDATES.high_water,
        UPDATES.schema_ids,
        UPDATES.newest_source_ts_ms,
        Totals(applied=7, redelivered=2, tombstones=1),
    )
    assert planned(**facts).ledger == expected  # type: ignore[arg-type]
    assert expected.next_offsets == {0: 7, 1: 5}


def test_a_partition_that_came_later_is_refused() -> None:
    with pytest.raises(StateError) as refused:
        planned(highest_partition=2)
    assert str(refused.value) == (
        "shop.t: partition 2 of topic did not exist when the table was set up (2 partitions then); "
        "keys may have moved, so Kafka order no longer orders the changes of a key; the batch was not "
        "applied, its offsets were not committed; rebuild the table with `cdc-sink backfill` into a "
        "new target."
    )


def test_keys_in_two_partitions_are_refused() -> None:
    with pytest.raises(
        StateError, match=r"shop\.t: 3 keys have changes in more than one partition"
    ):
        planned(split_keys=3)


def test_a_truncate_that_nothing_orders_is_refused() -> None:
    facts = dataclasses.replace(UPDATES, truncates=1)
    with pytest.raises(
        StateError, match="topic has 2 partitions: the truncate lies in one of them"
    ):
        plan_batch(facts, LEDGER, is_empty=False, folded_exactly=False, where="shop.t")


def test_a_batch_of_bad_records_only_is_no_poison_record() -> None:
    facts = dataclasses.replace(UPDATES, records=120, dead_letters=119, bad_records=119)
    with pytest.raises(StateError, match="all 119 records of the batch are bad"):
        plan_batch(facts, LEDGER, is_empty=False, folded_exactly=True, where="shop.t")
    one_good = dataclasses.replace(facts, dead_letters=118, bad_records=118)
    plan = plan_batch(one_good, LEDGER, is_empty=False, folded_exactly=True, where="shop.t")
    assert plan.step is Step.MERGE


def test_the_kinds_of_records_sum_up_to_the_input() -> None:
    facts = dataclasses.replace(UPDATES, dead_letters=3, truncates=1)
    assert facts.totals == Totals(applied=4, redelivered=2, tombstones=1, dead_letters=3)
    ignoring = dataclasses.replace(facts, ignores_truncates=True)
    assert ignoring.totals == Totals(3, 2, 1, 1, 3)
    assert facts.totals.records == ignoring.totals.records == 10


def test_the_counters_tell_records_and_keys_apart() -> None:
    counters = {
        "records": 10,
        "applied": 7,
        "redelivered": 2,
        "tombstones": 1,
        "ignored": 0,
        "dead_letters": 0,
        "upserted_keys": 4,
        "deleted_keys": 1,
    }
    assert UPDATES.counters() == counters | {"newest_source_ts_ms": 1_770_000_000_000}
    assert dataclasses.replace(UPDATES, newest_source_ts_ms=None).counters() == counters


def test_changes_below_the_mark_that_are_newer_than_all_applied_mean_a_reset_source() -> None:
    ledger = LEDGER.advanced({}, {}, [], 1000)
    facts = dataclasses.replace(UPDATES, redelivered=3, newest_redelivered_ts_ms=1001)
    with pytest.raises(StateError, match="the source's log began again") as refused:
        plan_batch(facts, ledger, is_empty=False, folded_exactly=True, where="shop.t")
    assert "new source snapshot into a new topic" in refused.value.remedy
    again = dataclasses.replace(facts, newest_redelivered_ts_ms=1000)
    plan = plan_batch(again, ledger, is_empty=False, folded_exactly=True, where="shop.t")
    assert plan.step is Step.MERGE


def test_changes_that_fall_inside_a_batch_and_are_newer_mean_a_reset_source() -> None:
    """In a table's first batch nothing is known; while keys move, their first delivery may be elsewhere."""
    facts = dataclasses.replace(UPDATES, redelivered=3, newest_regression_ts_ms=1001)

    def step_in(ledger: Ledger) -> Step:
        return plan_batch(facts, ledger, is_empty=False, folded_exactly=True, where="shop.t").step

    for known in (None, 1000):
        with pytest.raises(StateError, match="the source's log began again"):
            step_in(LEDGER.advanced({}, {}, [], known))
    came_again = LEDGER.advanced({}, {}, [], 1001)
    assert step_in(came_again) is Step.MERGE
    assert step_in(dataclasses.replace(LEDGER, moving=Moving(2, None, {}))) is Step.MERGE


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        ({}, Step.ADD_EVENTS),
        ({"upserted_keys": 0}, Step.ADD_EVENTS),
        (NOTHING_LEFT, Step.OFFSETS_ONLY),
        ({"records": 0}, Step.SKIP),
        # Keys in two partitions, mixed batches and truncates need no order between rows of events.
        ({"split_keys": 3}, Step.ADD_EVENTS),
        ({"reads": 3}, Step.ADD_EVENTS),
        ({"truncates": 1}, Step.ADD_EVENTS),
    ],
)
def test_events_are_added_whatever_their_order(facts: dict[str, object], step: Step) -> None:
    changed = dataclasses.replace(UPDATES, **facts)  # type: ignore[arg-type]
    plan = plan_events(changed, LEDGER, where="shop.t")
    assert plan.step is step
    if step is not Step.SKIP:
        assert plan.ledger.next_offsets == {0: 7, 1: 5}
        assert plan.ledger.totals == changed.totals


@pytest.mark.parametrize(
    ("facts", "saw"),
    [
        ({"highest_partition": 2}, "partition 2"),
        ({"records": 201, "tombstones": 1, "bad_records": 200, **NOTHING_LEFT}, "are bad"),
    ],
)
def test_events_that_nothing_vouches_for_stop_the_table(facts: dict[str, object], saw: str) -> None:
    changed = dataclasses.replace(UPDATES, **facts)  # type: ignore[arg-type]
    with pytest.raises(StateError, match=saw):
        plan_events(changed, LEDGER, where="shop.t")


def test_events_of_a_source_whose_log_began_again_stop_the_table() -> None:
    ledger = dataclasses.replace(LEDGER, newest_source_ts_ms=5)
    changed = dataclasses.replace(UPDATES, newest_redelivered_ts_ms=6)
    with pytest.raises(StateError, match="began again"):
        plan_events(changed, ledger, where="shop.t")
