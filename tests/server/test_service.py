"""The whole server, through real calls: every method, and every refusal."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sumgrad_engine.trace import trace, trace_nodes
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def regression() -> sg.Objective:
    """Least squares with a penalty and a metric."""
    x, y = sg.input("x", shape=(2,)), sg.input("y")
    w, b = sg.param("w", np.array([0.5, -1.0])), sg.param("b", 0.25)
    score = x @ w + b
    return sg.Objective(sg.square(score - y), penalty=0.5 * sg.sum(w * w), metrics={"agree": score * y > 0.0})


def samples(count: int, seed: int = 0) -> dict[str, Any]:
    """Data for it."""
    random = np.random.default_rng(seed)
    return {"x": random.normal(size=(count, 2)), "y": random.normal(size=count)}


@pytest.fixture(scope="module")
def objective() -> sg.Objective:
    return regression()


@pytest.fixture(scope="module")
def graph_id(server: Any, objective: sg.Objective) -> str:
    return str(server.client.register(objective.graph))


@pytest.mark.parametrize("count", [1, 2, 511, 512, 513, 5000])
def test_gradient_is_that_of_numpy(server: Any, objective: sg.Objective, graph_id: str, count: int) -> None:
    """Value, gradient, metrics and count of a sum are those of the closed form."""
    data, params = samples(count), objective.params
    found = server.client.gradient(graph_id, params, data)
    score = data["x"] @ params["w"] + params["b"]
    residual = score - data["y"]
    np.testing.assert_allclose(found.value, (residual**2).sum() + 0.5 * (params["w"] ** 2).sum(), rtol=1e-12)
    np.testing.assert_allclose(found.grads["w"], 2.0 * residual @ data["x"] + params["w"], rtol=1e-11)
    np.testing.assert_allclose(found.grads["b"], 2.0 * residual.sum(), rtol=1e-11, atol=1e-11)
    assert found.metrics["agree"] == (score * data["y"] > 0.0).sum()
    assert found.count == count


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_bits_are_those_of_this_process(server: Any, objective: sg.Objective, graph_id: str, reduction: Any) -> None:
    """The service and the engine in this process give the same bits, for sums and means."""
    objective = sg.Objective(objective_loss(), reduction=reduction)
    graph_id = server.client.register(objective.graph)
    data = samples(3000)
    wire_reduction = {"sum": wire.REDUCTION_SUM, "mean": wire.REDUCTION_MEAN}[reduction]
    there = server.client.gradient(graph_id, objective.params, data, reduction=wire_reduction)
    here = objective.value_and_grad(objective.params, data)
    assert there.value == here.value
    for name, gradient in here.grads.items():
        assert there.grads[name].tobytes() == gradient.tobytes()


def objective_loss() -> sg.Value:
    """A loss whose sum rounds."""
    x, y = sg.input("x", shape=(2,)), sg.input("y")
    return sg.softplus(-y * (x @ sg.param("w", np.array([0.3, 0.7]))))


def test_wrt_selects_parameters(server: Any, objective: sg.Objective, graph_id: str) -> None:
    """Only the gradients that were asked for come back, with the bits that they have among all."""
    data = samples(700)
    some = server.client.gradient(graph_id, objective.params, data, wrt=["b"])
    assert list(some.grads) == ["b"]
    assert some.grads["b"].tobytes() == server.client.gradient(graph_id, objective.params, data).grads["b"].tobytes()


def test_narrow_arrays_are_widened(server: Any, objective: sg.Objective, graph_id: str) -> None:
    """Floats of 32 bits give what the same numbers give with 64."""
    data = {name: array.astype(np.float32) for name, array in samples(600).items()}
    wide = {name: array.astype(np.float64) for name, array in data.items()}
    narrow = server.client.gradient(graph_id, objective.params, data)
    assert narrow.value == server.client.gradient(graph_id, objective.params, wide).value


def test_large_request_goes_through_threads(server: Any, objective: sg.Objective, graph_id: str) -> None:
    """A minibatch of many megabytes has the bits of this process."""
    data = samples(300_000)
    assert server.client.gradient(graph_id, objective.params, data).value == objective.value_and_grad(objective.params, data).value


def test_graph_is_named_by_its_bytes(server: Any, objective: sg.Objective, support: Any) -> None:
    """Registering gives the SHA-256, the second time is known, and GetGraph returns the very bytes and the sources."""
    data, sources = support.graph_bytes(objective.graph), support.sources_message(objective.graph)
    request = wire.RegisterGraphRequest(request_id="r", graph=data, sources=sources)
    first = server.client.unary("RegisterGraph", request, wire.RegisterGraphResponse)
    again = server.client.unary("RegisterGraph", request, wire.RegisterGraphResponse)
    assert first.graph_id == hashlib.sha256(data).hexdigest()
    assert (again.graph_id, again.already_known, again.request_id) == (first.graph_id, True, "r")
    assert first.node_count == objective.graph.node_count
    back = server.client.unary("GetGraph", wire.GetGraphRequest(graph_id=first.graph_id), wire.GetGraphResponse)
    assert back.graph == data


def test_evaluate_streams_outputs_in_order(server: Any, support: Any) -> None:
    """Outputs of every kind come for each sample, in consecutive messages of bounded size."""
    x, k = sg.input("x", shape=(40,)), sg.input("k", dtype=int)
    outputs = {"double": 2.0 * x, "more": x > 0.0, "k": k, "sum": sg.sum(x)}
    graph_id = server.client.register(trace(outputs))
    data = {"x": np.random.default_rng(1).normal(size=(9000, 40)), "k": np.arange(9000)}
    messages = server.client.evaluate(graph_id, {}, data)
    assert len(messages) > 1
    assert [message.first_sample for message in messages] == np.cumsum([0] + [m.sample_count for m in messages[:-1]]).tolist()
    columns = [{entry.name: support.array_of(entry.array) for entry in message.outputs} for message in messages]
    whole = {name: np.concatenate([column[name] for column in columns]) for name in outputs}
    np.testing.assert_array_equal(whole["double"], 2.0 * data["x"])
    np.testing.assert_array_equal(whole["more"], data["x"] > 0.0)
    np.testing.assert_array_equal(whole["k"], data["k"])
    np.testing.assert_allclose(whole["sum"], data["x"].sum(axis=1), rtol=1e-12, atol=1e-13)
    assert max(message.ByteSize() for message in messages) < 2 << 20


def test_evaluate_without_inputs_is_one_sample(server: Any, support: Any) -> None:
    """A graph of parameters alone is evaluated once."""
    graph_id = server.client.register(trace({"y": sg.param("p", 2.0) * 3.0}))
    (message,) = server.client.evaluate(graph_id, {"p": np.float64(5.0)}, {})
    assert message.sample_count == 1
    assert support.array_of(message.outputs[0].array).tolist() == [15.0]


def test_backward_gives_every_node(server: Any, support: Any) -> None:
    """Data and gradient of all nodes of an expression with data, as micrograd has them."""
    w, x, y = sg.Value(0.4), sg.Value(2.0), sg.Value(4.0)
    graph, nodes = trace_nodes((w * x - y) ** 2)
    request = wire.BackwardRequest(request_id="b", graph=support.graph_bytes(graph))
    answer = server.client.unary("Backward", request, wire.BackwardResponse)
    data, gradients = np.frombuffer(answer.data), np.frombuffer(answer.gradients)
    place = next(k for k, node in enumerate(nodes) if node is w)
    assert len(data) == len(gradients) == graph.node_count
    assert (data[-1], gradients[place]) == (10.240000000000002, -12.8)


def test_health_and_reflection_answer(server: Any) -> None:
    """The health service says SERVING, and reflection lists the services."""
    health = health_pb2_grpc.HealthStub(server.client.channel)
    assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
    listing = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    (answer,) = reflection_pb2_grpc.ServerReflectionStub(server.client.channel).ServerReflectionInfo(listing)
    names = {service.name for service in answer.list_services_response.service}
    assert {"sumgrad.v1.GradientService", "grpc.health.v1.Health"} <= names


def test_unknown_graph_is_not_found(server: Any, objective: sg.Objective, support: Any) -> None:
    """A graph that was never registered is refused so that a client can register it."""
    code, details, _ = support.refused(lambda: server.client.gradient("0" * 64, objective.params, samples(1)))
    assert (code, details["reason"], details["domain"]) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_GRAPH", "sumgrad")
    assert details["request_id"] == "gradient"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda p, d: d.pop("x"), "inputs.x"),
        (lambda p, d: p.pop("w"), "parameters.w"),
        (lambda p, d: d.update(z=d["y"]), "inputs.z"),
        (lambda p, d: p.update(w=np.zeros(3)), "parameters.w"),
        (lambda p, d: d.update(x=d["x"][:, :1]), "inputs.x"),
        (lambda p, d: d.update(y=d["y"][:5]), "inputs.y"),
        (lambda p, d: d.update(x=d["x"][:0], y=d["y"][:0]), "inputs.x"),
        (lambda p, d: d.update(y=np.float64(1.0)), "inputs.y"),
    ],
)
def test_wrong_arrays_are_named(server: Any, objective: sg.Objective, graph_id: str, support: Any, change: Any, field: str) -> None:
    """What is missing, unexpected, or of a wrong shape is named as a field violation."""
    params, data = objective.params, samples(10)
    change(params, data)
    code, details, message = support.refused(lambda: server.client.gradient(graph_id, params, data))
    assert (code, details["reason"], details["field"], details["violations"]) == (INVALID, "BAD_INPUT", field, [field])
    assert field in message


@pytest.mark.parametrize(
    ("options", "field"),
    [({"wrt": ["nobody"]}, "wrt.nobody"), ({"reduction": 77}, "reduction"), ({"evaluator": 99}, "evaluator")],
)
def test_wrong_options_are_named(server: Any, objective: sg.Objective, graph_id: str, support: Any, options: Any, field: str) -> None:
    """An option that this server doesn't know is named."""
    code, details, _ = support.refused(lambda: server.client.gradient(graph_id, objective.params, samples(3), **options))
    assert (code, details["field"]) == (INVALID, field)


