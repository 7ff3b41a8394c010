"""What made a connector fail, told from traces as the servers and Debezium write them."""

from __future__ import annotations

import pytest

from cdc_sink.check.rules.connector import check_connectors
from cdc_sink.check.rules.incidents import INCIDENTS, triage
from cdc_sink.debezium.connector import ConnectorReading

TOPIC = "shop.public.items"
CONNECT = "org.apache.kafka.connect.errors.ConnectException: An exception occurred\n"
DEBEZIUM = "io.debezium.DebeziumException: "

TRACES = [
    (
        DEBEZIUM
        + "The connector is trying to read binlog starting at SourceInfo [currentBinlogFilename="
        "binlog.000002], but this is no longer available on the server. Reconfigure the connector to use a "
        "snapshot mode when needed.",
        "no longer has the changes",
    ),
    (
        "com.github.shyiko.mysql.binlog.network.ServerException: Cannot replicate because the source purged "
        "required binary logs. Replicate the missing transactions from elsewhere",
        "no longer has the changes",
    ),
    (
        "ServerException: Could not find first log file name in binary log index file",
        "no longer has the changes",
    ),
    (
        'org.postgresql.util.PSQLException: ERROR: can no longer access replication slot "shop"\n  Detail: '
        'This replication slot has been invalidated due to "wal_removed".',
        "replication slot is invalid",
    ),
    (
        "PSQLException: ERROR: requested WAL segment 000000010000000000000003 has already been removed",
        "replication slot is invalid",
    ),
    ('PSQLException: ERROR: replication slot "shop" does not exist', "slot is gone"),
    (
        'PSQLException: ERROR: replication slot "shop" is active for PID 4242',
        "slot is in use",
    ),
    (
        DEBEZIUM
        + "The db history topic or its content is fully or partially missing. Please check database "
        "schema history topic configuration and re-execute the snapshot.",
        "schema history topic is gone",
    ),
    (
        DEBEZIUM
        + "The db history topic is missing. You may attempt to recover it by reconfiguring the "
        "connector to recovery.",
        "schema history topic is gone",
    ),
    (
        DEBEZIUM
        + "Error processing row in minimal, internal schema size 3, but row size 1 , restart connector with "
        "schema recovery mode.",
        "a row without all of its columns",
    ),
    (
        'PSQLException: FATAL: password authentication failed for user "debezium"',
        "refuses its user",
    ),
    (
        "java.sql.SQLException: Access denied for user 'debezium'@'10.0.0.1' (using password: YES)",
        "refuses its user",
    ),
    (
        "org.apache.kafka.common.errors.TopicAuthorizationException: Not authorized to access topics",
        "Kafka refuses its user",
    ),
    ('PSQLException: ERROR: publication "shop" does not exist', "publication is gone"),
    (
        'PSQLException: ERROR: logical decoding requires "wal_level" >= "logical"',
        "does not write the log",
    ),
    ("PSQLException: ERROR: all replication slots are in use", "no free replication slot"),
    (
        "EOFException: A replica with the same server_uuid/server_id as this replica has connected",
        "another replica",
    ),
    (
        "org.apache.kafka.common.errors.RecordTooLargeException: The message is 1048700 bytes",
        "larger than Kafka takes",
    ),
    (
        "PSQLException: Connection to pg.example.com:5432 refused. Check that the hostname is correct",
        "can't be reached",
    ),
    ("CommunicationsException: Communications link failure", "can't be reached"),
    (
        "TimeoutException: Topic shop.public.items not present in metadata after 60000 ms.",
        "isn't there, and nothing makes it",
    ),
    (
        DEBEZIUM + "Failed to properly convert data value for 'public.items.n' of type numeric",
        "can't convert a value",
    ),
]


@pytest.mark.parametrize(("trace", "means"), TRACES)
def test_a_trace_is_named_by_its_cause_with_the_command_that_mends_it(
    trace: str, means: str
) -> None:
    failed = ConnectorReading("pg", {"topic.prefix": "shop"}, {"task 0": CONNECT + trace})
    (found,) = check_connectors([failed], [TOPIC], {})
    assert means in found.saw
    assert "{name}" not in found.remedy
    # Its tables only get older by it: they are started, to apply what is in the topic.
    assert (found.level, found.lets_start) == ("error", True)


def test_each_incident_has_a_trace_of_its_own_and_no_text_of_it_is_shown() -> None:
    named = [triage(trace) for trace, _ in TRACES]
    assert {one.means for one in named if one} == {one.means for one in INCIDENTS}
    shown = " ".join(one.means + one.remedy for one in INCIDENTS)
    assert not {text for text in ("debezium'@", "pg.example.com") if text in shown}


def test_an_unknown_trace_names_no_incident() -> None:
    assert triage(CONNECT + "java.lang.IllegalStateException: something else") is None
