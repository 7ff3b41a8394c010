"""How many histories a random test plays: one in the whole suite, more where somebody looks for faults."""

from __future__ import annotations

import os
from collections.abc import Sequence

MORE = int(os.environ.get("CDC_SINK_SEEDS", "0"))


def seeds(*first: int) -> Sequence[int]:
    """These seeds, and CDC_SINK_SEEDS of the environment more behind the last one."""
    return [*first, *range(first[-1] + 1, first[-1] + 1 + MORE)]
