"""spark-submit … jobs/backfill.py --config CONFIG --table TABLE: the same as `cdc-sink backfill`."""

from __future__ import annotations

import argparse
import sys

from cdc_sink.cli.main import run


def main() -> None:
    """Read the options of spark-submit's command line, and run the verb."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the pipeline's YAML file")
    parser.add_argument("--table", required=True, help="the table, by its target or its topic")
    known, others = parser.parse_known_args()
    sys.exit(run(["backfill", known.config, known.table, *others]))
