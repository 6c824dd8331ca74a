"""A real server on this machine, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sumgrad as sg


@pytest.fixture(scope="module")
def service() -> Iterator[sg.Service]:
    """A connection to a server with two workers."""
    with sg.local(workers=2, timeout=120.0) as connected:
        yield connected
