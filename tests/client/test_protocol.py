"""The protocol, driven by hand: what it asks for, in which order, and what it does when calls fail. No network, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import pytest
import sumgrad as sg
from google.protobuf.message import Message
from sumgrad import codec
from sumgrad.calls import Call, Pause, Steps
from sumgrad.protocol import Protocol
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_proto.v1.graph_pb2 import NamedArray

Answer = TypeVar("Answer")
PARAMS = {"w": np.array(2.0)}
DATA = {"x": np.array([1.0, 2.0])}


class Clock:
    """Time that passes only when a protocol pauses."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def protocol(clock: Clock | None = None, **options: Any) -> Protocol:
    """A protocol with a clock that stands still, dice that always show 1/2, and request ids r1, r2, ..."""
    numbers: Iterator[int] = iter(range(1, 1000))
    return Protocol(clock=clock or Clock(), dice=lambda: 0.5, new_request_id=lambda: f"r{next(numbers)}", **options)


def answer(call: Call) -> Any:
    """What a server that works answers."""
    request = call.request
    if isinstance(request, wire.RegisterGraphRequest):
        return wire.RegisterGraphResponse(graph_id=codec.graph_id(request.graph))
    if isinstance(request, wire.GradientRequest):
        gradients = named({"w": np.array(3.0)})
        return wire.GradientResponse(value=6.0, gradients=gradients, sample_count=2, evaluator=wire.EVALUATOR_REFERENCE)
    raise AssertionError(f"unexpected {request}")


def named(arrays: dict[str, Any]) -> list[NamedArray]:
    """Arrays with names, as a reply has them."""
    return [NamedArray(name=name, array=codec.encode_array(np.asarray(array))) for name, array in arrays.items()]


def drive(steps: Steps[Answer], reply: Callable[[Call], Any] = answer, clock: Clock | None = None) -> tuple[Answer, list[Call | Pause]]:
    """Carries steps out; the answer, and the steps that were asked for."""
    asked: list[Call | Pause] = []
    result: Any = None
    error: sg.ServiceError | None = None
    while True:
        try:
            step = steps.send(result) if error is None else steps.throw(error)
        except StopIteration as done:
            return done.value, asked
        asked.append(step)
        result, error = None, None
        if isinstance(step, Pause):
            if clock is not None:
                clock.now += step.seconds
            continue
        try:
            result = reply(step)
        except sg.ServiceError as refused:
            error = refused


def failing(*errors: sg.ServiceError, method: str = "Gradient") -> Callable[[Call], Any]:
    """A server that fails so often at a method, and works after that."""
    pending = list(errors)

    def reply(call: Call) -> Any:
        if call.method.name == method and pending:
            raise pending.pop(0)
        return answer(call)

    return reply


def names(asked: list[Call | Pause]) -> list[str]:
    """The steps in short."""
    return [step.method.name if isinstance(step, Call) else "pause" for step in asked]


def requests(asked: list[Call | Pause], kind: type[Message]) -> list[Any]:
    """The requests of a kind among the steps."""
    return [step.request for step in asked if isinstance(step, Call) and isinstance(step.request, kind)]


@pytest.fixture
def objective() -> sg.Objective:
    """F(w) = sum of w x."""
    return sg.Objective(sg.param("w", 2.0) * sg.input("x"))


def test_value_and_grad_registers_once(objective: sg.Objective) -> None:
    """The first call on a connection sends the graph, the next one only names it."""
    talk = protocol()
    result, first = drive(talk.value_and_grad(objective, PARAMS, DATA))
    _, second = drive(talk.value_and_grad(objective, PARAMS, DATA))
    assert names(first) == ["RegisterGraph", "Gradient"]
    assert names(second) == ["Gradient"]
    assert (result.value, float(result.grads["w"]), result.count, result.evaluator) == (6.0, 3.0, 2, "reference")


def test_equal_graphs_are_registered_once() -> None:
    """Two objectives with the same graph share its name."""
    talk = protocol()
    for _ in range(2):
        objective = sg.Objective(sg.param("w", 2.0) * sg.input("x"))
        _, asked = drive(talk.value_and_grad(objective, PARAMS, DATA))
    assert names(asked) == ["Gradient"]


