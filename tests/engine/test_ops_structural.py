"""Ops that move, reduce, multiply and choose, against NumPy: with and without sample axes, to the second derivative. An op without a case fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_engine.errors import InputError
from sumgrad_engine.grad import differentiate
from sumgrad_engine.interpret import Plan
from sumgrad_engine.ir import Builder
from sumgrad_engine.ops import OPS, Op
from sumgrad_engine.ops.arithmetic import multiply
from sumgrad_engine.ops.contraction import sum_
from sumgrad_engine.types import DType, Leaf, Type

SAMPLES = 3
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """Operand shapes (an integer operand as (shape, bound)), attributes, and what NumPy gives for one sample."""

    op: str
    operands: tuple[Any, ...]
    oracle: Callable[..., Any]
    attributes: dict[str, Shape] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.op}-{self.operands}-{self.attributes}".replace(" ", "")


def _pad(start: Shape, step: Shape, shape: Shape) -> Callable[[Any], Any]:
    def oracle(a: Any) -> Any:
        made = np.zeros(shape)
        made[tuple(slice(s, s + (n - 1) * k + 1 if n else s, k) for s, n, k in zip(start, a.shape, step, strict=True))] = a
        return made

    return oracle


def _scatter(axis: int, extent: int) -> Callable[[Any, Any], Any]:
    def oracle(a: Any, index: Any) -> Any:
        made = np.zeros((*a.shape[:axis], extent, *a.shape[axis + index.ndim :]))
        for place in np.ndindex(*index.shape):
            made[(slice(None),) * axis + (index[place],)] += a[(slice(None),) * axis + place]
        return made

    return oracle


def _identity(a: Any) -> Any:
    return a


def _reductions(op: str, oracle: Callable[..., Any]) -> list[Case]:
    shapes = [((2, 3, 4), axes) for axes in [(), (0,), (1,), (2,), (0, 2), (2, 0), (0, 1, 2)]] + [((5,), (0,)), ((1, 7), (1,)), ((), ())]
    return [Case(op, (shape,), lambda a, axes=axes: oracle(a, axis=axes), {"axes": axes}) for shape, axes in shapes]


def _reshape(shape: Shape) -> Callable[[Any], Any]:
    return lambda a: a.reshape(shape)


CASES = [
    *[
        Case("reshape", (old,), _reshape(new), {"shape": new})
        for old, new in [((2, 3), (3, 2)), ((6,), (1, 2, 3)), ((1, 1), ()), ((0, 2), (4, 0))]
    ],
    *[Case("transpose", ((2, 3, 4),), lambda a, o=order: a.transpose(o), {"axes": order}) for order in itertools.permutations(range(3))],
    *[
        Case("broadcast_to", (old,), lambda a, new=new: np.broadcast_to(a, new), {"shape": new})
        for old, new in [((), (2, 3)), ((3, 1), (2, 3, 4)), ((1,), (5,)), ((2, 3), (2, 3)), ((1, 2), (0, 2))]
    ],
    *_reductions("sum", np.sum),
    *_reductions("max", np.max),
    *_reductions("logsumexp", lambda a, axis: np.log(np.exp(a).sum(axis=axis))),
    Case("sum", ((2, 0),), lambda a: a.sum(axis=1), {"axes": (1,)}),
    *[
        Case("matmul", shapes, np.matmul)
        for shapes in [
            ((2, 3), (3, 4)),
            ((5, 2, 3), (3, 4)),
            ((2, 3), (5, 3, 2)),
            ((4, 1, 2, 3), (5, 3, 2)),
            ((1, 1), (1, 1)),
            ((2, 0), (0, 3)),
        ]
    ],
    *[
        Case("concat", shapes, lambda *a, k=axis: np.concatenate(a, k), {"axis": (axis,)})
        for shapes, axis in [(((2, 3), (4, 3)), 0), (((2, 3), (2, 1), (2, 5)), 1), (((3,),), 0), (((0, 2), (3, 2)), 0)]
    ],
    *[
        Case(
            "slice",
            ((5, 6),),
            lambda a, b=bounds: a[tuple(slice(*x) for x in b)],
            dict(zip(("start", "stop", "step"), zip(*bounds, strict=True), strict=True)),
        )
        for bounds in [
            ((0, 5, 1), (0, 6, 1)),
            ((1, 4, 1), (0, 6, 2)),
            ((1, 5, 3), (5, 6, 1)),
            ((2, 2, 1), (0, 6, 5)),
            ((0, 5, 9), (1, 6, 4)),
        ]
    ],
    *[
        Case("pad", (old,), _pad(start, step, shape), {"start": start, "step": step, "shape": shape})
        for old, start, step, shape in [
            ((2, 3), (1, 0), (2, 1), (5, 3)),
            ((2,), (0,), (1,), (2,)),
            ((0,), (3,), (2,), (4,)),
            ((2, 2), (0, 1), (1, 3), (2, 6)),
        ]
    ],
    *[Case("flip", ((2, 3, 4),), lambda a, k=axes: np.flip(a, k), {"axes": axes}) for axes in [(), (0,), (2, 0), (0, 1, 2)]],
    *[
        Case("take", (shape, (index, shape[axis])), lambda a, i, k=axis: np.take(a, i, k), {"axis": (axis,)})
        for shape, index, axis in [
            ((5,), (), 0),
            ((5,), (3,), 0),
            ((2, 5, 3), (4,), 1),
            ((2, 5), (2, 3), 1),
            ((4, 2), (1, 2), 0),
            ((4, 2), (0,), 0),
        ]
    ],
    *[
        Case("scatter_add", (shape, (index, extent)), _scatter(axis, extent), {"axis": (axis,), "extent": (extent,)})
        for shape, index, axis, extent in [
            ((3,), (3,), 0, 5),
            ((2, 4, 3), (4,), 1, 2),
            ((2, 3), (2, 3), 0, 4),
            ((), (), 0, 3),
            ((2, 3), (3,), 1, 1),
        ]
    ],
    *[Case("one_hot", ((index, 4),), lambda i: np.eye(4)[i], {"extent": (4,)}) for index in [(), (3,), (2, 3)]],
    *[Case("sum_samples", (shape,), _identity) for shape in [(), (3,), (2, 3)]],
    *[Case("matmul_samples", shapes, np.matmul) for shapes in [((2, 3), (3, 4)), ((1, 5), (5, 1)), ((80, 2), (2, 60))]],
    *[
        Case("scatter_add_samples", (shape, (index, extent)), _scatter(axis, extent), {"axis": (axis,), "extent": (extent,)})
        for shape, index, axis, extent in [((3,), (3,), 0, 5), ((2, 4), (4,), 1, 3), ((2, 3, 4), (), 0, 2), ((2, 3, 2), (3, 2), 1, 4)]
    ],
]
STRUCTURAL = {op.name for op in OPS.values() if not op.elementwise}


def _operand(random: np.random.Generator, spec: Any, lead: int) -> Any:
    rows = (SAMPLES,) * lead
    if spec and isinstance(spec[0], tuple):
        return random.integers(0, spec[1], (*rows, *spec[0]))
    return random.normal(size=(*rows, *spec))


def _operands(case: Case, leads: tuple[int, ...]) -> list[Any]:
    random = np.random.default_rng(7)
    return [_operand(random, spec, lead) for spec, lead in zip(case.operands, leads, strict=True)]


def _leads(case: Case) -> list[tuple[int, ...]]:
    if OPS[case.op].over_samples:
        return [(1,) * len(case.operands)]
    return list(itertools.product((0, 1), repeat=len(case.operands)))


def test_every_op_has_a_case() -> None:
    """Adding a structural op forces its case."""
    assert {case.op for case in CASES} == STRUCTURAL


@pytest.mark.parametrize(("case", "leads"), [(case, leads) for case in CASES for leads in _leads(case)], ids=str)
def test_value_with_and_without_samples(case: Case, leads: tuple[int, ...]) -> None:
    """Each sample of the result is NumPy's answer for that sample; sums over samples add them up."""
    op, arrays = OPS[case.op], _operands(case, leads)
    found = np.asarray(op.forward(arrays, leads, case.attributes))
    if not any(leads):
        expected = np.asarray(case.oracle(*arrays))
    else:
        rows = [[a[i] if lead else a for a, lead in zip(arrays, leads, strict=True)] for i in range(SAMPLES)]
        expected = np.stack([case.oracle(*row) for row in rows])
        expected = expected.sum(axis=0) if op.over_samples else expected
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)
    assert found.shape == expected.shape


