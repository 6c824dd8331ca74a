"""A client in a host: for each line on stdin it asks for one gradient at the address that it was given, and prints value and gradient bit by bit.

The address comes as argument; certificates and token come from the environment.
"""

from __future__ import annotations

import sys

import sumgrad
from sumgrad_engine.program import Result

from .requests import logistic, samples

SAMPLES = 5000


def told(result: Result) -> str:
    """All bits of a result as text."""
    return " ".join([result.value.hex(), str(result.count), *(array.tobytes().hex() for array in result.grads.values())])


def expected() -> str:
    """What is printed for each line."""
    objective = logistic()
    return told(objective.value_and_grad(objective.params, samples(SAMPLES)))


def main(address: str) -> None:
    """Asks until stdin ends."""
    objective, data = logistic(), samples(SAMPLES)
    with sumgrad.connect(address, retry=sumgrad.Retry(attempts=1000, longest=0.5)) as service:
        for _ in sys.stdin:
            print(told(service.value_and_grad(objective, objective.params, data)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