def test_lost_graph_is_registered_again(objective: sg.Objective) -> None:
    """NOT_FOUND for a graph that was registered sends it again, and the request after it under its own id."""
    talk = protocol()
    drive(talk.value_and_grad(objective, PARAMS, DATA))
    _, asked = drive(talk.value_and_grad(objective, PARAMS, DATA), failing(sg.NotFoundError("gone")))
    assert names(asked) == ["Gradient", "RegisterGraph", "Gradient"]
    first, second = requests(asked, wire.GradientRequest)
    assert first == second


def test_graph_lost_twice_is_an_error(objective: sg.Objective) -> None:
    """A server that forgets at once is not asked for ever."""
    with pytest.raises(sg.NotFoundError):
        drive(protocol().value_and_grad(objective, PARAMS, DATA), failing(sg.NotFoundError("gone"), sg.NotFoundError("gone")))


def test_unavailable_is_tried_again_under_the_same_id(objective: sg.Objective) -> None:
    """UNAVAILABLE pauses, longer each time, and repeats the very same request."""
    errors = [sg.UnavailableError("draining")] * 3
    _, asked = drive(protocol(retry=sg.Retry(attempts=5, first=0.1, longest=0.3)).value_and_grad(objective, PARAMS, DATA), failing(*errors))
    assert names(asked) == ["RegisterGraph", "Gradient", "pause", "Gradient", "pause", "Gradient", "pause", "Gradient"]
    assert [step.seconds for step in asked if isinstance(step, Pause)] == pytest.approx([0.05, 0.1, 0.15])
    assert {request.request_id for request in requests(asked, wire.GradientRequest)} == {"r1"}


def test_registration_is_tried_again_too(objective: sg.Objective) -> None:
    """A server that is not up yet when the graph is sent is waited for."""
    _, asked = drive(protocol().value_and_grad(objective, PARAMS, DATA), failing(sg.UnavailableError("no"), method="RegisterGraph"))
    assert names(asked) == ["RegisterGraph", "pause", "RegisterGraph", "Gradient"]


def test_attempts_are_counted(objective: sg.Objective) -> None:
    """After the last attempt the error is the caller's."""
    errors = [sg.UnavailableError(f"attempt {k}") for k in range(1, 4)]
    with pytest.raises(sg.UnavailableError, match="attempt 3"):
        drive(protocol(retry=sg.Retry(attempts=3)).value_and_grad(objective, PARAMS, DATA), failing(*errors))


def test_full_server_says_when_to_come_back(objective: sg.Objective) -> None:
    """RESOURCE_EXHAUSTED with a time is tried again after that time at the earliest; without one it is final."""
    _, asked = drive(protocol().value_and_grad(objective, PARAMS, DATA), failing(sg.ResourceExhaustedError("full", retry_after=2.0)))
    assert [step.seconds for step in asked if isinstance(step, Pause)] == pytest.approx([2.05])
    with pytest.raises(sg.ResourceExhaustedError):
        drive(protocol().value_and_grad(objective, PARAMS, DATA), failing(sg.ResourceExhaustedError("too large")))


@pytest.mark.parametrize("error", [sg.InvalidArgumentError("bad"), sg.InternalError("oops"), sg.DeadlineExceededError("late")])
def test_other_errors_are_final(objective: sg.Objective, error: sg.ServiceError) -> None:
    """Nothing else is tried again."""
    with pytest.raises(type(error)):
        drive(protocol().value_and_grad(objective, PARAMS, DATA), failing(error))


def test_deadline_covers_all_attempts(objective: sg.Objective) -> None:
    """Each attempt gets what is left of the timeout, and no pause runs past it."""
    clock = Clock()
    errors = [sg.UnavailableError("no")] * 9
    talk = protocol(clock, retry=sg.Retry(attempts=9, first=2.0, longest=2.0))
    steps = talk.value_and_grad(objective, PARAMS, DATA, timeout=2.5)
    asked: list[Call | Pause] = []

    def reply(call: Call) -> Any:
        asked.append(call)
        return failing(*errors)(call)

    with pytest.raises(sg.UnavailableError):
        drive(steps, reply, clock)
    assert [step.timeout for step in asked if isinstance(step, Call)] == pytest.approx([2.5, 2.5, 1.5, 0.5])


