"""Where a change lies in its source: the redelivery filter, never the order inside a partition.

Rules owned here:
- A position is two 64-bit numbers compared as a pair. PostgreSQL: the two numbers of
  `source.sequence` (LSN of the last commit, LSN of the change). MySQL and MariaDB: (number of the
  log file, pos·2²⁴ + 2²⁴-1). The row is left out: it begins at 0 again with each event of the log,
  while `pos` may stay, as that of a whole transaction does in MariaDB and in compressed binlogs, so it
  would fall inside a transaction. Oracle: (commit_scn, txSeq); before Debezium 3.2 there is no txSeq,
  and all changes of a transaction share a position. SQL Server: commit_lsn, its first 64 bits and its
  slot, for the whole transaction: change_lsn may fall inside one. Changes at one position are in
  Kafka's order. `source.ts_ms` is not an order and appears nowhere here.
- A `null` inside `sequence` counts as 0; anything that can't be read makes the whole position NULL, never 0:
  a made-up 0 would lie below every high-water mark, and the change would be dropped as redelivered.
- The first transaction behind a new slot has no commit before it: its commit is `null`, though the topic may
  hold changes from before the slot. Its changes stand at their own LSN then: behind all commits from before
  the slot, and before its own commit, which is the next one's first number. A snapshot row stays at 0: it is
  no event, and its LSN may be greater than the last commit.
- Between partitions such a row stands at its own LSN: behind all that earlier slots streamed, before all
  commits of its own slot. Only what its slot streams first, of a transaction that wrote before the snapshot,
  would stand too low; one task sends both, so they lie in one partition.
- Numbers of log files compare only while the files have one name: another one is another log.
- Python and SQL give the same answer for the same block; the tests hold them together.

Source: Debezium 3.6 PostgreSQL `SourceInfo.sequence()`; MySQL `file`, `pos`, `row`; MariaDB as seen of
connector 3.5.0 on 11.4; Oracle `commit_scn`, `txSeq`; SQL Server `commit_lsn`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from cdc_sink.errors import SchemaError
from cdc_sink.sql import literal

_ROW_BITS = 24
_MAX_ROW = 1 << _ROW_BITS
_MAX_POS = 1 << (63 - _ROW_BITS)
# In the place of the row: not below what the first release wrote, with rows, into a ledger.
_NO_ROW = _MAX_ROW - 1

# At most 18 digits always fit 64 bits. Regular expressions that Python and Java read alike.
_NUMBER = "(0|[1-9][0-9]{0,17})"
_SEQUENCE = rf'\[(null|"{_NUMBER}"),(null|"{_NUMBER}")\]'
_LOG_FILE = "[^.].*[.]([0-9]{1,18})"
# What Java's dot does not stand for, while Python's does.
_JAVA_LINE_ENDS = re.compile("[\r\x85\u2028\u2029]")
_LSN = "([0-7][0-9a-fA-F]{7}):([0-9a-fA-F]{8}):([0-9a-fA-F]{4})"


@dataclass(frozen=True, order=True)
class SourcePosition:
    """A comparable place in one source's log; two places of different sources don't compare."""

    hi: int
    lo: int


def position_fields(connector: str) -> tuple[str, ...]:
    """Name the fields of `source` that the position is made of.

    Raises: SchemaError for a connector whose order is not known here.
    """
    return _rule(connector).fields


def optional_position_fields(connector: str) -> tuple[str, ...]:
    """Name the fields of `source` that the position uses where the connector's version has them."""
    return _rule(connector).optional


def position_of(connector: str, source: Mapping[str, Any]) -> SourcePosition | None:
    """Read the position from a source block; None when it can't be read.

    Raises: SchemaError for a connector whose order is not known here.
    """
    return _rule(connector).read(source)


def position_sql(connector: str, source_sql: str, fields: Collection[str]) -> str:
    """Render the position as a struct<hi: bigint, lo: bigint> expression over a source struct column.

    In:     source_sql, e.g. `d1.source`; fields it has, at least `position_fields(connector)`.
    Out:    NULL when the position can't be read.
    Raises: SchemaError for a connector whose order is not known here.
    """
    return _rule(connector).render(source_sql, fields)


def positions_tie(connector: str) -> bool:
    """Whether different changes of a key may share a position: of one transaction, or of one log event."""
    return connector != "postgresql"


def has_log_files(connector: str) -> bool:
    """Whether positions of this connector number the files of a log, which has a name."""
    return _RULES.get(connector) is _BINLOG


def log_sql(source_sql: str) -> str:
    """Render the name of the log, e.g. `binlog` for the file `binlog.000007`; '' where it has none."""
    file = f"{source_sql}.`file`"
    return f"left({file}, length({file}) - length(substring_index({file}, '.', -1)) - 1)"


def of_log_sql(source_sql: str, log: str, position: str) -> str:
    """Render a position as NULL where it is one in another log."""
    return f"IF({log_sql(source_sql)} = {literal(log)}, {position}, NULL)"


@dataclass(frozen=True)
class _PositionRule:
    fields: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], SourcePosition | None]
    render: Callable[[str, Collection[str]], str]
    optional: tuple[str, ...] = ()


def between_partitions(op: str, position: SourcePosition) -> SourcePosition:
    """Where a change stands among those of other partitions."""
    is_first_read = op == "r" and position.hi == 0
    return SourcePosition(position.lo, position.lo) if is_first_read else position


