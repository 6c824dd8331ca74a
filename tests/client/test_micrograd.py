"""sumgrad.micrograd against micrograd itself, against figures of PyTorch, and against go-micrograd."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import random
from typing import Any

import micrograd.engine
import numpy as np
import pytest
import sumgrad as sg
from sumgrad.micrograd import Value, draw_dot, trace

THEIRS = micrograd.engine.Value


def readme(a: Any, b: Any) -> Any:
    """The expression of micrograd's README."""
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    return g


def test_readme() -> None:
    """The figures of the README's expression, to the last bit."""
    a, b = Value(-4.0), Value(2.0)
    g = readme(a, b)
    g.backward()
    assert (g.data, a.grad, b.grad) == (24.70408163265306, 138.83381924198252, 645.5772594752187)


def test_sanity_check() -> None:
    """micrograd's first test, with PyTorch's figures."""
    x = Value(-4.0)
    z = 2 * x + 2 + x
    q = z.relu() + z * x
    h = (z * z).relu()
    y = h + q + q * x
    y.backward()
    assert (y.data, x.grad) == (-20.0, 46.0)


def grown(kind: Any, seed: int) -> tuple[Any, list[Any]]:
    """A random expression tree and its leaves, of one kind of Value or the other."""
    dice = random.Random(seed)
    leaves = [kind(dice.choice([dice.uniform(-2, 2), dice.randrange(1, 4)])) for _ in range(24)]
    nodes = list(leaves)
    while len(nodes) > 1:
        a = nodes.pop(dice.randrange(len(nodes)))
        number, which = dice.choice([2, 3, 0.5]), dice.randrange(14)
        if which < 6:
            b = nodes.pop(dice.randrange(len(nodes)))
            nodes.append([a + b, a - b, a * b, a / (b * b + 1), b - a, a + b][which])
        else:
            nodes.append([a + number, number - a, number * a, a / number, -a, a.relu(), a**2, number / (a**2 + 1)][which - 6])
    return nodes[0], leaves


@pytest.mark.parametrize("seed", range(60))
def test_trees_agree_with_micrograd_to_the_bit(seed: int) -> None:
    """Where every node is used once micrograd's order has no say, and every figure and its kind are the same."""
    (ours, leaves), (theirs, their_leaves) = grown(Value, seed), grown(THEIRS, seed)
    ours.backward()
    theirs.backward()
    figures = [(node.data, node.grad) for node in [ours, *leaves]]
    assert repr(figures) == repr([(node.data, node.grad) for node in [theirs, *their_leaves]])
    assert ours._op == theirs._op


def test_second_backward_adds_up_as_in_micrograd() -> None:
    """backward() called twice without zeroing hands on what nodes hold from the first time."""

    def twice(kind: Any) -> list[float]:
        a, b = kind(2.0), kind(3.0)
        c = a * b
        d = c * c + a
        d.backward()
        d.backward()
        return [a.grad, b.grad, c.grad, d.grad]

    assert twice(Value) == twice(THEIRS)


@pytest.mark.parametrize("kind", [Value, THEIRS])
def test_the_interface_is_micrograds(kind: Any) -> None:
    """What micrograd's own Value shows of itself, ours shows too."""
    a, b = kind(3), kind(-2.0)
    c = a * b
    assert repr(c) == "Value(data=-6.0, grad=0)"
    assert (c._prev, c._op, (a**2)._op, (a**-1.5)._op, b.relu()._op, (a + 1)._op) == ({a, b}, "*", "**2", "**-1.5", "ReLU", "+")
    assert (type(a.data), type(a.grad), b.relu().data, a.relu().data) == (int, int, 0, 3)
    assert kind(5, (a, b), "new")._prev == {a, b}
    assert bool(kind(0.0))
    assert list(inspect.signature(kind).parameters) == ["data", "_children", "_op"]
    a.label = "any attribute"
    a.data -= 0.5
    assert a.data == 2.5


