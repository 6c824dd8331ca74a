"""Networks and losses against NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sumgrad as sg
from numpy.typing import NDArray
from sumgrad.nn import MLP, Linear, Module, binary_cross_entropy, cross_entropy, hinge, squared_error

LOGITS = np.array([[1.0, 2.0, 0.5], [-3.0, 0.0, 700.0]])


def rows(value: sg.Value, params: dict[str, Any] | None = None, **data: Any) -> NDArray[Any]:
    """An expression for each sample."""
    return sg.here.evaluate({"value": value}, params or {}, data)["value"]


def initial(module: Module) -> dict[str, Any]:
    """The values that a module's parameters start with."""
    return {name: value.data for name, value in module.parameters().items()}


def test_linear_is_a_matrix_product() -> None:
    """The layer is x @ weight + bias."""
    layer = Linear(3, 2, seed=4)
    params = {**initial(layer), "linear.bias": np.array([10.0, 20.0])}
    x = np.arange(12.0).reshape(4, 3)
    found = rows(layer(sg.input("x", shape=(3,))), params, x=x)
    np.testing.assert_allclose(found, x @ params["linear.weight"] + params["linear.bias"], rtol=1e-15)


def test_linear_without_bias() -> None:
    """The bias can be left away."""
    assert list(Linear(3, 2, bias=False).parameters()) == ["linear.weight"]


def test_initial_weights_have_the_variance_of_their_paper() -> None:
    """Weights are even on ±sqrt(3 / nin), of variance 1 / nin; the bias is 0."""
    params = initial(Linear(300, 200))
    assert np.abs(params["linear.weight"]).max() <= math.sqrt(3 / 300)
    assert params["linear.weight"].var() == pytest.approx(1 / 300, rel=0.02)
    assert (params["linear.bias"] == 0.0).all()


def test_mlp_is_linear_in_its_last_layer() -> None:
    """The design's network: tanh, tanh, and a linear layer; 337 parameters."""
    net = MLP(2, [16, 16, 1], activation="tanh", seed=0)
    params = initial(net)
    x = np.random.default_rng(1).normal(size=(5, 2))
    hidden = np.tanh(np.tanh(x @ params["mlp.0.weight"]) @ params["mlp.1.weight"])
    out = net(sg.input("x", shape=(2,)))
    assert out.shape == (1,)
    np.testing.assert_allclose(rows(out, params, x=x), hidden @ params["mlp.2.weight"], rtol=1e-13)
    assert sum(np.size(value) for value in params.values()) == 337


def test_seeds_decide_the_weights() -> None:
    """The same seed gives the same weights; another seed, and another layer, others."""
    first, same, other = (initial(MLP(4, [4, 4], seed=seed)) for seed in (0, 0, 1))
    assert all((first[name] == same[name]).all() for name in first)
    assert (first["mlp.0.weight"] != other["mlp.0.weight"]).all()
    assert (first["mlp.0.weight"] != first["mlp.1.weight"]).all()


def test_activations_by_name_or_function() -> None:
    """An activation is one of ours by name, or any function."""
    x = sg.input("x", shape=(2,))
    by_name, by_function = MLP(2, [3, 1], "relu")(x), MLP(2, [3, 1], sg.relu)(x)
    assert by_name.shape == by_function.shape == (1,)
    with pytest.raises(ValueError, match="no activation is called 'rely'; there are tanh"):
        MLP(2, [3, 1], "rely")


class Pair(Module):
    """Two networks side by side, held in a list."""

    def __init__(self, first: Module, second: Module) -> None:
        self.parts = [first, second]
        self.scale = sg.param("scale", 1.0)

    def __call__(self, x: sg.Value) -> sg.Value:
        """Their sum."""
        return self.scale * (self.parts[0](x) + self.parts[1](x))


def test_modules_collect_what_they_hold() -> None:
    """Parameters are found in modules, in lists of modules, and as plain attributes."""
    pair = Pair(Linear(2, 1, name="a"), Linear(2, 1, name="b"))
    assert list(pair.parameters()) == ["a.weight", "a.bias", "b.weight", "b.bias", "scale"]


def test_names_must_differ() -> None:
    """Two modules of one name in another are an error that says what to do."""
    with pytest.raises(sg.GraphError, match=r"'linear\.weight'.*another name"):
        Pair(Linear(2, 1), Linear(2, 1)).parameters()


@pytest.mark.parametrize("make", [lambda: Linear(0, 1), lambda: MLP(2, [])], ids=["no inputs", "no layers"])
def test_impossible_sizes(make: Any) -> None:
    """Layers without inputs and networks without layers are refused."""
    with pytest.raises(ValueError, match="needs"):
        make()


def test_squared_error() -> None:
    """The sum over all axes of the squared difference."""
    p, t = sg.input("p", shape=(2,)), sg.input("t", shape=(2,))
    assert rows(squared_error(p, t), p=[[1.0, 2.0]], t=[[0.0, 5.0]]).tolist() == [10.0]


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """By the definition, shifted by the largest."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def test_cross_entropy_takes_class_numbers_and_one_hot() -> None:
    """-log softmax at the label, whichever way the label is written; no overflow at 700."""
    z = sg.input("z", shape=(3,))
    by_number = rows(cross_entropy(z, sg.input("label", dtype=int)), z=LOGITS, label=np.array([1, 0]))
    by_row = rows(cross_entropy(z, sg.input("p", shape=(3,))), z=LOGITS, p=np.eye(3)[[1, 0]])
    np.testing.assert_allclose(by_number, -log_softmax(LOGITS)[[0, 1], [1, 0]], rtol=1e-14)
    np.testing.assert_allclose(by_row, by_number, rtol=1e-15)


def test_binary_cross_entropy_is_accurate_at_both_ends() -> None:
    """A confident, right prediction costs exp(-|logit|), not 0; a wrong one |logit|."""
    z, t = sg.input("z"), sg.input("t")
    found = rows(binary_cross_entropy(z, t), z=[0.0, 40.0, 40.0, -800.0], t=[0.5, 1.0, 0.0, 1.0])
    np.testing.assert_allclose(found, [math.log(2.0), math.exp(-40.0), 40.0, 800.0], rtol=1e-15)


def test_hinge() -> None:
    """max(0, 1 - label * score)."""
    score, label = sg.input("score"), sg.input("label")
    assert rows(hinge(score, label), score=[2.0, 0.5, 0.5], label=[1.0, 1.0, -1.0]).tolist() == [0.0, 0.5, 1.5]
