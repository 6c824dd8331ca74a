"""Rolling: layers written out in scalars become matrix products, with the same results and gradients; what does not fit stays as it is."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from hypothesis import given, settings
from hypothesis import strategies as st
from sumgrad_engine.ir import Graph
from sumgrad_engine.options import Options
from sumgrad_engine.program import EvaluateProgram, GradientProgram
from sumgrad_engine.roll import WORTHWHILE, Worth, roll, roll_packed
from sumgrad_engine.table import verify
from sumgrad_engine.trace import trace

REFERENCE = Options(evaluator="reference")
SMALL = Worth(outputs=2, inputs=2, products=4)
SAMPLES = 5
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "relu": sg.relu,
    "tanh": sg.tanh,
    "sigmoid": sg.sigmoid,
    "where": lambda v: sg.where(sg.less(v, 0.0), 0.1 * v, v),
    "written out": lambda v: 1.0 / (1.0 + sg.exp(-v)),
    "gelu": sg.gelu,
    "identity": lambda v: v,
}


def chain(terms: Sequence[Any]) -> Any:
    """((t0 + t1) + t2) + ..., as Python's `sum` adds."""
    return reduce(lambda total, term: total + term, terms)


def right(terms: Sequence[Any]) -> Any:
    """t0 + (t1 + (t2 + ...))."""
    return reduce(lambda total, term: term + total, reversed(terms))


def tree(terms: Sequence[Any]) -> Any:
    """Halves added, each added up the same way."""
    half = len(terms) // 2
    return tree(terms[:half]) + tree(terms[half:]) if half else terms[0]


FORMS = [chain, right, tree]
BIASES = ["first", "last", "none", "zero", "two", "some"]


@dataclass
class Network:
    """How a random network of scalars is written."""

    seed: int
    sizes: list[int]
    activation: str
    bias: str
    source: str
    form: Callable[[Sequence[Any]], Any]
    swap: bool = False
    shuffle: bool = False

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.params: dict[str, Any] = {}

    def param(self, name: str, shape: tuple[int, ...] = ()) -> Any:
        """A parameter with a random value."""
        self.params[name] = np.random.default_rng(len(self.params) + self.seed).normal(size=shape)
        return sg.param(name, self.params[name])

    def weights(self, layer: int, nin: int, nout: int) -> Any:
        """The weight of input i for output j as weights[j][i]: scalars, or elements of an array either way round."""
        if self.source == "scalars":
            return [[self.param(f"w{layer}.{j}.{i}") for i in range(nin)] for j in range(nout)]
        shape = (nout, nin) if self.source == "rows" else (nin, nout)
        array = self.param(f"w{layer}", shape)
        return [[array[j, i] if self.source == "rows" else array[i][j] for i in range(nin)] for j in range(nout)]

    def neuron(self, name: str, x: list[Any], w: list[Any]) -> Any:
        """The sum of one neuron."""
        pairs = list(zip(w, x, strict=True))
        if self.shuffle:
            self.random.shuffle(pairs)
        products = [xi * wi if self.swap else wi * xi for wi, xi in pairs]
        return self.form(self.with_bias(name, products))

    def with_bias(self, name: str, products: list[Any]) -> list[Any]:
        """The terms of a neuron's sum."""
        match self.bias:
            case "none":
                return products
            case "zero":
                return [0.0, *products]
            case "last":
                return [*products, self.param(name)]
            case "two":
                return [self.param(name), *products, sg.sin(self.param(name + "'"))]
            case "some" if self.random.random() < 0.5:
                return products
        return [self.param(name), *products]

    def __call__(self, x: list[Any]) -> list[Any]:
        for layer, (nin, nout) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            weights = self.weights(layer, nin, nout)
            x = [ACTIVATIONS[self.activation](self.neuron(f"b{layer}.{j}", x, weights[j])) for j in range(nout)]
        return x


def squares(outputs: Sequence[Any]) -> Any:
    """A loss: the sum of squares, each weighted."""
    return chain([(0.5 + k) * sg.square(output) for k, output in enumerate(outputs)])


def ops(graph: Graph) -> Counter[str]:
    """How often each op occurs."""
    return Counter(op.name for _, op, _, _ in graph.rows())


def scalar_products(graph: Graph) -> int:
    """Multiplications of scalars."""
    return sum(op.name == "multiply" and graph.shape(node) == () for node, op, _, _ in graph.rows())


