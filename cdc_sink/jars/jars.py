"""The jars that cdc-sink runs with: every one named, with its SHA-256, in jars.lock.

Rules of this file:
  - a jar is used only after its checksum was seen to be right; a wrong one is deleted and named;
  - a jar checked once is not hashed again while its size and modification time stay the same;
  - jars lie by file name in the cache ($CDC_SINK_CACHE, else ~/.cache/cdc-sink), which may be
    deleted at any time; several processes may ask for them at once.
The lock is made by `python -m cdc_sink.jars.lock`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdc_sink.errors import ConfigError, UnavailableError
from cdc_sink.jars.ivy import SETTINGS_VARIABLE, Artifact, Request, fetch

LOCK_FILE = Path(__file__).with_name("jars.lock")
CACHE_VARIABLE = "CDC_SINK_CACHE"
CHAIN_GROUPS = (
    "kafka",
    "connect",
    "registry",
    "converter",
    "debezium-postgres",
    "debezium-mysql",
    "mysqld",
)
MARIADB_GROUPS = ("debezium-mariadb", "mariadbd")  # 176 MB: fetched only when asked for


@dataclass(frozen=True)
class LockedJar:
    """One line of the lock: a file, the group that needs it, its size and its checksum."""

    group: str
    artifact: Artifact
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class _Stamp:
    """What a checked file looked like; equal means not touched since."""

    sha256: str
    size_bytes: int
    modified_ns: int


def jars(*groups: str) -> list[Path]:
    """Return the files of the groups, fetched and checked, in the order of the lock.

    In:     a group of packages.py, `chain` (all of CHAIN_GROUPS), or one of CHAIN_GROUPS or MARIADB_GROUPS.
    Raises: ConfigError for an unknown group, a wrong checksum, or no Java or pyspark to fetch with;
            UnavailableError when a file can't be fetched.
    """
    return fetch_locked(read_lock(LOCK_FILE, *groups), cache_folder() / "jars")


def cache_folder() -> Path:
    """Return where fetched and unpacked files are kept between runs."""
    own = os.environ.get(CACHE_VARIABLE)
    return Path(own).expanduser().resolve() if own else Path.home() / ".cache" / "cdc-sink"


def read_lock(lock_file: Path, *groups: str) -> list[LockedJar]:
    """Read the lines of some groups (`chain`: of all its groups) out of a lock file."""
    lines = lock_file.read_text(encoding="utf-8").splitlines()
    locked = [_parse_line(line) for line in lines if line and not line.startswith("#")]
    known = {jar.group for jar in locked}
    wanted = {one for group in groups for one in (CHAIN_GROUPS if group == "chain" else (group,))}
    if unknown := ", ".join(sorted(wanted - known)):
        raise ConfigError(
            f"jar group {unknown}",
            f"the lock does not know it, expected {', '.join(sorted(known | {'chain'}))}",
            data="nothing was fetched",
            remedy="ask for a group of the lock",
        )
    return [jar for jar in locked if jar.group in wanted]


def render_lock(locked: Iterable[LockedJar]) -> str:
    """Write lock lines, the counterpart of read_lock."""
    lines = [f"{jar.group} {jar.artifact} {jar.size_bytes} {jar.sha256}" for jar in locked]
    head = "# group organisation:name:revision[:classifier@extension] bytes sha256\n"
    return head + "# Made by `python -m cdc_sink.jars.lock`.\n" + "\n".join(lines) + "\n"


def sha256_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_locked(locked: Iterable[LockedJar], folder: Path) -> list[Path]:
    """Bring every locked file into `folder`, checked; a second call only looks at their stamps."""
    wanted = {jar.artifact.file_name: jar for jar in locked}
    paths = [folder / name for name in wanted]
    if not _unchecked(wanted, folder):
        return paths
    with _only_one_process(folder):
        unchecked = _unchecked(wanted, folder)  # another process may have fetched them meanwhile
        present = {name: jar for name, jar in unchecked.items() if (folder / name).exists()}
        _check(present, folder)
        _download({name: unchecked[name] for name in unchecked.keys() - present.keys()}, folder)
    return paths


def _parse_line(line: str) -> LockedJar:
    group, artifact, size_bytes, sha256 = line.split()
    return LockedJar(group, Artifact.parse(artifact), int(size_bytes), sha256)


def _unchecked(wanted: dict[str, LockedJar], folder: Path) -> dict[str, LockedJar]:
    stamps = _read_stamps(folder)
    return {
        name: jar
        for name, jar in wanted.items()
        if not (folder / name).exists() or stamps.get(name) != _stamp(folder / name, jar.sha256)
    }


def _stamp(path: Path, sha256: str) -> _Stamp:
    stat = path.stat()
    return _Stamp(sha256, stat.st_size, stat.st_mtime_ns)


def _download(missing: dict[str, LockedJar], folder: Path) -> None:
    if not missing:
        return
    size = sum(jar.size_bytes for jar in missing.values())
    print(f"fetching {len(missing)} jars, {size >> 20} MB, into {folder}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder) as incoming:
        # One Ivy file can't hold two artifacts or revisions of a module in one group: a group each.
        asked = [
            Request(f"g{number}", (jar.artifact,))
            for number, jar in enumerate(missing.values(), start=1)
        ]
        arrived = fetch(asked, Path(incoming))
        files = {
            found.file_name: path for group in arrived.values() for found, path in group.items()
        }
        _require_all(missing, files)
        for name in missing:
            _require_sum(files[name], missing[name])
            files[name].replace(folder / name)
    _write_stamps(missing, folder)


def _require_all(missing: dict[str, LockedJar], files: dict[str, Path]) -> None:
    absent = [str(jar.artifact) for name, jar in missing.items() if name not in files]
    if absent:
        raise UnavailableError(
            "fetching jars",
            f"the repository did not give {', '.join(absent)}",
            data="nothing was kept",
            remedy=f"check the network, or name your own repository in {SETTINGS_VARIABLE}",
        )


def _check(present: dict[str, LockedJar], folder: Path) -> None:
    for name, jar in present.items():
        _require_sum(folder / name, jar)
    if present:
        _write_stamps(present, folder)


def _require_sum(path: Path, jar: LockedJar) -> None:
    seen = sha256_of(path)
    if seen != jar.sha256:
        path.unlink()
        raise ConfigError(
            jar.artifact.file_name,
            f"its SHA-256 is {seen}, expected {jar.sha256}",
            data="the file was deleted and not used",
            remedy="run again to fetch it anew; if it stays wrong, do not trust the repository",
        )


def _stamp_file(folder: Path) -> Path:
    return folder / "checked.json"


def _read_stamps(folder: Path) -> dict[str, _Stamp]:
    try:
        kept = json.loads(_stamp_file(folder).read_text(encoding="utf-8"))
        return {name: _Stamp(*values) for name, values in kept.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}  # no stamps: everything is hashed again, nothing is trusted


def _write_stamps(checked: dict[str, LockedJar], folder: Path) -> None:
    stamps = _read_stamps(folder)
    stamps |= {name: _stamp(folder / name, jar.sha256) for name, jar in checked.items()}
    kept = {
        name: [stamp.sha256, stamp.size_bytes, stamp.modified_ns] for name, stamp in stamps.items()
    }
    new = _stamp_file(folder).with_suffix(".new")
    new.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    new.replace(_stamp_file(folder))


@contextmanager
def _only_one_process(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".one-process").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
