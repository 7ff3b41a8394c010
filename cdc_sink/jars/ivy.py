"""Fetching files by Maven coordinates with the Ivy jar that pyspark brings along.

Ivy's own default repository is used, so no address stands here. A company's mirror is named in an
ivysettings.xml whose path is in CDC_SINK_IVY_SETTINGS. Nothing here trusts what arrives: checksums
are the business of jars.py.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from xml.sax.saxutils import quoteattr

from cdc_sink.errors import ConfigError, UnavailableError
from cdc_sink.jars.java import require_java

SETTINGS_VARIABLE = "CDC_SINK_IVY_SETTINGS"
LIMIT_S = 1800  # a cold fetch of everything is 350 MB; 40 s on a good line
_TALK_EVERY_S = 5.0
_WITHOUT_POMS = """<ivysettings><settings defaultResolver="central"/><resolvers>
<ibiblio name="central" m2compatible="true" usepoms="false"/></resolvers></ivysettings>"""
_PATTERN = "[conf]/[organisation]~[artifact]~[revision]~([classifier])~.[ext]"


@dataclass(frozen=True, order=True)
class Artifact:
    """One file in a Maven repository; printed as `organisation:name:revision[:classifier@ext]`."""

    organisation: str
    name: str
    revision: str
    classifier: str = ""
    extension: str = "jar"

    @classmethod
    def parse(cls, text: str) -> Artifact:
        """Read the printed form."""
        organisation, name, revision, *rest = text.split(":")
        classifier, _, extension = rest[0].partition("@") if rest else ("", "", "jar")
        return cls(organisation, name, revision, classifier, extension)

    def __str__(self) -> str:
        plain = f"{self.organisation}:{self.name}:{self.revision}"
        if not self.classifier and self.extension == "jar":
            return plain
        return f"{plain}:{self.classifier}@{self.extension}"

    @property
    def file_name(self) -> str:
        """The name the file has in a Maven repository."""
        suffix = f"-{self.classifier}" if self.classifier else ""
        return f"{self.name}-{self.revision}{suffix}.{self.extension}"


@dataclass(frozen=True)
class Request:
    """What one Ivy run is asked for: artifacts of one group, transitive: with what they need."""

    group: str
    artifacts: tuple[Artifact, ...]
    transitive: bool = False


def fetch(requests: Iterable[Request], folder: Path) -> dict[str, dict[Artifact, Path]]:
    """Download everything asked for below `folder` and say, per group, which file is which.

    Out:    only what arrived; the caller compares it with what it needs.
    Raises: UnavailableError when Ivy brings nothing; ConfigError without pyspark or Java.
    """
    asked = list(requests)
    folder.mkdir(parents=True, exist_ok=True)
    ivy_file = folder / "wanted.ivy.xml"
    ivy_file.write_text(render_ivy(asked), encoding="utf-8")
    settings: list[str] = []
    if own := os.environ.get(SETTINGS_VARIABLE):
        settings = ["-settings", own]
    elif not any(request.transitive for request in asked):
        flat = folder / "flat.ivysettings.xml"
        flat.write_text(_WITHOUT_POMS, encoding="utf-8")
        settings = ["-settings", str(flat)]
    command = [str(require_java()), "-jar", str(_ivy_jar()), *settings]
    # Without `bundle`, jars packaged for OSGi (snappy among them) are left out silently.
    command += ["-cache", str(folder / "cache"), "-ivy", str(ivy_file)]
    command += ["-types", "jar", "bundle", "tar.gz"]
    command += ["-retrieve", str(folder / "files" / _PATTERN), "-warn"]
    _run(command, folder)
    return {request.group: _read_folder(folder / "files" / request.group) for request in asked}


def render_ivy(requests: Iterable[Request]) -> str:
    """Write the requests as an Ivy file: one configuration per group, every revision kept."""
    asked = list(requests)
    groups = "".join(f"<conf name={quoteattr(request.group)}/>" for request in asked)
    lines = [_render(request, artifact) for request in asked for artifact in request.artifacts]
    return (
        '<ivy-module version="2.0" xmlns:m="http://ant.apache.org/ivy/maven">'
        '<info organisation="cdc-sink" module="wanted"/>'
        f"<configurations>{groups}</configurations>\n<dependencies>\n"
        + "\n".join(lines)
        + "\n</dependencies></ivy-module>\n"
    )


def _render(request: Request, artifact: Artifact) -> str:
    wanted = "default,runtime" if request.transitive else "default"
    transitive = str(request.transitive).lower()
    start = (
        f"<dependency org={quoteattr(artifact.organisation)} name={quoteattr(artifact.name)} "
        f"rev={quoteattr(artifact.revision)} transitive={quoteattr(transitive)} "
        f"conf={quoteattr(f'{request.group}->{wanted}')}"
    )
    if not artifact.classifier:
        return f"{start}/>"
    return (
        f"{start}><artifact name={quoteattr(artifact.name)} type={quoteattr(artifact.extension)} "
        f"ext={quoteattr(artifact.extension)} m:classifier={quoteattr(artifact.classifier)}/>"
        "</dependency>"
    )


def _read_folder(folder: Path) -> dict[Artifact, Path]:
    found = {}
    for path in sorted(folder.glob("*")):
        organisation, name, revision, classifier, extension = path.name.split("~")
        artifact = Artifact(organisation, name, revision, classifier, extension.lstrip("."))
        found[artifact] = path
    return found


def _run(command: list[str], folder: Path) -> None:
    log = folder / "ivy.log"
    started = time.monotonic()
    with log.open("wb") as out:
        ivy = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent()
        )
        try:
            _wait(ivy, folder, started)
        finally:
            ivy.kill()
            ivy.wait()
    if ivy.returncode != 0 and not (folder / "files").exists():
        last = [
            line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()
        ]
        raise UnavailableError(
            "fetching jars",
            f"Ivy brought no file (exit code {ivy.returncode}): {' | '.join(last[-3:])}",
            data="nothing was kept",
            remedy=f"check the network, or name your own repository in {SETTINGS_VARIABLE}",
        )


def _die_with_parent() -> Callable[[], object] | None:
    """On Linux, let the kernel end the download when this process is killed."""
    if not sys.platform.startswith("linux"):
        return None
    pr_set_pdeathsig = 1
    return partial(ctypes.CDLL(None).prctl, pr_set_pdeathsig, int(signal.SIGKILL), 0, 0, 0)


def _wait(ivy: subprocess.Popen[bytes], folder: Path, started: float) -> None:
    while True:
        try:
            ivy.wait(_TALK_EVERY_S)
            return
        except subprocess.TimeoutExpired:
            waited = time.monotonic() - started
            if waited > LIMIT_S:
                return
            size = sum(path.stat().st_size for path in (folder / "cache").rglob("*.jar*"))
            print(f"fetching jars: {waited:.0f} s, {size >> 20} MB so far", file=sys.stderr)


def _ivy_jar() -> Path:
    spec = importlib.util.find_spec("pyspark")
    places = spec.submodule_search_locations if spec else None
    found = [jar for place in places or () for jar in Path(place).glob("jars/ivy-*.jar")]
    if not found:
        raise ConfigError(
            "fetching jars",
            "pyspark, which brings the Ivy jar, is not installed",
            data="nothing was fetched",
            remedy="pip install 'cdc-sink[spark]'",
        )
    return found[0]
