"""`cdc-sink init`: the files that a new pipeline begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdc_sink.errors import ConfigError

# In the wheel the files lie inside the package, in a clone beside it.
_INSIDE = Path(__file__).parents[2] / "examples"
_BESIDE = Path(__file__).parents[3]
FILES = {
    "pipeline.yaml": "conf/production.example.yaml",
    "connectors/postgresql.json": "conf/connectors/postgresql.json",
    "connectors/mysql.json": "conf/connectors/mysql.json",
    "connectors/mariadb.json": "conf/connectors/mariadb.json",
    "jobs/stream.py": "jobs/stream.py",
    "jobs/backfill.py": "jobs/backfill.py",
}


def command(
    folder: Annotated[Path, typer.Argument(help="Where to write; it is made.")] = Path("."),
) -> None:
    """Write an example configuration, connector settings and the jobs for spark-submit.

    Nothing is written where one of the files is there already. Exit code: 0 fine, 2 a file is there.
    """
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise ConfigError(
            str(folder),
            f"these files are there already: {', '.join(there)}",
            data="nothing was written",
            remedy="name another folder: `cdc-sink init FOLDER`",
        )
    home = _INSIDE if _INSIDE.is_dir() else _BESIDE
    for name, kept in FILES.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((home / kept).read_text(encoding="utf-8"), encoding="utf-8")
        except OSError as cause:
            raise ConfigError(
                str(path),
                "the file can't be written",
                data="files before it in the list were written",
                remedy="give this user the right to write there, or name another folder",
            ) from cause
        typer.echo(path)
