"""The MySQL of the chain: a real 8.0.15 server, row binlog, GTIDs.

Every work folder gets its own server uuid (auto.cnf is not part of the copied first data folder),
because a change of it is how a reset source is recognised.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from cdc_sink.demo.chain.hosting import cache
from cdc_sink.demo.chain.hosting.ports import HOST, is_listening
from cdc_sink.demo.chain.hosting.process import Launch, run_kept
from cdc_sink.errors import ConfigError

_TEMPLATE = "mysql-8.0.15-data"
_REMEDY = "run `sh .ci/install_system_parts.sh`, or `apt-get install libaio1` as root"
# Not in the binlog: the connector's schema history shall begin with the user's own tables.
_FIRST_STATEMENTS = """SET SESSION SQL_LOG_BIN=0;
CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED WITH mysql_native_password BY '{password}';
GRANT ALL PRIVILEGES ON *.* TO '{user}'@'%' WITH GRANT OPTION;
"""


@dataclass(frozen=True)
class MySql:
    """One server; the user may do everything, from this machine."""

    folder: Path
    port: int
    user: str = "cdc"
    password: str = "cdc"
    host: str = HOST
    name: str = "mysql"

    @property
    def endpoint(self) -> str:
        """Address as a URL, without a password."""
        return f"mysql://{self.user}@{self.host}:{self.port}"

    def connect(self, dbname: str | None = None) -> Connection[Cursor]:
        """Open a connection in UTC that commits each statement."""
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            database=dbname,
            autocommit=True,
            connect_timeout=5,
            init_command="SET time_zone = '+00:00'",
        )

    def create_database(self, dbname: str) -> None:
        """Create the database unless it is there already."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{dbname}`")

    def prepare(self) -> None:
        """Unpack the server once; a new work folder gets an empty data folder."""
        library_environment()
        self.folder.mkdir(exist_ok=True)
        base = cache.mysqld()
        if not self._data.exists():
            template = cache.keep(_TEMPLATE, lambda folder: _initialize(base, folder))
            cache.copy_folder(template, self._data)
        # Left by a kill; a new process may have the id in it. Nobody else uses the work folder.
        (self._data / "mysql.sock.lock").unlink(missing_ok=True)
        self._write_first_statements(_FIRST_STATEMENTS)

    def launch(self) -> Launch:
        """Small caches; safe against a kill, not against a power cut."""
        base = cache.mysqld()
        options = (
            f"--port={self.port}",
            f"--bind-address={self.host}",
            "--socket=mysql.sock",  # in the data folder: the kernel refuses long paths
            f"--init-file={self._first_statements}",
            "--mysqlx=OFF",
            "--server-id=1",
            "--log-bin=binlog",
            "--binlog-format=ROW",
            "--binlog-row-image=FULL",
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--default-authentication-plugin=mysql_native_password",
            "--secure-file-priv=NULL",
            "--performance-schema=OFF",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=2",
            "--sync-binlog=0",
            "--max-connections=50",
        )
        command = (*_command(base, self._data), *options)
        # It waits up to 10 s for replicas that left; a kill is as safe and a restart mends it.
        return Launch(command, self.folder, environment=library_environment(), stop_limit_s=4.0)

    def is_ready(self) -> bool:
        """True when the user can log in."""
        if not is_listening(self.port):
            return False
        try:
            self.connect().close()
        except pymysql.Error:
            return False
        return True

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _first_statements(self) -> Path:
        return self.folder / "first.sql"

    def _write_first_statements(self, statements: str) -> None:
        text = statements.format(user=self.user, password=self.password)
        self._first_statements.write_text(text)


def library_environment() -> dict[str, str]:
    """Return what mysqld needs in its environment to find libaio.so.1.

    Raises: ConfigError when the library is not on this machine.
    """
    if loads("libaio.so.1"):
        return {}
    if not loads("libaio.so.1t64"):  # the name since Debian 13 and Ubuntu 24.04; same on 64 bit
        raise ConfigError(
            "chain: mysql",
            "the library libaio.so.1 is missing",
            data="nothing was started",
            remedy=_REMEDY,
        )
    folder = cache.keep("libaio", _link_renamed_libaio)
    return {"LD_LIBRARY_PATH": f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")}


def _link_renamed_libaio(folder: Path) -> None:
    mapped = Path("/proc/self/maps").read_text().split()  # `loads` mapped it
    library = next(word for word in mapped if "/libaio.so.1t64" in word)
    (folder / "libaio.so.1").symlink_to(library)


def loads(library: str) -> bool:
    """True when a program could load the library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def places(base: Path, data: Path) -> tuple[str, ...]:
    """Say where programs and data lie; started by root, the server has to be told to stay root."""
    as_root = ("--user=root",) if os.geteuid() == 0 else ()
    return (f"--basedir={base}", f"--datadir={data}", *as_root)


def _command(base: Path, data: Path) -> tuple[str, ...]:
    messages = f"--lc-messages-dir={base / 'share'}"
    return (str(base / "bin" / "mysqld"), "--no-defaults", *places(base, data), messages)


def _initialize(base: Path, folder: Path) -> None:
    command = (*_command(base, folder), "--initialize-insecure", "--innodb-buffer-pool-size=64M")
    run_kept("mysql", Launch(command, folder.parent, environment=library_environment()))
    (folder / "auto.cnf").unlink()
