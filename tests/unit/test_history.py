"""Which ledger holds for a table, whatever other programs did to its snapshots."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.errors import StateError
from cdc_sink.table.ledger.history import LedgerCopy, TableSnapshot, find_ledger
from cdc_sink.table.ledger.ledger import LEDGER_KEY, Ledger
from cdc_sink.table.ledger.stream_identity import StreamIdentity

STREAM = StreamIdentity("shop", "q1", "cluster", "topic", "topic-1")


@dataclass
class Table:
    """A table's snapshots as Iceberg keeps them, and which offset its rows really hold; None = unknown."""

    snapshots: dict[int, TableSnapshot] = field(default_factory=dict)
    truth: dict[int, int | None] = field(default_factory=dict)
    head: int | None = None
    copied: str | None = None
    sequence: int = 0

    def commit(self, operation: str, offset: int | None, ledger: Ledger | None = None) -> None:
        self.sequence += 1
        number = self.sequence
        summary = {LEDGER_KEY: ledger.to_json()} if ledger else {}
        self.snapshots[number] = TableSnapshot(number, self.head, number, operation, summary)
        self.truth[number], self.head = offset, number

    def batch(self, *, copies: bool) -> None:
        offset = self.sequence + 1
        ledger = Ledger.opened(STREAM, [0]).advanced({0: offset}, {}, ())
        self.commit("overwrite", offset, ledger)
        if copies:  # not where the driver was killed between the two
            self.copied = LedgerCopy(self.sequence, self.sequence, ledger.to_json()).to_json()

    def compact(self) -> None:
        self.commit("replace", self.truth[self.head] if self.head else None)

    def tamper(self) -> None:
        self.commit("delete", None)

    def rollback(self, dice: random.Random) -> None:
        self.head = dice.choice(sorted(self.snapshots))

    def expire(self) -> None:
        kept = self.head
        self.snapshots = {i: one for i, one in self.snapshots.items() if i == kept}

    def replace(self) -> None:
        self.head = None
        self.commit("append", None)

    def ancestry(self) -> list[TableSnapshot]:
        found, at = [], self.head
        while at is not None and at in self.snapshots:
            found.append(self.snapshots[at])
            at = self.snapshots[at].parent_id
        return found


STEPS = st.lists(
    st.sampled_from(
        ["batch", "batch", "killed", "compact", "tamper", "rollback", "expire", "replace"]
    ),
    min_size=1,
    max_size=12,
)


@given(STEPS, st.integers())
def test_the_ledger_found_is_that_of_the_rows_or_there_is_a_sentence(
    steps: list[str], seed: int
) -> None:
    dice, table, is_ours = random.Random(seed), Table(), True
    table.batch(copies=True)
    for step in steps:
        if step in ("batch", "killed"):
            found = outcome(table)
            if found is None:
                is_ours = False  # the stream has stopped
            if is_ours:
                table.batch(copies=step == "batch")
        elif step == "rollback":
            table.rollback(dice)
        else:
            getattr(table, step)()
    offset, truth = outcome(table), table.truth[table.head] if table.head else None
    if offset is None:
        return
    # Nobody can tell what left no trace: it was done, and expired, while no stream wrote.
    if "expire" not in steps or not {"rollback", "tamper", "replace"} & {*steps}:
        assert truth is not None
        assert offset <= truth
    if not {"rollback", "killed", "tamper", "replace"} & {*steps}:
        assert offset == truth


def outcome(table: Table) -> int | None:
    """The offset that a stream would go on at; None when it stops."""
    try:
        found = find_ledger(table.ancestry(), table.copied, "shop.t")
        if found is None:
            return None
        found.require_own("shop.t", "shop.t")
    except StateError:
        return None
    return found.ledger.next_offsets[0]


def test_a_table_that_never_had_a_ledger_has_none() -> None:
    assert find_ledger([], None, "shop.t") is None
    assert find_ledger([TableSnapshot(1, None, 1, "append", {})], None, "shop.t") is None


def test_compaction_and_expiry_by_others_leave_the_ledger_in_the_properties() -> None:
    table = Table()
    table.batch(copies=True)
    table.compact()
    table.expire()
    found = find_ledger(table.ancestry(), table.copied, "shop.t")
    assert found is not None
    assert (found.ledger.next_offsets, found.is_copied, found.foreign) == ({0: 1}, True, None)


def test_a_foreign_commit_is_named_with_the_way_back() -> None:
    table = Table()
    table.batch(copies=True)
    table.compact()
    table.tamper()
    found = find_ledger(table.ancestry(), table.copied, "shop.t")
    assert found is not None
    with pytest.raises(StateError) as stopped:
        found.require_own("shop.t", "shop.t")
    assert "table snapshot 3 (delete), written after the pipeline's 1" in str(stopped.value)
    assert "CALL system.rollback_to_snapshot('shop.t', 1)" in str(stopped.value)


@pytest.mark.parametrize("text", ["", "[]", '{"snapshot_id":1}', '{"snapshot_id":"x"}'])
def test_a_copy_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(StateError, match=r"table property 'cdc-sink\.ledger' can't be read"):
        find_ledger([], text, "shop.t")
