"""What lies beside a Spark checkpoint: whose it is, who runs it, and how far it says it has come.

All files are small texts reached through Hadoop's file systems, so a checkpoint may be on any of them.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from cdc_sink.config import Target
from cdc_sink.errors import StateError
from cdc_sink.table.lease import Lease, Verdict
from cdc_sink.table.ledger import Ledger
from cdc_sink.table.offsets import gap_error, parse_offsets
from cdc_sink.table.one_table import GONE_REMEDY, OneTable


@dataclass(frozen=True)
class Files:
    """Small text files on any file system that Spark can reach."""

    spark: SparkSession

    def read(self, uri: str) -> str | None:
        """The whole text, or None when there is no such file.

        A local file has its checksum in a file of its own, renamed after it: a crash in between would make
        a sound file unreadable. The texts are JSON, so a torn one is noticed without it.
        """
        path, fs = self._open(uri)
        if not fs.exists(path):
            return None
        context = self._context(path)
        context.setVerifyChecksum(False, path)
        stream = context.open(path)
        try:
            return str(self._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()

    def write(self, uri: str, text: str) -> None:
        """Replace the file; where the file system can rename, a reader sees the old text or the new one."""
        hadoop = self._jvm.org.apache.hadoop.fs
        fresh = hadoop.Path(f"{uri}.{uuid.uuid4().hex}.tmp")
        path, fs = self._open(uri)
        stream = fs.create(fresh, True)
        try:
            stream.write(bytearray(text.encode()))
        finally:
            stream.close()
        gateway: Any = self.spark.sparkContext._gateway
        options = gateway.new_array(hadoop.Options.Rename, 1)
        options[0] = hadoop.Options.Rename.OVERWRITE
        self._context(path).rename(fresh, path, options)

    def move(self, uri: str, to: str) -> None:
        """Rename a file or a folder; nothing happens when it is missing."""
        path, fs = self._open(uri)
        if fs.exists(path):
            gateway: Any = self.spark.sparkContext._gateway
            hadoop = self._jvm.org.apache.hadoop.fs
            none = gateway.new_array(hadoop.Options.Rename, 0)
            self._context(path).rename(path, hadoop.Path(to), none)

    def names(self, uri: str) -> list[str]:
        """Names in a folder; none when it is missing."""
        path, fs = self._open(uri)
        if not fs.exists(path):
            return []
        return [str(status.getPath().getName()) for status in fs.listStatus(path)]

    @property
    def _jvm(self) -> Any:
        return self.spark._jvm

    def _context(self, path: Any) -> Any:
        session: Any = self.spark._jsparkSession
        return self._jvm.org.apache.hadoop.fs.FileContext.getFileContext(
            path.toUri(), session.sessionState().newHadoopConf()
        )

    def _open(self, uri: str) -> tuple[Any, Any]:
        path = self._jvm.org.apache.hadoop.fs.Path(uri)
        session: Any = self.spark._jsparkSession
        return path, path.getFileSystem(session.sessionState().newHadoopConf())


def query_id(files: Files, checkpoint: str) -> str:
    """The id that Spark gives every run of this checkpoint's query; made here when the checkpoint is new.

    Known before the query starts, so that a table's first ledger can carry it.
    Source: Spark 4.1, StreamMetadata: the file `metadata` holds `{"id": "<uuid>"}`.
    """
    text = files.read(f"{checkpoint}/metadata")
    if text is None:
        text = json.dumps({"id": str(uuid.uuid4())})
        files.write(f"{checkpoint}/metadata", text)
    return str(json.loads(text)["id"])


def resume_offsets(files: Files, checkpoint: str) -> dict[int, int]:
    """Where Spark will go on reading: the end of the last batch in its commit log; empty when new.

    Source: Spark 4.1, OffsetSeqLog: version, metadata and one line per source.
    """
    done = [int(name) for name in files.names(f"{checkpoint}/commits") if name.isdigit()]
    text = files.read(f"{checkpoint}/offsets/{max(done)}") if done else None
    return parse_offsets(text) or {} if text else {}


def require_not_ahead(resumed: Mapping[int, int], ledger: Ledger, target: Target) -> None:
    """Refuse a checkpoint that says more was applied than the table's ledger does.

    Raises: StateError; so it is after a rollback of the table.
    """
    ahead = {p: o for p, o in sorted(resumed.items()) if o > ledger.next_offsets.get(p, 0)}
    if ahead:
        raise gap_error(ahead, ledger.next_offsets, target.where, "the checkpoint goes on")


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to; written beside it, compared at every start."""

    cluster_id: str
    topic: str
    topic_id: str
    query_id: str
    table_uuid: str | None

    def require_same(self, kept: Identity, target: Target) -> None:
        """Compare with what was kept at an earlier start.

        Raises: StateError naming the first difference.
        """
        for name, remedy in (
            ("cluster_id", "correct kafka.bootstrap_servers, or use a new `checkpoints` folder"),
            ("topic", "give each table a target of its own"),
            ("topic_id", "the topic was made anew: let the connector take a new source snapshot into it, and "
             "raise `generation` of this table"),
            ("query_id", "start once with `cdc-sink run --take-over`: reading goes on at the ledger's "
             "offsets, and what lies beside the checkpoint is moved aside"),
            ("table_uuid", f"the table was dropped or replaced: {GONE_REMEDY}"),
        ):  # fmt: skip
            now, then = getattr(self, name), getattr(kept, name)
            if then is not None and now != then:
                raise StateError(
                    target.where,
                    f"the checkpoint {target.checkpoint} belongs to {name} {then!r}, "
                    f"this start sees {now!r}",
                    remedy=remedy,
                )


