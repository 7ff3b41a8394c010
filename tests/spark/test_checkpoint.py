"""What a start finds beside its checkpoint: whose it is, how far it came, who else runs it."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from debezium import ITEMS, Topic
from lake import Lake
from py4j.protocol import Py4JJavaError

from cdc_sink.config import Target
from cdc_sink.errors import StateError
from cdc_sink.spark.run.checkpoint import (
    Files,
    check_identity,
    query_id,
    require_not_ahead,
    resume_offsets,
)
from cdc_sink.spark.run.lease_file import (
    judge_lease,
    my_lease,
    read_lease,
    renew_lease,
    take_lease,
    write_lease,
)
from cdc_sink.table.lease import LeaseState, QueryState
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.ledger.stream_identity import StreamIdentity

STREAM = StreamIdentity("shop", "q1", "cluster", "shop.public.items", "topic-1")


@pytest.fixture
def target(lake: Lake, name: str) -> Target:
    return lake.target(name, Topic(ITEMS))


@pytest.fixture
def files(lake: Lake) -> Files:
    return Files(lake.spark)


def folder(target: Target) -> Path:
    return Path(target.checkpoint.removeprefix("file://"))


def test_a_file_is_replaced_as_a_whole_and_leaves_no_other(files: Files, tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/new folder/état.json"
    assert files.read(uri) is None
    for text in ("a" * 100_000, "é\n"):
        files.write(uri, text)
        assert files.read(uri) == text
    assert files.names(f"file://{tmp_path}/new folder") == ["état.json"]
    assert files.names(f"file://{tmp_path}/none") == []


def test_the_query_id_stays_and_is_the_one_spark_takes(
    lake: Lake, files: Files, target: Target
) -> None:
    ours = query_id(files, target.checkpoint)
    assert query_id(files, target.checkpoint) == ours
    stream = lake.spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load()
    query = (
        stream.writeStream.format("noop")
        .option("checkpointLocation", target.checkpoint)
        .trigger(once=True)
        .start()
    )
    query.awaitTermination(60)
    assert query.id == ours


def test_reading_goes_on_after_the_last_batch_that_spark_committed(
    files: Files, target: Target
) -> None:
    assert resume_offsets(files, target.checkpoint) == {}
    for batch, offsets in ((9, '{"0":5}'), (10, '{"0":17,"1":3}'), (11, '{"0":99,"1":9}')):
        log = folder(target) / "offsets" / str(batch)
        log.parent.mkdir(parents=True, exist_ok=True)
        metadata = '{"batchWatermarkMs":0,"batchTimestampMs":1770000000000,"conf":{}}'
        log.write_text(f'v1\n{metadata}\n{{"shop.public.items":{offsets}}}', encoding="utf-8")
    assert resume_offsets(files, target.checkpoint) == {}
    for batch in (9, 10):  # 11 was planned, never committed: it is replayed
        log = folder(target) / "commits" / str(batch)
        log.parent.mkdir(exist_ok=True)
        log.write_text('v1\n{"nextBatchWatermarkMs":0}', encoding="utf-8")
        (log.parent / f".{batch}.crc").write_bytes(b"")
    assert resume_offsets(files, target.checkpoint) == {0: 17, 1: 3}


def test_a_checkpoint_may_be_behind_the_ledger_but_not_ahead_of_it(target: Target) -> None:
    ledger = dataclasses.replace(
        Ledger.opened(STREAM, [0, 1]),
        next_offsets={0: 10, 1: 4},
    )
    require_not_ahead({0: 10, 1: 3}, ledger, target)
    with pytest.raises(StateError) as ahead:
        require_not_ahead({0: 10, 1: 5}, ledger, target)
    assert str(ahead.value) == (
        f"{target.name}: the checkpoint goes on at offset 5 of partition 1, the table's ledger ends at "
        "4: the table was rolled back or restored; the batch was not applied, its offsets were not "
        "committed; start once with `cdc-sink run --take-over`: reading goes on at the ledger's offsets, "
        "and the old checkpoint is moved aside."
    )


@pytest.mark.parametrize(
    ("other", "uuid", "saw"),
    [
        ({"cluster_id": "c2"}, "u1", "belongs to cluster id 'cluster', this query has 'c2'"),
        ({"topic": "t2"}, "u1", "belongs to topic 'shop.public.items', this query has 't2'"),
        ({"topic_id": "x"}, "u1", "belongs to topic id 'topic-1', this query has 'x'"),
        ({"query_id": "q2"}, "u1", "belongs to query id 'q1', this query has 'q2'"),
        ({}, "u2", "belongs to a table with the uuid 'u1', this start sees 'u2'"),
        ({}, None, "belongs to a table with the uuid 'u1', this start sees None"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    files: Files, target: Target, other: dict[str, str], uuid: str | None, saw: str
) -> None:
    check_identity(files, target, STREAM, None)  # the first start found no table yet
    check_identity(files, target, STREAM, "u1")
    check_identity(files, target, STREAM, "u1")
    before = files.read(target.identity_file)
    with pytest.raises(StateError) as refused:
        check_identity(files, target, dataclasses.replace(STREAM, **other), uuid)
    assert refused.value.where == target.name
    assert refused.value.saw == f"the checkpoint {target.checkpoint} {saw}"
    assert files.read(target.identity_file) == before


def test_a_lease_is_held_while_its_process_lives_and_free_after_it(
    files: Files, target: Target
) -> None:
    assert judge_lease(files, target) is LeaseState.FREE
    mine = my_lease(QueryState.RUNNING)
    write_lease(files, target, mine)
    assert read_lease(files, target) == mine
    assert judge_lease(files, target) is LeaseState.FREE
    init = Path("/proc/1/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    write_lease(files, target, dataclasses.replace(mine, pid=1, started=init))
    assert judge_lease(files, target) is LeaseState.HELD
    write_lease(files, target, dataclasses.replace(mine, pid=1, started="reused pid"))
    assert judge_lease(files, target) is LeaseState.FREE


def test_a_torn_lease_holds_nobody_up(files: Files, target: Target) -> None:
    files.write(target.lease_file, '{"host": "a", "pi')
    assert read_lease(files, target) is None
    assert judge_lease(files, target) is LeaseState.FREE


def test_of_four_that_make_a_file_at_one_moment_one_does(files: Files, tmp_path: Path) -> None:
    names = [f"file://{tmp_path}/é {number}/claim" for number in range(40)]
    with ThreadPoolExecutor(4) as four:
        said = [
            [made.result() for made in [four.submit(files.create, name, str(i)) for i in range(4)]]
            for name in names
        ]
    assert [sorted(one) for one in said] == [[False, False, False, True]] * len(names)
    assert [files.read(name) for name in names] == [str(one.index(True)) for one in said]


def test_a_file_that_two_replace_again_and_again_is_there_at_every_moment(
    files: Files, tmp_path: Path
) -> None:
    """A driver that saw no lease at such a moment would take it."""
    name, seen = f"file://{tmp_path}/lease", set[str | None]()
    files.write(name, "0")

    def replace() -> None:
        for number in range(200):
            files.write(name, str(number))

    with ThreadPoolExecutor(2) as two:
        writers = [two.submit(replace) for _ in range(2)]
        while not all(writer.done() for writer in writers):
            seen.add(files.read(name))
    assert [writer.result() for writer in writers] == [None, None]
    assert None not in seen
    assert seen <= {str(number) for number in range(200)}
    assert [one.name for one in tmp_path.iterdir()] == ["lease"]


def test_a_file_that_goes_while_it_is_looked_at_is_not_there(files: Files, tmp_path: Path) -> None:
    name, seen = f"file://{tmp_path}/claim", set[str | None]()

    def come_and_go() -> None:
        for _ in range(300):
            files.create(name, "mine")
            files.remove(name)

    with ThreadPoolExecutor(1) as one:
        other = one.submit(come_and_go)
        while not other.done():
            seen.add(files.read(name))
            files.modified_ms(name)
    assert other.result() is None
    assert seen <= {None, "", "mine"}


def test_a_lease_is_taken_from_a_process_that_has_ended_and_counts_on(
    files: Files, target: Target
) -> None:
    gone = dataclasses.replace(my_lease(QueryState.RUNNING), pid=1, started="reused pid", take=6)
    write_lease(files, target, gone)
    files.create(f"{target.lease_file}.take-7", dataclasses.replace(gone, take=7).to_json())
    assert take_lease(files, target) is None
    renew_lease(files, target, QueryState.RUNNING)
    held = read_lease(files, target)
    assert held is not None
    assert (held.take, held.state, held.is_of(my_lease(QueryState.WAITING))) == (8, "running", True)
    assert [name for name in files.names(str(folder(target).parent)) if "take" in name] == []


def test_a_text_that_can_not_be_put_in_its_place_leaves_nothing_beside_it(
    files: Files, tmp_path: Path
) -> None:
    (tmp_path / "there" / "a folder").mkdir(parents=True)
    with pytest.raises(Py4JJavaError):
        files.write(f"file://{tmp_path}/there", "text")
    assert [one.name for one in tmp_path.iterdir()] == ["there"]
