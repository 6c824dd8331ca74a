"""A network written out in scalars, as micrograd writes it, against the same in arrays: MLP(784, [128, 10]) with softmax cross-entropy."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

if __name__ == "__main__":
    from .one_thread import confine

    confine()

import sumgrad as sg
from numpy.typing import NDArray
from sumgrad.bench import best_seconds, classifier, gradient
from sumgrad.micrograd import nn

from .children import ask
from .contender import Missing
from .duel import Effort
from .report import Report, figure

SIZES, SMALL = (784, 128, 10), (20, 12, 5)
SAMPLES = 1024
WITHIN = 3.0
"""Times the array form that the scalar form may take."""
LIMIT = 300.0
"""Seconds for a scalar form to be built, compiled and timed."""


def show(report: Report, effort: Effort) -> None:
    """A row for each form, and a verdict."""
    sizes = SIZES if effort.compile else SMALL
    report.heading(f"A {'-'.join(map(str, sizes))} network written in scalars, by sumgrad.micrograd, f64, {SAMPLES:,} samples")
    rows = []
    for form in FORMS:
        try:
            found = ask("scalars", form, *sizes, seconds=LIMIT)
        except Missing as reason:
            report.notes([f"{form}: {reason}"])
        else:
            ratio = found["scalars"] / found["arrays"]
            times = [figure(found[name] / SAMPLES * 1e9) for name in ("scalars", "arrays")]
            rows.append([form, *times, f"{ratio:.2f}", f"{found['first']:.1f}", "met" if ratio <= WITHIN else "not met"])
    report.table(["each weight is", "ns a sample", "in arrays", "ratio", "first call, s", f"within {WITHIN:.0f} times"], rows)


def entry(name: str, array: NDArray[Any]) -> list[list[sg.Value]]:
    """A matrix of weights whose scalars are entries of one parameter."""
    weights = sg.param(name, array)
    return [[weights[i, j] for j in range(array.shape[1])] for i in range(array.shape[0])]


def parameter(name: str, array: NDArray[Any]) -> list[list[sg.Value]]:
    """A matrix of weights each of which is a parameter, as in micrograd."""
    return [[sg.param(f"{name}.{i}.{j}", array[i, j]) for j in range(array.shape[1])] for i in range(array.shape[0])]


FORMS: dict[str, Callable[[str, NDArray[Any]], list[list[sg.Value]]]] = {"an entry of an array": entry, "a parameter": parameter}


def objective(params: dict[str, NDArray[Any]], form: str) -> sg.Objective:
    """micrograd's network with symbols for weights and inputs."""
    sizes = [len(params["w0"]), params["b0"].size, params["b1"].size]
    net: Any = nn.MLP(sizes[0], sizes[1:])
    for number, layer in enumerate(net.layers):
        weights = FORMS[form](f"w{number}", params[f"w{number}"])
        (biases,) = FORMS[form](f"b{number}", params[f"b{number}"][None])
        for j, neuron in enumerate(layer.neurons):
            neuron.w, neuron.b = [row[j] for row in weights], biases[j]
    x = sg.input("x", shape=(sizes[0],))
    return sg.Objective(sg.nn.cross_entropy(sg.stack(net([x[i] for i in range(sizes[0])])), sg.input("y", dtype=int)))


def measure(form: str, sizes: list[int]) -> dict[str, float]:
    """Seconds of a call in both forms, and of the scalar form's first one. ValueError unless both give one value."""
    work = classifier(sizes)
    data, arrays, scalars = work.data(SAMPLES), work.objective(SAMPLES), objective(work.params, form)
    start = time.perf_counter()
    value = gradient(scalars, scalars.params, data).value
    first = time.perf_counter() - start
    if not math.isclose(value, gradient(arrays, work.params, data).value, rel_tol=1e-12):
        raise ValueError("the two forms differ")
    runs = {name: partial(gradient, form, form.params, data) for name, form in (("arrays", arrays), ("scalars", scalars))}
    return {"first": first, **best_seconds(runs, budget=20.0)}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], [int(size) for size in sys.argv[2:]])))
