"""Evaluators and precisions from the client's side: asked for there or here, the bits are the same."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import sumgrad as sg

pytest.importorskip("llvmlite")

DATA = {"x": np.random.default_rng(3).normal(size=3000)}
WISHES: list[dict[str, Any]] = [{}, {"evaluator": "compiled"}, {"evaluator": "reference"}, {"precision": "f32"}]


def objective() -> sg.Objective:
    """A sum that rounds, with a penalty and a metric."""
    x, w = sg.input("x"), sg.param("w", np.array([0.3, -1.2]))
    return sg.Objective(sg.sum(sg.tanh(x * w)), penalty=sg.sum(w * w), metrics={"square": x * x})


def bits(result: sg.Result) -> dict[str, bytes]:
    """Everything that a result holds, to the last bit."""
    arrays = {"value": np.float64(result.value), **result.grads, **{f"metric {name}": value for name, value in result.metrics.items()}}
    return {name: np.asarray(array).tobytes() for name, array in arrays.items()} | {"evaluator": result.evaluator.encode()}


@pytest.mark.parametrize("wish", WISHES)
def test_a_wish_gives_the_same_bits_there_and_here(service: sg.Service, wish: Any) -> None:
    """value_and_grad of the service, of its asyncio twin and of sg.here agree, and say what ran."""
    made = objective()
    assert service.process is not None
    address = service.process.address

    async def ask() -> sg.Result:
        async with sg.aio.connect(address, timeout=120.0) as twin:
            return await twin.value_and_grad(made, made.params, DATA, **wish)

    here = sg.here.value_and_grad(made, made.params, DATA, **wish)
    assert here.evaluator == ("reference" if wish.get("evaluator") == "reference" else "compiled")
    assert bits(service.value_and_grad(made, made.params, DATA, **wish)) == bits(here)
    assert bits(asyncio.run(ask())) == bits(here)


@pytest.mark.parametrize("wish", WISHES)
def test_evaluate_takes_wishes_too(service: sg.Service, wish: Any) -> None:
    """Outputs have the bits and the types of this process: float32 in f32."""
    outputs = {"y": sg.exp(sg.input("x")), "positive": sg.input("x") > 0.0}
    there, here = service.evaluate(outputs, data=DATA, **wish), sg.here.evaluate(outputs, data=DATA, **wish)
    assert there["y"].dtype == here["y"].dtype == (np.float32 if "precision" in wish else np.float64)
    assert all(there[name].tobytes() == here[name].tobytes() for name in outputs)


@pytest.mark.parametrize("wish", WISHES)
def test_a_fit_takes_wishes_too(service: sg.Service, wish: Any) -> None:
    """A fit ends with the same bits here and there, whatever is asked for."""
    ends = [sg.fit(where, objective(), DATA, sg.optim.SGD(1e-4), batch_size=700, progress=False, **wish) for where in (service, None)]
    assert ends[0].params["w"].tobytes() == ends[1].params["w"].tobytes()


@pytest.mark.parametrize("wish", [{"evaluator": "gpu"}, {"precision": "f16"}, {"evaluator": "reference", "precision": "f32"}])
def test_wishes_that_nobody_can_fulfil_do_not_travel(service: sg.Service, wish: Any) -> None:
    """Unknown names, and f32 from the reference evaluator, are refused before anything is sent."""
    with pytest.raises(sg.InputError):
        service.value_and_grad(objective(), objective().params, DATA, **wish)
