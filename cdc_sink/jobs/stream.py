"""spark-submit … jobs/stream.py --config CONFIG: the same as `cdc-sink run CONFIG`."""

from __future__ import annotations

import argparse
import sys

from cdc_sink.cli.main import run


def main() -> None:
    """Read the options of spark-submit's command line, and run the verb."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the pipeline's YAML file")
    known, others = parser.parse_known_args()
    sys.exit(run(["run", known.config, *others]))