@pytest.mark.parametrize("kind", [Value, THEIRS])
def test_new_ops_as_in_micrograd(kind: Any) -> None:
    """A function put into `_backward` is the rule of a node made by hand; without one the node hands nothing on."""
    a = kind(0.5)
    out = kind(math.sin(a.data), (a,), "sin")

    def rule() -> None:
        a.grad += math.cos(a.data) * out.grad

    (out * 2).backward()
    assert a.grad == 0
    out._backward = rule
    (out * 2).backward()
    assert a.grad == pytest.approx(4 * math.cos(0.5))  # out holds 2 from before and 2 from now


@pytest.mark.parametrize("kind", [Value, THEIRS])
def test_numpy_takes_values_for_scalars(kind: Any) -> None:
    """NumPy's numbers and arrays work on the left and in object arrays, element by element."""
    assert (np.float64(2) * kind(3.0)).data == 6.0
    assert [value.data for value in np.array([1.0, 2.0]) - kind(3.0)] == [-2.0, -1.0]
    assert np.dot(np.array([kind(1), kind(2)]), np.array([3, 4])).data == 11


def test_tanh_and_exp() -> None:
    """The functions of go-micrograd: Python's own figures, and derivatives by their definitions."""
    for number in (-1.0, 0.123, 2.0):
        x, y = Value(number), Value(number)
        t, e = x.tanh(), y.exp()
        t.backward()
        e.backward()
        assert (t.data, t._op, x.grad) == (math.tanh(number), "tanh", 1 - math.tanh(number) ** 2)
        assert (e.data, e._op, y.grad) == (math.exp(number), "exp", math.exp(number))


def test_go_walk_through() -> None:
    """go-micrograd fits double(x) from w = 0.4: six losses and weights as it prints them."""
    w, x, y = Value(0.4), Value(2.0), Value(4.0)
    losses, weights = [], []
    for _ in range(6):
        loss = (w * x - y) ** 2
        w.grad = 0
        loss.backward()
        w.data -= 0.1 * w.grad
        losses.append(f"{loss.data:.4g}")
        weights.append(f"{w.data:.4g}")
    assert losses == ["10.24", "0.4096", "0.01638", "0.0006554", "2.621e-05", "1.049e-06"]
    assert weights == ["1.68", "1.936", "1.987", "1.997", "1.999", "2"]


def test_go_neuron() -> None:
    """go-micrograd's neuron, its gradients, and its lines as text."""
    x1, x2, w1, w2, b = Value(2.0), Value(0.0), Value(-3.0), Value(1.0), Value(6.8813735870195432)
    o = (x1 * w1 + x2 * w2 + b).tanh()
    o.backward()
    assert f"{o.data:.4f}" == "0.7071"
    assert [round(leaf.grad, 12) for leaf in (x1, w1, x2, w2)] == [-1.5, 1.0, 0.5, 0.0]
    lines = o.display().splitlines()
    assert lines[0] == "data 0.7071 | grad 1.0000 | prev { tanh [0.8813735870195432] }"
    assert lines[-3:-1] == ["data 0.0000 | grad 0.5000", "data 1.0000 | grad 0.0000"]


def test_deep_chains() -> None:
    """A chain of 100,000 additions has no depth that matters; micrograd's recursion ends at Python's limit."""
    x = Value(1.0)
    total = x
    for _ in range(100_000):
        total = total + x
    total.backward()
    assert (total.data, x.grad) == (100_001.0, 100_001)


def test_exponents_are_numbers() -> None:
    """A Value as exponent is refused, and the way to have one is named."""
    with pytest.raises(sg.GraphError, match=r"int or a float as exponent.*not Value\(data=3, grad=0\).*sumgrad.pow"):
        Value(2.0) ** Value(3)


