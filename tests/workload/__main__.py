"""`python -m tests.workload`: play a seeded workload on a real database, then compare every row.

Exit code: 0 every table equals its source; 1 a table differs, or stopped: the keys are printed. With
`--other-hands` a table may have stopped with a sentence, too; a silent difference and a failure that nobody
knows are 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from cdc_sink.cli.verbs.verify import render_findings
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.spark.run.session import create_session
from tests.workload.hands import KINDS
from tests.workload.outcome import Outcome
from tests.workload.player import Play
from tests.workload.run import Run

KEYS_SHOWN = 20
_PARTS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mariadb"}


def main(arguments: list[str] | None = None) -> int:
    """Play and compare; the seed is the first line that is printed."""
    asked = _parser().parse_args(arguments)
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    print(f"workload: --database {asked.database} --seed {seed} --toast {asked.toast}", flush=True)
    play = Play(
        asked.database,
        seed,
        asked.toast,
        truncates=asked.truncate,
        lanes=asked.lanes,
        rate=asked.rate,
    )
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="workload-"))
    outcome = _run(play, folder, asked)
    for line in _lines(outcome):
        print(line)
    print(f"seed {seed}: {_verdict(outcome)}; all of it is in {folder}")
    return 0 if outcome.is_fine else 1


def _run(play: Play, folder: Path, asked: argparse.Namespace) -> Outcome:
    parts = (_PARTS[play.database], "kafka", "registry", "connect")
    with Chain(folder / "chain", parts=parts) as chain:
        run = Run(
            chain,
            folder / "lake",
            play,
            say=_say,
            records_per_batch=asked.records_per_batch,
            # Drivers are stopped between two batches again and again: there has to be a moment between.
            trigger_s=2.0 if asked.other_hands else 1.0,
        )
        spark = create_session(run.pipeline, purpose="test", log_file=folder / "spark.log")
        try:
            return run.go(
                spark,
                asked.minutes * 60,
                kill_every_s=asked.kill_every,
                kinds=asked.other_hands,
                hand_every_s=asked.hand_every,
            )
        finally:
            spark.stop()


def _verdict(outcome: Outcome) -> str:
    if outcome.is_equal:
        return "equal" if outcome.is_fine else "equal, after a failure that nobody knows"
    return "equal, or stopped by name" if outcome.is_fine else "NOT EQUAL"


def _lines(outcome: Outcome) -> list[str]:
    return [
        *(outcome.hands.lines() if outcome.hands else ()),
        *(f"stopped: {stop}" for stop in outcome.stops),
        *(
            f"{one.table}: {one.rows_source} rows, equal"
            for one in outcome.verifications
            if one.equal
        ),
        *render_findings([o for o in outcome.verifications if not o.equal], keys=KEYS_SHOWN),
    ]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if unknown := set(kinds) - set(KINDS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not of {', '.join(KINDS)}")
    return kinds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.workload", description=__doc__)
    parser.add_argument("--database", choices=sorted(_PARTS), required=True)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, help="replays the statements of a run; drawn otherwise")
    parser.add_argument("--toast", choices=("default", "full"), default="default")
    parser.add_argument("--truncate", action="store_true", help="send TRUNCATE too")
    parser.add_argument("--lanes", type=int, default=3, help="connections that meet")
    parser.add_argument(
        "--rate", type=float, default=4.0, help="transactions of a lane in a second"
    )
    parser.add_argument("--kill-every", type=float, default=40.0, help="Connect, in seconds")
    parser.add_argument(
        "--other-hands",
        type=_kinds,
        nargs="?",
        const=KINDS,
        default=(),
        metavar="KINDS",
        help=f"who else touches the chain meanwhile: all of {','.join(KINDS)}, or those named",
    )
    parser.add_argument("--hand-every", type=float, default=10.0, help="seconds between hands")
    parser.add_argument("--records-per-batch", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where everything is kept; a new one otherwise")
    return parser


if __name__ == "__main__":
    sys.exit(main())
