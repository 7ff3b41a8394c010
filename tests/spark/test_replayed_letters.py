"""Letters are replayed or released: stories one by one in a table, each begun when no letter waits."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from debezium import Event, Topic
from lake import Lake, Writer
from test_dead_letters import INFINITY, TIMED, Seen, create, dies, row

from cdc_sink.errors import StateError
from cdc_sink.spark.iceberg_table import stamped
from cdc_sink.spark.run.replay import ReplayReport, replay_letters
from cdc_sink.spark.write.dead_letter_table import DeadLetters
from cdc_sink.table.dead_letter import State
from cdc_sink.table.ledger.ledger import LEDGER_KEY


def replay(writer: Writer) -> ReplayReport:
    return replay_letters(writer.records, writer.ledger)


def mend(writer: Writer, key: int) -> None:
    """What made the key's letters bad is mended: their values fit the table now."""
    store = f"{writer.lake.pipeline.catalog.name}.{writer.lake.pipeline.dead_letters}"
    good = writer.topic.value(Event("u", row(key, "mended", 7), (1 + key, 2))).hex()
    kafka_key = (writer.topic.key(row(key)) or b"").hex()
    writer.spark.sql(
        f"UPDATE {store} SET value = X'{good}' WHERE `table` = '{writer.target.name}' "
        f"AND reason = 'value' AND key = X'{kafka_key}'"
    )


def quarantine(topic: Topic, key: int) -> None:
    """The key gets a bad value, and a later change that waits with it; the next key goes on."""
    topic.send(Event("u", row(key, "bad", INFINITY), (1 + key, 2)))
    topic.send(Event("u", row(key, "later"), (1 + key, 3)))
    topic.send(Event("u", row(key + 1, "goes on"), (1 + key, 4)))


STORIES = {"in order": 1, "dies after": 3, "dies before": 5, "released": 7, "newer": 9}


@dataclasses.dataclass
class Replays:
    """A table, what replays of it reported, and what they left."""

    writer: Writer
    reports: dict[str, ReplayReport] = dataclasses.field(default_factory=dict)
    seen: dict[str, Seen] = dataclasses.field(default_factory=dict)
    snapshots: dict[str, object] = dataclasses.field(default_factory=dict)

    def replay(self, moment: str) -> None:
        self.reports[moment] = replay(self.writer)
        self.look(moment)

    def look(self, moment: str) -> None:
        self.seen[moment] = Seen(self.writer)
        self.snapshots[moment] = self.writer.table.current_snapshot()

    def write(self, *events: Event, bad: int | None = None) -> None:
        topic = self.writer.topic
        first = len(topic.records)
        topic.send_all(events)
        if bad is not None:
            quarantine(topic, bad)
        self.writer.write(first)

    def states(self, moment: str, key: int) -> set[str]:
        return {one["state"] for one in self.seen[moment].letters(key)}


@pytest.fixture(scope="module")
def replays(lake: Lake) -> Replays:
    topic = Topic(TIMED)
    create(topic, list(range(1, 11)))
    one = Replays(lake.writer("replays", topic))
    writer = one.writer
    writer.write()
    one.write(bad=1)
    one.replay("still bad")
    mend(writer, 1)
    one.replay("mended")
    one.replay("twice")
    one.write(Event("u", row(1, "as usual"), (2, 5)), bad=3)
    one.look("as usual")
    die_in_replay(one, "dies after")
    one.write(bad=5)
    die_in_replay(one, "dies before")
    one.write(bad=7)
    release(one)
    one.write(bad=9)
    overtake(one)
    return one


def die_in_replay(one: Replays, story: str) -> None:
    writer = one.writer
    mend(writer, STORIES[story])
    commit = writer.sink._commit

    def dies_in_commit(*given: Any, **named: Any) -> None:
        if story == "dies after":
            commit(*given, **named)
        dies()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(writer.sink, "_commit", dies_in_commit)
        with pytest.raises(StateError, match="the driver died"):
            replay(writer)
    one.look(f"{story}, dead")
    one.replay(f"{story}, settled")


def release(one: Replays) -> None:
    writer = one.writer
    store = DeadLetters(writer.spark, writer.target, writer.ledger.stream.topic_id)
    second = writer.topic.end() - 2
    store.mark(
        store.of_key(0, second), State.RELEASED
    )  # named by its second letter: the key counts
    one.write(Event("u", row(7, "newer"), (8, 5)))
    one.look("released")
    mend(writer, 7)
    one.replay("released, replayed")


def overtake(one: Replays) -> None:
    writer, before = one.writer, one.writer.ledger
    mend(writer, 9)
    with stamped(writer.spark, {LEDGER_KEY: before.to_json()}):
        writer.spark.sql(
            f"UPDATE {writer.target.identifier} SET name = 'newer', _cdc_op = 'u', _cdc_position_hi = 99, "
            "_cdc_position_lo = 9, _cdc_partition = 0, _cdc_offset = 99 WHERE id = 9"
        )
    one.reports["overtaken"] = replay_letters(writer.records, before)
    one.look("overtaken")


def test_a_replay_applies_letters_in_order_and_twice_is_harmless(replays: Replays) -> None:
    name, seen = replays.writer.target.name, replays.seen["mended"]
    assert replays.reports["mended"] == ReplayReport(name, 2, 0)
    assert seen.of(1, 2) == {1: "later", 2: "goes on"}
    assert replays.states("mended", 1) == {"replayed"}
    assert seen.totals() == (13, 13, 0)
    assert replays.reports["twice"] == ReplayReport(name, 0, 0)
    assert replays.snapshots["twice"] == replays.snapshots["mended"]
    assert replays.seen["as usual"].of(1, 2) == {1: "as usual", 2: "goes on"}


def test_letters_that_still_fail_stay_with_all_that_follow_them(replays: Replays) -> None:
    assert replays.reports["still bad"] == ReplayReport(replays.writer.target.name, 0, 2)
    assert replays.seen["still bad"].of(1, 2) == {1: "first", 2: "goes on"}
    assert replays.states("still bad", 1) == {"quarantined"}


@pytest.mark.parametrize("dies_after_commit", [True, False])
def test_a_replay_that_died_is_settled_by_the_next_one(
    replays: Replays, dies_after_commit: bool
) -> None:
    story, sent = ("dies after", 17) if dies_after_commit else ("dies before", 20)
    key, settled = STORIES[story], f"{story}, settled"
    assert replays.states(f"{story}, dead", key) == {"replaying"}
    assert replays.reports[settled].replayed == (0 if dies_after_commit else 2)
    seen = replays.seen[settled]
    assert seen.of(key, key + 1) == {key: "later", key + 1: "goes on"}
    assert replays.states(settled, key) == {"replayed"}
    assert seen.totals() == (sent, sent, 0)


def test_a_released_key_is_applied_again_and_its_letters_never_come_back(replays: Replays) -> None:
    seen = replays.seen["released"]
    assert seen.of(7, 8) == {7: "newer", 8: "goes on"}
    assert seen.ledger.quarantined == 0
    assert replays.reports["released, replayed"] == ReplayReport(replays.writer.target.name, 0, 0)
    assert replays.seen["released, replayed"].of(7, 8) == {7: "newer", 8: "goes on"}


def test_an_old_letter_does_not_overwrite_newer_state(replays: Replays) -> None:
    """The guard, not the quarantine: the letter waits, and yet somebody wrote the row anew."""
    assert replays.reports["overtaken"].replayed == 2
    assert replays.seen["overtaken"].of(9, 10) == {9: "newer", 10: "goes on"}
