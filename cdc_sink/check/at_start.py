"""The check before a start: which tables must not be started, asked while the session is made.

Rules this file owns: a silent server refuses nothing, as tables back off; the start waits for the check at
most a bounded time, and says so when it goes on without it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from cdc_sink import config
from cdc_sink.check.check import check_pipeline
from cdc_sink.check.rules.refusals import refusals
from cdc_sink.check.rules.table import Finding
from cdc_sink.errors import CdcSinkError, ConfigError, StateError

log: structlog.stdlib.BoundLogger = structlog.get_logger("cdc_sink.check")

WAIT_S = 30.0  # beyond the time that the session takes anyway


@dataclass
class StartCheck:
    """`check`, asked in a thread of its own; `refused` waits for its answer."""

    pipeline: config.Pipeline
    _findings: list[Finding] | None = None
    _failure: Exception | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> StartCheck:
        """Ask; nothing is waited for."""
        threading.Thread(target=self._ask, name="start-check", daemon=True).start()
        return self

    def _ask(self) -> None:
        try:
            self._findings = check_pipeline(self.pipeline)
        except Exception as failure:  # raised where it is waited for: a thread has nobody to tell
            self._failure = failure
        finally:
            self._done.set()

    def refused(self, wait_s: float = WAIT_S) -> Mapping[str, CdcSinkError]:
        """Return why tables must not be started, by table; log the other errors.

        Raises: whatever the check itself fell over.
        """
        if not self._done.wait(wait_s):
            log.warning("not_checked", pipeline=self.pipeline.name, waited_s=wait_s)
            return {}
        if self._failure is not None:
            raise self._failure
        findings = self._findings or []
        refused = refusals(findings)
        for one in findings:
            if one.level == "error" and one not in refused.values():
                log.warning("check", where=one.where, saw=one.saw, remedy=one.remedy)
        return {table: refusal_of(one) for table, one in refused.items()}


def refusal_of(finding: Finding) -> CdcSinkError:
    """The error that parks a table which `check` calls wrong."""
    kind = ConfigError if finding.exit_code == ConfigError.exit_code else StateError
    return kind(
        finding.where,
        finding.saw,
        data="the table was not started",
        remedy=f"{finding.remedy}; `cdc-sink check` says all, `run --unchecked` starts in spite of it",
    )
