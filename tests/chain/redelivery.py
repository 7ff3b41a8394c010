"""Connect is killed until what it has sent comes again, from all connectors of a pipeline at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from cdc_sink.clients.connect import ConnectClient
from cdc_sink.clients.kafka import Cluster
from cdc_sink.config import Pipeline
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.errors import UnavailableError
from tests.chain.pipelines import ledger_of, require_equal, wait

KILLS = 12  # at most; five were too few once, for one source of five


class Source(ABC):
    """What one connector sends, and who changes it."""

    name: str
    changes: int  # records that a `churn` sends, at least
    least: int  # records that have to come again

    @property
    @abstractmethod
    def tables(self) -> list[dict[str, object]]:
        """Its tables, as a configuration names them."""

    @abstractmethod
    def connected(self, chain: Chain) -> AbstractContextManager[None]:
        """Its tables with their first rows in the topics, as long as the block runs."""

    @abstractmethod
    def churn(self, chain: Chain, number: int) -> None:
        """Each kind of change."""

    @abstractmethod
    def mark(self, chain: Chain, number: int) -> None:
        """One change, which is one record."""

    @property
    def topics(self) -> list[str]:
        return [str(table["topic"]) for table in self.tables]

    def is_counted(self, pipeline: Pipeline) -> bool:
        """Whether what came again was taken for it: without positions nothing is."""
        return any(
            table.order == "kafka" or ledger_of(pipeline, table.name).totals.redelivered > 0
            for table in pipeline.tables
            if table.topic in self.topics
        )


@dataclass(frozen=True)
class _Topics:
    cluster: Cluster

    def end(self, source: Source) -> int:
        """Records in the topics of a source; they may have no leader for a moment."""
        try:
            return sum(sum(self.cluster.end_offsets(topic).values()) for topic in source.topics)
        except UnavailableError:
            return 0

    def have_reached(self, ends: Sequence[tuple[Source, int]]) -> bool:
        return all(self.end(source) >= end for source, end in ends)

    def are_applied(self, pipeline: Pipeline, sources: Sequence[Source]) -> bool:
        """Whether the ledgers stand at the ends."""
        return all(_applied(pipeline, source) == self.end(source) for source in sources)


def kill_connect_until_all_comes_again(
    chain: Chain, pipeline: Pipeline, sources: Sequence[Source]
) -> dict[str, int]:
    """Return by source how many records came twice; the tables are right each time.

    Connect writes its offsets down each second: a kill right after a record arrived finds them behind,
    nearly always. What comes twice lies below the mark but for the newest record, which is not taken for
    redelivered. Nobody changes anything while Connect is down, and all that was delivered is applied then.
    """
    topics, again = _Topics(Cluster(pipeline.kafka)), dict[str, int]()
    for attempt in range(1, KILLS + 1):
        left = [source for source in sources if source.name not in again]
        reached = [(source, topics.end(source) + source.changes) for source in left]
        for source in left:
            source.churn(chain, attempt)
        wait(partial(topics.have_reached, reached), "changes in the topics")
        chain.kill("connect")
        wait(partial(topics.are_applied, pipeline, left), "all to be applied")
        delivered = {source.name: topics.end(source) for source in left}
        chain.restart("connect")
        for source in left:
            ConnectClient(chain.connect_url).wait_running(source.name, 60)
            source.mark(chain, attempt)
        require_equal(pipeline)
        for source in left:
            twice = topics.end(source) - delivered[source.name] - 1
            if twice > source.least and source.is_counted(pipeline):
                again[source.name] = twice
        if len(again) == len(sources):
            break
    return again


def _applied(pipeline: Pipeline, source: Source) -> int:
    names = [table.name for table in pipeline.tables if table.topic in source.topics]
    return sum(sum(ledger_of(pipeline, name).next_offsets.values()) for name in names)
