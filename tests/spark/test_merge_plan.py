"""The table is never shuffled or sorted: of a join's two sides only the batch moves, and is hashed."""

from __future__ import annotations

import re

import pytest
from debezium import Event, SourceTable, Topic, optional
from lake import Lake

KEYS = {
    "one column": ("id",),
    "composite": ("id", "line"),
    "composite, text first": ("code", "id"),
}
COLUMNS = {"id": "long", "line": "int", "code": "string", "name": optional("string")}


@pytest.mark.parametrize("keys", KEYS)
def test_only_the_batch_is_shuffled_and_into_the_tables_buckets(
    lake: Lake, name: str, keys: str
) -> None:
    topic = Topic(SourceTable(COLUMNS, key=KEYS[keys]))
    rows = [{"id": n, "line": n % 3, "code": f"c{n}", "name": "first"} for n in range(600)]
    topic.send_all(Event("c", row, (1, n)) for n, row in enumerate(rows))
    writer = lake.writer(name, topic, buckets=4)
    writer.write()
    topic.send_all(Event("u", row | {"name": "second"}, (2, row["id"])) for row in rows[:30])
    topic.send_all(Event("d", row, (3, row["id"])) for row in rows[:10])
    plans = lake.plans_of(lambda: writer.write(600))
    assert [row["name"] for row in sorted(writer.rows(), key=lambda row: row["id"])] == (
        ["second"] * 20 + ["first"] * 570
    )
    (plan,) = [plan for plan in plans if re.match(r".*\n(ReplaceData|WriteDelta) ", plan)]
    trees = re.findall(r"== Final Plan ==\n(.*?)\+- == Initial Plan ==", plan, re.DOTALL)
    scans = [nodes_to_join(tree.splitlines()) for tree in trees if "BatchScan" in tree]
    assert scans
    for between, join in scans:
        assert {re.sub(r"\W", "", node) for node in between} <= {"Project", "ColumnarToRow"}, plan
        assert "BuildRight" in join, plan
    assert "keygroupedpartitioning" in plan


def nodes_to_join(tree: list[str]) -> tuple[list[str], str]:
    """The nodes between the table's scan and its join, and the join."""
    (at,) = [i for i, line in enumerate(tree) if "BatchScan" in line]
    between, depth = [], _depth(tree[at])
    for line in reversed(tree[:at]):
        if _depth(line) < depth:
            depth = _depth(line)
            if "Join" in line:
                return between, line
            between.append(re.sub(r"\(\d+\)", "", line))
    raise AssertionError("\n".join(tree))


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" +-:"))
