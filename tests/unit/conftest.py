"""What all unit tests share: the double of an HTTP server, and a rule for property tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from http_double import HttpDouble, running_double
from hypothesis import settings

# A machine under load is not a failure.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")


@pytest.fixture(scope="session")
def running() -> Iterator[HttpDouble]:
    with running_double() as double:
        yield double


@pytest.fixture
def double(running: HttpDouble) -> HttpDouble:
    """A server on 127.0.0.1 that answers as the test says, and has forgotten the test before."""
    running.forget()
    return running