def assert_equivalent(graph: Graph, rolled: Graph, params: dict[str, Any], inputs: dict[str, Any]) -> None:
    """Outputs and gradients of both agree to 1e-12 of the largest."""
    verify(rolled)
    assert set(rolled.parameters) == set(graph.parameters)
    assert set(rolled.inputs) == set(graph.inputs)
    samples = len(next(iter(inputs.values())))
    values = [EvaluateProgram(g, REFERENCE).run(params, inputs, 0, samples) for g in (graph, rolled)]
    for name, value in values[0].items():
        np.testing.assert_allclose(values[1][name], value, rtol=1e-12, atol=1e-12 * np.abs(value).max())
    results = [_gradient(g, params, inputs, samples) for g in (graph, rolled)]
    scale = max(np.abs(grad).max() for grad in results[0].values())
    for name, grad in results[0].items():
        np.testing.assert_allclose(results[1][name], grad, rtol=1e-11, atol=1e-12 * scale)


def _gradient(graph: Graph, params: dict[str, Any], inputs: dict[str, Any], samples: int) -> dict[str, Any]:
    program = GradientProgram(graph, None, REFERENCE)
    return program.finish(program.partial(params, inputs, 0, 1, samples), None, samples, mean=False).grads


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Random networks."""
    return Network(
        seed=draw(st.integers(0, 10**6)),
        sizes=draw(st.lists(st.integers(1, 6), min_size=2, max_size=4)),
        activation=draw(st.sampled_from(sorted(ACTIVATIONS))),
        bias=draw(st.sampled_from(BIASES)),
        source=draw(st.sampled_from(["scalars", "rows", "columns"])),
        form=draw(st.sampled_from(FORMS)),
        swap=draw(st.booleans()),
        shuffle=draw(st.booleans()),
    )


@settings(deadline=None, max_examples=60)
@given(network=networks(), array=st.booleans())
def test_random_networks_keep_values_and_gradients(network: Network, array: bool) -> None:
    """Whatever a network of scalars is made of and however its terms are ordered, the rolled graph computes the same."""
    nin = network.sizes[0]
    data = np.random.default_rng(network.seed).normal(size=(SAMPLES, nin))
    whole = sg.input("x", (nin,))
    x = [whole[i] if array else sg.input(f"x{i}") for i in range(nin)]
    inputs = {"x": data} if array else {f"x{i}": data[:, i].copy() for i in range(nin)}
    graph = trace({"loss": squares(network(x))})
    assert_equivalent(graph, roll(graph, SMALL), network.params, inputs)


def pure(
    source: str = "scalars", activation: str = "tanh", bias: str = "first", form: Callable[[Any], Any] = chain
) -> tuple[Graph, Network]:
    """The graph of a network of scalars with sizes 12, 8, 8 and a loss on its stacked outputs."""
    network = Network(0, [12, 8, 8], activation, bias, source, form)
    x = sg.input("x", (12,))
    return trace({"loss": sg.sum(sg.square(sg.stack(network([x[i] for i in range(12)]))))}), network


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "where", "written out", "gelu"])
@pytest.mark.parametrize("form", FORMS)
def test_no_op_a_neuron_is_left(activation: str, form: Callable[[Any], Any]) -> None:
    """A network of scalars becomes the array form: nothing is computed on scalars, and each layer is one product."""
    graph, _ = pure(activation=activation, form=form)
    rolled = roll(graph)
    kinds = {op.name for node, op, _, _ in rolled.rows() if op.kinds and rolled.shape(node) == ()}
    assert kinds == {"sum"}
    assert scalar_products(rolled) == 0
    assert ops(rolled)["matmul"] == 2
    assert ops(rolled)["slice"] == 0


def test_arrays_are_used_as_they_are() -> None:
    """Elements of arrays in order are the arrays: no slice and no concat is left of them."""
    for source in ("rows", "columns"):
        network = Network(0, [12, 8, 8], "tanh", "none", source, chain)
        x = sg.input("x", (12,))
        rolled = roll(trace({"loss": sg.sum(sg.square(sg.stack(network([x[i] for i in range(12)]))))}))
        found = ops(rolled)
        assert (found["slice"], found["concat"], found["matmul"]) == (0, 0, 2)
        assert found["transpose"] == (2 if source == "rows" else 0)


def test_parameters_made_neuron_by_neuron_are_stacked_in_that_order() -> None:
    """The stacked matrix lists weights in the order in which they were made."""
    rolled = roll(pure()[0])
    stacked = [operands for node, op, operands, _ in rolled.rows() if op.name == "concat" and rolled.shape(node) == (96,)]
    names = [rolled.leaves[rolled.arguments(part)[0]].name for part in stacked[0]]
    assert names == [f"w0.{j}.{i}" for j in range(8) for i in range(12)]


def test_packed_parameters_make_the_array_form() -> None:
    """With its scalar parameters as vectors, a network of scalars is as small as the array form, and its gradient has the same numbers."""
    graph, network = pure()
    packed = roll_packed(graph)
    assert packed is not None
    verify(packed.graph)
    found = ops(packed.graph)
    assert (found["parameter"], found["slice"], found["concat"], found["matmul"]) == (4, 0, 0, 2)
    inputs = {"x": np.random.default_rng(0).normal(size=(SAMPLES, 12))}
    params = {name: np.array([network.params[scalar] for scalar in scalars]) for name, scalars in packed.vectors.items()}
    grads, expected = _gradient(packed.graph, params, inputs, SAMPLES), _gradient(graph, network.params, inputs, SAMPLES)
    assert sorted(name for scalars in packed.vectors.values() for name in scalars) == sorted(expected)
    for name, scalars in packed.vectors.items():
        np.testing.assert_allclose(grads[name], [expected[scalar] for scalar in scalars], rtol=1e-11, atol=1e-13)


def test_what_is_packed() -> None:
    """Parameters that are arrays or belong to no layer stay; a parameter of two layers is in one vector; names that are taken are not used."""
    x, w = sg.input("x", (12,)), sg.param("scalars 0", np.ones((8, 12)))
    tied = [sg.param(f"t{j}", 0.5 + j) for j in range(8)]
    y = [chain([tied[j], *(w[j, i] * x[i] for i in range(12))]) for j in range(8)]
    z = [chain([sg.param(f"u{k}.{j}", 0.1 * k) * y[j] for j in range(8)] + [tied[k]]) for k in range(8)]
    graph = trace({"loss": squares(z) * sg.param("scale", 2.0)})
    packed = roll_packed(graph)
    assert packed is not None
    assert packed.vectors == {
        "scalars 1": tuple(f"t{j}" for j in range(8)),
        "scalars 2": tuple(f"u{k}.{j}" for k in range(8) for j in range(8)),
    }
    assert {leaf.name for leaf in packed.graph.parameters} == {"scalars 0", "scalars 1", "scalars 2", "scale"}
    assert roll_packed(trace({"loss": sg.sin(sg.param("a", 1.0))})) is None


def test_outputs_that_are_used_one_by_one() -> None:
    """Other uses of a layer's outputs see the elements of the vector."""
    network = Network(1, [12, 8], "identity", "first", "scalars", chain)
    x = sg.input("x", (12,))
    y = network([x[i] for i in range(12)])
    graph = trace({"loss": sg.sin(y[0]) * sg.tanh(y[3]) + chain([sg.exp(v) for v in y]) + y[7] / (1.0 + y[5] ** 2), "metric:y2": y[2]})
    rolled = roll(graph)
    assert ops(rolled)["matmul"] == 1
    assert ops(rolled)["exp"] == 1
    assert_equivalent(graph, rolled, network.params, {"x": np.random.default_rng(0).normal(size=(SAMPLES, 12))})


