"""Digits, trained by three members: as well as by scikit-learn, in the same number of steps, and with the same weights."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def digits(repository: Path) -> ModuleType:
    """examples/digits.py, as a module."""
    spec = importlib.util.spec_from_file_location("sumgrad_examples_digits", repository / "examples" / "digits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_three_members_learn_what_scikit_learn_learns(digits: ModuleType, tmp_path: Path) -> None:
    """Weights, losses and test scores are those of MLPClassifier after the same steps; both tell 97% of the images right; the curves are drawn."""
    train, test = digits.images()
    assert (len(train["x"]), len(test["x"])) == (1400, 397)
    ours, theirs = digits.learn_together(train, test), digits.learn_by_scikit(train, test)
    assert len(ours[1]) == len(theirs[1]) == digits.STEPS == 210
    for name, weights in theirs[0].items():
        assert np.allclose(ours[0][name], weights, rtol=1e-9, atol=1e-12), name
    assert np.allclose(ours[1], theirs[1], rtol=1e-9)
    assert ours[2] == theirs[2]
    assert min(ours[2][-1], theirs[2][-1]) >= 0.97
    digits.draw(str(tmp_path / "curves.png"), ours, theirs)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