@pytest.mark.parametrize("case", CASES, ids=str)
def test_shape_rule(case: Case) -> None:
    """The rule's shape is the shape of the value."""
    op, arrays = OPS[case.op], _operands(case, (0,) * len(case.operands))
    types = [Type(a.shape, DType.INT if a.dtype.kind == "i" else DType.FLOAT) for a in arrays]
    of = op.infer(types, case.attributes)
    expected = np.asarray(case.oracle(*arrays))
    assert of == Type(expected.shape, DType.FLOAT)


def _contract(op: Op, values: list[Any], attributes: dict[str, Shape], weights: Any) -> Any:
    """A scalar of the op's result: weighted and bent, so that it has a second derivative however linear the op is."""
    result = op(*values, **attributes)
    return sg.sum(sg.sin(result * weights))


DIFFERENTIABLE = [case for case in CASES if not OPS[case.op].over_samples and case.op != "one_hot" and 0 not in case.operands[0]]


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_derivatives_by_contraction(case: Case) -> None:
    """<gradient, v> and <Hessian u, v> against central differences along random vectors."""
    op, arrays = OPS[case.op], _operands(case, (0,) * len(case.operands))
    random = np.random.default_rng(11)
    weights = random.normal(size=np.shape(case.oracle(*arrays)))
    floats = [k for k, a in enumerate(arrays) if a.dtype.kind == "f" and a.size]
    directions = {k: random.normal(size=arrays[k].shape) for k in floats}

    def gradient(step: float) -> tuple[Any, dict[int, Any]]:
        values = [sg.Value(a + step * directions[k]) if k in directions else a for k, a in enumerate(arrays)]
        total = _contract(op, values, case.attributes, weights)
        return total, dict(zip(floats, sg.grad(total, [values[k] for k in floats]), strict=True))

    h = 1e-5
    (below, low), (above, high) = gradient(-h), gradient(h)
    values = [sg.Value(a) if k in directions else a for k, a in enumerate(arrays)]
    total = _contract(op, values, case.attributes, weights)
    wrt, vectors = [values[k] for k in floats], [directions[k] for k in floats]
    slope = sum(float(np.sum(g.data * v)) for g, v in zip(sg.grad(total, wrt), vectors, strict=True))
    assert slope == pytest.approx((above.data - below.data) / (2 * h), rel=1e-6, abs=1e-7)
    for k, product in zip(floats, sg.hvp(total, wrt, vectors), strict=True):
        np.testing.assert_allclose(product.data, (high[k].data - low[k].data) / (2 * h), rtol=1e-5, atol=1e-6)


