"""What the chain knows about each of its servers, and what the Java ones share."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from cdc_sink.demo.chain.hosting.process import Launch
from cdc_sink.jars.java import require_java

# Start quickly and stay small: one collector thread, the first compiler only.
_LEAN = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto")
_TO_STDERR = (
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
)


class Service(Protocol):
    """One server of the chain."""

    @property
    def name(self) -> str:
        """The name under which it is asked for, killed and restarted."""

    @property
    def endpoint(self) -> str:
        """Where a client finds it."""

    def prepare(self) -> None:
        """Make everything on disk that the server needs; fast when it was made before."""

    def launch(self) -> Launch:
        """Say how it is started."""

    def is_ready(self) -> bool:
        """True when clients can work with it; called until it is."""


def java_launch(
    folder: Path,
    jars: Iterable[Path],
    main: str,
    *args: str,
    heap_mb: int,
    flags: Iterable[str] = (),
) -> Launch:
    """Say how a lean JVM is started; the jars go into its environment, to keep `ps` readable."""
    classpath = ":".join(str(jar) for jar in jars)
    sizes = (f"-Xmx{heap_mb}m", "-Xms64m", "-XX:MaxMetaspaceSize=256m")
    options = (*sizes, *_LEAN, *_TO_STDERR, *flags)
    command = (str(require_java()), *options, main, *args)
    return Launch(command, folder, environment={"CLASSPATH": classpath})


def answers(url: str, *, put: bytes | None = None) -> bool:
    """True when a GET (or a PUT of JSON) at the address answers with success."""
    request = urllib.request.Request(url, data=put, method="GET" if put is None else "PUT")
    request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
    try:
        with opener.open(request, timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def render_properties(properties: dict[str, str]) -> str:
    """Write a Java properties file; no value here needs escaping."""
    return "".join(f"{key}={value}\n" for key, value in properties.items())
