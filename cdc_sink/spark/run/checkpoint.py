"""What lies beside a Spark checkpoint: whose it is, and how far it says it has come.

All files are small texts reached through Hadoop's file systems, so a checkpoint may be on any of them.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from cdc_sink.config import Target
from cdc_sink.errors import StateError
from cdc_sink.table.ledger.ledger import Ledger
from cdc_sink.table.ledger.offsets import Offsets, ahead_of, gap_error, parse_offsets
from cdc_sink.table.ledger.one_table import GONE_REMEDY, OneTable
from cdc_sink.table.ledger.stream_identity import StreamIdentity

# How Java and HDFS, HDFS while another writes it, and S3 say that a file is there already.
IS_THERE = ("FileAlreadyExists", "AlreadyBeingCreated", "RemoteFileChanged")
# What a checkpoint's identity file has of the stream: pipeline and generation stand in its path.
_KEPT = ("cluster_id", "topic", "topic_id", "query_id")


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
        try:
            return self._text(path) if fs.exists(path) else None
        except Py4JJavaError as failed:
            if _is_gone(failed):
                return None
            raise

    def _text(self, path: Any) -> str:
        context = self._context(path)
        context.setVerifyChecksum(False, path)
        stream = context.open(path)
        try:
            return str(self._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()

    def write(self, uri: str, text: str) -> None:
        """Replace the file; where the file system can rename, a reader sees the old text or the new one.

        Hadoop renames a local file by deleting the old one first. In between another driver would see no
        lease, and take it. So Java renames a local one.
        """
        hadoop = self._jvm.org.apache.hadoop.fs
        fresh = hadoop.Path(f"{uri}.{uuid.uuid4().hex}.tmp")
        path, fs = self._open(uri)
        is_done = False
        try:
            if self._is_local(fs):
                self._make_folder(path, fs)
                self._replace_local(fresh, path, text)
            else:
                self._fill(fs.create(fresh, True), text)
                options = self._array(hadoop.Options.Rename, hadoop.Options.Rename.OVERWRITE)
                self._context(path).rename(fresh, path, options)
            is_done = True
        finally:
            if not is_done:  # on a full disk each attempt would leave one
                fs.delete(fresh, False)

    def create(self, uri: str, text: str) -> bool:
        """Make a file that must not exist yet; False where it does: of two at one moment, one makes it.

        Hadoop's local file system looks first and makes it then, so Java makes a local one. HDFS decides it
        when the file is opened, S3 when it is closed (Hadoop 3.4.2 and newer; before, both may think so).
        """
        path, fs = self._open(uri)
        is_local = self._is_local(fs)
        if is_local:
            self._make_folder(path, fs)
        try:
            if is_local:
                self._create_local(path, text)
            else:
                builder = fs.createFile(path).overwrite(False).recursive()
                builder = builder.opt("fs.option.create.conditional.overwrite", "true")
                self._fill(builder.build(), text)
        except Py4JJavaError as failed:
            if any(sign in str(failed.java_exception.toString()) for sign in IS_THERE):
                return False
            raise
        return True

    def remove(self, uri: str) -> None:
        """Remove a file; nothing happens when it is missing."""
        path, fs = self._open(uri)
        fs.delete(path, False)

    def modified_ms(self, uri: str) -> int | None:
        """When a file was written, by its file system's clock; None when it is missing."""
        path, fs = self._open(uri)
        try:
            return int(fs.getFileStatus(path).getModificationTime()) if fs.exists(path) else None
        except Py4JJavaError as failed:
            if _is_gone(failed):
                return None
            raise

    def _make_folder(self, path: Any, fs: Any) -> None:
        # Hadoop would not say why it can't; Java before 20 stumbles over a link to a folder that is there.
        if not fs.exists(path.getParent()):
            nio = self._jvm.java.nio.file
            none = self._array(nio.attribute.FileAttribute)
            nio.Files.createDirectories(self._local(path.getParent()), none)

    def _is_local(self, fs: Any) -> bool:
        return str(fs.getUri().getScheme()) == "file"

    def _replace_local(self, fresh: Any, path: Any, text: str) -> None:
        nio, place = self._jvm.java.nio.file, self._local(path)
        nio.Files.write(self._local(fresh), bytearray(text.encode()), self._array(nio.OpenOption))
        # The checksum that Hadoop, or an earlier build, left is of the old text.
        nio.Files.deleteIfExists(place.resolveSibling(f".{path.getName()}.crc"))
        moves = nio.StandardCopyOption
        options = self._array(nio.CopyOption, moves.ATOMIC_MOVE, moves.REPLACE_EXISTING)
        nio.Files.move(self._local(fresh), place, options)

    def _create_local(self, path: Any, text: str) -> None:
        nio, place = self._jvm.java.nio.file, self._local(path)
        nio.Files.createFile(place, self._array(nio.attribute.FileAttribute))
        try:
            nio.Files.write(place, bytearray(text.encode()), self._array(nio.OpenOption))
        except Py4JJavaError:  # on a full disk an empty one is left
            nio.Files.delete(place)
            raise

    def _local(self, path: Any) -> Any:
        return self._jvm.java.io.File(path.toUri().getPath()).toPath()

    def _fill(self, stream: Any, text: str) -> None:
        try:
            stream.write(bytearray(text.encode()))
        finally:
            stream.close()

    def _array(self, kind: Any, *values: Any) -> Any:
        gateway: Any = self.spark.sparkContext._gateway
        made = gateway.new_array(kind, len(values))
        for number, value in enumerate(values):
            made[number] = value
        return made

    def move(self, uri: str, to: str) -> None:
        """Rename a file or a folder; nothing happens when it is missing."""
        path, fs = self._open(uri)
        if fs.exists(path):
            hadoop = self._jvm.org.apache.hadoop.fs
            none = self._array(hadoop.Options.Rename)
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


