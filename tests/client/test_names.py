"""What `import sumgrad as sg` gives."""

from __future__ import annotations

import pytest
import sumgrad as sg
from sumgrad.datasets import make_moons
from sumgrad.demo.nist import agreeing_digits, misra1a, read


def test_every_public_name_exists() -> None:
    """Each name in __all__ resolves, and none is there twice."""
    assert [name for name in sg.__all__ if not hasattr(sg, name)] == []
    assert len(sg.__all__) == len(set(sg.__all__))
    assert set(sg.__all__) <= set(dir(sg))


def test_other_names_do_not() -> None:
    """A name that is not there is an AttributeError."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sg.nothing  # noqa: B018 - the access is what is tested


def test_moons_are_those_of_scikit_learn() -> None:
    """The first points of make_moons(100, noise=0.1, random_state=1337), as scikit-learn 1.9.1 gives them, and their labels."""
    points, labels = make_moons(100, noise=0.1, seed=1337)
    assert points[0].tolist() == pytest.approx([1.1221146075409685, 0.08147717341718697], rel=1e-14)
    assert points[3].tolist() == pytest.approx([-0.9230091836872232, 0.3652288989804421], rel=1e-14)
    assert labels[:4].tolist() == [0, 0, 1, 0]
    assert labels.sum() == 50


def test_misra1a_is_read() -> None:
    """The shipped file's starts, certified values and data."""
    known = misra1a()
    assert known.starts == ({"b1": 500.0, "b2": 0.0001}, {"b1": 250.0, "b2": 0.0005})
    assert known.parameters == {"b1": 238.94212918, "b2": 5.5015643181e-04}
    assert known.residual_sum_of_squares == 0.12455138894
    assert known.columns["y"][:2].tolist() == [10.07, 14.73]
    assert known.columns["x"][-1] == 760.0
    assert len(known.columns["x"]) == 14


def test_other_files_are_refused(tmp_path: object) -> None:
    """A file that is not NIST's is not guessed at."""
    from pathlib import Path

    path = Path(str(tmp_path)) / "other.dat"
    path.write_text("a b c\n")
    with pytest.raises(ValueError, match="not in the format"):
        read(path)


@pytest.mark.parametrize(("value", "digits"), [(2.0, 11.0), (2.0002, 4.0), (2.0 + 2e-9, 9.0), (5.0, 0.0)])
def test_agreeing_digits(value: float, digits: float) -> None:
    """NIST's log relative error, between 0 and 11."""
    assert agreeing_digits(value, 2.0) == pytest.approx(digits, abs=1e-3)
