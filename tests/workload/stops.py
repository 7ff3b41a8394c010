"""What stopped a table, and the one command that its sentence names.

Rules owned here: a stop is followed by what its remedy says and by nothing else; a remedy that did not help
twice is given up, and the table counts as stopped by name. A failure that nobody knows is a finding, even if
the table goes on after it.
"""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from enum import StrEnum

from cdc_sink.errors import CdcSinkError

UNKNOWN = ("does not know", "report it", "bug")
_TRIES = 3


class Command(StrEnum):
    """What a remedy asks for."""

    TAKE_OVER = "cdc-sink run --take-over"
    DELETE = "on_resnapshot: delete"
    NEW_TOPIC = "a new source snapshot into a topic made anew, generation + 1"
    AGAIN = "cdc-sink run"
    BACKFILL = "cdc-sink backfill into a new target"
    NONE = "nothing that can be done here"


def command_of(remedy: str) -> Command:
    """Read the command out of a remedy; the easiest one where it names several."""
    if "--take-over" in remedy:
        return Command.TAKE_OVER
    if "on_resnapshot" in remedy:
        return Command.DELETE
    if "snapshot" in remedy and ("`generation`" in remedy or "a new topic" in remedy):
        return Command.NEW_TOPIC
    if "backfill" in remedy:
        return Command.BACKFILL
    if any(words in remedy for words in ("start the query again", "`-v`", "nothing:")):
        return Command.AGAIN
    return Command.NONE


@dataclass
class Stop:
    """One stop of one table; `is_open` once it was given up."""

    table: str
    sentence: str
    command: Command
    cause: str = ""
    is_open: bool = False

    @property
    def is_unknown(self) -> bool:
        """Nobody knows what it was."""
        return any(word in self.sentence for word in UNKNOWN)


class Stops:
    """All stops of a run, in their order."""

    def __init__(self) -> None:
        self.all: list[Stop] = []

    def add(self, table: str, error: CdcSinkError) -> Stop:
        """Note a stop, and say what is to be done."""
        command = command_of(error.remedy)
        stop = Stop(table, str(error), command, _cause(error))
        same = [one for one in self.all if one.table == table and _shape(one) == _shape(stop)]
        gives_up = command in (Command.BACKFILL, Command.NONE) or len(same) >= _TRIES
        stop.is_open = gives_up
        self.all.append(stop)
        return stop

    @property
    def open_tables(self) -> frozenset[str]:
        """Tables that stay stopped."""
        return frozenset(one.table for one in self.all if one.is_open)


def _shape(stop: Stop) -> str:
    return re.sub(r"[0-9a-f-]*\d[0-9a-f-]*", "#", stop.sentence)


def _cause(error: CdcSinkError) -> str:
    if error.__cause__ is None:
        return ""
    return "".join(traceback.format_exception(error.__cause__))[-6000:]
