"""Does a key's partition follow from its bytes? Looked at in every record: else Kafka order orders no key.

Rules owned here:
- Kafka's default partitioner puts a record with a key into partition `murmur2(key bytes) & 0x7fffffff mod n`.
- A record that lies elsewhere was written when the topic had fewer partitions, or by another rule: a
  partitioner or a transform that routes by something else. Fewer partitions explain a record in partition p
  only if some count above p, and below today's, gives p.
- After growth every key has moved at most once for each count that the topic had: one smaller count that
  explains all of a sample means once. What the sample did not show, a later batch does.

Source: Kafka 4.3, `Utils.murmur2`, `BuiltInPartitioner.partitionForKey`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from cdc_sink.errors import StateError
from cdc_sink.table.ledger.offsets import NOT_APPLIED

_SEED, _M, _MASK = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF
MOST_GROWTHS = 2


@dataclass(frozen=True)
class Placed:
    """A record: its key's bytes as Kafka has them, and the partition that it lies in."""

    key: bytes
    partition: int


def murmur2(data: bytes) -> int:
    """Kafka's hash of a key, as an unsigned 32-bit number."""
    h = _SEED ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner gives a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def elsewhere(sample: Iterable[Placed], partitions: int) -> list[Placed]:
    """The records of a sample that lie in another partition than their key's bytes say."""
    return [one for one in sample if partition_of(one.key, partitions) != one.partition]


def counts_before(sample: Iterable[Placed], partitions: int) -> tuple[int, ...] | None:
    """The smaller partition counts that explain a sample; empty when today's does, None when none can."""
    strays = elsewhere(sample, partitions)
    if not strays:
        return ()
    for growths in range(1, MOST_GROWTHS + 1):
        for counts in combinations(range(1, partitions), growths):
            if all(any(partition_of(s.key, n) == s.partition for n in counts) for s in strays):
                return counts
    return None


def neither_placed(
    stray: Placed, partitions: int, before: int, topic: str, where: str
) -> StateError:
    """While keys move once: a record lies neither where the number before puts it nor where today's does."""
    expected = (
        f"{partition_of(stray.key, before)} of {before} and {partition_of(stray.key, partitions)}"
    )
    return StateError(
        where,
        f"{topic} grew from {before} to {partitions} partitions, and a record lies in neither of those that "
        f"its key gives ({stray.partition}, not {expected} of {partitions}): the topic grew more than once "
        "since the last batch, or something else spreads its keys",
        data=NOT_APPLIED,
        remedy="remove a partitioner or a transform that routes by something else, if there is one, and let "
        "the connector take a new source snapshot into a new topic; then raise `generation` of this table",
    )


def not_hashed(stray: Placed, partitions: int, topic: str, where: str) -> StateError:
    """Keys are not spread by their bytes: a key's changes may lie in several partitions, in no order."""
    expected = partition_of(stray.key, partitions)
    return StateError(
        where,
        f"records of {topic} do not lie in the partition that follows from their key (one lies in "
        f"{stray.partition} of {partitions}, its key gives {expected}): changes of one key may lie in "
        "several partitions, and nothing orders them",
        data=NOT_APPLIED,
        remedy="remove the partitioner or the transform that routes by something else, and let the connector "
        "take a new source snapshot into a new topic; then raise `generation` of this table. If a key of "
        "this topic never changes its partition, set `key_partition: fixed` instead",
    )
