"""What a topic's settings take away from the tables that are made from it.

Rules this file owns: whatever deletes records before a stopped table has read them is said; compaction takes
the delete and leaves its tombstone, so a table that goes by the source's positions may not read such a topic.

Source: Kafka 4.3 topic configs `cleanup.policy`, `retention.ms`, `retention.bytes`; Debezium 3.6, "schema
history topic": never compacted, kept for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cdc_sink.check.rules.table import Finding, TopicReading, WantedTable

_DAY_MS = 24 * 3600 * 1000
_POLICY, _AGE, _SIZE = "cleanup.policy", "retention.ms", "retention.bytes"


def check_topic_settings(wish: WantedTable, settings: Mapping[str, str]) -> Iterator[Finding]:
    """Judge compaction and retention of a table's topic."""
    where = f"topic {wish.topic}"
    yield from _check_compaction(wish, where, settings)
    if "delete" in settings.get(_POLICY, "delete"):
        yield from _check_age(where, settings.get(_AGE, "-1"))
        yield from _check_size(where, settings.get(_SIZE, "-1"))


def _check_compaction(
    wish: WantedTable, where: str, settings: Mapping[str, str]
) -> Iterator[Finding]:
    if "compact" not in settings.get(_POLICY, ""):
        return
    remedy = f"set {_POLICY}=delete on the topic; if it was compacted already, take a new source snapshot"
    if wish.policy.mode.keeps_events:
        saw = f"{_POLICY} is {settings[_POLICY]}: events are taken away before `mode: append` keeps them"
        yield Finding(where, "error", saw, remedy, 1)
    elif wish.policy.order == "source":
        saw = (
            f"{_POLICY} is {settings[_POLICY]}: compaction takes a row's delete and leaves a tombstone, "
            f"which `order: source` does not apply; the row would stay in {wish.table}"
        )
        remedy += "; or set `order: kafka` for the table, where a tombstone deletes"
        yield Finding(where, "error", saw, remedy, 1)


def _check_age(where: str, retention: str) -> Iterator[Finding]:
    if not retention.isdigit():
        return
    hours = int(retention) / 3_600_000
    if int(retention) < _DAY_MS:
        yield Finding(
            where,
            "warning",
            f"records live {hours:g} h; a longer stop loses some",
            f"raise {_AGE} to at least a weekend",
        )
    else:
        yield Finding(where, "ok", f"records live {hours:g} h")


def _check_size(where: str, size: str) -> Iterator[Finding]:
    if size.isdigit():
        yield Finding(
            where,
            "warning",
            f"{_SIZE} is {int(size):,}: a partition's oldest records go when it is larger, however young "
            "they are",
            f"set {_SIZE}=-1 on the topic, and let {_AGE} decide",
        )


def check_history_topic(connector: str, name: str, topic: TopicReading | None) -> Iterator[Finding]:
    """Judge the topic in which a MySQL or MariaDB connector keeps its schema history."""
    where = f"connector {connector} schema history topic {name}"
    if topic is None:
        yield Finding(
            where,
            "error",
            "there is no such topic: the connector can't start again without it",
            "set snapshot.mode=recovery on the connector when no table changed its columns since, and set it "
            "back once it runs",
            1,
            lets_start=True,
        )
        return
    policy, age = topic.settings.get(_POLICY, "delete"), topic.settings.get(_AGE, "-1")
    size = topic.settings.get(_SIZE, "-1")
    faults = [
        f"{setting}={value}"
        for setting, value, is_bad in (
            (_POLICY, policy, "compact" in policy),
            (_AGE, age, age != "-1"),
            (_SIZE, size, size != "-1"),
        )
        if is_bad
    ]
    if faults:
        yield Finding(
            where,
            "warning",
            f"{', '.join(faults)}: without its oldest records the connector can't start again",
            f"set {_POLICY}=delete, {_AGE}=-1 and {_SIZE}=-1 on the topic",
        )