def test_sumgrads_functions_take_them() -> None:
    """The engine's functions, backward and mixed arithmetic work on these Values, exponents included."""
    v = Value(2) ** 3 + Value(1)
    mixed = sg.sin(v) * v + sg.Value(0.5) - 1 / v
    mixed.backward()
    assert mixed.data == pytest.approx(math.sin(9) * 9 + 0.5 - 1 / 9)
    assert v.grad == pytest.approx(math.cos(9) * 9 + math.sin(9) + 1 / 81)
    assert v._children[0].grad == pytest.approx(v.grad)
    assert v._children[0]._children[0].grad == pytest.approx(v.grad * 12)


def test_symbolic_expressions_take_them() -> None:
    """With an input of an objective they are constants."""
    x = sg.input("x")
    found = sg.here.evaluate({"y": Value(3) * x - Value(1), "z": x - Value(2)}, {}, {"x": np.array([1.0, 2.0])})
    assert found["y"].tolist() == [2.0, 5.0]
    assert found["z"].tolist() == [-1.0, 0.0]


def test_every_op_has_its_engine_op() -> None:
    """The engine finds the same value and the same gradients of an expression that uses all of micrograd's ops."""
    a, b = Value(0.7), Value(-1)
    ours = (a * b + a**3 - b / a).relu() + (a.tanh() * b.exp()) ** -2
    engines = sg.Value(0.0) + ours
    ours.backward()
    mine = [a.grad, b.grad]
    a.grad = b.grad = 0.0
    ours.grad = 0.0
    engines.zero_grad()
    engines.backward()
    assert [a.grad, b.grad] == pytest.approx(mine, rel=1e-14)


def test_unknown_ops_stay_micrograds() -> None:
    """A node of an op that the engine lacks is refused by the engine by name."""
    strange = Value(1.0, (Value(2.0), Value(3.0)), "strange")
    with pytest.raises(sg.GraphError, match="no op 'strange' of 2 operands"):
        _ = strange.op


def test_a_zero_dimensional_array_becomes_a_number() -> None:
    """Data handed back by a service as an array of shape () is kept as a plain number."""
    a = Value(1)
    a.data = np.array(2.5)
    assert repr(a) == "Value(data=2.5, grad=0)"


def test_copies_and_pickles() -> None:
    """Values can be copied and pickled with their expressions."""
    a = Value(2.0)
    c = (a**2 + a).tanh()
    for twin in (copy.deepcopy(c), pickle.loads(pickle.dumps(c))):
        twin.backward()
        leaf = twin._children[0]._children[1]
        assert leaf is not a
        assert leaf.grad == pytest.approx(5 * (1 - math.tanh(6) ** 2))
    assert a.grad == 0


def test_draw_dot() -> None:
    """draw_dot returns micrograd's picture: DOT text, and SVG without Graphviz."""
    x = Value(1.0)
    y = (x * 2 + 1).relu() ** 2
    y.backward()
    dot = draw_dot(y)
    assert '[label="{ data 9.0000 | grad 1.0000 }" shape=record]' in dot.source
    assert 'op [label="**2"]' in dot.source
    assert str(dot) == dot.source == y.to_dot()
    assert dot._repr_svg_() == dot.svg == y.to_svg() == y._repr_svg_()
    assert dot.svg.startswith("<svg")
    assert ">ReLU<" in dot.svg
    assert "rankdir=TB" in draw_dot(y, rankdir="TB").source


def test_render(tmp_path: Any) -> None:
    """render() writes the text and the picture; for formats other than svg it says what to do."""
    dot = draw_dot(Value(1.0) + 2)
    assert dot.render(str(tmp_path / "gout")) == str(tmp_path / "gout.svg")
    assert (tmp_path / "gout").read_text() == dot.source
    assert (tmp_path / "gout.svg").read_text() == dot.svg
    with pytest.raises(ValueError, match="svg only: for png, save"):
        draw_dot(Value(1.0), format="png").render()


def test_trace() -> None:
    """trace gives micrograd's sets of nodes and edges."""
    a = Value(2.0)
    b = a * a
    c = b + a
    assert trace(c) == ({a, b, c}, {(a, b), (b, c), (a, c)})