def test_graph_without_loss_has_no_gradient(server: Any, support: Any) -> None:
    """A graph that is no objective can be evaluated, and its gradient is refused with the reason."""
    graph_id = server.client.register(trace({"y": sg.input("x") * 2.0}))
    code, details, message = support.refused(lambda: server.client.gradient(graph_id, {}, {"x": np.ones(3)}))
    assert (code, details["reason"]) == (INVALID, "BAD_GRAPH")
    assert "loss" in message or "objective" in message


def test_non_finite_value_is_found_in_debug_mode(server: Any, support: Any) -> None:
    """With debug, the first NaN or infinity is refused with its node, op, source line and sample."""
    x = sg.input("x")
    loss = sg.log(x) * sg.param("w", 1.0)
    graph = trace({"loss": loss})
    graph_id = server.client.register(graph, support.sources_message(graph))
    data = {"x": np.where(np.arange(2000) == 1234, 0.0, 1.0)}
    params = {"w": np.float64(1.0)}
    assert np.isneginf(server.client.gradient(graph_id, params, data).value)
    code, details, _ = support.refused(lambda: server.client.gradient(graph_id, params, data, debug=True))
    assert (code, details["reason"], details["op"], details["sample"]) == (INVALID, "NON_FINITE", "log", "1234")
    assert Path(details["source"].rpartition(":")[0]).name == Path(__file__).name


