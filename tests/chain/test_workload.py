"""Short random workloads on all databases at once; `python -m tests.workload` plays longer ones on one."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import get_args

from pyspark.sql import SparkSession

from cdc_sink.cli.verbs.verify import render_findings
from cdc_sink.demo.chain.chain import Chain
from tests.workload.outcome import Outcome
from tests.workload.player import Play
from tests.workload.run import Run, go_together
from tests.workload.tables import Database

SECONDS = 30.0
KILL_EVERY_S = 18.0  # each kill comes after 9 to 27 s


def test_tables_equal_their_sources_after_random_workloads_on_all_databases(
    chain: Chain, spark: SparkSession, tmp_path: Path
) -> None:
    """CDC_SINK_SEED in the environment replays the statements of a run."""
    seed = int(os.environ.get("CDC_SINK_SEED", random.SystemRandom().randrange(10**6)))
    print(f"workload: CDC_SINK_SEED={seed}", file=sys.stderr)
    runs = [
        Run(chain, tmp_path / name, Play(name, seed, "default"), say=lambda line: print(line))
        for name in get_args(Database)
    ]
    outcomes = go_together(runs, spark, SECONDS, kill_every_s=KILL_EVERY_S)
    found = {run.name: faults(outcome) for run, outcome in zip(runs, outcomes, strict=True)}
    assert {name: said for name, said in found.items() if said} == {}
    assert [run.name for run in runs if not was_busy(run)] == []


def faults(outcome: Outcome) -> list[str]:
    """Everything that is not as it has to be, in words."""
    different = [one for one in outcome.verifications if not one.equal]
    words = [*outcome.stops, *render_findings(different, keys=20)]
    return words or [one.table for one in different]


def was_busy(run: Run) -> bool:
    """Whether most of what was played was taken, tables were altered, and Connect was killed."""
    counts = run.player.counts
    taken = counts.committed > sum(counts.refused.values())
    return taken and counts.altered > 0 and run.kills > 0
