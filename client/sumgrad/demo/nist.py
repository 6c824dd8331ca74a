"""Reader of the files of NIST's Statistical Reference Datasets for nonlinear regression.

The files come from https://www.itl.nist.gov/div898/strd/nls/nls_main.shtml (a work of the United States government, in the public domain);
`data/Misra1a.dat` is one of them, unchanged. Each has two starting points, parameters certified to 11 digits, and the data.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Certified", "agreeing_digits", "misra1a", "read"]


@dataclass(frozen=True)
class Certified:
    """A dataset with its certified fit. `starts` holds both starting points, by parameter name ("b1", "b2", ...)."""

    name: str
    columns: dict[str, NDArray[np.float64]]
    starts: tuple[dict[str, float], dict[str, float]]
    parameters: dict[str, float]
    deviations: dict[str, float]
    residual_sum_of_squares: float


def read(path: Path) -> Certified:
    """The dataset of a file in NIST's format. ValueError if it is not in that format."""
    text = path.read_text(encoding="ascii")
    rows = re.findall(r"^\s+(b\d+) =" + r"\s+(\S+)" * 4 + r"\s*$", text, flags=re.MULTILINE)
    squares = re.search(r"Residual Sum of Squares:\s+(\S+)", text)
    if not rows or squares is None:
        raise ValueError(f"{path} is not in the format of NIST's nonlinear regression sets: no certified values")
    start1, start2, values, deviations = ({row[0]: float(row[column]) for row in rows} for column in range(1, 5))
    return Certified(path.stem, _columns(text), (start1, start2), values, deviations, float(squares[1]))


def _columns(text: str) -> dict[str, NDArray[np.float64]]:
    """The table below the last line that starts with "Data:", which names its columns."""
    _, header, table = re.split(r"^Data:((?:[ \t]+\w+)+)[ \t]*$", text, flags=re.MULTILINE)
    numbers = np.array([line.split() for line in table.strip().splitlines()], dtype=np.float64)
    return {name: numbers[:, column] for column, name in enumerate(header.split())}


def misra1a() -> Certified:
    """The set that comes with this package: 14 observations of y = b1 (1 - exp(-b2 x)), the volume adsorbed at a pressure."""
    return read(Path(__file__).parent / "data" / "Misra1a.dat")


def agreeing_digits(value: float, certified: float) -> float:
    """NIST's log relative error: the number of significant digits that agree, 11 at most, as many as are certified."""
    if value == certified:
        return 11.0
    return max(0.0, min(11.0, -math.log10(abs(value - certified) / abs(certified))))
