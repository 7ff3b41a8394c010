"""What a failed Spark job means for the operator, by the signs in its text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.errors import (
    CdcSinkError,
    CommitConflictError,
    CommitUnknownError,
    ConfigError,
    StateError,
    UnavailableError,
)
from cdc_sink.spark.foreign_errors import as_cdc_sink_error, innermost, stumbled_after_replay


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("org.apache.iceberg.exceptions.CommitStateUnknownException: 502", CommitUnknownError),
        ("org.apache.iceberg.exceptions.ValidationException: Found", CommitConflictError),
        (
            "java.lang.IllegalArgumentException: Snapshot 1 is not an ancestor of 2",
            CommitConflictError,
        ),
        ("java.lang.IllegalArgumentException: Cannot find snapshot with ID 7", CommitConflictError),
        ("java.io.IOException: No space left on device", UnavailableError),
        ("java.io.FileNotFoundException: /x (Permission denied)", ConfigError),
        ("[KAFKA_DATA_LOSS.INITIAL_OFFSET_NOT_FOUND] Some data", StateError),
        ("org.apache.kafka.common.errors.TimeoutException: Timed out", UnavailableError),
        ("Checkpoint block rdd_7_0 not found! Either the executor", UnavailableError),
        ("java.lang.OutOfMemoryError: Java heap space", UnavailableError),
        ("java.net.UnknownHostException: nowhere", UnavailableError),
        (
            "org.apache.hadoop.fs.UnsupportedFileSystemException: No FileSystem for scheme s3",
            ConfigError,
        ),
        (
            "Failed to create new KafkaAdminClient\n java.security.spec.InvalidKeySpecException",
            ConfigError,
        ),
        (
            "org.apache.kafka.common.errors.SslAuthenticationException: SSL handshake failed",
            ConfigError,
        ),
        ("java.sql.SQLException: No suitable driver found for jdbc:postgresql://h/d", ConfigError),
        ("org.apache.kafka.common.errors.GroupAuthorizationException: denied", ConfigError),
        ("py4j.protocol.Py4JNetworkError: Answer from Java side is empty", StateError),
        ("java.util.concurrent.RejectedExecutionException: Task rejected", StateError),
    ],
)
def test_a_known_failure_says_who_acts(text: str, kind: type[CdcSinkError]) -> None:
    error = as_cdc_sink_error(RuntimeError(text), "shop.t")
    assert type(error) is kind
    assert error.where == "shop.t"
    assert error.data
    assert error.remedy


def test_a_jvm_without_room_for_code_names_the_option_that_gives_it() -> None:
    failed = "java.lang.VirtualMachineError: Out of space in CodeCache for method handle intrinsic"
    error = as_cdc_sink_error(RuntimeError(failed), "shop.t")
    assert type(error) is StateError
    assert "-XX:ReservedCodeCacheSize=" in error.remedy


def test_an_unknown_failure_names_its_innermost_cause_without_values() -> None:
    text = (
        "An error occurred while calling o42.save.\n: org.apache.spark.SparkException: aborted\n\tat a.b\n"
        "Caused by: x.y.StrangeException: the disk 'secret' of p4ss at https://u:p@h/ (secret) key=secret "
        "is odd"
    )
    error = as_cdc_sink_error(RuntimeError(text), "shop.t")
    assert type(error) is StateError
    assert "(x.y.StrangeException: the disk … of … at … is odd)" in str(error)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            "java.lang.NoClassDefFoundError: software/amazon/awssdk/services/s3/model/S3Exception\n\tat x",
            "software.amazon.awssdk.services.s3.model.S3Exception",
        ),
        (
            "java.lang.RuntimeException: java.lang.ClassNotFoundException: Class org.example.Files not found",
            "org.example.Files",
        ),
    ],
)
def test_a_class_that_spark_lacks_is_named(text: str, named: str) -> None:
    error = as_cdc_sink_error(RuntimeError(text), "shop.t")
    assert error.saw == f"a class is not on Spark's class path: {named}"
    assert error.exit_code == ConfigError.exit_code


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "java.lang.NumberFormatException: For input string: secret",
            "java.lang.NumberFormatException",
        ),
        ("[CAST_INVALID_INPUT] The value 'secret' of x.y.SparkException: secret", "no error class"),
        ("nothing that Java says", "no error class given"),
        ("java.lang.NullPointerException", "java.lang.NullPointerException"),
    ],
)
def test_a_message_that_is_about_a_value_is_not_shown(text: str, said: str) -> None:
    shown = innermost(text)
    assert "secret" not in shown
    assert said in shown or "CAST_INVALID_INPUT" in shown


@given(
    st.from_regex("[A-Za-z0-9äß.-]*", fullmatch=True),
    st.sampled_from(['"{}"', "'{}'", "({})", "`{}`", "a={}", "x{}9"]),
)
def test_what_stands_in_quotes_or_holds_digits_is_never_shown(value: str, form: str) -> None:
    value = f"sEcReT{value}"
    message = form.format(value).replace("\n", " ")
    assert "sEcReT" not in innermost(f"x.y.OddException: it is {message}").replace("OddE", "")


def test_only_a_stumble_after_a_committed_replay_is_no_failure() -> None:
    class Failed(RuntimeError):
        _stackTrace = (
            "at org.apache.spark.sql.kafka010.KafkaMicroBatchStream$.metrics(Kafka.scala:520)"
        )

    assert stumbled_after_replay(Failed("NullPointerException"))
    assert not stumbled_after_replay(RuntimeError("NullPointerException"))
