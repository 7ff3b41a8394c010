"""A short random workload on each database; `python -m tests.workload` plays longer ones."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from cdc_sink.cli.verify import render_findings
from cdc_sink.demo.chain.chain import Chain
from tests.workload.player import Play
from tests.workload.run import Run
from tests.workload.tables import Database

SECONDS = 40.0


@pytest.mark.parametrize("database", ["postgresql", "mysql", "mariadb"])
def test_tables_equal_their_sources_after_a_random_workload(
    database: Database, stack: Chain, spark: SparkSession, tmp_path: Path
) -> None:
    """CDC_SINK_SEED in the environment replays the statements of a run."""
    seed = int(os.environ.get("CDC_SINK_SEED", random.SystemRandom().randrange(10**6)))
    print(f"workload: CDC_SINK_SEED={seed}", file=sys.stderr)
    run = Run(stack, tmp_path, Play(database, seed, "default"), say=lambda line: print(line))
    outcome = run.go(spark, SECONDS, kill_every_s=25)
    counts = run.player.counts
    different = [one for one in outcome.verifications if not one.equal]
    assert (outcome.stops, list(render_findings(different, keys=20)), different) == ((), [], [])
    assert counts.committed > sum(counts.refused.values())
    assert counts.altered > 0
    assert run.kills > 0