SUMMING = [case for case in CASES if OPS[case.op].over_samples]


@pytest.mark.parametrize("case", SUMMING, ids=str)
@pytest.mark.parametrize("shared", [0, 1])
def test_derivatives_of_sums_over_samples(case: Case, shared: int) -> None:
    """The gradient for an operand, whether all samples share it or each has its own, against central differences."""
    random = np.random.default_rng(5)
    builder = Builder()
    names = [f"v{k}" for k in range(len(case.operands))]
    # Without an input nothing would tell the number of samples.
    builder.input(Leaf("n", ()))
    ids, data = [], {"n": np.zeros(SAMPLES)}
    for k, (name, spec) in enumerate(zip(names, case.operands, strict=True)):
        integer = bool(spec) and isinstance(spec[0], tuple)
        lead = int(integer or not shared or k == 1)
        data[name] = _operand(random, spec, lead)
        leaf = Leaf(name, data[name].shape[lead:], DType.INT if integer else DType.FLOAT)
        ids.append(builder.input(leaf) if lead else builder.parameter(leaf))
    result = builder.add(OPS[case.op], ids, case.attributes)
    weights = builder.constant(random.normal(size=builder.types[result].shape))
    product = builder.add(multiply, [builder.add(multiply, [result, result]), weights])
    target = builder.add(sum_, [product], {"axes": tuple(range(len(builder.types[result].shape)))})
    (slope,) = differentiate(builder, target, [ids[0]], over_samples=True)
    graph = builder.graph({"total": target, "slope": slope})
    plan = Plan(graph, graph.outputs.values())

    def evaluate(given: dict[str, Any]) -> dict[str, Any]:
        parameters = {leaf.name: given[leaf.name] for leaf in graph.parameters}
        inputs = {leaf.name: given[leaf.name] for leaf in graph.inputs}
        found = plan.block(plan.shared(parameters), inputs, 0)
        return {name: found[node] for name, node in graph.outputs.items()}

    direction = random.normal(size=data["v0"].shape)
    h = 1e-6
    above = evaluate({**data, "v0": data["v0"] + h * direction})["total"]
    below = evaluate({**data, "v0": data["v0"] - h * direction})["total"]
    assert np.sum(evaluate(data)["slope"] * direction) == pytest.approx((above - below) / (2 * h), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["take", "scatter_add", "one_hot"])
@pytest.mark.parametrize("lead", [0, 1])
@pytest.mark.parametrize("wrong", [-1, 4])
def test_indices_out_of_range_are_refused(name: str, lead: int, wrong: int) -> None:
    """An index that is out of range is never wrapped or clamped; the error names it and the sample."""
    index = np.array([[0, 1, 2], [3, wrong, 0]])
    index = index if lead else index[1]
    attributes = {"take": {"axis": (0,)}, "scatter_add": {"axis": (0,), "extent": (4,)}, "one_hot": {"extent": (4,)}}[name]
    arrays = [index] if name == "one_hot" else [np.zeros(4 if name == "take" else 3), index]
    with pytest.raises(InputError, match=rf"index {wrong} .*0\.\.3") as caught:
        OPS[name].forward(arrays, (lead,) if name == "one_hot" else (0, lead), attributes)
    assert caught.value.sample == (1 if lead else None)


