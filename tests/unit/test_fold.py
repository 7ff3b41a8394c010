from __future__ import annotations

from collections.abc import Hashable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.debezium.envelope import Op
from cdc_sink.debezium.position import SourcePosition
from cdc_sink.testing.fold import UNAVAILABLE, UNKNOWN, Change, apply_images, fold

Rows = Mapping[Hashable, Mapping[str, object]]
PARTITIONS = 2


def change(key: int, op: str, value: object = None, pos: int | None = 0, offset: int = 0) -> Change:
    after = None if op == "d" else {"id": key, "a": value}
    position = None if pos is None else SourcePosition(0, pos)
    return Change(key, Op(op), after, position, key % PARTITIONS, offset)


class Upstream:
    """A source table and its connector: rows, log, and the topic with redelivered tails."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, object]] = {}
        self.topic: list[Change] = []
        self.log: list[Change] = []
        self.position = SourcePosition(0, 0)

    def deliver(self, record: Change) -> None:
        offset = sum(sent.partition == record.partition for sent in self.topic)
        self.topic.append(
            Change(record.key, record.op, record.after, record.position, record.partition, offset)
        )

    def log_and_deliver(self, key: int, op: Op, after: dict[str, object] | None) -> None:
        self.log.append(Change(key, op, after, self.position, key % PARTITIONS, 0))
        self.deliver(self.log[-1])

    def write(self, key: int, value: int, grow: bool) -> None:
        row = self.rows.get(key)
        if row is None:
            self.rows[key] = {"a": value, "large": value}
            self.log_and_deliver(key, Op.CREATE, dict(self.rows[key]))
            return
        row.update({"a": value, "large": value} if grow else {"a": value})
        self.log_and_deliver(key, Op.UPDATE, dict(row) if grow else {**row, "large": UNAVAILABLE})

    def delete(self, key: int) -> None:
        if self.rows.pop(key, None) is not None:
            self.log_and_deliver(key, Op.DELETE, None)

    def move(self, key: int, new_key: int) -> None:
        """Update a primary key: two records, one position."""
        row = self.rows.pop(key, None)
        if row is not None and new_key not in self.rows:
            self.rows[new_key] = row
            self.log_and_deliver(key, Op.DELETE, None)
            self.log_and_deliver(new_key, Op.CREATE, dict(row))
        elif row is not None:
            self.rows[key] = row

    def read(self, key: int) -> None:
        """Send one row of an incremental source snapshot."""
        if key in self.rows:
            self.deliver(
                Change(key, Op.READ, dict(self.rows[key]), self.position, key % PARTITIONS, 0)
            )

    def redeliver(self, count: int) -> None:
        for record in self.log[len(self.log) - min(count, len(self.log)) :]:
            self.deliver(record)

    def advance(self, commit: bool) -> None:
        hi, lo = self.position.hi, self.position.lo
        self.position = SourcePosition(lo + 1, lo + 2) if commit else SourcePosition(hi, lo + 1)


keys = st.integers(0, 4)
steps = st.one_of(
    st.tuples(st.just("write"), keys, st.integers(0, 99), st.booleans()),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("move"), keys, keys),
    st.tuples(st.just("read"), keys),
    st.tuples(st.just("redeliver"), st.integers(1, 12)),
    st.tuples(st.just("advance"), st.booleans()),
)


def played(script: list[tuple[object, ...]]) -> Upstream:
    upstream = Upstream()
    for name, *arguments in script:
        getattr(upstream, str(name))(*arguments)
    return upstream


def applied(rows: Rows, batches: list[list[Change]]) -> Rows:
    marks: Mapping[int, SourcePosition] = {}
    for batch in batches:
        folded = fold(batch, marks)
        rows, marks = apply_images(rows, folded), folded.marks
    return rows


@given(st.lists(steps, max_size=40))
def test_the_table_equals_the_source_under_any_redelivered_tail(
    script: list[tuple[object, ...]],
) -> None:
    upstream = played(script)
    assert applied({}, [upstream.topic]) == upstream.rows


@given(st.lists(steps, max_size=40), st.lists(st.integers(0, 3), max_size=60))
def test_any_split_into_micro_batches_gives_the_same_table(
    script: list[tuple[object, ...]], cuts: list[int]
) -> None:
    topic = played(script).topic
    batches: list[list[Change]] = [[] for _ in range(len(cuts) + 1)]
    reached = [0] * PARTITIONS
    for record, jump in zip(topic, cuts + [0] * len(topic), strict=False):
        reached[record.partition] = min(reached[record.partition] + jump, len(cuts))
        batches[reached[record.partition]].append(record)
    assert applied({}, batches) == applied({}, [topic])


loose = st.builds(
    change,
    key=keys,
    op=st.sampled_from("rcud"),
    value=st.sampled_from([1, 2, None, UNAVAILABLE]),
    pos=st.one_of(st.none(), st.integers(0, 9)),
)


@given(st.lists(loose, max_size=30), st.integers(0, 30))
def test_even_a_history_no_source_would_write_folds_the_same_in_two_batches(
    records: list[Change], cut: int
) -> None:
    topic = [
        Change(r.key, r.op, r.after, r.position, r.partition, offset)
        for offset, r in enumerate(records)
    ]
    stored: Rows = {key: {"id": key, "a": "stored"} for key in range(5)}
    assert applied(stored, [topic[:cut], topic[cut:]]) == applied(stored, [topic])


@given(st.lists(loose, max_size=30, unique_by=id))
def test_the_order_of_arrival_in_a_batch_does_not_matter(records: list[Change]) -> None:
    topic = [
        Change(r.key, r.op, r.after, r.position, r.partition, offset)
        for offset, r in enumerate(records)
    ]
    assert fold(reversed(topic), {}) == fold(topic, {})


def test_a_stream_event_strictly_below_the_mark_is_dropped_and_counted() -> None:
    folded = fold([change(0, "u", "old", pos=4)], {0: SourcePosition(0, 5)})
    assert folded.images == {}
    assert folded.redelivered == 1
    assert folded.marks == {0: SourcePosition(0, 5)}


def test_a_stream_event_on_the_mark_is_kept() -> None:
    folded = fold([change(0, "u", "same", pos=5)], {0: SourcePosition(0, 5)})
    assert folded.redelivered == 0
    assert folded.images[0].after == {"id": 0, "a": "same"}


def test_a_mark_holds_for_its_own_partition_only() -> None:
    assert fold([change(1, "u", "x", pos=4)], {0: SourcePosition(0, 5)}).redelivered == 0


def test_a_snapshot_row_is_not_tested_and_raises_no_mark() -> None:
    marks = {0: SourcePosition(0, 5)}
    low, high = change(0, "r", "low", pos=1), change(2, "r", "high", pos=9, offset=1)
    folded = fold([low, high], marks)
    assert set(folded.images) == {0, 2}
    assert folded.marks == marks


def test_a_change_without_position_is_placed_by_kafka_alone() -> None:
    folded = fold([change(0, "u", "x", pos=None)], {0: SourcePosition(0, 5)})
    assert folded.images[0].after == {"id": 0, "a": "x"}
    assert folded.marks == {0: SourcePosition(0, 5)}


def test_both_halves_of_a_key_update_are_kept() -> None:
    halves = [change(0, "d", pos=7), change(2, "c", "moved", pos=7, offset=1)]
    folded = fold(halves, {})
    assert folded.images[0].op is Op.DELETE
    assert folded.images[2].op is Op.CREATE


def test_an_unavailable_value_is_filled_from_the_older_event_of_the_batch() -> None:
    folded = fold([change(0, "u", "large", 1), change(0, "u", UNAVAILABLE, 2, 1)], {})
    assert folded.images[0].after == {"id": 0, "a": "large"}


def test_an_unavailable_value_is_filled_from_the_stored_row() -> None:
    folded = fold([change(0, "u", UNAVAILABLE, 1)], {})
    assert apply_images({0: {"id": 0, "a": "stored"}}, folded) == {0: {"id": 0, "a": "stored"}}


def test_an_unavailable_value_after_a_delete_is_unknown_even_with_a_stored_row() -> None:
    folded = fold([change(0, "d", pos=1), change(0, "c", UNAVAILABLE, 2, 1)], {})
    assert apply_images({0: {"id": 0, "a": "stored"}}, folded) == {0: {"id": 0, "a": UNKNOWN}}


def test_an_unavailable_value_without_any_image_before_is_unknown() -> None:
    assert apply_images({}, fold([change(0, "u", UNAVAILABLE, 1)], {})) == {
        0: {"id": 0, "a": UNKNOWN}
    }


def test_a_null_is_a_value_that_was_left_out_only_where_the_connector_leaves_nulls_out() -> None:
    """Else the image with the NULL is older than the column, in the batch as in the table."""
    batch = [change(0, "u", None, 1), change(0, "u", UNAVAILABLE, 2, 1)]
    stored: Rows = {0: {"id": 0, "a": None}}
    assert apply_images({}, fold(batch, {}))[0]["a"] is UNKNOWN
    assert apply_images(stored, fold(batch[1:], {}))[0]["a"] is UNKNOWN
    assert apply_images({}, fold(batch, {}, nulls_left_out=True))[0]["a"] is None
    left = fold(batch[1:], {}, nulls_left_out=True)
    assert apply_images(stored, left, nulls_left_out=True)[0]["a"] is None


@pytest.mark.parametrize("op", ["t", "m"])
def test_an_op_that_is_not_about_one_row_is_refused(op: str) -> None:
    with pytest.raises(ValueError, match="not about one row"):
        fold([change(0, op)], {})


def test_only_snapshot_rows_are_no_stream_events() -> None:
    assert [change(0, op).is_stream for op in "rcudtm"] == [False, True, True, True, True, True]
