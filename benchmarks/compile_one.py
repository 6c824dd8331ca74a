"""One case of (h) in a process of its own: `python -m benchmarks.compile_one LIBRARY SHAPE NODES` answers with seconds, in a line of JSON."""

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

import numpy as np

SAMPLES = 512
"""Samples of a call."""
LEAVES = 8
"""Inputs of a straight line, and parameters."""

Loss = Callable[[Any, Any, Any], Any]
"""From the functions tanh and sin, parameters and inputs, as lists of scalars, to a loss."""


def line(nodes: int) -> tuple[Loss, int, int]:
    """A chain of products, sums, sines and hyperbolic tangents, each with an operand from somewhere before; parameters and inputs that it takes."""

    def loss(functions: Any, params: Any, inputs: Any) -> Any:
        tanh, sin = functions
        values = [p * x for p, x in zip(params, inputs, strict=True)]
        for k in range((nodes - LEAVES) // 5):
            values.append(sin(tanh(values[-1] * values[k * 7919 % len(values)] + values[-1]) - values[k % LEAVES]))
        return values[-1] * values[-1]

    return loss, LEAVES, LEAVES


def dense(nodes: int) -> tuple[Loss, int, int]:
    """Two square layers and one with a single output, on as many inputs; 4 width² nodes, with a product and a sum for each weight."""
    width = math.isqrt(nodes // 4)
    weights = width * width

    def loss(functions: Any, params: Any, inputs: Any) -> Any:
        tanh, _ = functions
        values = inputs
        for layer in range(2):
            start = layer * (weights + width)
            values = [
                tanh(sum((v * params[start + i * width + j] for i, v in enumerate(values)), params[start + weights + j]))
                for j in range(width)
            ]
        return sum(v * p for v, p in zip(values, params[-width:], strict=True)) ** 2

    return loss, 2 * (weights + width) + width, width


SHAPES = {"line": line, "dense": dense}


def sumgrad(loss: Loss, params: Any, inputs: Any) -> dict[str, Any]:
    """Ours: parameters and inputs are arrays, of which the loss takes single entries."""
    import sumgrad as sg
    from sumgrad.bench import gradient

    start = time.perf_counter()
    p, x = sg.param("p", params), sg.input("x", shape=(inputs.shape[1],))
    objective = sg.Objective(loss((sg.tanh, sg.sin), [p[i] for i in range(len(params))], [x[i] for i in range(inputs.shape[1])]))
    written = time.perf_counter()
    run = partial(gradient, objective, {"p": params}, {"x": inputs})
    evaluator = run().evaluator
    return _times(start, written, run) | {"nodes": objective.graph.node_count, "evaluator": evaluator}


def jax(loss: Loss, params: Any, inputs: Any) -> dict[str, Any]:
    """vmap of the scalar form."""
    import jax as j

    j.config.update("jax_enable_x64", True)
    start = time.perf_counter()

    def sample(p: Any, x: Any) -> Any:
        return loss((j.numpy.tanh, j.numpy.sin), list(p), list(x))

    gradient = j.jit(j.value_and_grad(lambda p, xs: j.vmap(sample, (None, 0))(p, xs).sum()))
    written = time.perf_counter()

    def run() -> Any:
        return j.block_until_ready(gradient(params, inputs))

    run()
    return _times(start, written, run)


def casadi(loss: Loss, params: Any, inputs: Any, *, in_c: bool) -> dict[str, Any]:
    """Scalar expressions, run by the virtual machine or compiled from C."""
    import casadi as ca

    from .peers.casadi_peer import compiled

    start = time.perf_counter()
    p, x = ca.SX.sym("p", len(params)), ca.SX.sym("x", inputs.shape[1])
    value = loss((ca.tanh, ca.sin), p.elements(), x.elements())
    written = time.perf_counter()
    function = ca.Function("one", [p, x], [value, ca.gradient(value, p)]).map("gradient", "serial", SAMPLES, [0], [0, 1])
    function = compiled(function, "one") if in_c else function
    columns = np.ascontiguousarray(inputs.T)

    def run() -> Any:
        return function(params, columns)

    run()
    return _times(start, written, run)


def _times(start: float, written: float, run: Callable[[], object]) -> dict[str, Any]:
    """Seconds to write the loss, to compile it (the first call, less a later one), and of a later call."""
    first = time.perf_counter() - written
    again = time.perf_counter()
    run()
    call = time.perf_counter() - again
    return {"write": written - start, "compile": max(0.0, first - call), "call": call}


def main(library: str, shape: str, nodes: int) -> dict[str, Any]:
    """The case's answer."""
    loss, parameters, width = SHAPES[shape](nodes)
    rng = np.random.default_rng(0)
    params, inputs = rng.uniform(-1, 1, parameters) / math.sqrt(width), rng.uniform(-1, 1, (SAMPLES, width))
    sides: dict[str, Callable[[], dict[str, Any]]] = {
        "sumgrad": lambda: sumgrad(loss, params, inputs),
        "JAX": lambda: jax(loss, params, inputs),
        "CasADi, map": lambda: casadi(loss, params, inputs, in_c=False),
        "CasADi, generated C": lambda: casadi(loss, params, inputs, in_c=True),
    }
    return {"nodes": nodes} | sides[library]()


if __name__ == "__main__":
    sys.setrecursionlimit(10**6)  # JAX walks some expressions by recursion
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
