"""The chain, and on it one history that all tests of this folder share, in any order."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator

import pytest

from cdc_sink.demo.chain.chain import Chain
from tests.chaos.history import History
from tests.chaos.readings import Readings


@pytest.fixture(scope="package")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    with Chain(tmp_path_factory.mktemp("chain")) as running:
        yield running


@pytest.fixture(scope="package")
def history(
    request: pytest.FixtureRequest, chain: Chain, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[History]:
    """CDC_SINK_SEED in the environment replays the traffic and the instants of a run.

    Where the last test left something that was not compared, that is done here.
    """
    seed = int(os.environ.get("CDC_SINK_SEED", random.SystemRandom().randrange(10**6)))
    print(f"chaos: CDC_SINK_SEED={seed}", file=sys.stderr)
    history = History.begin(chain, tmp_path_factory.mktemp("history"), seed)
    try:
        yield history
        if not (history.is_settled or request.session.testsfailed):
            history.settle()
    finally:
        history.end()
        print(f"chaos: seed {seed}, {history.starts} starts, kills:", file=sys.stderr)
        print("\n".join(history.kills), file=sys.stderr)


@pytest.fixture
def readings(history: History) -> Readings:
    return Readings(history)
