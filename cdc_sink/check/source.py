"""Asks the source databases of a pipeline's tables, each once, where `databases` and `source` name them.

Rule this file owns: a database that does not let itself be asked is a warning, as the tables can do without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

from cdc_sink import config
from cdc_sink.check.rules.source import SourceTableReading, check_log, check_source_table
from cdc_sink.check.rules.table import Finding
from cdc_sink.check.source_questions import Asked, read_log, read_source_table
from cdc_sink.clients.connect import ConnectClient
from cdc_sink.debezium.connector import ConnectorReading
from cdc_sink.errors import CdcSinkError
from cdc_sink.verification.databases.open_database import open_database
from cdc_sink.verification.databases.source_database import SourceDatabase


@dataclass
class Sources:
    """The databases that were opened, and what was said of them already."""

    pipeline: config.Pipeline
    _opened: dict[str, SourceDatabase | None] = field(default_factory=dict)
    _logs_said: set[tuple[str, str | None]] = field(default_factory=set)

    def check(
        self, table: config.Table, writer: ConnectorReading | None, findings: list[Finding]
    ) -> SourceTableReading | None:
        """Say what the database of one table keeps from its connector; return what it told of the table."""
        source = table.source
        database = None if source is None else self.pipeline.databases.get(source.database)
        if source is None or database is None:
            return None
        try:
            opened = self._open(source.database, database, findings)
            if opened is None:
                return None
            settings = {} if writer is None else writer.settings
            reading = read_source_table(opened, database, source.table, settings)
            findings += self._check_log(source.database, opened, writer)
        except CdcSinkError as error:
            findings.append(_unasked(source.database, error))
            return None
        if reading is None:
            saw = f"database {source.database} has no table {source.table} that this user may see"
            remedy = "correct the table's `source`, or grant SELECT on it"
            findings.append(Finding(f"table {table.name}", "warning", saw, remedy))
        else:
            findings += check_source_table(table.name, reading, table.mode)
        return reading

    def _open(self, name: str, database: config.Database, findings: list[Finding]) -> Asked | None:
        if name not in self._opened:
            self._opened[name] = None
            try:
                self._opened[name] = open_database(database)
            except CdcSinkError as error:
                findings.append(_unasked(name, error))
        return cast(Asked | None, self._opened[name])

    def _check_log(
        self, name: str, opened: Asked, writer: ConnectorReading | None
    ) -> Iterator[Finding]:
        one = name, None if writer is None else writer.name
        if one in self._logs_said:
            return
        self._logs_said.add(one)
        settings: Mapping[str, str] = {} if writer is None else writer.settings
        # The log before the offset: a connector moves its offset first, and the slot after it.
        log = read_log(opened, self.pipeline.databases[name], settings)
        yield from check_log(writer, f"database {name}", log, self._offset_of(writer))

    def _offset_of(self, writer: ConnectorReading | None) -> Mapping[str, Any] | None:
        given = self.pipeline.connect
        if writer is None or given is None:
            return None
        try:
            return ConnectClient.of(given).source_offset(writer.name)
        except CdcSinkError:
            return None  # Connect before 3.6 has no such question; its silence is said elsewhere

    def close(self) -> None:
        """End the connections."""
        for opened in self._opened.values():
            if opened is not None:
                opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _unasked(name: str, error: CdcSinkError) -> Finding:
    saw = f"it was not asked for what its log keeps back: {error.saw}"
    return Finding(f"database {name}", "warning", saw, error.remedy)
