"""Expressions that are very deep: nothing recurses, and memory stays within bounds."""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_engine.collector import paused_collector
from sumgrad_engine.program import GradientProgram, backward_all
from sumgrad_engine.table import from_table, to_table, verify
from sumgrad_engine.trace import trace_nodes

GIB = 1 << 30

MILLION = """
import resource, sys, time
import numpy as np
import sumgrad_engine as sg
from sumgrad_engine.program import EvaluateProgram, GradientProgram
from sumgrad_engine.table import from_table, to_table

COUNT = 1_000_000
started = time.perf_counter()

def done(what):
    print(f"{what}: {time.perf_counter() - started:.1f} s", flush=True)

x, w = sg.input("x"), sg.param("w", 0.5)
total = x
for k in range(COUNT):
    total = total + (w if k % 2 else 1.0)
done("built")
text = total.display(3)
assert 0 < len(text) < 10_000
done("displayed")
objective = sg.Objective(total)
assert objective.graph.node_count > COUNT
done("traced")
graph = from_table(to_table(objective.graph), sources=objective.graph.sources)
assert graph.node_count == objective.graph.node_count
done("through its columns")
program = GradientProgram(graph)
done("differentiated")
data, params = {"x": np.arange(4.0)}, {"w": np.array(0.5)}
vector = program.partial(params, data, 0, 1, 4)
assert vector.tolist() == [4 * 750_000.0 + 6.0, 4 * 500_000.0], vector
done("evaluated")
slope = sg.grad(total, w)
done("grad as an expression")
found = EvaluateProgram(graph).run(params, data, 0, 4)["loss"]
assert found.tolist() == [750_000.0, 750_001.0, 750_002.0, 750_003.0], found
done("evaluated for each sample")
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_a_million_additions() -> None:
    """Builds, displays, differentiates, goes through its columns and evaluates, in under 4 GiB; the times are printed."""
    run = subprocess.run([sys.executable, "-c", MILLION], capture_output=True, text=True, check=False)
    print(run.stdout)
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout.split()[-1]) < 4 * GIB


@pytest.mark.parametrize("function", [sg.sin, lambda x: x * 1.0000001, sg.relu, lambda x: sg.where(x > -9.0, x, 0.0)])
def test_deep_chains(function: object) -> None:
    """Far deeper than Python's stack, through everything that walks a graph, and freed again."""
    x, w = sg.input("x"), sg.param("w", 0.3)
    value = x * w
    for _ in range(5000):
        value = function(value)  # type: ignore[operator]
    objective = sg.Objective(value)
    verify(from_table(to_table(objective.graph)))
    found = objective.value_and_grad({"w": 0.3}, {"x": np.array([0.1, 0.2])})
    assert np.isfinite(found.grads["w"])
    slope = sg.grad(value, w)
    assert sg.grad(slope, w).shape == ()
    assert GradientProgram(sg.Objective(slope * w).graph).layout.width == 2


def test_deep_values_with_data() -> None:
    """backward() on a deep chain of Values, and the same for its whole graph."""
    x = sg.Value(1.0)
    value = x
    for _ in range(20_000):
        value = value + x
    value.backward()
    assert (value.data, x.grad) == (20_001.0, 20_001.0)
    graph, nodes = trace_nodes(value)
    data, slopes = backward_all(graph)
    assert (data[-1], slopes[nodes.index(x)]) == (20_001.0, 20_001.0)


def test_the_collector_runs_again() -> None:
    """Pauses nest, end with an error too, and leave a collector alone that was off."""
    assert gc.isenabled()
    with paused_collector(), paused_collector():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), paused_collector():
        _ = 1 / 0
    assert gc.isenabled()
    gc.disable()
    try:
        with paused_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
