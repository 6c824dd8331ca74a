"""Compiled results against the reference evaluator's: random graphs over all ops, special values, integers, precisions, bits."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sumgrad_engine.blocks import BLOCK, tree_sum
from sumgrad_engine.native import Job
from sumgrad_engine.native.artifact import build
from sumgrad_engine.native.kernel import Kernel
from sumgrad_engine.native.lanes import F64, PRECISIONS
from sumgrad_engine.native.machine import AVX2, AVX512, Machine, host
from sumgrad_engine.objective import fit_arrays
from sumgrad_engine.options import Options
from sumgrad_engine.program import EvaluateProgram, GradientProgram, Result, derived, gradient_layout
from sumgrad_engine.trace import trace

REFERENCE, COMPILED = Options("reference"), Options("compiled")


def kinds(array: Any) -> NDArray[Any]:
    """What kind of number each is: NaN, an infinity of a sign, or finite."""
    array = np.asarray(array)
    return np.select([np.isnan(array), np.isposinf(array), np.isneginf(array)], [1, 2, 3], 0)


def parts(result: Result) -> list[NDArray[Any]]:
    """Value, metrics and gradients."""
    return [np.asarray(result.value), *result.metrics.values(), *result.grads.values()]


def assert_agree(found: list[NDArray[Any]], wanted: list[NDArray[Any]], tolerance: float = 1e-12) -> None:
    """The same kinds, and finite numbers that agree relative to the largest: sums of terms that cancel are as exact as their terms."""
    finite = [array[np.isfinite(array)] for array in wanted]
    scale = max([1.0, *(float(np.abs(array).max()) for array in finite if array.size)])
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(kinds(a), kinds(b))
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(
                np.where(kinds(b) == 0, a, 0.0), np.where(kinds(b) == 0, b, 0.0), rtol=tolerance, atol=tolerance * scale
            )


def case(
    graphs: ModuleType, seed: int, wild: bool, samples: int, extents: tuple[int, int] = (2, 3)
) -> tuple[sg.Objective, dict[str, Any], dict[str, Any]]:
    """A random objective, its parameters and data of so many samples."""
    made = graphs.make(seed, 12, wild, extents)
    objective = sg.Objective(made.value, metrics={"top": made.value})
    repeated = {name: np.concatenate([array] * -(-samples // len(array)))[:samples] for name, array in made.inputs.items()}
    params = {leaf.name: made.params[leaf.name] for leaf in objective.graph.parameters}
    return objective, params, {name: repeated[name] for name in objective.inputs}


@settings(max_examples=100)
@given(seed=st.integers(0, 1 << 32), samples=st.sampled_from([1, 4, 13, 64, 700]))
def test_random_graphs(graphs: ModuleType, seed: int, samples: int) -> None:
    """Value, metrics and gradients of tame random graphs agree to 1e-12."""
    objective, params, data = case(graphs, seed, wild=False, samples=samples)
    found = objective.value_and_grad(params, data, evaluator="compiled")
    assert found.evaluator == "compiled"
    assert_agree(parts(found), parts(objective.value_and_grad(params, data, evaluator="reference")))


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 32), samples=st.sampled_from([1, 9, 70, 517]), wild=st.booleans())
def test_random_graphs_of_larger_arrays(graphs: ModuleType, seed: int, samples: int, wild: bool) -> None:
    """The same for arrays that become loops and products instead of being taken apart."""
    objective, params, data = case(graphs, seed, wild, samples, (9, 12))
    found = objective.value_and_grad(params, data, evaluator="compiled")
    assert_agree(parts(found), parts(objective.value_and_grad(params, data, evaluator="reference")))


@settings(max_examples=100)
@given(seed=st.integers(0, 1 << 32))
def test_special_values(graphs: ModuleType, seed: int) -> None:
    """NaN, infinities, signed zeros and extreme numbers give the same kinds of results, through ops of all sorts."""
    objective, params, data = case(graphs, seed, wild=True, samples=4)
    found = objective.value_and_grad(params, data, evaluator="compiled")
    assert_agree(parts(found), parts(objective.value_and_grad(params, data, evaluator="reference")))


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 32), wild=st.booleans())
def test_outputs_of_all_nodes(graphs: ModuleType, seed: int, wild: bool) -> None:
    """Per-sample results of every node on the way, of all kinds of elements and shapes."""
    made = graphs.make(seed, 10, wild)
    graph = trace({str(k): value for k, value in enumerate(made.pool)})
    params = {leaf.name: made.params[leaf.name] for leaf in graph.parameters}
    inputs = {leaf.name: made.inputs[leaf.name] for leaf in graph.inputs}
    params, inputs, samples = fit_arrays(graph, params, inputs)
    wanted = EvaluateProgram(graph, REFERENCE).run(params, inputs, 0, samples)
    found = EvaluateProgram(graph, COMPILED).run(params, inputs, 0, samples)
    assert {name: (a.dtype, a.shape) for name, a in found.items()} == {name: (a.dtype, a.shape) for name, a in wanted.items()}
    for name, array in found.items():
        assert_agree([array.astype(np.float64)], [wanted[name].astype(np.float64)])


def test_signed_zeros() -> None:
    """A sum of -0.0 is -0.0, and ops keep the signs of zeros as NumPy does."""
    x = sg.input("x")
    outputs = {
        "neg": -x,
        "same": x * 1.0,
        "abs": sg.abs(x),
        "relu": sg.relu(x),
        "sign": sg.sign(x),
        "max": sg.maximum(x, 0.0),
        "root": sg.sqrt(x),
    }
    graph = trace(outputs)
    inputs = {"x": np.array([0.0, -0.0])}
    found = EvaluateProgram(graph, COMPILED).run({}, inputs, 0, 2)
    wanted = EvaluateProgram(graph, REFERENCE).run({}, inputs, 0, 2)
    for name in outputs:
        np.testing.assert_array_equal(np.signbit(found[name]), np.signbit(wanted[name]), err_msg=name)
    total = sg.Objective(x * sg.param("w", 1.0)).value_and_grad({"w": 1.0}, {"x": np.full(9, -0.0)}, evaluator="compiled")
    assert np.signbit(total.value)


def compiled_for(objective: sg.Objective, machine: Machine, precision: str = "f64") -> Kernel:
    """The kernel of an objective's gradient for a kind of processor."""
    return Kernel(build(Job(*derived(objective.graph, gradient_layout(objective.graph), "loss")), PRECISIONS[precision], machine))


