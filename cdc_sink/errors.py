"""The error tree. Each branch answers one question: who acts?

    CdcSinkError
    ├── ConfigError          the operator, before anything starts
    ├── RecordError          the owner of the data; always names one Kafka record
    ├── SchemaError          the operator together with the owner of the source table
    ├── UnavailableError     nobody yet: a server did not answer; retried
    ├── CommitConflictError  nobody: another commit came first; retried
    ├── CommitUnknownError   nobody blindly: the ledger is read before anything is repeated
    └── StateError           the operator: checkpoint, ledger, topic and table disagree

A message says where, what was seen and what was expected, what happened to the data, and what to do.
It never holds a cell value or a secret. Foreign errors become ours once, at the border of each client,
`raise … from` the cause, without pasting the cause's text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class RecordRef:
    """Where one Kafka record lies; printed as `topic[partition]@offset`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


class CdcSinkError(Exception):
    """cdc-sink could not go on."""

    retry: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(
        self, where: str, saw: str, *, data: str = "nothing was written", remedy: str
    ) -> None:
        """Keep the four parts apart so that each can be shown, logged and tested by itself."""
        super().__init__(where, saw, data, remedy)
        self.where = where
        self.saw = saw
        self.data = data
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.saw}; {self.data}; {self.remedy}."


class ConfigError(CdcSinkError):
    """The configuration can't be used."""

    exit_code = 2


class RecordError(CdcSinkError):
    """One Kafka record can't be applied."""

    def __init__(self, record: RecordRef, saw: str, *, data: str, remedy: str) -> None:
        super().__init__(str(record), saw, data=data, remedy=remedy)
        self.record = record


class SchemaError(CdcSinkError):
    """A writer schema does not fit the table."""


class UnavailableError(CdcSinkError):
    """A server that the pipeline needs did not answer."""

    retry = True
    exit_code = 3


class CommitConflictError(CdcSinkError):
    """Another commit reached the table first."""

    retry = True


class CommitUnknownError(CdcSinkError):
    """The catalog did not say whether the table commit happened."""

    retry = True


class StateError(CdcSinkError):
    """Checkpoint, ledger, topic and table disagree."""
