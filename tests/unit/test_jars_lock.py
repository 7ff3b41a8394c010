"""Only jars whose checksum was seen to be right are used, and the lock is complete and neutral."""

from __future__ import annotations

import hashlib
import os
import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.demo.chain.services import CHAIN, EVERYTHING, jar_groups
from cdc_sink.errors import ConfigError
from cdc_sink.jars.ivy import Artifact, Request, render_ivy
from cdc_sink.jars.jars import (
    CHAIN_GROUPS,
    LOCK_FILE,
    MARIADB_GROUPS,
    LockedJar,
    fetch_locked,
    read_lock,
    render_lock,
)
from cdc_sink.jars.java import parse_java_version, require_java

ALL_GROUPS = ("spark", "aws", "postgresql", *CHAIN_GROUPS, *MARIADB_GROUPS)


def locked(content: bytes) -> LockedJar:
    checksum = hashlib.sha256(content).hexdigest()
    return LockedJar("spark", Artifact("org.example", "thing", "1.0"), len(content), checksum)


@pytest.fixture
def jar_file(tmp_path: Path) -> Path:
    path = tmp_path / "thing-1.0.jar"
    path.write_bytes(b"right")
    return path


def test_a_jar_with_its_checksum_is_used(jar_file: Path) -> None:
    assert fetch_locked([locked(b"right")], jar_file.parent) == [jar_file]


def test_a_jar_with_a_wrong_checksum_is_named_and_deleted(jar_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"^thing-1\.0\.jar: its SHA-256 is .*, expected "):
        fetch_locked([locked(b"other")], jar_file.parent)
    assert not jar_file.exists()


def test_a_jar_that_changed_after_its_check_is_checked_again(jar_file: Path) -> None:
    fetch_locked([locked(b"right")], jar_file.parent)
    jar_file.write_bytes(b"wrong")
    os.utime(jar_file, ns=(1, 1))
    with pytest.raises(ConfigError, match="SHA-256"):
        fetch_locked([locked(b"right")], jar_file.parent)


def test_a_checked_jar_is_not_read_again(jar_file: Path) -> None:
    fetch_locked([locked(b"right")], jar_file.parent)
    times = jar_file.stat()
    jar_file.write_bytes(b"wrong")  # nobody looks: size and time are those of the check
    os.utime(jar_file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fetch_locked([locked(b"right")], jar_file.parent) == [jar_file]


def test_a_check_against_another_checksum_does_not_count(jar_file: Path) -> None:
    fetch_locked([locked(b"right")], jar_file.parent)
    with pytest.raises(ConfigError, match="SHA-256"):
        fetch_locked([locked(b"newer")], jar_file.parent)


@pytest.mark.parametrize("text", ["", "[]", '{"thing-1.0.jar": 3}', '{"thing-1.0.jar": [1]}', "{"])
def test_unreadable_stamps_lead_to_a_new_check(jar_file: Path, text: str) -> None:
    (jar_file.parent / "checked.json").write_text(text)
    assert fetch_locked([locked(b"right")], jar_file.parent) == [jar_file]


def test_every_group_is_locked_with_checksums() -> None:
    lines = read_lock(LOCK_FILE, *ALL_GROUPS)
    assert {line.group for line in lines} == set(ALL_GROUPS)
    assert all(re.fullmatch("[0-9a-f]{64}", line.sha256) for line in lines)
    assert all(line.size_bytes > 0 for line in lines)


def test_the_lock_names_no_repository() -> None:
    assert "//" not in LOCK_FILE.read_text()


def test_files_of_one_name_are_one_file() -> None:
    sums: dict[str, set[str]] = {}
    for line in read_lock(LOCK_FILE, *ALL_GROUPS):
        sums.setdefault(line.artifact.file_name, set()).add(line.sha256)
    assert {name: found for name, found in sums.items() if len(found) > 1} == {}


def test_the_aws_bundle_is_fetched_only_when_asked_for() -> None:
    assert "aws" not in {line.group for line in read_lock(LOCK_FILE, "spark", "chain")}


def test_mariadb_is_fetched_only_when_asked_for() -> None:
    groups = {line.group for line in read_lock(LOCK_FILE, "spark", "chain")}
    assert groups.isdisjoint(MARIADB_GROUPS)
    assert not groups.isdisjoint(jar_groups(CHAIN))
    assert set(jar_groups(CHAIN)).isdisjoint(MARIADB_GROUPS)
    assert set(jar_groups(EVERYTHING)).issuperset(MARIADB_GROUPS)


def test_an_unknown_group_is_a_config_error_that_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"sparc.*expected aws, chain, .*spark"):
        read_lock(LOCK_FILE, "sparc")


def test_the_lock_reads_back_as_it_was_written(tmp_path: Path) -> None:
    lines = read_lock(LOCK_FILE, "registry", "kafka")
    copy = tmp_path / "jars.lock"
    copy.write_text(render_lock(lines))
    assert read_lock(copy, "registry", "kafka") == lines


words = st.text(string.ascii_letters + string.digits + "-_.", min_size=1)


@given(st.builds(Artifact, words, words, words, words, st.sampled_from(["jar", "tar.gz"])))
def test_coordinates_read_back_as_they_were_printed(artifact: Artifact) -> None:
    assert Artifact.parse(str(artifact)) == artifact


def test_ivy_is_asked_for_a_classified_file_by_its_classifier() -> None:
    request = Request("g", (Artifact("o", "n", "1", "all", "tar.gz"),))
    assert '<artifact name="n" type="tar.gz" ext="tar.gz" m:classifier="all"/>' in render_ivy(
        [request]
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ('Picked up JAVA_TOOL_OPTIONS: -Dx=1\nopenjdk version "25-ea" 2025-09-16', 25),
        ("command not found", None),
    ],
)
def test_java_versions_are_read(text: str, version: int | None) -> None:
    assert parse_java_version(text) == version


def fake_java(folder: Path, version: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return java


def test_java_home_comes_before_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = fake_java(tmp_path, "21.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert require_java() == java


def test_an_old_java_is_a_config_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="its version is 11, expected 17 or newer"):
        require_java()


def test_a_missing_java_is_a_config_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"there is no `java` on PATH; .*install a JDK 17"):
        require_java()