needs_avx512 = pytest.mark.skipif(host().vector_bytes < 64, reason="this processor has no AVX-512 to compare with")


@needs_avx512
@settings(max_examples=25)
@given(seed=st.integers(0, 1 << 32), precision=st.sampled_from(["f64", "f32"]))
def test_same_bits_on_avx2_and_avx512(graphs: ModuleType, seed: int, precision: Any) -> None:
    """Code for processors with 32 wide vector registers and for those with 16 narrow ones computes the same bits."""
    objective, params, data = case(graphs, seed, wild=False, samples=700)
    params, inputs, samples = fit_arrays(objective.graph, params, data, precision)
    found = [
        compiled_for(objective, machine, precision).sums(params, inputs, 0, samples, lambda: False) for machine in (AVX2, AVX512, host())
    ]
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def network(sizes: list[int], activation: Any = sg.tanh) -> tuple[sg.Objective, dict[str, Any]]:
    """A network with a squared error, and data for 1,100 samples."""
    random = np.random.default_rng(sum(sizes))
    value = sg.input("x", shape=sizes[0])
    for layer, (m, n) in enumerate(itertools.pairwise(sizes)):
        weights, bias = random.normal(size=(m, n)) / np.sqrt(m), random.normal(size=n)
        value = activation(value @ sg.param(f"w{layer}", weights) + sg.param(f"b{layer}", bias))
    data = {"x": random.normal(size=(1100, sizes[0])), "y": random.normal(size=(1100, sizes[-1]))}
    return sg.Objective(sg.sum(sg.square(value - sg.input("y", shape=sizes[-1])))), data


