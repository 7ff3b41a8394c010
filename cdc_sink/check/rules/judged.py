"""The settings of a connector that a rule looks at. No other setting is kept: it may be secret."""

from __future__ import annotations

from cdc_sink.check.rules.connect_json import SETTINGS as JSON_SETTINGS
from cdc_sink.check.rules.connector import CONVERTER, IGNORE_DEFAULT, ON_BAD_VALUE
from cdc_sink.check.rules.names import SETTINGS as NAME_SETTINGS
from cdc_sink.check.rules.source import SOURCE_SETTINGS
from cdc_sink.check.rules.transform import is_of_a_transform
from cdc_sink.check.rules.wire import WIRE_SETTINGS
from cdc_sink.check.rules.writer import JUDGED as WRITER_SETTINGS
from cdc_sink.debezium.captures import CAPTURE_SETTINGS
from cdc_sink.debezium.connector import HISTORY_SERVERS
from cdc_sink.debezium.heartbeat import HEARTBEAT_SETTINGS

_JUDGED = (
    *CAPTURE_SETTINGS,
    *WRITER_SETTINGS,
    *SOURCE_SETTINGS,
    *HEARTBEAT_SETTINGS,
    CONVERTER,
    HISTORY_SERVERS,
    IGNORE_DEFAULT,
    ON_BAD_VALUE,
    *WIRE_SETTINGS,
    *JSON_SETTINGS,
    *NAME_SETTINGS,
)


def is_judged(setting: str) -> bool:
    """Whether a rule looks at this setting of a connector."""
    return setting in _JUDGED or is_of_a_transform(setting)
