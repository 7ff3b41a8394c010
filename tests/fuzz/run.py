"""`make fuzz`: hostile input for a given time; the first finding is kept, printed and ends the run.

A run is repeated with its seed; a finding is repeated by its file in tests/fuzz/cases, where it stays as a
regression case once the code is mended.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path
from random import Random, SystemRandom
from types import FrameType
from typing import Any

from mutate import mutated_block, mutated_bytes, mutated_schema
from properties import BLOCKS, TEXTS, hold_for_block, hold_for_frame, hold_for_schema

CASES = Path(__file__).parent / "cases"
# Table changes are the ones of which most is asked.
SCHEMAS = [text for name, text in TEXTS.items() for _ in range(5 if "_value" in name else 1)]
MOST_SECONDS = 20  # of processor time, for one case
HANGS_AFTER_S = 240  # of waiting, on a crowded machine
SAY_AFTER_S = 10


class TooSlowError(Exception):
    """One case took longer than any may."""


def make_case(random: Random) -> dict[str, Any]:
    """One hostile input of one of three kinds."""
    kind = random.choices(("schema", "frame", "block"), weights=(8, 1, 1))[0]
    if kind == "schema":
        try:
            return {kind: mutated_schema(random, SCHEMAS)}
        except RecursionError:  # of the mutation itself, that copies what is deep already
            return make_case(random)
    if kind == "frame":
        return {kind: mutated_bytes(random, bytes((0, 0, 0, 0, 7)) + random.randbytes(40)).hex()}
    return {kind: mutated_block(random, random.choice(list(BLOCKS.values())))}


def hold(case: dict[str, Any]) -> str:
    """Run one case; says what became of it. Anything raised is a finding."""
    begin = time.process_time()
    outcome = _hold(case)
    if time.process_time() - begin > MOST_SECONDS:
        raise TooSlowError(f"{time.process_time() - begin:.0f} s")
    return outcome


def _hold(case: dict[str, Any]) -> str:
    if "schema" in case:
        usable = hold_for_schema(case["schema"], Random(1))
        return "schemas that make a table" if usable else "schemas that are refused"
    if "frame" in case:
        hold_for_frame(bytes.fromhex(case["frame"]))
        return "frames"
    hold_for_block(case["block"])
    return "source blocks"


def fuzz(seconds: float, seed: int) -> Counter[str]:
    """Make and run cases until the time is over."""
    random, counted = Random(seed), Counter[str]()
    begin = said = time.monotonic()
    while time.monotonic() - begin < seconds:
        case = make_case(random)
        signal.alarm(HANGS_AFTER_S)
        try:
            counted[hold(case)] += 1
        except BaseException:
            print(f"fuzz: finding, kept as {keep(case)}", flush=True)
            raise
        finally:
            signal.alarm(0)
        if time.monotonic() - said > SAY_AFTER_S:
            said = time.monotonic()
            print(f"fuzz: {counted.total()} cases in {said - begin:.0f} s", flush=True)
    return counted


def keep(case: dict[str, Any]) -> Path:
    """Write a case where the next run finds it."""
    text = json.dumps(case)
    path = CASES / f"{next(iter(case))}_{sha256(text.encode()).hexdigest()[:8]}.json"
    path.write_text(text + "\n", encoding="utf-8")
    return path


def kept_cases() -> dict[str, dict[str, Any]]:
    """What was found before, by file name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(CASES.glob("*.json"))}


def _hangs(_signal: int, _frame: FrameType | None) -> None:
    raise TooSlowError(f"no end after {HANGS_AFTER_S} s")


def main() -> None:
    """Read the arguments, fuzz, and say what was run."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 32))
    asked = arguments.parse_args()
    signal.signal(signal.SIGALRM, _hangs)
    print(f"fuzz: {asked.seconds:g} s of hostile input, seed {asked.seed}", flush=True)
    try:
        for case in kept_cases().values():
            hold(case)
        counted = fuzz(asked.seconds, asked.seed)
    except BaseException:
        print(f"fuzz: repeat with --seed {asked.seed}", flush=True)
        raise
    parts = ", ".join(f"{number} {name}" for name, number in counted.most_common())
    print(f"fuzz: {counted.total()} cases held, seed {asked.seed}: {parts}")
    if not counted.total():
        sys.exit("fuzz: no case was run")


if __name__ == "__main__":
    main()
