"""Print the paths of the jars, as `spark-submit --jars` takes them: `python -m cdc_sink.jars [GROUP…]`."""

from __future__ import annotations

import sys

from cdc_sink.jars.jars import jars

print(",".join(str(path) for path in jars(*(sys.argv[1:] or ["spark"]))))
