"""The border to Spark, Kafka's Java client and Iceberg: their exceptions become ours here, once.

Read from the Java class names in the failure's text, since a failed job arrives as one long text. The most
specific rule comes first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from cdc_sink.errors import (
    CdcSinkError,
    CommitConflictError,
    CommitUnknownError,
    ConfigError,
    StateError,
    UnavailableError,
)

# What a failed job raises here; which of the two depends on who looked at it first.
JOB_FAILED = (Py4JJavaError, PySparkException)
_UNKNOWN = "Spark failed in a way that cdc-sink does not know"
PROVIDE = 'give spark-submit --packages "$(cdc-sink packages CONFIG)"'
REPLAYED = "the batch was not committed; it will be replayed"
JVM_GONE = "the JVM that runs Spark has ended under the driver: it was killed, often by the kernel for memory"
JVM_GONE_REMEDY = (
    "look into the kernel's log and Spark's for the reason, give the machine more memory or "
    "spark.driver.memory less, and start the pipeline again: it goes on at the tables' ledgers"
)


@dataclass(frozen=True)
class _ErrorRule:
    signs: tuple[str, ...]
    kind: type[CdcSinkError]
    saw: str
    remedy: str
    data: str = REPLAYED
    naming: str = ""  # what of the text `saw` says in the place of {}


RULES = (
    _ErrorRule(
        ("CONCURRENT_STREAM_LOG_UPDATE",),
        StateError,
        "another driver writes to this checkpoint",
        "stop one of the two; the other goes on where the table's ledger is",
        "what the other one committed is left out by the ledger",
    ),
    _ErrorRule(
        ("STATE_STORE_CHECKPOINT_LOCATION_NOT_EMPTY",),
        ConfigError,
        "the driver was killed while Spark wrote the first offsets of this checkpoint, and Spark refuses the "
        "folder, which holds a file of no offset",
        "set spark.sql.streaming.verifyCheckpointDirectoryEmptyOnStart=false in the session",
        "no record was applied from this checkpoint",
    ),
    _ErrorRule(
        ("CommitStateUnknownException",),
        CommitUnknownError,
        "the catalog did not say whether the table commit happened",
        "nothing: the ledger is read before the batch is repeated",
        "the table commit may be there; the ledger will tell",
    ),
    _ErrorRule(
        ("exceptions.ValidationException", "CommitFailedException"),
        CommitConflictError,
        "another commit reached the table first",
        "nothing: the batch is replayed against the new table snapshot; if this goes on, look for "
        "a second writer",
    ),
    _ErrorRule(
        ("is not an ancestor of", "Cannot find snapshot", "Cannot find a snapshot"),
        CommitConflictError,
        "the table was rolled back, or its snapshots were expired, while a batch was applied",
        "nothing: the table is looked at again, and what became of it is said then",
    ),
    _ErrorRule(
        ("NoSuchTableException",),
        CommitConflictError,
        "the table was dropped or renamed while a batch was applied",
        "nothing: the table is looked for again, and what became of it is said then",
    ),
    _ErrorRule(
        ("No space left on device", "DiskErrorException", "Disk quota exceeded"),
        UnavailableError,
        "no space is left where the warehouse or the checkpoint lies",
        "free space there; the table goes on by itself",
    ),
    _ErrorRule(
        ("UnknownHostException", "Name or service not known", "nodename nor servname"),
        UnavailableError,
        "a host name does not resolve",
        "correct the names in kafka.bootstrap_servers, registry.url, catalog.uri and checkpoints, or mend "
        "the name service; the table is tried again by itself",
    ),
    _ErrorRule(
        ("No FileSystem for scheme", "UnsupportedFileSystemException", "no AbstractFileSystem configured",
         "fs.s3a.S3AFileSystem not found", "GoogleHadoopFileSystem not found"),
        ConfigError,
        "Spark has no file system for the address of the checkpoints or the warehouse",
        "add its jars under spark.conf (spark.jars.packages, such as hadoop-aws for s3a://), and write "
        "addresses as that file system does: s3a://, not s3://",
        "nothing was started",
    ),
    _ErrorRule(
        ("No suitable driver found for",),
        ConfigError,
        "Spark has no JDBC driver for the address of the catalog",
        f"{PROVIDE}, so that the driver lies beside Iceberg",
    ),
    _ErrorRule(
        ("NoClassDefFoundError", "ClassNotFoundException"),
        ConfigError,
        "a class is not on Spark's class path: {}",
        f"{PROVIDE}, or name the package that has it in spark.jars.packages, under spark.conf",
        naming=r"(?:NoClassDefFoundError|ClassNotFoundException): "
        r"(?:Class |Could not initialize class )?([\w.$/]+)",
    ),
    _ErrorRule(
        ("EncryptedPrivateKeyInfo", "InvalidKeySpecException", "Invalid PEM keystore", "PBES2",
         "Failed to load PEM SSL keystore", "No matching CERTIFICATE entries"),
        ConfigError,
        "the client's certificate or key can't be read: the key is encrypted, or is no PKCS#8",
        "give ssl.key an unencrypted key: openssl pkcs8 -topk8 -nocrypt",
        "nothing was started",
    ),
    _ErrorRule(
        ("SslAuthenticationException", "SSLHandshakeException", "CertificateException",
         "CertPathValidatorException"),
        ConfigError,
        "the TLS handshake with the broker or the catalog failed",
        "correct ssl.ca.location and the host names; compare security.protocol with the broker's listener",
    ),
    _ErrorRule(
        ("SaslAuthenticationException", "GroupAuthorizationException", "TopicAuthorizationException",
         "ClusterAuthorizationException", "UnsupportedSaslMechanismException"),
        ConfigError,
        "the Kafka broker refuses this user",
        "correct sasl.* under kafka.properties; give the user READ and DESCRIBE on the topic, and READ on "
        "groups that begin with cdc-sink and spark-kafka",
    ),
    _ErrorRule(
        ("Permission denied", "AccessControlException", "AccessDenied", "Access Denied",
         "Read-only file system", "Mkdirs failed", "Failed to create file", "Failed to create directory"),
        ConfigError,
        "the warehouse or the checkpoint can't be written",
        "give this user the right to write there, or correct catalog.warehouse and checkpoints",
    ),
    _ErrorRule(
        ("OffsetOutOfRangeException", "data may have been lost", "KAFKA_DATA_LOSS",
         "partitions are gone", "offset was changed from"),
        StateError,
        "offsets that this table has not read yet are no longer in the topic",
        "these changes are lost to the stream: rebuild the table with `cdc-sink backfill` after a "
        "new snapshot by the connector, and raise the topic's retention",
        "the table stays at the last offset of its ledger",
    ),
    _ErrorRule(
        ("UnknownTopicOrPartitionException",),
        StateError,
        "the topic is gone",
        "find out who deleted the topic; once the connector has made it anew, with a new source snapshot in "
        "it, raise `generation` of this table",
        "the table stays at the last offset of its ledger",
    ),
    _ErrorRule(
        ("kafka.common.errors.TimeoutException", "BrokerNotAvailable", "DisconnectException",
         "No resolvable bootstrap urls", "Failed to construct kafka", "FETCH_OFFSETS",
         "kafka.common.errors.NetworkException"),
        UnavailableError,
        "the Kafka broker did not answer",
        "start the broker, or correct kafka.bootstrap_servers",
    ),
    _ErrorRule(
        ("Py4JNetworkError", "Answer from Java side is empty", "Error while sending or receiving"),
        StateError,
        JVM_GONE,
        JVM_GONE_REMEDY,
    ),
    _ErrorRule(
        ("SQLITE_BUSY", "SQLITE_LOCKED", "ServiceUnavailableException", "UncheckedSQLException",
         "ConnectException", "ServiceFailureException"),
        UnavailableError,
        "the catalog did not answer",
        "start the catalog, or correct catalog.uri",
    ),
    _ErrorRule(
        # The folded rows live on the executors until they are committed.
        ("Checkpoint block rdd_", "ExecutorLostFailure", "ExecutorDeadException"),
        UnavailableError,
        "an executor was lost with the rows of the batch",
        "nothing: the batch is replayed; if this goes on, give the executors more memory",
    ),
    _ErrorRule(
        ("RejectedExecutionException", "SparkContext was shut down", "stopped SparkContext"),
        StateError,
        "the Spark session has ended under the pipeline",
        "look into Spark's log for the reason, often too little memory (spark.driver.memory); then start "
        "the pipeline again",
    ),
    _ErrorRule(
        # Only a new JVM has room again.
        ("Out of space in CodeCache",),
        StateError,
        "the JVM has no room for compiled code any more",
        "start the driver with -XX:ReservedCodeCacheSize=512m (spark.driver.extraJavaOptions)",
    ),
    _ErrorRule(
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
            named = re.search(rule.naming, text) if rule.naming else None
            saw = rule.saw.format(named[1].replace("/", ".") if named else "its log names it")
            return rule.kind(where, saw, data=rule.data, remedy=rule.remedy)
    return StateError(
        where,
        f"{_UNKNOWN} ({innermost(text)})",
        data=REPLAYED,
        remedy="look at the cause with `-v`; if the cause is not on your side, report it",
    )


def is_unknown(error: CdcSinkError) -> bool:
    """No rule above knows what it was."""
    return error.saw.startswith(_UNKNOWN)


def jvm_gone(where: str) -> StateError:
    """The process behind the session was killed."""
    return StateError(where, JVM_GONE, data=REPLAYED, remedy=JVM_GONE_REMEDY)


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


# An exception's class and its message, as Java prints them; the innermost cause stands last.
_THROWN = re.compile(
    r"(?:^|Caused by: |\n: |^: )((?:[a-z_][\w$]*\.)+[A-Z][\w$]*(?:Exception|Error|Throwable))(?:: ([^\n]*))?",
    re.MULTILINE,
)
_CONDITION = re.compile(r"\[([A-Z][A-Z0-9_.]+)\]")
# The messages of these are made of values that could not be converted.
_OF_VALUES = (
    "NumberFormat",
    "DateTime",
    "Arithmetic",
    "Cast",
    "InputMismatch",
    "Parse",
    "Json",
    "Avro",
)
_MOST_CHARS = 160


def innermost(text: str) -> str:
    """The class of the innermost exception and the first line of its message, redacted.

    What may be a cell value or a secret is left out: what stands in quotes, what holds a digit, a sign of an
    address or an equals sign; the whole message where it is about a value.
    """
    thrown = _THROWN.findall(text)
    condition = _CONDITION.search(text)
    if not thrown:
        return condition[1] if condition else "no error class given"
    kind, message = thrown[-1]
    if condition or any(word in kind.rpartition(".")[2] for word in _OF_VALUES):
        return f"{kind} {condition[1]}" if condition else kind
    said = _redacted(message)
    return f"{kind}: {said}" if said else kind


def _redacted(message: str) -> str:
    bare = re.sub(r"\"[^\"]*\"?|'[^']*'?|`[^`]*`?|\([^)]*\)?|\[[^\]]*\]?|\{[^}]*\}?", "…", message)
    words = [
        word if re.fullmatch(r"[A-Za-z][A-Za-z.,:;_-]*", word) else "…" for word in bare.split()
    ]
    return re.sub(r"(… ?)+", "… ", " ".join(words))[:_MOST_CHARS].strip()
