"""What all tests share: where the repository is, and how Hypothesis looks for examples."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples each time, and no deadline: a busy machine is not an error. SUMGRAD_HYPOTHESIS=search looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None, database=None, print_blob=True)
settings.register_profile("search", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile(os.environ.get("SUMGRAD_HYPOTHESIS", "fixed"))

# Tests, and the servers that they start, neither use nor fill the user's cache of compiled code.
os.environ["SUMGRAD_CACHE"] = ""


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parents[1]
