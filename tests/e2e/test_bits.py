"""The same bits: here, by one worker or several, blocking or asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import sumgrad as sg
from sumgrad.datasets import make_moons

POINTS, LABELS = make_moons(5000, noise=0.2, seed=1)
DATA = {"x": POINTS, "y": 2.0 * LABELS - 1.0}


def moons(reduction: Any = "sum") -> sg.Objective:
    """A network with a penalty and metrics of both kinds."""
    net = sg.nn.MLP(2, [8, 8, 1], seed=3)
    score, label = net(sg.input("x", shape=(2,)))[0], sg.input("y")
    penalty = 1e-3 * sum((sg.sum(sg.square(value)) for value in net.parameters().values()), start=sg.Value(0.0))
    metrics = {"accuracy": score * label > 0.0, "position": sg.input("x", shape=(2,)) * score}
    return sg.Objective(sg.nn.hinge(score, label), penalty=penalty, metrics=metrics, reduction=reduction)


def bits(result: sg.Result) -> dict[str, bytes]:
    """Everything that a result holds, to the last bit."""
    arrays = {"value": np.float64(result.value), **result.grads, **{f"metric {name}": value for name, value in result.metrics.items()}}
    return {name: np.asarray(array).tobytes() for name, array in arrays.items()} | {"count": str(result.count).encode()}


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_service_has_the_bits_of_this_process(service: sg.Service, reduction: Any) -> None:
    """A sum over ten blocks by two workers is the sum here."""
    objective = moons(reduction)
    assert bits(service.value_and_grad(objective, objective.params, DATA)) == bits(objective.value_and_grad(objective.params, DATA))


@pytest.mark.parametrize("workers", [1, 3])
def test_number_of_workers_does_not_matter(workers: int) -> None:
    """One worker and three give what this process gives."""
    objective = moons()
    with sg.local(workers=workers, timeout=120.0) as other:
        assert bits(other.value_and_grad(objective, objective.params, DATA)) == bits(objective.value_and_grad(objective.params, DATA))


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8, ">f8"])
def test_types_of_data_do_not_matter(service: sg.Service, dtype: Any) -> None:
    """Narrow, integer and big-endian data mean the same there as here."""
    objective = moons()
    data = {name: (10.0 * np.abs(values)).astype(dtype) for name, values in DATA.items()}
    assert bits(service.value_and_grad(objective, objective.params, data)) == bits(objective.value_and_grad(objective.params, data))


def test_some_parameters_only(service: sg.Service) -> None:
    """The gradient with respect to some parameters holds those alone, with the bits of the whole."""
    objective = moons()
    names = ["mlp.1.bias", "mlp.0.weight"]
    some = service.value_and_grad(objective, objective.params, DATA, wrt=names)
    whole = service.value_and_grad(objective, objective.params, DATA)
    assert set(some.grads) == set(names)
    assert all(some.grads[name].tobytes() == whole.grads[name].tobytes() for name in names)


def test_evaluate_has_the_bits_of_this_process(service: sg.Service) -> None:
    """Outputs of every kind for each sample, here and there; data that they don't need may be given too."""
    x, y = sg.input("x", shape=(2,)), sg.input("y")
    w = sg.param("w", np.array([0.3, -1.2]))
    outputs = {"score": sg.tanh(x @ w), "outer": sg.reshape(x, (2, 1)) * w, "right": (x @ w) * y > 0.0}
    params, data = {"w": w.data, "more": 1.0}, {**DATA, "more": np.zeros(3)}
    there, here = service.evaluate(outputs, params, data), sg.here.evaluate(outputs, params, data)
    assert {name: (value.dtype, value.shape) for name, value in there.items()} == {
        "score": (np.dtype(np.float64), (5000,)),
        "outer": (np.dtype(np.float64), (5000, 2, 2)),
        "right": (np.dtype(np.bool_), (5000,)),
    }
    assert all(there[name].tobytes() == here[name].tobytes() for name in outputs)


def test_evaluate_without_inputs(service: sg.Service) -> None:
    """An expression of parameters alone is evaluated once."""
    assert service.evaluate({"square": sg.square(sg.param("w", 3.0))}, {"w": 3.0})["square"].tolist() == [9.0]


def expression() -> tuple[sg.Value, list[sg.Value]]:
    """An eager expression of scalars and an array, in which one node is used twice."""
    a, b, c = sg.Value(-4.0), sg.Value(2.0), sg.Value([[1.0, -0.5], [0.25, 3.0]])
    d = a * b + sg.sum(sg.tanh(c) * b)
    return (d * d + sg.exp(b)) / (1.0 + a**2), [a, b, c, d]


def test_backward_has_the_bits_of_this_process(service: sg.Service) -> None:
    """The service fills data and gradients of every node, and adds to gradients that are there."""
    there, nodes_there = expression()
    here, nodes_here = expression()
    for _ in range(2):
        service.backward(there)
        here.backward()
    assert there.data == here.data
    for one, other in zip(nodes_there, nodes_here, strict=True):
        assert np.asarray(one.grad).tobytes() == np.asarray(other.grad).tobytes()
    assert np.shape(nodes_there[2].grad) == (2, 2)


def test_equal_numbers_stay_different_nodes(service: sg.Service) -> None:
    """Two leaves of the same value have gradients of their own."""
    a, b = sg.Value(3.0), sg.Value(3.0)
    service.backward(a * b + a)
    assert (a.grad, b.grad) == (4.0, 3.0)


def test_asyncio_gives_the_same(service: sg.Service) -> None:
    """The asyncio twin: the same methods, many at once, the same answers."""
    objective = moons()
    assert service.process is not None
    address = service.process.address
    y = sg.input("y") * 2.0

    async def ask() -> tuple[list[sg.Result], dict[str, Any], str, sg.Value]:
        there, _ = expression()
        async with sg.aio.connect(address, timeout=120.0) as twin:
            results = await asyncio.gather(*[twin.value_and_grad(objective, objective.params, DATA) for _ in range(4)])
            await twin.backward(there)
            return results, await twin.evaluate({"y": y}, data=DATA), await twin.health(), there

    results, evaluated, health, there = asyncio.run(ask())
    expected = bits(service.value_and_grad(objective, objective.params, DATA))
    assert [bits(result) for result in results] == [expected] * 4
    assert evaluated["y"].tolist() == (2.0 * DATA["y"]).tolist()
    assert health == "SERVING"
    here, _ = expression()
    here.backward()
    assert there.operands[0].grad == here.operands[0].grad


def test_asyncio_starts_a_server_too() -> None:
    """The asyncio twin of local() serves and stops."""

    async def ask() -> tuple[float, Any]:
        async with sg.aio.local(workers=1, timeout=120.0) as twin:
            assert twin.process is not None
            result = await twin.value_and_grad(moons(), moons().params, DATA)
            return result.value, twin.process
        raise AssertionError

    value, process = asyncio.run(ask())
    assert value == moons().value_and_grad(moons().params, DATA).value
    assert process.process.poll() == 0


def test_fit_through_the_service(service: sg.Service) -> None:
    """A whole fit with minibatches ends with the same bits here and there."""
    there, here = (
        sg.fit(where, moons("mean"), DATA, sg.optim.Adam(0.01), batch_size=700, epochs=2, progress=False) for where in (service, None)
    )
    assert there.history[-1].value == here.history[-1].value
    assert all(there.params[name].tobytes() == here.params[name].tobytes() for name in here.params)