def test_debug_mode_has_the_same_bits_and_the_first_fault(server: Any, objective: sg.Objective, graph_id: str, support: Any) -> None:
    """Debug changes no bit; of many faults it names the first sample's, and the loss's before the penalty's."""
    data = samples(9000)
    plain = server.client.gradient(graph_id, objective.params, data, evaluator=wire.EVALUATOR_REFERENCE)
    support.assert_same_bits(server.client.gradient(graph_id, objective.params, data, debug=True), plain)
    data["y"][[700, 4000, 8999]] = np.inf
    code, details, _ = support.refused(lambda: server.client.gradient(graph_id, objective.params, data, debug=True))
    assert (code, details["reason"], details["sample"]) == (INVALID, "NON_FINITE", "700")


def test_malformed_graph_names_its_node_and_line(server: Any, objective: sg.Objective, support: Any) -> None:
    """A forward reference is refused with the node and the user's line."""
    message = support.graph_message(objective.graph)
    last = len(message.opcodes) - 1
    message.operands[-1] = last
    request = wire.RegisterGraphRequest(graph=message.SerializeToString(), sources=support.sources_message(objective.graph))
    code, details, _ = support.refused(lambda: server.client.unary("RegisterGraph", request, wire.RegisterGraphResponse))
    assert (code, details["reason"], details["node"]) == (INVALID, "BAD_GRAPH", str(last))
    assert details["violations"] == [f"graph.nodes[{last}]"]
    assert Path(__file__).name in details["source"]


