"""Named instants at which a test may end the driver with -9, one between every two steps of a batch.

Off unless CDC_SINK_FAILPOINT names one, as `name` or `name:n` for its n-th passing; `@file` reads that from a
file, so that a running driver can be given one. The whole process group goes, so that the JVM can't finish
what Python began.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

VARIABLE = "CDC_SINK_FAILPOINT"
BATCH_STARTED = "batch_started"
SCHEMAS_FETCHED = "schemas_fetched"
TABLE_HALF_CREATED = "table_half_created"
TABLE_CREATED = "table_created"
TABLE_OPENED = "table_opened"
BATCH_FOLDED = "batch_folded"
LETTERS_PUT = "letters_put"
LETTERS_REPLAYING = "letters_replaying"
TABLE_HALF_EVOLVED = "table_half_evolved"
TABLE_EVOLVED = "table_evolved"
BEFORE_TABLE_COMMIT = "before_table_commit"
AFTER_TABLE_COMMIT = "after_table_commit"
ALL = (
    BATCH_STARTED,
    SCHEMAS_FETCHED,
    TABLE_HALF_CREATED,
    TABLE_CREATED,
    TABLE_OPENED,
    BATCH_FOLDED,
    LETTERS_PUT,
    LETTERS_REPLAYING,
    TABLE_HALF_EVOLVED,
    TABLE_EVOLVED,
    BEFORE_TABLE_COMMIT,
    AFTER_TABLE_COMMIT,
)

_passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Pass an instant, or end there."""
    wanted, _, count = _wanted().partition(":")
    if wanted == name:
        _passed[name] += 1
        if _passed[name] >= int(count or 1):
            os.killpg(os.getpgid(0), signal.SIGKILL)


def _wanted() -> str:
    text = os.environ.get(VARIABLE, "")
    if not text.startswith("@"):
        return text
    file = Path(text[1:])
    return file.read_text(encoding="utf-8") if file.exists() else ""
