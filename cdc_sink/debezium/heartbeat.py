"""Whether a connector's heartbeat tells that it still reads its source.

Rules this file owns: only a connector that beats by the clock can be called silent. PostgreSQL's beats while
nothing changes; MySQL's and MariaDB's only with events, so that their silence says nothing.

Source: Debezium 3.6, `heartbeat.interval.ms`, `topic.heartbeat.prefix`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cdc_sink.debezium.captures import TOPIC_PREFIX

INTERVAL, _NAMED = "heartbeat.interval.ms", "topic.heartbeat.prefix"
HEARTBEAT_SETTINGS = (INTERVAL, _NAMED)
_USUAL = "__debezium-heartbeat"
_CLASS = "connector.class"
LONGEST_SILENCE_S = 60  # a rebalance of Connect's workers takes about that


@dataclass(frozen=True)
class Heartbeat:
    """The newest record of a heartbeat topic, and the connector that sends it where that is known."""

    newest_ms: int
    connector: str | None = None
    settings: Mapping[str, str] | None = None

    def age_s(self, now_ms: int) -> float:
        """Seconds since it was sent; the broker's clock may be ahead of ours."""
        return max(0, now_ms - self.newest_ms) / 1000


def heartbeat_topic(settings: Mapping[str, str] | None, topic: str) -> str | None:
    """The topic of the heartbeats of what writes a topic; None where it is told to send none.

    In: settings, the connector's; None when it isn't known, and then the topic's own prefix stands in.
    """
    if settings is None:
        prefix, dot, _ = topic.partition(".")
        return f"{_USUAL}.{prefix}" if dot else None
    if settings.get(INTERVAL, "0").strip() in ("", "0"):
        return None
    return f"{settings.get(_NAMED, _USUAL)}.{settings.get(TOPIC_PREFIX, '')}"


def silence(settings: Mapping[str, str] | None, age_s: float | None) -> str | None:
    """What a heartbeat that old says against the connector; None for nothing."""
    if settings is None or age_s is None or "postgres" not in settings.get(_CLASS, ""):
        return None
    interval = settings.get(INTERVAL, "0").strip()
    if not interval.isdigit():
        return None
    limit = max(LONGEST_SILENCE_S, 6 * int(interval) / 1000)
    if age_s <= limit:
        return None
    return (
        f"has sent no heartbeat for {age_s:,.0f} s, and should every {int(interval) / 1000:g} s: it does not "
        "reach its database, or Connect is gone"
    )
