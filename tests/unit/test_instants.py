"""Each instant at which a driver can be killed is one at which a test of tests/chaos kills it.

Read from the text of the tests, so that it needs neither the chain nor an order of the tests.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from cdc_sink.spark import failpoints

CHAOS = Path(__file__).parents[1] / "chaos"
TREES = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(CHAOS.glob("test_*.py"))]
PAIRS = "IN_A_NEW_BATCH_AND_AT_ITS_REPLAY"
INSTANTS = {
    name: value
    for name, value in vars(failpoints).items()
    if name.isupper() and isinstance(value, str) and name != "VARIABLE"
}


def _names(*nodes: ast.AST) -> set[str]:
    return {one.id for node in nodes for one in ast.walk(node) if isinstance(one, ast.Name)}


def _instants_in(*nodes: ast.AST) -> set[str]:
    return {INSTANTS[name] for name in _names(*nodes) if name in INSTANTS}


def _kills() -> Iterator[ast.Call]:
    """Every call of a method that kills."""
    for call in (node for tree in TREES for node in ast.walk(tree)):
        if isinstance(call, ast.Call) and "kill" in getattr(call.func, "attr", ""):
            yield call


def _pairs() -> list[ast.Tuple]:
    """Two instants each: of a new batch, and of its replay."""
    (table,) = (
        node.value
        for tree in TREES
        for node in tree.body
        if isinstance(node, ast.Assign) and _names(node.targets[0]) == {PAIRS}
    )
    assert isinstance(table, ast.Tuple)
    return [pair for pair in table.elts if isinstance(pair, ast.Tuple)]


def test_all_has_every_instant() -> None:
    assert set(failpoints.ALL) == set(INSTANTS.values())


def test_every_instant_is_killed_by_some_test() -> None:
    killed = _instants_in(*(argument for call in _kills() for argument in call.args), *_pairs())
    assert set(failpoints.ALL) - killed == set()


def test_every_instant_of_a_batch_is_killed_in_a_new_batch_and_at_a_replay() -> None:
    new = _instants_in(*(pair.elts[0] for pair in _pairs()))
    again = _instants_in(*(pair.elts[1] for pair in _pairs()))
    assert new == again
    assert len(new) == len(_pairs())
    # Every other instant is one that only some batches come to.
    assert new == {
        failpoints.BATCH_STARTED,
        failpoints.TABLE_OPENED,
        failpoints.BATCH_FOLDED,
        failpoints.BEFORE_TABLE_COMMIT,
        failpoints.AFTER_TABLE_COMMIT,
    }