@pytest.mark.parametrize("method", ["RegisterGraph", "GetGraph", "Gradient", "Backward"])
def test_bytes_that_are_no_message_are_refused(server: Any, support: Any, method: str) -> None:
    """Garbage in place of a request is the caller's fault, and said to be."""
    code, details, _ = support.refused(lambda: server.client.raw(method, b"\x0a\xff\xff\xff\xff\xff"))
    assert (code, details["reason"]) == (INVALID, "MALFORMED_MESSAGE")


def test_long_request_id_is_refused(server: Any, support: Any) -> None:
    """Request ids are repeated in logs and errors, so they are bounded."""
    request = wire.GetGraphRequest(request_id="x" * 129, graph_id="0")
    code, details, _ = support.refused(lambda: server.client.unary("GetGraph", request, wire.GetGraphResponse))
    assert (code, details["field"]) == (INVALID, "request_id")


def test_long_shape_claims_are_refused(server: Any, support: Any, graph_id: str) -> None:
    """Shapes whose product overflows, or that NumPy can't hold, are refused and not computed."""
    for shape in ([2**40, 2**40], [2**63 - 1, 0], [0, 2**62, 8]):
        array = graph_pb2.Array(dtype=graph_pb2.DTYPE_F64, shape=shape)
        request = wire.GradientRequest(graph_id=graph_id, inputs=[graph_pb2.NamedArray(name="x", array=array)])
        code, details, _ = support.refused(lambda: server.client.unary("Gradient", request, wire.GradientResponse))  # noqa: B023
        assert code in (INVALID, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert details["reason"] in ("BAD_INPUT", "LIMIT_EXCEEDED")


def test_limits_are_named(support: Any, objective: sg.Objective) -> None:
    """Each limit that a request breaks is named, with RESOURCE_EXHAUSTED."""
    with support.running("--workers", "1", "--max-samples", "100", "--max-nodes", "20", "--max-shared-bytes", "200000") as server:
        graph_id = server.client.register(objective.graph)
        code, details, _ = support.refused(lambda: server.client.gradient(graph_id, objective.params, samples(101)))
        assert (code, details["limit"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_samples")
        deep = sg.input("x")
        for _ in range(30):
            deep = sg.sin(deep)
        code, details, _ = support.refused(lambda: server.client.register(trace({"y": deep})))
        assert (code, details["limit"], "retry" in details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_nodes", False)
        wide = server.client.register(trace({"loss": sg.sum(sg.input("v", shape=(4000,)))}))
        code, details, _ = support.refused(lambda: server.client.gradient(wide, {}, {"v": np.ones((10, 4000))}))
        assert (code, details["limit"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_shared_bytes")


def test_hungry_graph_is_refused(support: Any, objective: sg.Objective) -> None:
    """A graph whose evaluation needs more memory than a worker may have is refused by the limit's name; the worker goes on."""
    x = sg.input("x")
    hungry = trace({"loss": sg.sum(sg.exp(sg.broadcast_to(x, (1 << 22,))))})
    with support.running("--workers", "1", "--max-worker-bytes", str(1 << 30)) as server:
        workers = server.workers()
        graph_id = server.client.register(hungry)
        code, details, _ = support.refused(lambda: server.client.gradient(graph_id, {}, {"x": np.ones(512)}))
        assert (code, details["limit"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_worker_bytes")
        assert int(details["value"]) > int(details["allowed"])  # refused for what it would take, not because memory ran out
        again = server.client.register(objective.graph)
        assert server.client.gradient(again, objective.params, samples(1)).count == 1
        assert server.workers() == workers


def test_forgotten_graph_is_not_found(support: Any, objective: sg.Objective) -> None:
    """The least recently used graph is dropped when there are too many, and can be registered again."""
    with support.running("--workers", "1", "--max-graphs", "1") as server:
        first = server.client.register(objective.graph)
        server.client.register(trace({"y": sg.input("x") * 2.0}))
        code, _, _ = support.refused(lambda: server.client.gradient(first, objective.params, samples(1)))
        assert code is grpc.StatusCode.NOT_FOUND
        assert server.client.register(objective.graph) == first
        assert server.client.gradient(first, objective.params, samples(1)).count == 1
