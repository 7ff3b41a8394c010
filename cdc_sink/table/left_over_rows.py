"""Which stored rows a whole source snapshot does not name: those written before it began, and not by it.

What becomes of them is in ledger/source_snapshot.py.
"""

from __future__ import annotations

from cdc_sink.table.ledger.source_snapshot import Over, Run
from cdc_sink.table.schema.metadata_columns import (
    GENERATION,
    OFFSET,
    OP,
    PARTITION,
    POSITION_HI,
    POSITION_LO,
)


def left_over_sql(run: Run, generation: int) -> str:
    """Render the condition on a stored row's metadata columns."""
    hi, lo = run.position.hi, run.position.lo
    by_pair = f"{POSITION_HI} < {hi}L OR ({POSITION_HI} = {hi}L AND {POSITION_LO} < {lo}L)"
    if hi == 0:
        earlier = f"{POSITION_LO} < {lo}L"
    else:
        at_snapshot = f"({POSITION_HI} = 0L AND {POSITION_LO} <= {lo}L)"
        earlier = f"({at_snapshot} OR ({POSITION_HI} <> 0L AND ({by_pair})))"
    of_run = f"({OP} = 'r' AND {POSITION_HI} = {hi}L AND {POSITION_LO} = {lo}L)"
    old_read = f"{OP} = 'r' AND {earlier}"
    partitions = ", ".join(str(p) for p in sorted(run.first)) or "-1"
    unknown = f"{PARTITION} NOT IN ({partitions})"
    before = " OR ".join(
        f"({PARTITION} = {p} AND {OFFSET} < {o}L)" for p, o in sorted(run.first.items())
    )
    before = f"({before or 'false'})"
    if run.over is Over.INTERRUPTED:
        return f"{old_read} AND ({unknown} OR {before})"
    here = f"({before} AND NOT {of_run}) OR ({unknown} AND {old_read})"
    return f"{GENERATION} < {generation} OR ({GENERATION} = {generation} AND ({here}))"
