"""Rows that a whole source snapshot does not name: deleted or kept, in a table commit of its own.

The rule is in table/ledger/source_snapshot.py. What is due stands in the ledger, so it is done after the
batch that made the snapshot whole, before the next one, or at the next start, whichever comes first; once
more changes nothing.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace

import structlog
from pyspark.sql import SparkSession

from cdc_sink.config import Target
from cdc_sink.spark.failpoints import AFTER_TABLE_COMMIT, BEFORE_TABLE_COMMIT, failpoint
from cdc_sink.spark.iceberg_table import IcebergTable, stamped
from cdc_sink.table.ledger.ledger import BATCH_KEY, LEDGER_KEY
from cdc_sink.table.ledger.source_snapshot import Outcome, judge
from cdc_sink.table.left_over_rows import left_over_sql
from cdc_sink.table.schema.metadata_columns import OP

log: structlog.stdlib.BoundLogger = structlog.get_logger("cdc_sink.resnapshot")

# Where metadata alone tells which rows are meant, Iceberg 1.12 drops whole files in a commit of its own. That
# commit lacks the session's snapshot properties, so the ledger, and is not validated against other commits.
# This term is true of every row that a change wrote, and Iceberg can't tell it from metadata.
# Source: SparkTable.canDeleteWhere, SparkTable.deleteWhere.
_NOT_BY_METADATA = f"length({OP}) = 1"


def settle(spark: SparkSession, target: Target) -> None:
    """Decide over the rows that the newest run does not name, and do it.

    In:     a table whose ledger `has_to_decide`; to any other nothing happens.
    Raises: StateError where the operator has to say; nothing was changed then.
    """
    table = IcebergTable.load(spark, target)
    ledger = table.ledger() if table else None
    if table is None or ledger is None or ledger.run is None or not ledger.has_to_decide:
        return
    left_over = left_over_sql(ledger.run, ledger.stream.generation)
    rows = table.rows_at(table.snapshot_id).where(left_over).count()
    run = judge(ledger.run, rows, target.table.on_resnapshot, target.name)
    stamp = {"left_over": rows, "committed_at_ms": time.time_ns() // 1_000_000}
    properties = {
        LEDGER_KEY: replace(ledger, run=run).to_json(),
        BATCH_KEY: json.dumps(stamp),
    }
    failpoint(BEFORE_TABLE_COMMIT)
    if run.outcome is Outcome.DELETED:
        with stamped(spark, properties):
            spark.sql(f"DELETE FROM {target.identifier} WHERE ({left_over}) AND {_NOT_BY_METADATA}")
    else:
        table.note(properties)
    failpoint(AFTER_TABLE_COMMIT)
    table.keep_copy()
    if rows:
        tell = log.warning if run.outcome is Outcome.KEPT else log.info
        tell("not_in_snapshot", table=target.name, outcome=str(run.outcome), rows=rows)
