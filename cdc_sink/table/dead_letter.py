"""What a dead letter is: a Kafka record that could not be applied, kept whole, and what became of it.

Rules owned here:
- A letter is the record as it was (key, value, headers, time), where it lay, and why it is here. The
  reason is a code; the message is a sentence without cell values.
- One table per pipeline. (table, topic_id, partition, offset) names a letter; it is put once only.
- A key with a letter in state `quarantined` is quarantined: its later records go aside too, because they
  would be applied on a state that lacks one.

    quarantined → replaying → replayed   applied to the table after all, in order
                → released               given up by the operator; the key's later records apply again

A letter is `replaying` from before the table commit until after it. The ledger of that commit holds the
digest of all letters it replays, so after a crash one can tell on which side of the commit it was.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from cdc_sink.sql import literal
from cdc_sink.table.faults import FAULTS


class State(StrEnum):
    """What became of a dead letter."""

    QUARANTINED = "quarantined"
    REPLAYING = "replaying"
    REPLAYED = "replayed"
    RELEASED = "released"


WAITING: Final = (State.QUARANTINED, State.REPLAYING)

# Name, Spark type. The first four name a letter.
FIELDS: Final = (
    ("table", "string"),
    ("topic_id", "string"),
    ("partition", "int"),
    ("offset", "bigint"),
    ("topic", "string"),
    ("timestamp", "timestamp_ltz"),
    ("key", "binary"),
    ("value", "binary"),
    ("headers", "array<struct<key: string, value: binary>>"),
    ("schema_id", "int"),
    ("reason", "string"),
    ("message", "string"),
    ("first_seen", "timestamp_ltz"),
    ("batch_id", "bigint"),
    ("state", "string"),
    ("state_since", "timestamp_ltz"),
)
NAMED_BY: Final = tuple(name for name, _ in FIELDS[:4])


def create_sql(letters: str) -> str:
    """Render the statement that makes the table of a pipeline's dead letters; `letters` is quoted."""
    required = {*NAMED_BY, "state"}
    columns = ", ".join(
        f"`{name}` {kind}{' NOT NULL' if name in required else ''}" for name, kind in FIELDS
    )
    # By table, and with snapshot isolation, so that the queries of two tables don't get into each other's
    # way; letters of one table are written by one query only.
    return (
        f"CREATE TABLE IF NOT EXISTS {letters} ({columns}) USING iceberg PARTITIONED BY (`table`) "
        "TBLPROPERTIES ('format-version' = '3', 'write.delete.mode' = 'merge-on-read', "
        "'write.update.mode' = 'merge-on-read', 'write.merge.mode' = 'merge-on-read', "
        "'write.merge.isolation-level' = 'snapshot')"
    )


def put_sql(letters: str, view: str) -> str:
    """Render the statement that adds the view's letters; those that are there already stay as they are."""
    same = " AND ".join(f"t.`{name}` = s.`{name}`" for name in NAMED_BY)
    names = ", ".join(f"`{name}`" for name, _ in FIELDS)
    values = ", ".join(f"s.`{name}`" for name, _ in FIELDS)
    return (
        f"MERGE INTO {letters} t USING {view} s ON {same} "
        f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
    )


def mark_sql(letters: str, view: str, state: State) -> str:
    """Render the statement that gives the view's letters another state, if they still wait."""
    waiting = ", ".join(f"'{one}'" for one in WAITING)
    same = " AND ".join(f"t.`{name}` = s.`{name}`" for name in NAMED_BY)
    return (
        f"MERGE INTO {letters} t USING {view} s ON {same} "
        f"WHEN MATCHED AND t.`state` IN ({waiting}) THEN UPDATE SET "
        f"t.`state` = '{state}', t.`state_since` = current_timestamp()"
    )


def purge_sql(letters: str, older_than_days: int) -> str:
    """Render the statement that removes letters that nobody waits for any more."""
    done = f"'{State.REPLAYED}', '{State.RELEASED}'"
    age = f"current_timestamp() - INTERVAL '{int(older_than_days)}' DAY"
    return f"DELETE FROM {letters} WHERE `state` IN ({done}) AND `state_since` < {age}"


def message_sql(fault: str) -> str:
    """Render what was seen of a fault, given as SQL for `code|detail`."""
    whens = " ".join(
        f"WHEN {literal(code)} THEN {literal(text.of('value')[0])}" for code, text in FAULTS.items()
    )
    detail = f"substring({fault}, locate('|', {fault}) + 1)"
    sentence = f"CASE substring_index({fault}, '|', 1) {whens} ELSE {fault} END"
    return f"concat({sentence}, IF({detail} = '', '', concat(' (', {detail}, ')')))"


def remedy_of(reason: str) -> str | None:
    """What helps against the reason of a dead letter; None for one of another release."""
    known = FAULTS.get(reason)
    return None if known is None else known.of("value")[1]
