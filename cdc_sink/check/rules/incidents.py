"""What made a connector fail, read from its trace: a named incident and what mends it.

Rules this file owns: a trace is read, never shown; the cause that names an incident counts, wherever in the
chain of causes it stands; what isn't known stays "not known", with its exception's class.

Source: texts of Debezium 3.6, PostgreSQL 18, MySQL 8.4, MariaDB 11, Kafka 4.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Incident:
    """One way to fail: how its trace is known, what it means, and what mends it (`{name}`: connector)."""

    sign: str
    means: str
    remedy: str

    def remedy_for(self, name: str) -> str:
        """The remedy, with the connector's name in its commands."""
        return self.remedy.replace("{name}", name)


_RESTART = "POST /connectors/{name}/restart?includeTasks=true&onlyFailed=true"
_ANEW = (
    "PUT /connectors/{name}/stop, DELETE /connectors/{name}/offsets, PUT /connectors/{name}/resume: it takes "
    "a new source snapshot of all its tables; `cdc-sink verify` then finds rows that were deleted meanwhile"
)

INCIDENTS = (
    Incident(
        r"no longer available on the server|purged required binary logs|has purged the binary log|"
        r"Could not find first log file name in binary log index",
        "the source's log no longer has the changes it has to read next (binlog purged or WAL removed); they "
        "are lost",
        _ANEW,
    ),
    Incident(
        r"can no longer (?:get changes from|access) replication slot|slot has been invalidated|"
        r"requested WAL segment \S+ has already been removed",
        "the replication slot is invalid: the database gave up its log, and the changes in it are lost",
        "drop the slot at the source (SELECT pg_drop_replication_slot), then " + _ANEW,
    ),
    Incident(
        r'replication slot "[^"]*" does not exist|[Cc]annot obtain valid replication slot|'
        r"[Ss]aved offset (?:is before|no longer)|[Oo]ffset\S* .{0,80}before replication slot|"
        r"Slot .{0,80} (?:is missing|has been re-?created)",
        "its replication slot is gone, or was made again: the changes between are lost",
        _ANEW,
    ),
    Incident(
        r'replication slot "[^"]*" is active for PID',
        "its replication slot is in use by another connector or program",
        "stop the other one, or give this connector a slot.name of its own; then " + _RESTART,
    ),
    Incident(
        r"internal schema size \d+, but (?:row|before|after) size \d+",
        "the binary log has a row without all of its columns: a session wrote it with another "
        "binlog_row_image than FULL, or the schema history is not that of the log",
        "take the right to set binlog_row_image from the program that did; the connector can't read the row: "
        + _ANEW,
    ),
    Incident(
        r"(?:db|schema) history topic (?:or its content )?is (?:fully or partially )?missing|"
        r"database schema history (?:couldn't|could not) be (?:recovered|found)|"
        r"whose schema isn't known to this connector",
        "its schema history topic is gone or incomplete",
        "set snapshot.mode=recovery in its settings (PUT /connectors/{name}/config) when no table changed "
        "its columns since the last record, and set it back once it runs; else " + _ANEW,
    ),
    Incident(
        r"password authentication failed|Access denied for user|no pg_hba\.conf entry|"
        r'role "[^"]*" does not exist|permission denied to start WAL sender|'
        r"must be superuser or replication role",
        "the database refuses its user",
        "correct database.user, database.password or the user's rights; then " + _RESTART,
    ),
    Incident(
        r"SaslAuthenticationException|TopicAuthorizationException|ClusterAuthorizationException|"
        r"GroupAuthorizationException",
        "Kafka refuses its user",
        "correct the log-in of the Connect worker, or the user's rights on the topic; then "
        + _RESTART,
    ),
    Incident(
        r'publication "[^"]*" does not exist',
        "its publication is gone: the database sends none of the changes made meanwhile",
        "make the publication again (CREATE PUBLICATION … FOR TABLE …), then " + _ANEW,
    ),
    Incident(
        r'requires "?wal_level|wal_level property must be|'
        r"binlog_format.{0,40}ROW|binlog_row_image.{0,40}FULL",
        "the database does not write the log that it reads",
        "set wal_level=logical (PostgreSQL) or binlog_format=ROW and binlog_row_image=FULL (MySQL, MariaDB) "
        "at the source; then " + _RESTART,
    ),
    Incident(
        r"all replication slots are in use",
        "the database has no free replication slot",
        "drop slots that nobody reads, or raise max_replication_slots; then " + _RESTART,
    ),
    Incident(
        r"same server_(?:uuid|id)",
        "another replica has its database.server.id: each throws the other out",
        "give it a database.server.id of its own (PUT /connectors/{name}/config)",
    ),
    Incident(
        r"RecordTooLargeException",
        "a record is larger than Kafka takes",
        "raise max.message.bytes of the topic and producer.override.max.request.size of the connector; then "
        + _RESTART,
    ),
    Incident(
        r"Communications link failure|Connection (?:to \S+ )?refused|UnknownHostException|"
        r"NoRouteToHostException|connection attempt failed",
        "a server that it needs can't be reached, and it gave up",
        "start the database, or correct database.hostname and database.port; then " + _RESTART,
    ),
    Incident(
        r"UnknownTopicOrPartitionException|not present in metadata after",
        "the topic that it writes to isn't there, and nothing makes it",
        "set topic.creation.default.partitions and .replication.factor in its settings, or make the topic; "
        "then " + _RESTART,
    ),
    Incident(
        r"Failed to properly convert data value|Error while processing event at offset",
        "it can't convert a value, and event.converting.failure.handling.mode=fail stops it",
        "read the log of Kafka Connect for the column, correct the value at the source or leave the column "
        "out (column.exclude.list); then " + _RESTART,
    ),
)

_ORDERED = tuple((re.compile(one.sign), one) for one in INCIDENTS)


def triage(trace: str) -> Incident | None:
    """Name what made a part FAIL; None when the trace has no sign that is known."""
    return next((one for sign, one in _ORDERED if sign.search(trace)), None)
