"""What a user sees when something is wrong: the node, the field and the line of the program."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import sumgrad as sg


def test_first_nan_names_node_line_and_sample(service: sg.Service) -> None:
    """In debug mode the first NaN has its op, the line that made it, and the sample."""
    x = sg.input("x")
    rooted = sg.sqrt(x - sg.param("w", 1.0))
    objective = sg.Objective(rooted * 2.0)
    data = {"x": np.linspace(1.5, 2.5, 2000)}
    data["x"][1234] = 0.5
    with pytest.raises(sg.NonFiniteError) as caught:
        service.value_and_grad(objective, {"w": 1.0}, data, debug=True)
    error = caught.value
    assert isinstance(error, sg.NumericalError)
    assert (error.op, error.sample) == ("sqrt", 1234)
    assert str(error.source).startswith(f"{__file__}:")
    assert str(error).endswith('rooted = sg.sqrt(x - sg.param("w", 1.0))')


def test_first_nan_of_evaluate(service: sg.Service) -> None:
    """Evaluate checks too."""
    with pytest.raises(sg.NonFiniteError, match=r"sg\.log") as caught:
        service.evaluate({"y": sg.log(sg.input("x"))}, data={"x": [1.0, 2.0, -1.0]}, debug=True)
    assert caught.value.sample == 2


def test_without_debug_nan_is_a_result(service: sg.Service) -> None:
    """NaN is a value like any other unless it is asked about."""
    assert np.isnan(service.evaluate({"y": sg.log(sg.input("x"))}, data={"x": [-1.0]})["y"][0])


def test_a_node_too_large_names_its_line(service: sg.Service) -> None:
    """What the server refuses about a graph comes back with the line that made the node."""
    wide = sg.broadcast_to(sg.input("x"), (100_000, 10_000))
    with pytest.raises(sg.InvalidArgumentError, match="max_elements") as caught:
        service.evaluate({"y": sg.sum(wide)}, data={"x": [1.0]})
    assert str(caught.value).endswith('wide = sg.broadcast_to(sg.input("x"), (100_000, 10_000))')
    assert "broadcast_to" in str(caught.value)


def test_backward_of_inputs_is_refused(service: sg.Service) -> None:
    """Backward needs data; the error names the leaf that has none."""
    with pytest.raises(sg.InvalidArgumentError, match="'x'"):
        service.backward(sg.input("x") * 2.0)


def test_arrays_are_named(service: sg.Service) -> None:
    """An array that does not fit is named before it travels."""
    objective = sg.Objective(sg.input("x", shape=(2,)) @ sg.param("w", np.zeros(2)))
    with pytest.raises(sg.InputError) as caught:
        service.value_and_grad(objective, objective.params, {"x": np.zeros((5, 3))})
    assert caught.value.field == "inputs.x"
    with pytest.raises(sg.InputError, match="nobody"):
        service.value_and_grad(objective, objective.params, {"x": np.zeros((5, 2))}, wrt=["nobody"])


def test_unknown_graph(service: sg.Service) -> None:
    """A graph that was never registered is NOT_FOUND."""
    with pytest.raises(sg.NotFoundError):
        service.get_graph("0" * 64)


def test_deadline(service: sg.Service) -> None:
    """A sum that takes longer than its timeout is a TimeoutError, and the service goes on."""
    x = sg.input("x", shape=(64, 64))
    objective = sg.Objective(sg.sum(x @ sg.tanh(x @ sg.tanh(x @ sg.param("w", np.eye(64))))))
    with pytest.raises(TimeoutError, match=r"timeout=0\.2 s"):
        service.value_and_grad(objective, objective.params, {"x": np.ones((4000, 64, 64))}, timeout=0.2)
    assert service.health() == "SERVING"


def test_cancelling_a_task_cancels_the_call(service: sg.Service) -> None:
    """An asyncio task that waits for an answer can be cancelled, and the connection goes on."""
    assert service.process is not None
    address = service.process.address
    x = sg.input("x", shape=(64, 64))
    objective = sg.Objective(sg.sum(x @ sg.tanh(x @ sg.param("w", np.eye(64)))))

    async def ask() -> str:
        async with sg.aio.connect(address) as twin:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await twin.value_and_grad(objective, objective.params, {"x": np.ones((4000, 64, 64))})
            return await twin.health(timeout=60.0)

    assert asyncio.run(ask()) == "SERVING"


def test_nobody_is_there(tmp_path: Path) -> None:
    """An address where nobody listens is a ConnectionError after the attempts that were asked for."""
    retry = sg.Retry(attempts=2, first=0.01, longest=0.01)
    with sg.connect(f"unix:{tmp_path}/socket", retry=retry, timeout=20.0) as service, pytest.raises(ConnectionError):
        service.health()


def test_message_limit_of_the_client(service: sg.Service) -> None:
    """A client with a small message limit says that a message was too large."""
    assert service.process is not None
    objective = sg.Objective(sg.input("x") * sg.param("w", 1.0))
    with sg.connect(service.process.address, max_message_bytes=100_000) as small, pytest.raises(sg.ResourceExhaustedError):
        small.value_and_grad(objective, objective.params, {"x": np.zeros(50_000)})
