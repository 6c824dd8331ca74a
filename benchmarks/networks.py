"""Nanoseconds a sample for the gradient of two small tanh networks: sumgrad beside hand-written NumPy, micrograd and JAX.

    python benchmarks/networks.py [--samples N] [--repeat R]

Everything runs in one process (and, for the service, one server that it starts), one thread each, in turns; the best of R rounds counts. A peer that
is not installed is left out of the table, and said to be. What is timed is value and gradient of a sum of squared errors, float64.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from itertools import pairwise

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np  # noqa: E402 - its thread count is set by the lines above
import sumgrad as sg  # noqa: E402

Weights = list[tuple[np.ndarray, np.ndarray]]
Gradient = Callable[[], np.ndarray]

NETWORKS = {"3-4-4-1 tanh": [3, 4, 4, 1], "2-16-16-1 tanh": [2, 16, 16, 1]}
MICROGRAD_SAMPLES = 64


def weights(sizes: list[int], rng: np.random.Generator) -> Weights:
    """Random weights and biases of each layer."""
    return [(rng.uniform(-1, 1, (m, n)), rng.uniform(-1, 1, n)) for m, n in pairwise(sizes)]


def flat(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """All gradients as one vector, to compare the contenders."""
    return np.concatenate([np.ravel(array) for pair in pairs for array in pair])


def objective(layers: Weights) -> sg.Objective:
    """The network as a sumgrad objective."""
    value = sg.input("x", shape=layers[0][0].shape[0])
    for k, (w, b) in enumerate(layers):
        value = sg.tanh(value @ sg.param(f"w{k}", w) + sg.param(f"b{k}", b))
    return sg.Objective(sg.square(value[0] - sg.input("y")))


def by_sumgrad(service: object, layers: Weights, x: np.ndarray, y: np.ndarray) -> Gradient:
    """Through anything that has value_and_grad."""
    target = objective(layers)
    params, data = target.params, {"x": x, "y": y}

    def run() -> np.ndarray:
        grads = service.value_and_grad(target, params, data).grads
        return flat([(grads[f"w{k}"], grads[f"b{k}"]) for k in range(len(layers))])

    return run


def by_numpy(layers: Weights, x: np.ndarray, y: np.ndarray) -> Gradient:
    """Backpropagation written by hand, matrix products over the whole minibatch."""

    def run() -> np.ndarray:
        values = [x]
        for w, b in layers:
            values.append(np.tanh(values[-1] @ w + b))
        slope = 2.0 * (values[-1] - y[:, None])
        found = []
        for (w, _), before, after in zip(reversed(layers), reversed(values[:-1]), reversed(values[1:]), strict=True):
            slope = slope * (1.0 - after * after)
            found.append((before.T @ slope, slope.sum(axis=0)))
            slope = slope @ w.T
        return flat(found[::-1])

    return run


def by_jax(layers: Weights, x: np.ndarray, y: np.ndarray) -> Gradient:
    """jit of value_and_grad of the batch form."""
    import jax

    jax.config.update("jax_enable_x64", True)
    xs, ys = jax.numpy.asarray(x), jax.numpy.asarray(y)

    def loss(params: list[tuple[jax.Array, jax.Array]]) -> jax.Array:
        value = xs
        for w, b in params:
            value = jax.numpy.tanh(value @ w + b)
        return ((value[:, 0] - ys) ** 2).sum()

    gradient = jax.jit(jax.value_and_grad(loss))
    params = [(jax.numpy.asarray(w), jax.numpy.asarray(b)) for w, b in layers]
    return lambda: flat([(np.asarray(w), np.asarray(b)) for w, b in gradient(params)[1]])


def by_micrograd(layers: Weights, x: np.ndarray, y: np.ndarray) -> Gradient:
    """A graph of scalars for every sample, as micrograd's users write it, on Python floats."""
    from micrograd.engine import Value

    def tanh(v: Value) -> Value:
        out = Value(math.tanh(v.data), (v,), "tanh")

        def _backward() -> None:
            v.grad += (1 - out.data**2) * out.grad

        out._backward = _backward
        return out

    def run() -> np.ndarray:
        params = [([[Value(v) for v in row] for row in w.tolist()], [Value(v) for v in b.tolist()]) for w, b in layers]
        for row, wanted in zip(x.tolist(), y.tolist(), strict=True):
            values = [Value(v) for v in row]
            for w, b in params:
                values = [tanh(sum((v * w[i][j] for i, v in enumerate(values)), b[j])) for j in range(len(b))]
            loss = (values[0] - wanted) ** 2
            loss.backward()
        return flat([(np.array([[v.grad for v in row] for row in w]), np.array([v.grad for v in b])) for w, b in params])

    return run


@contextmanager
def contenders(layers: Weights, x: np.ndarray, y: np.ndarray) -> Iterator[dict[str, tuple[Gradient, int]]]:
    """Name -> (what to time, samples that it sums)."""
    with ExitStack() as stack:
        found = {"sumgrad, in process": (by_sumgrad(sg.here, layers, x, y), len(x))}
        for workers in (1, 2):
            service = stack.enter_context(sg.local(workers=workers))
            found[f"sumgrad, service, {workers} worker{'s' * (workers > 1)}"] = (by_sumgrad(service, layers, x, y), len(x))
        found["NumPy by hand"] = (by_numpy(layers, x, y), len(x))
        if find_spec("jax"):
            found["JAX, jit"] = (by_jax(layers, x, y), len(x))
        if find_spec("micrograd"):
            few = slice(0, MICROGRAD_SAMPLES)
            found["micrograd"] = (by_micrograd(layers, x[few], y[few]), MICROGRAD_SAMPLES)
        yield found


def check(runs: dict[str, tuple[Gradient, int]], layers: Weights, x: np.ndarray, y: np.ndarray) -> None:
    """All contenders compute the same gradient, or nothing is timed."""
    for name, (run, samples) in runs.items():
        wanted = by_numpy(layers, x[:samples], y[:samples])()
        np.testing.assert_allclose(run(), wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max(), err_msg=name)


def best(run: Gradient) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1 << 17)
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{'nanoseconds a sample':32}" + "".join(f"{name:>18}{'ratio':>9}" for name in NETWORKS))
    columns = {}
    for name, sizes in NETWORKS.items():
        layers, x, y = weights(sizes, rng), rng.normal(size=(arguments.samples, sizes[0])), rng.uniform(-1, 1, arguments.samples)
        with contenders(layers, x, y) as runs:
            check(runs, layers, x, y)
            rounds = [{who: best(run) / samples * 1e9 for who, (run, samples) in runs.items()} for _ in range(arguments.repeat)]
        columns[name] = {who: min(round_[who] for round_ in rounds) for who in rounds[0]}
    ours = "sumgrad, in process"
    for who in next(iter(columns.values())):
        cells = "".join(f"{column[who]:18,.1f}{column[who] / column[ours]:9.2f}" for column in columns.values())
        print(f"{who:32}{cells}")
    for peer in ("jax", "micrograd"):
        if not find_spec(peer):
            print(f"{peer} is not installed here and was left out")
    print(f"{arguments.samples:,} samples ({MICROGRAD_SAMPLES} for micrograd), best of {arguments.repeat}; ratio: over sumgrad in process")


if __name__ == "__main__":
    main()
