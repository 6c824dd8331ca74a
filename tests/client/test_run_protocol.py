"""Runs, driven by hand: what is sent to make one, and what is done when the server has lost its graph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sumgrad as sg
from sumgrad import codec
from sumgrad.calls import Call, Pause, Steps
from sumgrad.protocol import Protocol
from sumgrad.runs import encode_optimizer, flat, split
from sumgrad_engine.errors import InputError
from sumgrad_proto.v1 import service_pb2 as wire

OBJECTIVE = sg.Objective(sg.param("w", np.array([2.0, 1.0])) @ sg.input("x", shape=(2,)), reduction="mean")
OPTIONS: dict[str, Any] = {
    "members": 3,
    "min_members": 2,
    "lease": 5.0,
    "step_timeout": 50.0,
    "max_steps": None,
    "evaluator": "auto",
    "precision": "f64",
}


def protocol() -> Protocol:
    """Request ids r1, r2, ..."""
    numbers: Iterator[int] = iter(range(1, 1000))
    return Protocol(dice=lambda: 0.5, new_request_id=lambda: f"r{next(numbers)}")


def drive(steps: Steps[Any], *errors: sg.ServiceError) -> tuple[Any, list[Any]]:
    """Carries steps out; the answer, and the requests. Calls that are not about graphs fail with these errors first."""
    pending, asked = list(errors), []
    step = next(steps)
    while True:
        try:
            if isinstance(step, Pause):
                step = next(steps)
                continue
            asked.append(step.request)
            if not isinstance(step.request, wire.RegisterGraphRequest) and pending:
                step = steps.throw(pending.pop(0))
            else:
                step = steps.send(answer(step))
        except StopIteration as done:
            return done.value, asked


def answer(call: Call) -> Any:
    """What a server says."""
    if isinstance(call.request, wire.RegisterGraphRequest):
        return wire.RegisterGraphResponse(graph_id=codec.graph_id(call.request.graph))
    run = wire.Run(id="id", name="run", state=wire.RUN_STATE_WAITING)
    return wire.CreateRunResponse(run=run)


def lost(reason: str) -> sg.NotFoundError:
    """Something is not there."""
    return sg.NotFoundError(f"{reason} by the test", status="NOT_FOUND", reason=reason)


def test_run_is_made_with_its_graph() -> None:
    """The graph is registered, and named in what describes the run; parameters are the objective's, in float64."""
    info, (registered, made) = drive(protocol().create_run("run", OBJECTIVE, sg.optim.SGD(0.5), None, **OPTIONS))
    assert (info.name, info.state, info.max_steps, info.last, info.over) == ("run", "waiting", None, None, False)
    specification = made.specification
    assert specification.graph_id == codec.graph_id(registered.graph)
    assert (specification.reduction, specification.members, specification.min_members) == (wire.REDUCTION_MEAN, 3, 2)
    assert (specification.lease_seconds, specification.step_timeout_seconds, specification.max_steps) == (5.0, 50.0, 0)
    assert {name: array.tolist() for name, array in codec.decode_arrays(made.parameters).items()} == {"w": [2.0, 1.0]}


def test_lost_graph_is_registered_again() -> None:
    """A server that has lost the graph gets it again; one that has no such run is not asked twice."""
    steps = protocol().create_run("run", OBJECTIVE, None, {"w": np.ones(2, np.float32)}, **OPTIONS)
    _, asked = drive(steps, lost("UNKNOWN_GRAPH"))
    assert [type(request).__name__ for request in asked] == ["RegisterGraphRequest", "CreateRunRequest"] * 2
    assert not asked[1].specification.HasField("optimizer")
    with pytest.raises(sg.NotFoundError, match="UNKNOWN_RUN"):
        drive(protocol().run_info("run"), lost("UNKNOWN_RUN"))


def test_parameters_that_do_not_fit_are_not_sent() -> None:
    """A parameter of another shape, one that is missing and one that the objective does not have are errors by name."""
    for params in ({"w": np.ones(3)}, {}, {"w": np.ones(2), "v": 1.0}):
        with pytest.raises(InputError, match="parameters"):
            drive(protocol().create_run("run", OBJECTIVE, None, params, **OPTIONS))


def test_optimisers_as_they_are_sent() -> None:
    """Every setting of an optimiser and its schedule has its field."""
    schedule = sg.optim.Schedule(0.5, 3, sg.optim.StepDecay(0.25, 7))
    found = encode_optimizer(sg.optim.SGD(schedule, momentum=0.75, nesterov=True, weight_decay=0.125, clip_norm=2.0, clip_value=1.5))
    expected = wire.Optimizer(
        sgd=wire.SGD(momentum=0.75, nesterov=True, weight_decay=0.125),
        learning_rate=wire.Schedule(rate=0.5, warmup_steps=3, step=wire.StepDecay(factor=0.25, every=7)),
        clip_norm=2.0,
        clip_value=1.5,
    )
    assert found == expected
    adam = encode_optimizer(sg.optim.AdamW(1, betas=(0.5, 0.75), epsilon=0.125, weight_decay=0.25))
    rule = wire.AdamW(beta1=0.5, beta2=0.75, epsilon=0.125, weight_decay=0.25)
    assert adam == wire.Optimizer(adamw=rule, learning_rate=wire.Schedule(rate=1.0))


def test_flat_vectors() -> None:
    """Parameters lie one after the other in a flat vector, row by row, and come out of it as they went in, to be written to."""
    params = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array(7.0), "c": np.empty((0, 4))}
    shapes = {name: array.shape for name, array in params.items()}
    data = flat(params, shapes, "the test")
    assert np.frombuffer(data).tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 7.0]
    found = split(data, shapes)
    assert {name: (array.shape, array.tolist()) for name, array in found.items()} == {
        name: (array.shape, array.tolist()) for name, array in params.items()
    }
    found["a"][:] = 0.0
    with pytest.raises(ValueError, match="the test lacks 'b'"):
        flat({"a": params["a"]}, shapes, "the test")
    with pytest.raises(ValueError, match=r"the test has 'b' of shape \(1,\); in the run it has \(\)"):
        flat({**params, "b": np.ones(1)}, shapes, "the test")


@pytest.mark.parametrize("rate", [np.float32(0.25), np.array(0.25), np.int64(1), 0.25, 1])
def test_any_number_is_a_rate(rate: Any) -> None:
    """NumPy's numbers too; what is none is refused."""
    assert encode_optimizer(sg.optim.SGD(rate)).learning_rate.rate == float(rate)
    with pytest.raises(TypeError, match=r"use sg\.optim\.Schedule"):
        encode_optimizer(sg.optim.SGD(lambda step: 0.1))


@pytest.mark.parametrize("rate", ["x", None, True, np.array([0.25])])
def test_what_is_no_rate_is_shown(rate: Any) -> None:
    """Only a function is called one."""
    with pytest.raises(TypeError, match=rf"a learning rate is a number or an sg\.optim\.Schedule, not {re.escape(repr(rate))}"):
        encode_optimizer(sg.optim.SGD(rate))


@pytest.mark.parametrize(("name", "count"), [("members", 0), ("members", -1), ("min_members", 0), ("max_steps", -1)])
def test_counts_are_named(name: str, count: int) -> None:
    """What there can't be so few of is refused here."""
    with pytest.raises(ValueError, match=f"{name} must be at least [01], not {count}"):
        drive(protocol().create_run("run", OBJECTIVE, sg.optim.SGD(0.5), None, **{**OPTIONS, name: count}))