SIZES = [[3, 4, 4, 1], [2, 16, 16, 1], [5, 7, 3], [1, 1], [130, 70, 9], [300, 20]]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_networks(sizes: list[int]) -> None:
    """Networks from a few scalars to products of matrices that are cut into parts."""
    objective, data = network(sizes)
    found = objective.value_and_grad(objective.params, data, evaluator="compiled")
    assert_agree(parts(found), parts(objective.value_and_grad(objective.params, data, evaluator="reference")))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_networks_in_single_precision(sizes: list[int]) -> None:
    """In f32 results differ from f64's by what f32 can hold; sums over samples are f64."""
    objective, data = network(sizes)
    few = {name: array.astype(np.float32) for name, array in data.items()}
    found = objective.value_and_grad(objective.params, few, evaluator="compiled", precision="f32")
    assert found.grads["w0"].dtype == np.float64
    assert_agree(parts(found), parts(objective.value_and_grad(objective.params, data, evaluator="reference")), 2e-5)


@needs_avx512
@pytest.mark.parametrize("sizes", [[130, 70, 9], [2, 16, 16, 1]], ids=str)
def test_networks_have_the_same_bits_everywhere(sizes: list[int]) -> None:
    """Tiles of registers are of other sizes on AVX2, and the sums are the same."""
    objective, data = network(sizes)
    params, inputs, samples = fit_arrays(objective.graph, objective.params, data)
    bits = {
        compiled_for(objective, machine).sums(params, inputs, 0, samples, lambda: False).tobytes() for machine in (AVX2, AVX512, host())
    }
    assert len(bits) == 1


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, 6), min_size=1, max_size=3), samples=st.sampled_from([3000, 3072, 3073]))
def test_blocks_may_be_summed_by_anybody(cuts: list[int], samples: int) -> None:
    """Blocks in one call, or one by one in the fixed tree: the same bits."""
    objective, _ = network([3, 4, 4, 1])
    random = np.random.default_rng(samples)
    params, inputs, _ = fit_arrays(
        objective.graph, objective.params, {"x": random.normal(size=(samples, 3)), "y": random.normal(size=(samples, 1))}
    )
    program = GradientProgram(objective.graph, options=COMPILED)
    blocks = -(-samples // BLOCK)
    whole = program.partial(params, inputs, 0, blocks, samples)
    size = 1 << min(cuts)
    shards = [program.partial(params, inputs, first, min(size, blocks - first), samples) for first in range(0, blocks, size)]
    assert tree_sum(shards).tobytes() == whole.tobytes()


def test_integers_choose() -> None:
    """take, one_hot and their derivatives, small and large, from parameters and from what differs from sample to sample."""
    k, x = sg.input("k", dtype=int), sg.input("x", shape=40)
    table, small = sg.param("table", np.random.default_rng(1).normal(size=(50, 12))), sg.param("small", [1.0, 2.0, 3.0])
    chosen = sg.sum(sg.square(table[k])) + small[sg.input("s", dtype=int)] * sg.take(x, k, 0)
    loss = chosen + sg.sum(sg.one_hot(k, 50)[:7] * small[0])
    objective = sg.Objective(loss)
    random = np.random.default_rng(2)
    data = {"k": random.integers(0, 40, 700), "s": random.integers(0, 3, 700), "x": random.normal(size=(700, 40))}
    found = objective.value_and_grad(objective.params, data, evaluator="compiled")
    assert_agree(parts(found), parts(objective.value_and_grad(objective.params, data, evaluator="reference")))


@pytest.mark.parametrize("entries", [3, 100])
@pytest.mark.parametrize("wrong", [-1, 1 << 40, None])
def test_index_out_of_range(entries: int, wrong: int | None) -> None:
    """The error names the sample, as the reference evaluator's does, and nothing outside of the array is read."""
    table = sg.param("table", np.ones(entries))
    objective = sg.Objective(table[sg.input("k", dtype=int)])
    index = np.zeros(700, np.int64)
    index[611] = entries if wrong is None else wrong
    with pytest.raises(sg.InputError, match="out of range") as caught:
        objective.value_and_grad(objective.params, {"k": index}, evaluator="compiled")
    assert caught.value.sample == 611


def test_hessians_are_compiled() -> None:
    """Hessian-vector products and Hessians are expressions, and run compiled like any other."""
    x, w = sg.input("x", shape=3), sg.param("w", [0.3, -0.2, 0.5])
    loss = sg.softplus(x @ w) * sg.exp(-sg.sum(w * w))
    outputs = {"hvp": sg.hvp(loss, w, np.array([1.0, 2.0, 3.0])), "hessian": sg.hessian(loss, w)}
    graph = trace(outputs)
    inputs = {"x": np.random.default_rng(0).normal(size=(600, 3))}
    program = EvaluateProgram(graph, COMPILED)
    assert program.evaluator == "compiled"
    found = program.run({"w": np.array([0.3, -0.2, 0.5])}, inputs, 0, 600)
    wanted = EvaluateProgram(graph, REFERENCE).run({"w": np.array([0.3, -0.2, 0.5])}, inputs, 0, 600)
    assert_agree(list(found.values()), list(wanted.values()))
    np.testing.assert_allclose(found["hvp"], found["hessian"] @ np.array([1.0, 2.0, 3.0]), rtol=1e-11, atol=1e-13)


def test_penalty_and_mean() -> None:
    """The penalty is compiled by itself, and counted once."""
    x, w = sg.input("x", shape=20), sg.param("w", np.linspace(-1, 1, 20))
    objective = sg.Objective(sg.square(x @ w), penalty=sg.sum(sg.exp(w)) + sg.max(w), reduction="mean", metrics={"x": x})
    data = {"x": np.random.default_rng(3).normal(size=(530, 20))}
    found = objective.value_and_grad(objective.params, data, evaluator="compiled")
    assert_agree(parts(found), parts(objective.value_and_grad(objective.params, data, evaluator="reference")))


def test_precision_of_constants_and_parameters() -> None:
    """In f32 parameters and constants are rounded once; what follows from sums is f64."""
    w = sg.param("w", np.array([1.0, 1 / 3]))
    objective = sg.Objective(sg.sum(sg.exp(w) * sg.input("x", shape=2)) + 0.1)
    found = objective.value_and_grad(objective.params, {"x": np.ones((4096, 2))}, evaluator="compiled", precision="f32")
    assert found.value == pytest.approx(4096 * (np.exp(1.0) + np.exp(1 / 3) + 0.1), rel=2e-7)
    assert F64.lanes == 8


def test_numbers_that_f32_can_not_hold() -> None:
    """They are infinite, without a warning: as inputs, as parameters and as constants."""
    objective = sg.Objective(sg.input("x") * sg.param("w", 1e300) * 1e200)
    found = objective.value_and_grad({"w": 1e300}, {"x": np.array([1e300, 1.0])}, evaluator="compiled", precision="f32")
    assert found.value == np.inf


@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0)])
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    """Arrays without elements give sums of nothing, and gradients without elements."""
    x, w, z = sg.input("x", shape=shape), sg.param("w", np.ones(shape)), sg.input("z")
    matrix = sg.param("m", np.ones((shape[-1], 40)))
    objective = sg.Objective(sg.sum(sg.exp(x) * w) + sg.sum(x @ matrix) + z)
    data = {"x": np.zeros((5, *shape)), "z": np.ones(5)}
    found = objective.value_and_grad(objective.params, data, evaluator="compiled")
    assert_agree(parts(found), parts(objective.value_and_grad(objective.params, data, evaluator="reference")))