def test_differing_activations_stay_scalar_behind_the_product() -> None:
    """Neurons whose activations differ still share the product; the activations are applied one by one."""
    network = Network(2, [12, 8], "identity", "first", "scalars", chain)
    x = sg.input("x", (12,))
    y = network([x[i] for i in range(12)])
    graph = trace({"loss": squares([sg.tanh(v) if k % 2 else sg.sin(v) for k, v in enumerate(y)])})
    rolled = roll(graph)
    assert (ops(rolled)["matmul"], ops(rolled)["tanh"], ops(rolled)["sin"]) == (1, 4, 4)
    assert_equivalent(graph, rolled, network.params, {"x": np.random.default_rng(0).normal(size=(SAMPLES, 12))})


def test_softmax_written_out() -> None:
    """What every output is divided by may depend on all of them."""
    network = Network(3, [12, 8], "identity", "first", "scalars", chain)
    x = sg.input("x", (12,))
    exponentials = [sg.exp(v) for v in network([x[i] for i in range(12)])]
    total = chain(exponentials)
    graph = trace({"loss": squares([e / total for e in exponentials])})
    rolled = roll(graph)
    assert (ops(rolled)["exp"], ops(rolled)["divide"]) == (1, 1)
    assert_equivalent(graph, rolled, network.params, {"x": np.random.default_rng(0).normal(size=(SAMPLES, 12))})


