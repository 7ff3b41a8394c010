"""How queries are stopped: each between two of its batches, all of them together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Protocol

from cdc_sink.errors import StateError

STOP_S = 60


class Stoppable(Protocol):
    """The query of one table."""

    @property
    def is_in_batch(self) -> bool:
        """A batch is being applied."""

    def stop_now(self) -> StateError | None:
        """Stop, cutting a batch short; the error says that the batch goes on."""


def stop_all(queries: Iterable[Stoppable]) -> None:
    """Stop each between two of its batches; a batch of more than STOP_S is cut short, harmlessly.

    Raises: StateError when a batch goes on nevertheless; all others are stopped then.
    """
    deadline, left = time.monotonic() + STOP_S, list(queries)
    errors = []
    while left:
        is_late = time.monotonic() >= deadline
        for query in [one for one in left if is_late or not one.is_in_batch]:
            errors.append(query.stop_now())
            left.remove(query)
        threading.Event().wait(0.05 if left else 0)
    for error in errors:
        if error is not None:
            raise error


def goes_on(where: str) -> StateError:
    """A stopped query's batch goes on: its thread did not end in the time that Spark gives it."""
    return StateError(
        where,
        "a batch goes on, though the table's query was stopped and its jobs were cancelled",
        data="nothing is lost and nothing comes twice: the batch is applied whole or not at all",
        remedy="end the process; `cdc-sink run` goes on at the table's ledger",
    )
