"""The MariaDB of the chain: a real 11.4.5 server, row binlog. It is started only when asked for.

It speaks MySQL's protocol, so clients find it as they find MySQL. What differs is how it is
installed, and that all changes of a transaction stand at one position of its log.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cdc_sink.demo.chain.hosting import cache
from cdc_sink.demo.chain.hosting.process import Launch, run_kept
from cdc_sink.demo.chain.servers.mysql import MySql, loads, places
from cdc_sink.errors import ConfigError

_TEMPLATE = "mariadb-11.4.5-data"
_SMALL = ("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M")
_LIBRARIES = {"libcrypt.so.1": "libcrypt1", "libsystemd.so.0": "libsystemd0"}  # Debian's packages
# Not in the binlog: the connector's schema history shall begin with the user's own tables.
_FIRST_STATEMENTS = """SET SESSION SQL_LOG_BIN=0;
CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{password}';
GRANT ALL PRIVILEGES ON *.* TO '{user}'@'%' WITH GRANT OPTION;
"""


@dataclass(frozen=True)
class MariaDb(MySql):
    """One server; the user may do everything, from this machine."""

    name: str = "mariadb"

    @property
    def endpoint(self) -> str:
        """Address as a URL, without a password."""
        return f"mariadb://{self.user}@{self.host}:{self.port}"

    def prepare(self) -> None:
        """Unpack the server once; a new work folder gets an empty data folder."""
        require_libraries()
        self.folder.mkdir(exist_ok=True)
        base = cache.mariadbd()
        if not self._data.exists():
            template = cache.keep(_TEMPLATE, lambda folder: _initialize(base, folder))
            cache.copy_folder(template, self._data)
        self._write_first_statements(_FIRST_STATEMENTS)

    def launch(self) -> Launch:
        """Small caches; safe against a kill, not against a power cut."""
        base = cache.mariadbd()
        command = (
            str(base / "bin" / "mariadbd"),
            "--no-defaults",
            *places(base, self._data),
            f"--port={self.port}",
            f"--bind-address={self.host}",
            "--socket=mariadb.sock",  # in the data folder: the kernel refuses long paths
            f"--init-file={self._first_statements}",
            # By number only: as `localhost`, our user would lose to the anonymous one of there.
            "--skip-name-resolve",
            "--skip-ssl",  # making a certificate takes 6 to 12 s at each start
            "--character-set-server=utf8mb4",
            "--server-id=7",
            "--log-bin=binlog",
            "--binlog-format=ROW",
            "--binlog-row-image=FULL",
            "--gtid-strict-mode=1",
            *_SMALL,
            "--innodb-flush-log-at-trx-commit=2",
            "--sync-binlog=0",
            "--max-connections=50",
        )
        # It waits for replicas that left; a kill is as safe and a restart mends it.
        return Launch(command, self.folder, stop_limit_s=4.0)


def require_libraries() -> None:
    """Raise ConfigError when a library that the server needs is not on this machine."""
    for library, package in _LIBRARIES.items():
        if not loads(library):
            raise ConfigError(
                "chain: mariadb",
                f"the library {library} is missing",
                data="nothing was started",
                remedy=f"run `apt-get install {package}` as root",
            )


def _initialize(base: Path, folder: Path) -> None:
    """Make the system tables: no entry for this machine's name, no test database."""
    script = str(base / "scripts" / "mariadb-install-db")
    options = ("--auth-root-authentication-method=normal", "--cross-bootstrap", "--skip-test-db")
    command = (script, "--no-defaults", *places(base, folder), *options, *_SMALL)
    run_kept("mariadb", Launch(command, folder.parent))
