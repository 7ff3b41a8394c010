"""The border to Spark, Kafka's Java client and Iceberg: their exceptions become ours here, once.

Read from the Java class names in the failure's text, since a failed job arrives as one long text. The most
specific rule comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdc_sink.errors import (
    CdcSinkError,
    CommitConflictError,
    CommitUnknownError,
    ConfigError,
    StateError,
    UnavailableError,
)

REPLAYED = "the batch was not committed; it will be replayed"


@dataclass(frozen=True)
class _Rule:
    signs: tuple[str, ...]
    kind: type[CdcSinkError]
    saw: str
    remedy: str
    data: str = REPLAYED


RULES = (
    _Rule(
        ("CONCURRENT_STREAM_LOG_UPDATE",),
        StateError,
        "another driver writes to this checkpoint",
        "stop one of the two; the other goes on where the table's ledger is",
        "what the other one committed is left out by the ledger",
    ),
    _Rule(
        ("CommitStateUnknownException",),
        CommitUnknownError,
        "the catalog did not say whether the table commit happened",
        "nothing: the ledger is read before the batch is repeated",
        "the table commit may be there; the ledger will tell",
    ),
    _Rule(
        ("exceptions.ValidationException", "CommitFailedException"),
        CommitConflictError,
        "another commit reached the table first",
        "nothing: the batch is replayed against the new table snapshot; if this goes on, look for "
        "a second writer",
    ),
    _Rule(
        ("NoSuchTableException",),
        CommitConflictError,
        "the table was dropped or renamed while a batch was applied",
        "nothing: the table is looked for again, and what became of it is said then",
    ),
    _Rule(
        ("No space left on device", "DiskErrorException", "Disk quota exceeded"),
        UnavailableError,
        "no space is left where the warehouse or the checkpoint lies",
        "free space there; the table goes on by itself",
    ),
    _Rule(
        ("Permission denied", "AccessControlException", "AccessDenied", "Access Denied",
         "Read-only file system", "Mkdirs failed", "Failed to create"),
        ConfigError,
        "the warehouse or the checkpoint can't be written",
        "give this user the right to write there, or correct catalog.warehouse and checkpoints",
    ),
    _Rule(
        ("OffsetOutOfRangeException", "data may have been lost", "KAFKA_DATA_LOSS",
         "partitions are gone", "offset was changed from"),
        StateError,
        "offsets that this table has not read yet are no longer in the topic",
        "these changes are lost to the stream: rebuild the table with `cdc-sink backfill` after a "
        "new snapshot by the connector, and raise the topic's retention",
        "the table stays at the last offset of its ledger",
    ),
    _Rule(
        ("UnknownTopicOrPartitionException",),
        StateError,
        "the topic is gone",
        "find out who deleted the topic; a re-created topic needs `cdc-sink backfill`",
        "the table stays at the last offset of its ledger",
    ),
    _Rule(
        ("kafka.common.errors.TimeoutException", "BrokerNotAvailable", "DisconnectException",
         "No resolvable bootstrap urls", "Failed to construct kafka", "FETCH_OFFSETS",
         "kafka.common.errors.NetworkException"),
        UnavailableError,
        "the Kafka broker did not answer",
        "start the broker, or correct kafka.bootstrap_servers",
    ),
    _Rule(
        ("SQLITE_BUSY", "SQLITE_LOCKED", "ServiceUnavailableException", "UncheckedSQLException",
         "ConnectException", "ServiceFailureException"),
        UnavailableError,
        "the catalog did not answer",
        "start the catalog, or correct catalog.uri",
    ),
    _Rule(
        # The folded rows live on the executors until they are committed.
        ("Checkpoint block rdd_", "ExecutorLostFailure", "ExecutorDeadException"),
        UnavailableError,
        "an executor was lost with the rows of the batch",
        "nothing: the batch is replayed; if this goes on, give the executors more memory",
    ),
    _Rule(
        ("RejectedExecutionException", "SparkContext was shut down", "stopped SparkContext"),
        StateError,
        "the Spark session has ended under the pipeline",
        "look into Spark's log for the reason, often too little memory (spark.driver.memory); then start "
        "the pipeline again",
    ),
    _Rule(
        # Only a new JVM has room again.
        ("Out of space in CodeCache",),
        StateError,
        "the JVM has no room for compiled code any more",
        "start the driver with -XX:ReservedCodeCacheSize=512m (spark.driver.extraJavaOptions)",
    ),
    _Rule(
        ("OutOfMemoryError",),
        UnavailableError,
        "the driver or an executor ran out of memory",
        "lower max_records_per_batch, or give Spark more memory (spark.driver.memory)",
    ),
)  # fmt: skip


def stumbled_after_replay(failed: BaseException) -> bool:
    """True for a failure that happened after a replayed batch was committed, with nothing left to do.

    Seen with Spark 4.1.1: the Kafka source counts its own lag after every batch, and fails when the batch was
    a replay, since it has not asked for the topic's end yet. The batch is in Spark's commit log by then.
    """
    return "KafkaMicroBatchStream$.metrics" in _whole_text(failed)


def as_cdc_sink_error(failed: BaseException, where: str) -> CdcSinkError:
    """Say what a failed Spark job means, for the operator; the cause stays attached by the caller."""
    text = _whole_text(failed)
    for rule in RULES:
        if any(sign in text for sign in rule.signs):
            return rule.kind(where, rule.saw, data=rule.data, remedy=rule.remedy)
    return StateError(
        where,
        f"Spark failed in a way that cdc-sink does not know ({_first_line(text)})",
        data=REPLAYED,
        remedy="look at the cause with `-v`; if the cause is not on your side, report it",
    )


def caused(failed: BaseException, where: str) -> CdcSinkError:
    """The same with the foreign exception attached as its cause."""
    error = as_cdc_sink_error(failed, where)
    error.__cause__ = failed
    return error


def _whole_text(failed: BaseException) -> str:
    """Text and Java trace of a failure and its causes: Spark shows the trace of the outermost one at most."""
    parts: list[str] = []
    one: BaseException | None = failed
    while one is not None and len(parts) < 20:
        parts += [str(one), str(getattr(one, "_stackTrace", ""))]
        one = getattr(one, "_cause", None) or one.__cause__
    return "\n".join(parts)


def _first_line(text: str) -> str:
    # Only an error class in brackets or an exception's name: a message may hold a cell value.
    for line in text.splitlines():
        for word in line.replace(":", " ").split():
            if word.startswith("[") and word.endswith("]") and word.strip("[]").isupper():
                return word.strip("[]")
            if word.endswith(("Exception", "Error")) and "." in word:
                return word
    return "no error class given"
