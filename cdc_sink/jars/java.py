"""Which Java runs Spark and the embedded chain: JAVA_HOME first, then PATH, from 17 to 23."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from cdc_sink.errors import ConfigError

OLDEST_JAVA = 17  # Spark 4 and Kafka 4 refuse anything older
# Hadoop 3.4 asks for Java's security manager, which 24 has no more (JEP 486): Spark 4.1 does not start.
NEWEST_JAVA = 23
_INSTALL = (
    "install a JDK 17 or 21 (Debian and Ubuntu: `apt-get install openjdk-17-jre-headless`) "
    "or point JAVA_HOME to one"
)


def require_java() -> Path:
    """Return the `java` to start, of version 17 to 23.

    Raises: ConfigError when there is none, when JAVA_HOME holds none, or when it is too old or too new.
    """
    java = _find_java()
    version = parse_java_version(_read_version_text(java))
    if version is None or version < OLDEST_JAVA:
        saw = f"its version is {version or 'unreadable'}, expected {OLDEST_JAVA} or newer"
        raise ConfigError(str(java), saw, data="nothing was started", remedy=_INSTALL)
    if version > NEWEST_JAVA:
        saw = f"its version is {version}, and Spark 4.1 runs on none above {NEWEST_JAVA}"
        raise ConfigError(str(java), saw, data="nothing was started", remedy=_INSTALL)
    return java


def parse_java_version(text: str) -> int | None:
    """Read the major version out of what `java -version` prints; None when it holds none."""
    found = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if found is None:
        return None
    major, minor = int(found[1]), int(found[2] or 0)
    return minor if major == 1 else major  # "1.8.0_392" is Java 8


def _find_java() -> Path:
    home = os.environ.get("JAVA_HOME")
    if home:
        java = Path(home) / "bin" / "java"
        if not os.access(java, os.X_OK):
            saw = f"there is no program {java}"
            raise ConfigError("JAVA_HOME", saw, data="nothing was started", remedy=_INSTALL)
        return java
    on_path = shutil.which("java")
    if on_path is None:
        saw = "JAVA_HOME is not set and there is no `java` on PATH"
        raise ConfigError("Java", saw, data="nothing was started", remedy=_INSTALL)
    return Path(on_path)


def _read_version_text(java: Path) -> str:
    try:
        asked = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as cause:
        saw = "it does not answer `-version`"
        raise ConfigError(str(java), saw, data="nothing was started", remedy=_INSTALL) from cause
    return asked.stderr + asked.stdout
