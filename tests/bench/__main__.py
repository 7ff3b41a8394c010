"""`make bench`: prints the project's figures, with the facts of the machine they were measured on."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cdc_sink.cli.logs import configure_logs
from cdc_sink.config import load_config
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.spark.run.session import create_session
from tests.bench.events import DELETE, INSERT, UPDATE, create, start_chain
from tests.bench.figures import Figure, apply_rate, decode_rate
from tests.bench.order import order_costs
from tests.bench.steady import idle_jobs, memory_growth, small_batch


def main() -> int:
    """Run every figure; exit code 1 when one misses its goal."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000, help="rows inserted before updates")
    options.add_argument("--folder", type=Path, help="work folder; default a temporary one")
    chosen = options.parse_args()
    configure_logs()
    with tempfile.TemporaryDirectory(prefix="cdc-sink-bench-") as temporary:
        folder = chosen.folder or Path(temporary)
        with start_chain(folder / "chain") as chain:
            figures = measure(chain, folder, chosen.rows)
    print_report(figures, chosen.rows)
    return 0 if all(f.met for f in figures) else 1


def measure(chain: Chain, folder: Path, rows: int) -> list[Figure]:
    """Fill the topic with real events, then measure one figure after the other."""
    large, small = create(chain)
    sent = 10 + large.run(INSERT, first=11, last=rows)
    say(f"{sent:,} rows inserted; waiting for their events")
    say(f"events of the inserts in Kafka after {large.wait_for(sent):.0f} s")
    sent += large.run(UPDATE, step=2, rest=0) + 2 * large.run(DELETE, rest=1)
    say(f"updates and deletes in Kafka after {large.wait_for(sent):.0f} s: {sent:,} records")
    pipeline = load_config(write_config(chain, folder, (large.topic, small.topic)))
    spark = create_session(pipeline, purpose="bench", log_file=folder / "spark.log")
    target = pipeline.target(large.topic)
    figures = []
    for figure in (decode_rate, apply_rate):
        figures.append(figure(spark, target))
        say(str(figures[-1]))
    for source in (large, small):
        figures.append(small_batch(spark, pipeline.target(source.topic), source))
        say(str(figures[-1]))
    for steady in (idle_jobs, memory_growth):
        figures.append(steady(spark, target, large))
        say(str(figures[-1]))
    for cost in order_costs(spark, target):
        figures.append(cost)
        say(str(cost))
    spark.stop()
    return figures


def write_config(chain: Chain, folder: Path, topics: Sequence[str]) -> Path:
    """A pipeline for these topics."""
    lake = folder / "lake"
    lake.mkdir(parents=True, exist_ok=True)
    path = folder / "bench.yaml"
    path.write_text(
        f"""
pipeline: bench
kafka: {{bootstrap_servers: "{chain.bootstrap_servers}"}}
registry: {{url: "{chain.registry_url}"}}
catalog: {{type: jdbc, uri: "jdbc:sqlite:{lake}/catalog.db", warehouse: "{lake}/warehouse"}}
checkpoints: "{lake}/checkpoints"
spark: {{master: "local[2]", jars: locked, conf: {{spark.driver.memory: 4g}}}}
defaults: {{trigger_s: 0}}
tables: [{", ".join(f"{{topic: {topic}}}" for topic in topics)}]
""",
        encoding="utf-8",
    )
    return path


def print_report(figures: list[Figure], rows: int) -> None:
    """The figures as a Markdown table on stdout."""
    print(f"{machine()}; {rows:,} rows, 10 columns, real Debezium events, Spark local[2]\n")
    print("| figure | measured | goal | | conditions |\n|---|---|---|---|---|")
    for f in figures:
        met = "met" if f.met else "**missed**"
        print(
            f"| {f.name} | {f.value:,.{1 if f.value > 10 else 2}f} {f.unit} | {f.goal} | {met} | {f.detail} |"
        )


def machine() -> str:
    """Processor count, memory, Python and system, as one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, load before the report {load:.1f}"
    )


def say(line: str) -> None:
    """Talk goes to stderr."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
