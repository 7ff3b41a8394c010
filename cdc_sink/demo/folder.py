"""The demo's folder: whose it is, what lies where in it, and the files a user goes on with.

The rule this file owns: a folder is emptied only when an earlier demo made it and nothing uses it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import IO

from cdc_sink.config import Pipeline, load_config
from cdc_sink.demo.chain.hosting.service import render_properties
from cdc_sink.demo.chain.hosting.workdir import is_in_use, lock_workdir
from cdc_sink.errors import ConfigError

TEMPLATE = Path(__file__).with_name("demo.yaml")
_MARK = ".made-by-cdc-sink-demo"
_LOCK = ".in-use"


@dataclass(frozen=True)
class DemoFolder:
    """Where the parts of a demo lie; `path` is absolute."""

    path: Path

    @property
    def config(self) -> Path:
        """The pipeline's configuration."""
        return self.path / "demo.yaml"

    @property
    def chain(self) -> Path:
        """The work folder of the chain."""
        return self.path / "chain"

    @property
    def warehouse(self) -> Path:
        """The Iceberg tables."""
        return self.path / "warehouse"

    @property
    def catalog(self) -> Path:
        """The Iceberg catalog, one SQLite file."""
        return self.path / "catalog.db"

    @property
    def checkpoints(self) -> Path:
        """What Spark and the pipeline remember beside the tables."""
        return self.path / "checkpoints"

    @property
    def spark_properties(self) -> Path:
        """Properties for spark-sql, spark-submit and pyspark."""
        return self.path / "spark.properties"

    @property
    def pipeline_log(self) -> Path:
        """What `cdc-sink run` says."""
        return self.path / "logs" / "pipeline.log"

    @property
    def spark_log(self) -> Path:
        """Spark's own log."""
        return self.path / "logs" / "spark.log"

    def take(self) -> IO[str]:
        """Empty the folder; it is ours until the returned file is closed, here and in every keeper.

        Raises: ConfigError when it holds somebody else's files, or something still runs in it.
        """
        if self.path.exists() and any(self.path.iterdir()) and not (self.path / _MARK).exists():
            raise _refusal(
                self.path,
                "the folder is not empty, and no demo made it",
                "name another one with --folder",
            )
        if is_in_use(self.chain):
            raise _refusal(
                self.path,
                "its chain is running",
                f"stop it with `cdc-sink chain down --workdir {self.chain}`",
            )
        lock = lock_workdir(self.path)
        self._empty()
        self.pipeline_log.parent.mkdir()
        return lock

    def _empty(self) -> None:
        (self.path / _MARK).touch()  # first: killed while emptying, it is still ours
        for child in self.path.iterdir():
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            elif child.name not in (_LOCK, _MARK):
                child.unlink()

    def write_config(self, values: Mapping[str, object], passwords: Mapping[str, str]) -> Pipeline:
        """Write the pipeline's YAML and its secrets' files, and read it back as any pipeline."""
        secrets = self.path / "secrets"
        secrets.mkdir(mode=0o700)
        for name, password in passwords.items():
            (secrets / name).write_text(password, encoding="utf-8")
        template = Template(TEMPLATE.read_text(encoding="utf-8"))
        text = template.substitute(values, folder=self.path)
        self.config.write_text(text, encoding="utf-8")
        return load_config(self.config)

    def write_spark_properties(self, properties: Mapping[str, str]) -> None:
        """Write what a Spark shell needs to query the tables."""
        self.spark_properties.write_text(render_properties(dict(properties)), encoding="utf-8")


def shown(path: Path) -> str:
    """A path as one would type it here: relative below the working folder."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _refusal(path: Path, saw: str, remedy: str) -> ConfigError:
    return ConfigError(f"demo: {path}", saw, data="nothing was started", remedy=remedy)
