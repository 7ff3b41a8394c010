"""Which tables a start refuses for what was found, and which table a finding is about.

Rule this file owns: refused is what would make a table wrong, or stop it for sure; what leaves it old, what a
server did not answer and what the stream meets by itself lets it start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cdc_sink.check.rules.table import Finding

_UNAVAILABLE = 3
_NAMED = ("table", "topic", "subject")
_SHARED = ("kafka", "registry", "catalog", "connect", "connector", "database")


def named(finding: Finding, table: str, topic: str) -> Finding:
    """The finding with the table it is about, which its `where` names unless it is a server's."""
    kind = finding.where.partition(" ")[0]
    if kind in _SHARED:
        return replace(finding, table=table)
    if kind in _NAMED or table in finding.where or topic in finding.where:
        return replace(finding, table=table)
    return replace(finding, where=f"table {table} {finding.where}", table=table)


def once(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once, though two tables may share it, such as a user without rights."""
    kept = {(one.where, one.level, one.saw): one for one in reversed(list(findings))}
    return list(reversed(kept.values()))


def refusals(findings: Iterable[Finding]) -> dict[str, Finding]:
    """The first error of each table that a start should not overlook."""
    refused: dict[str, Finding] = {}
    for one in findings:
        is_silence = one.exit_code == _UNAVAILABLE
        if one.level == "error" and one.table and not one.lets_start and not is_silence:
            refused.setdefault(one.table, one)
    return refused