def read_identity(files: Files, target: Target) -> Identity | None:
    """What an earlier start kept; None when there was none."""
    text = files.read(target.identity_file)
    return None if text is None else Identity(**json.loads(text))


def check_identity(files: Files, target: Target, now: Identity) -> OneTable:
    """Compare with the identity file, then bring it up to date; the one table that the query writes."""
    kept = read_identity(files, target)
    if kept is not None:
        now.require_same(kept, target)
    if now != kept:
        _keep_identity(files, target, now)
    return OneTable(
        target.where,
        now.table_uuid,
        lambda uuid: _keep_identity(files, target, replace(now, table_uuid=uuid)),
    )


def _keep_identity(files: Files, target: Target, now: Identity) -> None:
    files.write(target.identity_file, json.dumps(asdict(now), indent=1))


def set_unfit_aside(
    files: Files, target: Target, uuid: str | None, ledger: Ledger | None, now_ms: int
) -> bool:
    """Move a checkpoint aside that does not fit its table any more; say whether it was.

    It does not fit when it says more than the ledger does, or was another query's or another table's. Nothing
    is deleted. A crash between the two moves leaves an identity without its checkpoint, which does not fit.
    """
    kept = read_identity(files, target)
    own_id = files.read(f"{target.checkpoint}/metadata")
    resumed = resume_offsets(files, target.checkpoint)
    reached = ledger.next_offsets if ledger else {}
    is_ahead = any(o > reached.get(p, 0) for p, o in resumed.items())
    is_other = kept is not None and (
        own_id is None
        or kept.query_id != json.loads(own_id)["id"]
        or kept.table_uuid not in (None, uuid)
    )
    if not is_ahead and not is_other:
        return False
    set_aside(files, target, now_ms)
    return True


def set_aside(files: Files, target: Target, now_ms: int) -> None:
    """Move a checkpoint and its identity to names of their own beside them; once more changes nothing."""
    for place in (target.checkpoint, target.identity_file):
        files.move(place, f"{place}.aside-{now_ms}")


def my_lease(state: str, error: str | None = None) -> Lease:
    """A lease of this process, renewed now."""
    now_ms = time.time_ns() // 1_000_000
    pid = os.getpid()
    return Lease(socket.gethostname(), pid, _process_start(pid) or "", now_ms, state, error)


def read_lease(files: Files, target: Target) -> Lease | None:
    """The lease beside a checkpoint; None when there is none, or a torn one."""
    text = files.read(target.lease_file)
    return Lease.from_json(text) if text else None


def write_lease(files: Files, target: Target, lease: Lease) -> None:
    """Renew the lease, with the table's state for `cdc-sink status`."""
    files.write(target.lease_file, lease.to_json())


def judge_lease(files: Files, target: Target) -> Verdict:
    """May this process run the query of the target's checkpoint?"""
    held = read_lease(files, target)
    if held is None:
        return Verdict.FREE
    is_alive = _process_start(held.pid) == held.started
    return held.judge(my_lease("waiting"), is_alive=is_alive)


def held_error(target: Target) -> StateError:
    """Another driver runs this query."""
    return StateError(
        target.where,
        f"the checkpoint {target.checkpoint} is in use by another driver",
        remedy="stop the other driver first; `cdc-sink status` says where it runs",
    )


def _process_start(pid: int) -> str | None:
    """When a process of this host was started, so that a reused pid is not taken for it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    # A killed process stays in the table until its parent asks for it, which some never do.
    return None if fields[0] in ("Z", "X") else fields[19]