def recurrence() -> list[Any]:
    """Sums over the same x's, each of which needs the one before."""
    x, w = sg.input("x", (12,)), sg.param("w", np.ones((8, 12)))
    y: list[Any] = [sg.param("b", 0.0)]
    for j in range(8):
        y.append(chain([w[j, i] * x[i] for i in range(12)] + [sg.tanh(y[-1])]))
    return y


def sparse() -> list[Any]:
    """Sums over different x's."""
    x, w = sg.input("x", (12,)), sg.param("w", np.ones((8, 12)))
    return [chain([w[j, i] * x[i] for i in range(12) if i != j]) for j in range(8)]


def twice() -> list[Any]:
    """Sums in which one x occurs twice."""
    x, w = sg.input("x", (12,)), sg.param("w", np.ones((8, 12)))
    return [chain([w[j, i] * x[i // 2] for i in range(12)]) for j in range(8)]


def three_factors() -> list[Any]:
    """Sums of products of three factors, none shared as a whole."""
    x, w = sg.input("x", (12,)), sg.param("w", np.ones((8, 12)))
    return [chain([sg.sin(w[j, i] * x[i]) * x[i] for i in range(12) if i != j]) for j in range(8)]


@pytest.mark.parametrize("build", [recurrence, sparse, twice, three_factors])
def test_what_does_not_fit_stays_scalar(build: Callable[[], list[Any]]) -> None:
    """Sums that depend on each other, that lack an x or that have one twice are no layer."""
    graph = trace({"loss": squares(build())})
    assert ops(roll(graph))["matmul"] == 0


def test_small_groups_stay_scalar() -> None:
    """Below the sizes that pay, the graph itself comes back."""
    network = Network(0, [WORTHWHILE.inputs, 4, 1], "tanh", "first", "scalars", chain)
    graph = trace({"loss": squares(network([sg.input(f"x{i}") for i in range(WORTHWHILE.inputs)]))})
    assert roll(graph) is graph


def test_shared_products_stay() -> None:
    """A product that something else uses as well is computed once more at most, and stays correct."""
    x, w = sg.input("x", (12,)), sg.param("w", np.random.default_rng(0).normal(size=(8, 12)))
    products = [[w[j, i] * x[i] for i in range(12)] for j in range(8)]
    graph = trace({"loss": squares([chain(row) for row in products]) + sg.sin(products[0][0]) + products[3][4]})
    assert_equivalent(graph, roll(graph), {"w": w.data}, {"x": np.random.default_rng(1).normal(size=(SAMPLES, 12))})


def test_two_layers_into_one_sum() -> None:
    """A recurrent cell: one sum over the inputs and over the state is one product of both with both matrices."""
    x, u, w = sg.input("x", (6,)), sg.param("u", np.full((8, 6), 0.1)), sg.param("w", np.full((8, 8), 0.2))
    h = [sg.input(f"h{k}") for k in range(8)]
    for _ in range(3):
        h = [sg.tanh(chain([u[j, i] * x[i] for i in range(6)] + [w[j, k] * h[k] for k in range(8)])) for j in range(8)]
    graph = trace({"loss": squares(h)})
    rolled = roll(graph)
    assert (ops(rolled)["matmul"], ops(rolled)["tanh"]) == (3, 3)
    r = np.random.default_rng(0)
    inputs = {"x": r.normal(size=(SAMPLES, 6))} | {f"h{k}": r.normal(size=SAMPLES) for k in range(8)}
    assert_equivalent(graph, rolled, {"u": u.data, "w": w.data}, inputs)


def test_random_expressions_come_through(graphs: Any) -> None:
    """Graphs of any ops come through unharmed, layers or none."""
    for seed in range(10):
        made = graphs.make(seed, 40)
        graph = trace({"loss": made.value})
        assert_equivalent(graph, roll(graph, Worth(1, 1, 1)), made.params, made.inputs)


def test_new_nodes_have_places() -> None:
    """A product says where the first of the sums that it replaces was made."""
    rolled = roll(pure()[0])
    for node, op, _, _ in rolled.rows():
        if op.name in ("matmul", "tanh"):
            assert "test_roll.py" in (rolled.describe(node) or "")


def test_long_sums_without_layers() -> None:
    """A sum of 100,000 products is passed through: no recursion, and nothing that grows with the square of its length."""
    x, w = sg.input("x"), sg.param("w", 0.5)
    total: Any = x
    for _ in range(100_000):
        total = w * x + sg.add(total, w)
    graph = trace({"loss": total})
    assert roll(graph) is graph
