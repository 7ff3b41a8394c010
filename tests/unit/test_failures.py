"""What a failed Spark job means for the operator, by the signs in its text."""

from __future__ import annotations

import pytest

from cdc_sink.errors import (
    CdcSinkError,
    CommitConflictError,
    CommitUnknownError,
    ConfigError,
    StateError,
    UnavailableError,
)
from cdc_sink.spark.failures import as_cdc_sink_error, stumbled_after_replay


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("org.apache.iceberg.exceptions.CommitStateUnknownException: 502", CommitUnknownError),
        ("org.apache.iceberg.exceptions.ValidationException: Found", CommitConflictError),
        ("java.io.IOException: No space left on device", UnavailableError),
        ("java.io.FileNotFoundException: /x (Permission denied)", ConfigError),
        ("[KAFKA_DATA_LOSS.INITIAL_OFFSET_NOT_FOUND] Some data", StateError),
        ("org.apache.kafka.common.errors.TimeoutException: Timed out", UnavailableError),
        ("Checkpoint block rdd_7_0 not found! Either the executor", UnavailableError),
        ("java.lang.OutOfMemoryError: Java heap space", UnavailableError),
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


def test_an_unknown_failure_parks_the_table_and_shows_no_text_of_it() -> None:
    error = as_cdc_sink_error(RuntimeError("x.y.StrangeException: secret 42"), "shop.t")
    assert type(error) is StateError
    assert "x.y.StrangeException" in str(error)
    assert "secret" not in str(error)


def test_only_a_stumble_after_a_committed_replay_is_no_failure() -> None:
    class Failed(RuntimeError):
        _stackTrace = (
            "at org.apache.spark.sql.kafka010.KafkaMicroBatchStream$.metrics(Kafka.scala:520)"
        )

    assert stumbled_after_replay(Failed("NullPointerException"))
    assert not stumbled_after_replay(RuntimeError("NullPointerException"))