def between_partitions_sql(op: str, hi: str, lo: str) -> str:
    """Render the same of three SQL expressions: struct<hi, lo>."""
    return f"named_struct('hi', IF({op} = 'r' AND {hi} = 0, {lo}, {hi}), 'lo', {lo})"


def _rule(connector: str) -> _PositionRule:
    if connector in _RULES:
        return _RULES[connector]
    raise SchemaError(
        f"connector {connector}",
        f"its changes can't be ordered yet; supported are {', '.join(sorted(_RULES))}",
        remedy="leave its topics out of the pipeline",
    )


def _postgresql(source: Mapping[str, Any]) -> SourcePosition | None:
    text = source.get("sequence")
    match = re.fullmatch(_SEQUENCE, text) if isinstance(text, str) else None
    if match is None or text == "[null,null]":
        return None
    lo = int(match[4] or 0)
    is_stream = source.get("snapshot", "unknown") in (None, "false")
    first = lo if is_stream else 0
    return SourcePosition(first if match[2] is None else int(match[2]), lo)


def _postgresql_sql(source_sql: str, fields: Collection[str]) -> str:
    # substring_index: split_part was measured three times slower on the same text. Of `[null,"7"]` the first
    # number is the second: the change's own.
    sequence = f"{source_sql}.`sequence`"
    hi = f"substring_index(substring_index({sequence}, '\"', 2), '\"', -1)"
    lo = f"substring_index(substring_index({sequence}, '\"', -2), '\"', 1)"
    readable = f"{sequence} RLIKE {_whole(_SEQUENCE)} AND {sequence} <> '[null,null]'"
    is_stream = "false"
    if "snapshot" in fields:
        is_stream = f"coalesce({source_sql}.`snapshot`, 'false') = 'false'"
    is_zero = f"startswith({sequence}, '[null') AND NOT ({is_stream})"
    hi_or_zero = f"if({is_zero}, 0L, try_cast({hi} AS BIGINT))"
    lo_or_zero = f"if(endswith({sequence}, 'null]'), 0L, try_cast({lo} AS BIGINT))"
    return _pair(readable, hi_or_zero, lo_or_zero)


def _binlog(source: Mapping[str, Any]) -> SourcePosition | None:
    file, pos = source.get("file"), source.get("pos")
    match = re.fullmatch(_LOG_FILE, file) if isinstance(file, str) else None
    if match is None or _JAVA_LINE_ENDS.search(match[0]):
        return None
    if not isinstance(pos, int) or not 0 <= pos < _MAX_POS:
        return None
    return SourcePosition(int(match[1]), pos * _MAX_ROW + _NO_ROW)


def _binlog_sql(source_sql: str, _fields: Collection[str]) -> str:
    file, pos = (f"{source_sql}.`{name}`" for name in ("file", "pos"))
    readable = f"{file} RLIKE {_whole(_LOG_FILE)} AND {pos} >= 0 AND {pos} < {_MAX_POS}"
    hi = f"try_cast(substring_index({file}, '.', -1) AS BIGINT)"
    return _pair(readable, hi, f"{pos} * {_MAX_ROW}L + {_NO_ROW}L")


def _oracle(source: Mapping[str, Any]) -> SourcePosition | None:
    scn, sequence = source.get("commit_scn"), source.get("txSeq", 0)
    if not isinstance(scn, str) or not re.fullmatch(_NUMBER, scn):
        return None
    if not isinstance(sequence, int) or sequence < 0:
        return None
    return SourcePosition(int(scn), sequence)


def _oracle_sql(source_sql: str, fields: Collection[str]) -> str:
    scn = f"{source_sql}.`commit_scn`"
    sequence = f"{source_sql}.`txSeq`" if "txSeq" in fields else "0L"
    readable = f"{scn} RLIKE {_whole(_NUMBER)} AND {sequence} >= 0"
    return _pair(readable, f"try_cast({scn} AS BIGINT)", sequence)


def _sqlserver(source: Mapping[str, Any]) -> SourcePosition | None:
    lsn = source.get("commit_lsn")
    match = re.fullmatch(_LSN, lsn) if isinstance(lsn, str) else None
    if match is None:
        return None
    return SourcePosition(int(match[1] + match[2], 16), int(match[3], 16))


def _sqlserver_sql(source_sql: str, _fields: Collection[str]) -> str:
    lsn = f"{source_sql}.`commit_lsn`"
    log = f"concat(substring({lsn}, 1, 8), substring({lsn}, 10, 8))"
    hi, lo = (f"CAST(conv({part}, 16, 10) AS BIGINT)" for part in (log, f"substring({lsn}, 19)"))
    return _pair(f"{lsn} RLIKE {_whole(_LSN)}", hi, lo)


def _whole(pattern: str) -> str:
    # Only Python reads the groups, and they cost: Java sets up each of them for every match.
    return literal(rf"^{pattern.replace('(', '(?:')}\z")


def _pair(readable: str, hi: str, lo: str) -> str:
    # One condition for both: it is the dear part.
    return f"(CASE WHEN {readable} THEN named_struct('hi', {hi}, 'lo', {lo}) END)"


_BINLOG = _PositionRule(("file", "pos"), _binlog, _binlog_sql)
_RULES: dict[str, _PositionRule] = {
    "postgresql": _PositionRule(("sequence",), _postgresql, _postgresql_sql),
    "mysql": _BINLOG,
    "mariadb": _BINLOG,
    "oracle": _PositionRule(("commit_scn",), _oracle, _oracle_sql, optional=("txSeq",)),
    "sqlserver": _PositionRule(("commit_lsn",), _sqlserver, _sqlserver_sql),
}