def test_expired_deadline_is_a_timeout(objective: sg.Objective) -> None:
    """When nothing is left of the timeout, no call is made."""
    clock = Clock()

    def slow(call: Call) -> Any:
        clock.now += 10.0
        return answer(call)

    with pytest.raises(TimeoutError, match=r"timeout=5\.0 s"):
        drive(protocol(clock, timeout=5.0).value_and_grad(objective, PARAMS, DATA), slow)


@pytest.mark.parametrize("options", [{"attempts": 0}, {"first": 0.0}, {"first": 2.0, "longest": 1.0}])
def test_impossible_retries(options: Any) -> None:
    """No attempts, no pause, and a longest pause below the first are refused."""
    with pytest.raises(ValueError, match="attempts >= 1"):
        sg.Retry(**options)


def test_request_carries_what_was_asked() -> None:
    """Arrays, wrt, reduction and debug are in the request."""
    mean = sg.Objective(sg.param("w", 2.0) * sg.input("x"), reduction="mean")
    data = {"x": np.array([1, 2], dtype=np.int32)}
    _, asked = drive(protocol().value_and_grad(mean, {"w": 2}, data, wrt=["w"], debug=True))
    (request,) = requests(asked, wire.GradientRequest)
    assert (list(request.wrt), request.reduction, request.debug) == (["w"], wire.REDUCTION_MEAN, True)
    assert codec.decode_arrays(request.inputs)["x"].dtype == np.int32


@pytest.mark.parametrize(
    ("params", "data", "field"),
    [
        ({}, DATA, "parameters.w"),
        (PARAMS, {}, "inputs.x"),
        (PARAMS, {"x": np.ones((2, 2))}, "inputs.x"),
        (PARAMS, {"x": ["a"]}, "inputs.x"),
        ({"w": 2.0, "v": 1.0}, DATA, "parameters.v"),
    ],
    ids=["no parameter", "no input", "shape", "text", "unknown"],
)
def test_arrays_that_do_not_fit_never_travel(objective: sg.Objective, params: Any, data: Any, field: str) -> None:
    """Arrays are checked before anything is sent, and the error names the field."""
    steps = protocol().value_and_grad(objective, params, data)
    with pytest.raises(sg.InputError) as caught:
        next(steps)
    assert caught.value.field == field


class Table:
    """Like a DataFrame: columns by name, through `items()` only."""

    def __init__(self, **columns: Any) -> None:
        self.columns = columns

    def items(self) -> Any:
        """(name, column) pairs."""
        return self.columns.items()

    def __bool__(self) -> bool:
        """A DataFrame has no truth value."""
        raise ValueError


def test_tables_are_data(objective: sg.Objective) -> None:
    """Anything with columns by name will do for data."""
    table: Any = Table(x=[1.0, 2.0])
    _, asked = drive(protocol().value_and_grad(objective, PARAMS, table))
    assert codec.decode_arrays(requests(asked, wire.GradientRequest)[0].inputs)["x"].tolist() == [1.0, 2.0]
    _, asked = drive(protocol().evaluate({"y": sg.input("x") * 2.0}, data=table), parts(2))
    assert codec.decode_arrays(requests(asked, wire.EvaluateRequest)[0].inputs)["x"].tolist() == [1.0, 2.0]
    assert sg.here.evaluate({"y": sg.input("x") * 2.0}, data=table)["y"].tolist() == [2.0, 4.0]


def parts(*sizes: int, gap: int = 0) -> Callable[[Call], Any]:
    """A server that streams y = 0, 1, 2, ... in parts of these sizes."""

    def reply(call: Call) -> Any:
        if call.method.name != "Evaluate":
            return answer(call)
        starts = np.cumsum([0, *sizes])
        return [
            wire.EvaluateResponse(first_sample=int(start) + gap, sample_count=size, outputs=named({"y": np.arange(start, start + size)}))
            for start, size in zip(starts, sizes, strict=False)
        ]

    return reply


