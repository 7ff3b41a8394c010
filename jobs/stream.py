"""spark-submit … jobs/stream.py --config CONFIG: the same as `cdc-sink run CONFIG`."""

from __future__ import annotations

import argparse
import sys

from cdc_sink.cli.main import main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the pipeline's YAML file")
    known, others = parser.parse_known_args()
    sys.argv = ["cdc-sink", "run", known.config, *others]
    main()