def _is_gone(failed: Py4JJavaError) -> bool:
    """Another driver removed the file between two questions."""
    return "FileNotFound" in str(failed.java_exception.toString())


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


def require_not_ahead(resumed: Offsets, ledger: Ledger, target: Target) -> None:
    """Refuse a checkpoint that says more was applied than the table's ledger does.

    Raises: StateError; so it is after a rollback of the table.
    """
    ahead = ahead_of(resumed, ledger.next_offsets)
    if ahead:
        raise gap_error(ahead, ledger.next_offsets, target.name, "the checkpoint goes on")


def read_identity(files: Files, target: Target) -> dict[str, Any] | None:
    """What an earlier start kept beside the checkpoint, by name; None when there was none."""
    text = files.read(target.identity_file)
    return None if text is None else dict(json.loads(text))


def check_identity(
    files: Files, target: Target, stream: StreamIdentity, table_uuid: str | None
) -> OneTable:
    """Compare with what an earlier start kept, then bring that up to date.

    Out:    the one table that the query writes.
    Raises: StateError when another stream, or another table, is kept there.
    """
    holder, kept = f"the checkpoint {target.checkpoint}", read_identity(files, target)
    if kept is not None:
        stream.require_same(kept, target.name, holder)
    was = None if kept is None else kept.get("table_uuid")
    if was is not None and was != table_uuid:
        raise StateError(
            target.name,
            f"{holder} belongs to a table with the uuid {was!r}, this start sees {table_uuid!r}",
            remedy=f"the table was dropped or replaced: {GONE_REMEDY}",
        )
    now = {name: asdict(stream)[name] for name in _KEPT} | {"table_uuid": table_uuid}

    def keep(uuid: str | None) -> None:
        files.write(target.identity_file, json.dumps(now | {"table_uuid": uuid}, indent=1))

    if now != kept:
        keep(table_uuid)
    return OneTable(target.name, table_uuid, keep)


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
    is_ahead = bool(ahead_of(resumed, ledger.next_offsets if ledger else {}))
    is_other = kept is not None and (
        own_id is None
        or kept["query_id"] != json.loads(own_id)["id"]
        or kept.get("table_uuid") not in (None, uuid)
    )
    if not is_ahead and not is_other:
        return False
    set_aside(files, target, now_ms)
    return True


def set_aside(files: Files, target: Target, now_ms: int) -> None:
    """Move a checkpoint and its identity to names of their own beside them; once more changes nothing."""
    for place in (target.checkpoint, target.identity_file):
        files.move(place, f"{place}.aside-{now_ms}")