BAD_ATTRIBUTES: list[tuple[str, list[Type], dict[str, Shape]]] = [
    ("reshape", [Type((2, 3), DType.FLOAT)], {"shape": (7,)}),
    ("reshape", [Type((2, 3), DType.FLOAT)], {"shape": (-2, -3)}),
    ("transpose", [Type((2, 3), DType.FLOAT)], {"axes": (0,)}),
    ("transpose", [Type((2, 3), DType.FLOAT)], {"axes": (0, 0)}),
    ("broadcast_to", [Type((2, 3), DType.FLOAT)], {"shape": (3,)}),
    ("broadcast_to", [Type((1,), DType.FLOAT)], {"shape": (-1,)}),
    ("sum", [Type((2, 3), DType.FLOAT)], {"axes": (2,)}),
    ("sum", [Type((2, 3), DType.FLOAT)], {"axes": (-1,)}),
    ("sum", [Type((2, 3), DType.FLOAT)], {"axes": (0, 0)}),
    ("max", [Type((2, 3), DType.FLOAT)], {"axes": (-100,)}),
    ("max", [Type((2, 0), DType.FLOAT)], {"axes": (1,)}),
    ("logsumexp", [Type((2,), DType.FLOAT)], {"axes": (5,)}),
    ("matmul", [Type((2,), DType.FLOAT), Type((2, 3), DType.FLOAT)], {}),
    ("matmul", [Type((2, 3), DType.FLOAT), Type((2, 3), DType.FLOAT)], {}),
    ("matmul", [Type((2, 2, 3), DType.FLOAT), Type((3, 3, 2), DType.FLOAT)], {}),
    ("concat", [Type((2,), DType.FLOAT), Type((2,), DType.INT)], {"axis": (0,)}),
    ("concat", [Type((2, 3), DType.FLOAT), Type((2, 4), DType.FLOAT)], {"axis": (0,)}),
    ("concat", [Type((2,), DType.FLOAT)], {"axis": (1,)}),
    ("slice", [Type((5,), DType.FLOAT)], {"start": (-1,), "stop": (2,), "step": (1,)}),
    ("slice", [Type((5,), DType.FLOAT)], {"start": (0,), "stop": (6,), "step": (1,)}),
    ("slice", [Type((5,), DType.FLOAT)], {"start": (0,), "stop": (5,), "step": (0,)}),
    ("slice", [Type((5,), DType.FLOAT)], {"start": (0, 0), "stop": (5,), "step": (1,)}),
    ("pad", [Type((2,), DType.FLOAT)], {"start": (0,), "step": (1,), "shape": (1,)}),
    ("pad", [Type((2,), DType.FLOAT)], {"start": (0,), "step": (1,), "shape": (2, 2)}),
    ("pad", [Type((2,), DType.FLOAT)], {"start": (-1,), "step": (1,), "shape": (5,)}),
    ("pad", [Type((2,), DType.FLOAT)], {"start": (0,), "step": (0,), "shape": (5,)}),
    ("flip", [Type((2,), DType.FLOAT)], {"axes": (0, 0)}),
    ("flip", [Type((2,), DType.FLOAT)], {"axes": (1,)}),
    ("take", [Type((2,), DType.FLOAT), Type((), DType.INT)], {"axis": (1,)}),
    ("scatter_add", [Type((2,), DType.FLOAT), Type((3,), DType.INT)], {"axis": (0,), "extent": (4,)}),
    ("scatter_add", [Type((2,), DType.FLOAT), Type((2,), DType.INT)], {"axis": (0,), "extent": (-4,)}),
    ("scatter_add", [Type((2,), DType.FLOAT), Type((), DType.INT)], {"axis": (9,), "extent": (4,)}),
    ("one_hot", [Type((), DType.INT)], {"extent": (0,)}),
    ("polygamma", [Type((), DType.FLOAT)], {"order": (0,)}),
    ("polygamma", [Type((), DType.FLOAT)], {"order": (1 << 62,)}),
]


@pytest.mark.parametrize(("name", "types", "attributes"), BAD_ATTRIBUTES)
def test_shape_rules_refuse(name: str, types: list[Type], attributes: dict[str, Shape]) -> None:
    """Shapes and attributes that do not fit are ShapeErrors, whatever the numbers."""
    with pytest.raises(sg.ShapeError):
        OPS[name].infer(types, attributes)
