"""One local Spark session for all tests of a run, and tables in a SQLite catalog beside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from lake import Lake


def pytest_configure(config: pytest.Config) -> None:
    """Py4J drops its sockets to the JVM unclosed; the collector says so at any later moment."""
    config.addinivalue_line("filterwarnings", "ignore:unclosed <socket:ResourceWarning")
    config.addinivalue_line(
        "filterwarnings",
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
    )


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    opened = Lake.open(tmp_path_factory.mktemp("lake"))
    yield opened
    opened.close()


_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A table name that no other test uses."""
    return f"t{next(_numbers)}"
