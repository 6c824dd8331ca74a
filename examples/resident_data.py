"""Logistic regression on data that is uploaded once: each step sends row numbers and parameters.

    python examples/resident_data.py

The upload takes its batches from a function, as it would from files: they are never in memory all at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import sumgrad as sg

TRUE = np.array([1.5, -2.0, 0.5])


def batches() -> Iterator[dict[str, Any]]:
    """Ten batches of 5,000 samples: three features, and labels -1 and 1 that follow them in most cases."""
    dice = np.random.default_rng(0)
    for _ in range(10):
        x = dice.normal(size=(5000, 3))
        yield {"x": x, "y": np.where(dice.logistic(size=5000) < x @ TRUE, 1.0, -1.0)}


def main() -> None:
    """Uploads, trains for two epochs, and shows what was learnt."""
    score = sg.input("x", shape=(3,)) @ sg.param("w", np.zeros(3))
    margin = sg.input("y") * score
    objective = sg.Objective(sg.softplus(-margin), metrics={"right": margin > 0.0}, reduction="mean")
    with sg.local(workers=2) as service:
        data = service.upload(batches, name="samples")
        print(f"{data.name}: {data.sample_count:,} samples, {data.nbytes:,} bytes on the server")
        fit = sg.fit(service, objective, data, sg.optim.Adam(0.02), batch_size=500, epochs=2, progress=False)
        last = service.value_and_grad(objective, fit.params, data, rows=slice(-10_000, None))
    print(f"w = {np.round(fit.params['w'], 1)}, {last.metrics['right']:.1%} of the last 10,000 samples on the right side")


if __name__ == "__main__":
    main()