def test_evaluate_joins_the_stream() -> None:
    """The parts of a stream become one array for each output; what the outputs don't need is not sent."""
    y = sg.input("x") * 2.0
    found, asked = drive(protocol().evaluate({"y": y}, {"unused": 1.0}, {"x": np.zeros(5), "unused": np.zeros(5)}), parts(2, 2, 1))
    assert found["y"].tolist() == [0, 1, 2, 3, 4]
    (request,) = requests(asked, wire.EvaluateRequest)
    assert [named.name for named in request.inputs] == ["x"]


def test_evaluate_traces_once() -> None:
    """The same expressions are traced and registered once."""
    talk, y = protocol(), sg.input("x") * 2.0
    drive(talk.evaluate({"y": y}, data={"x": np.zeros(2)}), parts(2))
    _, asked = drive(talk.evaluate({"y": y}, data={"x": np.zeros(2)}), parts(2))
    assert names(asked) == ["Evaluate"]


def test_evaluate_notices_changed_numbers() -> None:
    """A Value whose data has been changed since the last call, in place or not, is another constant."""
    talk, scale = protocol(), sg.Value([2.0, 3.0])
    y = sg.sum(sg.input("x") * scale)
    graphs = []
    for change in (lambda: None, lambda: setattr(scale, "data", [4.0, 3.0]), lambda: scale.data.__setitem__(1, 9.0)):
        change()
        _, asked = drive(talk.evaluate({"y": y}, data={"x": np.zeros(2)}), parts(2))
        graphs.append(requests(asked, wire.EvaluateRequest)[0].graph_id)
    assert len(set(graphs)) == 3


def test_evaluate_notices_missing_samples() -> None:
    """A stream with a hole is an error, not a short array."""
    with pytest.raises(sg.InternalError, match="left out"):
        drive(protocol().evaluate({"y": sg.input("x") * 2.0}, data={"x": np.zeros(2)}), parts(2, gap=1))


def test_backward_fills_every_node() -> None:
    """Each node gets its piece of the flat vectors; gradients add up over calls."""
    a, b = sg.Value(2.0), sg.Value([3.0, 4.0])
    y = sg.sum(a * b)
    nodes = y.nodes()
    flat = np.arange(1.0, 1.0 + sum(node.size for node in nodes))

    def reply(call: Call) -> Any:
        assert isinstance(call.request, wire.BackwardRequest)
        return wire.BackwardResponse(data=flat.tobytes(), gradients=(-flat).tobytes())

    for _ in range(2):
        drive(protocol().backward(y), reply)
    assert np.concatenate([np.ravel(node.data) for node in nodes]).tolist() == flat.tolist()
    assert np.concatenate([np.ravel(node.grad) for node in nodes]).tolist() == (-2.0 * flat).tolist()


def test_backward_of_another_length_is_an_error() -> None:
    """An answer that does not fit the expression fills nothing."""
    y = sg.Value(2.0) * sg.Value(3.0)
    with pytest.raises(sg.InternalError, match="elements"):
        drive(protocol().backward(y), lambda call: wire.BackwardResponse(data=b"", gradients=b""))
    assert y.grad == 0.0


def test_graph_comes_back() -> None:
    """get_graph gives a graph whose bytes have the name that was asked for, and refuses another."""
    encoded = codec.EncodedGraph.of(sg.Objective(sg.param("w", 2.0) * sg.input("x")).graph)
    graph, _ = drive(protocol().get_graph(encoded.id), lambda call: wire.GetGraphResponse(graph=encoded.data))
    assert codec.encode_graph(graph) == encoded.data
    with pytest.raises(sg.InternalError, match="another graph"):
        drive(protocol().get_graph("0" * 64), lambda call: wire.GetGraphResponse(graph=encoded.data))


