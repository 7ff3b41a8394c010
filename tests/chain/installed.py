"""The package as its users have it: a wheel in an environment of its own, beside the locked requirements."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pyspark

REPOSITORY = Path(__file__).parents[2]
SITE = Path(sysconfig.get_path("purelib"))


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def program(self) -> Path:
        return self.folder / "bin" / "cdc-sink"


def install(folder: Path) -> Installed:
    """Build the wheel and install it; everything that it needs is that of the tests."""
    _run(
        sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=REPOSITORY
    )
    (wheel,) = folder.glob("*.whl")
    env = Installed(folder / "env")
    _run(sys.executable, "-m", "venv", "--without-pip", str(env.folder))
    pip = (sys.executable, "-m", "pip", "--python", str(env.python), "--disable-pip-version-check")
    _run(*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    (own,) = env.folder.glob("lib/python*/site-packages")
    (own / "tests.pth").write_text(f"{SITE}\n")
    return env


def spark_home(folder: Path) -> dict[str, str]:
    """Variables of a Spark distribution: programs and jars lie in it, and not beside the Python files."""
    wheel, home = Path(pyspark.__file__).parent, folder / "spark"
    (home / "python").mkdir(parents=True)
    for name in ("bin", "jars"):
        (home / name).symlink_to(wheel / name)
    (home / "python" / "lib").symlink_to(wheel / "python" / "lib")
    zips = sorted((home / "python" / "lib").glob("*.zip"))
    return {"SPARK_HOME": str(home), "PYTHONPATH": ":".join(map(str, zips))}


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