def test_errors_get_the_clients_source_line() -> None:
    """A node that the server names without knowing where it was made is found in this program."""
    loss = sg.log(sg.param("w", 2.0)) * sg.input("x")
    objective = sg.Objective(loss)
    node = next(node for node in range(objective.graph.node_count) if objective.graph.op(node).name == "log")
    with pytest.raises(sg.InvalidArgumentError, match=r"loss = sg\.log") as caught:
        drive(
            protocol().value_and_grad(objective, PARAMS, DATA),
            failing(sg.InvalidArgumentError("no", node=str(node)), method="RegisterGraph"),
        )
    assert str(caught.value.context["source"]).startswith(__file__)


@pytest.mark.parametrize("timeout", [float("inf"), 1e10, 1e12])
def test_very_long_timeouts_are_cut(objective: sg.Objective, timeout: float) -> None:
    """gRPC takes times beyond its range for the past; whoever waits three years waits for ever."""
    _, asked = drive(protocol().value_and_grad(objective, PARAMS, DATA, timeout=timeout))
    assert {step.timeout for step in asked if isinstance(step, Call)} == {1e8}


@pytest.mark.parametrize("timeout", [float("nan"), -1.0, 0, "1"])
def test_impossible_timeouts_are_refused(objective: sg.Objective, timeout: Any) -> None:
    """The error names the argument."""
    with pytest.raises(ValueError, match="timeout must be a positive number"):
        drive(protocol().value_and_grad(objective, PARAMS, DATA, timeout=timeout))


@pytest.mark.parametrize("wrt", ["w", iter(["w"]), {"w"}, np.array(["w"])])
def test_names_in_any_form_are_sent_as_names(objective: sg.Objective, wrt: Any) -> None:
    """A string is one name, and an iterator is read once."""
    _, asked = drive(protocol().value_and_grad(objective, PARAMS, DATA, wrt=wrt))
    requests = [step.request for step in asked if isinstance(step, Call) and isinstance(step.request, wire.GradientRequest)]
    assert [list(request.wrt) for request in requests] == [["w"]]


@pytest.mark.parametrize("outputs", [3, sg.Value(1.0), [sg.Value(1.0)], {0: sg.Value(1.0)}, {"": sg.Value(1.0)}, {}])
def test_outputs_are_named_expressions(outputs: Any) -> None:
    """Anything else is refused before a message is made, here and in process."""
    with pytest.raises(sg.GraphError, match="name"):
        drive(protocol().evaluate(outputs))
    with pytest.raises(sg.GraphError, match="name"):
        sg.here.evaluate(outputs)


def test_backward_takes_a_value() -> None:
    """A number has no nodes to fill."""
    with pytest.raises(sg.GraphError, match="takes a Value"):
        drive(protocol().backward(3.0))  # type: ignore[arg-type]


def test_numbers_in_an_expression_get_no_gradient() -> None:
    """As in Value.backward(): the exponent of (-3.2) ** 2 is nobody's variable, and its derivative would be NaN."""
    x = sg.Value(-3.2)
    squared = x**2

    def reply(call: Call) -> Any:
        flat = np.array([-3.2, 2.0, 10.24]).tobytes(), np.array([-6.4, np.nan, 1.0]).tobytes()
        return wire.BackwardResponse(data=flat[0], gradients=flat[1])

    drive(protocol().backward(squared), reply)
    assert (x.grad, squared.operands[1].grad, squared.grad) == (-6.4, 0.0, 1.0)


def test_ragged_data_names_the_field(objective: sg.Objective) -> None:
    """NumPy's own error would not say which array it was."""
    with pytest.raises(sg.InputError, match=r"inputs\.x is no array"):
        drive(protocol().value_and_grad(objective, PARAMS, {"x": [[1.0], [1.0, 2.0]]}))


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1:abc", "127.0.0.1:0", "127.0.0.1:"])
def test_ports_that_are_none(address: str) -> None:
    """gRPC would take the port modulo 65536."""
    with pytest.raises(ValueError, match="port must be a number"):
        sg.connect(address)


def test_a_closed_connection_says_so() -> None:
    """Not gRPC's own ValueError."""
    service = sg.connect("127.0.0.1:1")
    service.close()
    with pytest.raises(sg.UnavailableError, match="was closed"):
        service.health()
