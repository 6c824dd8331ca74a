"""Which evaluator runs, in which precision: both ends choose, the bits are those of this process, and compiling stops nobody."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_engine.options import Evaluator, Options, Precision
from sumgrad_engine.program import EvaluateProgram
from sumgrad_engine.trace import trace
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire

pytest.importorskip("llvmlite")

INVALID = grpc.StatusCode.INVALID_ARGUMENT
EVALUATORS: dict[Evaluator, wire.Evaluator] = {"reference": wire.EVALUATOR_REFERENCE, "compiled": wire.EVALUATOR_COMPILED}
BLOCKS = 40


@pytest.fixture(scope="module")
def objective(support: Any) -> sg.Objective:
    """An objective whose sum rounds, with a penalty and a metric."""
    made: sg.Objective = support.slow_objective(depth=4)
    return made


@pytest.fixture(scope="module")
def data(support: Any) -> dict[str, Any]:
    made: dict[str, Any] = support.slow_samples(BLOCKS)
    return made


def large_objective() -> sg.Objective:
    """An objective that takes seconds to compile and next to nothing to evaluate."""
    value = sg.input("x") * sg.param("w", 0.5)
    for number in range(20_000):
        value = sg.sin(value) + 1e-6 * number
    return sg.Objective(value)


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_each_evaluator_has_its_bits_with_any_number_of_workers(support: Any, objective: sg.Objective, data: Any, workers: int) -> None:
    """Reference and compiled sums are those of this process to the bit, whatever the number of workers."""
    with support.running("--workers", str(workers)) as server:
        graph_id = server.client.register(objective.graph)
        for name, number in EVALUATORS.items():
            expected = objective.value_and_grad(objective.params, data, evaluator=name)
            support.assert_same_bits(server.client.gradient(graph_id, objective.params, data, evaluator=number), expected)


@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_a_killed_worker_costs_no_bit_of_either(support: Any, objective: sg.Objective, evaluator: Evaluator) -> None:
    """A worker killed during a sum is replaced, and the sum has the bits of the undisturbed one."""
    data = support.slow_samples(4000)
    with support.running("--workers", "2") as server:
        graph_id = server.client.register(objective.graph)
        undisturbed = server.client.gradient(graph_id, objective.params, data, evaluator=EVALUATORS[evaluator])
        call = server.client.gradient_future(graph_id, objective.params, data, evaluator=EVALUATORS[evaluator])
        server.wait_for_work(0.02)
        assert not call.done(), "the sum was over too soon to be disturbed"
        killed = server.workers()[0]
        os.kill(killed, signal.SIGKILL)
        support.assert_same_bits(server.client.result(call.result()), undisturbed)
        support.wait_until(lambda: len(set(server.workers()) - {killed}) == 2, "a replacement")


@pytest.mark.parametrize(("wish", "ran"), [(0, 2), (1, 1), (2, 2)])
def test_the_request_chooses_and_the_answer_says_what_ran(server: Any, objective: sg.Objective, data: Any, wish: int, ran: int) -> None:
    """Without a wish the server compiles; Gradient and Evaluate say what ran."""
    graph_id = server.client.register(objective.graph)
    assert server.client.gradient_future(graph_id, objective.params, data, evaluator=wish).result().evaluator == ran
    parts = server.client.evaluate(server.client.register(trace({"y": sg.exp(sg.input("x"))})), {}, data, evaluator=wish)
    assert {part.evaluator for part in parts} == {ran}


def test_debug_is_the_reference_whatever_is_asked_for(server: Any, objective: sg.Objective, data: Any) -> None:
    """Debug mode runs the reference evaluator, and says so."""
    graph_id = server.client.register(objective.graph)
    call = server.client.gradient_future(graph_id, objective.params, data, evaluator=wire.EVALUATOR_COMPILED, debug=True)
    assert call.result().evaluator == wire.EVALUATOR_REFERENCE


@pytest.mark.parametrize("wish", [{"evaluator": wire.EVALUATOR_COMPILED}, {"precision": wire.PRECISION_F32}])
def test_a_server_of_the_reference_alone_refuses_to_compile(support: Any, objective: sg.Objective, data: Any, wish: Any) -> None:
    """With --evaluator reference a wish for compiled code, or for f32 which needs it, is refused; without a wish the reference runs."""
    with support.running("--workers", "1", "--evaluator", "reference") as server:
        graph_id = server.client.register(objective.graph)
        code, details, message = support.refused(lambda: server.client.gradient(graph_id, objective.params, data, **wish))
        assert (code, details["violations"]) == (INVALID, ["evaluator"])
        assert "--evaluator is reference" in message
        assert server.client.gradient_future(graph_id, objective.params, data).result().evaluator == wire.EVALUATOR_REFERENCE


@pytest.mark.parametrize("field", ["evaluator", "precision"])
def test_unknown_wishes_are_refused_by_field(server: Any, support: Any, objective: sg.Objective, data: Any, field: str) -> None:
    """A number that this version does not know is refused, not taken for the default."""
    graph_id = server.client.register(objective.graph)
    code, details, _ = support.refused(lambda: server.client.gradient(graph_id, objective.params, data, **{field: 77}))
    assert (code, details["violations"]) == (INVALID, [field])


@pytest.mark.parametrize("sent", [np.float32, np.float64])
def test_f32_has_the_bits_of_this_process(server: Any, support: Any, objective: sg.Objective, data: Any, sent: Any) -> None:
    """Floats of 32 bits, sent as such or narrowed by the server: the same sums as here, in float64."""
    precision: Precision = "f32"
    expected = objective.value_and_grad(objective.params, data, precision=precision)
    graph_id = server.client.register(objective.graph)
    narrow = {name: array.astype(sent) for name, array in data.items()}
    found = server.client.gradient(graph_id, objective.params, narrow, precision=wire.PRECISION_F32)
    support.assert_same_bits(found, expected)
    assert {array.dtype for array in found.grads.values()} == {np.dtype(np.float64)}
    assert found.value != objective.value_and_grad(objective.params, data).value


def test_f32_outputs_are_f32(server: Any, support: Any, data: Any) -> None:
    """Evaluate in f32 streams float32 outputs, those of this process."""
    graph = trace({"y": sg.exp(sg.sin(sg.input("x")))})
    parts = server.client.evaluate(server.client.register(graph), {}, data, precision=wire.PRECISION_F32)
    assert {part.outputs[0].array.dtype for part in parts} == {graph_pb2.DTYPE_F32}
    found = np.concatenate([support.array_of(part.outputs[0].array) for part in parts])
    inputs = {"x": data["x"].astype(np.float32)}
    expected = EvaluateProgram(graph, Options(precision="f32")).run({}, inputs, 0, len(inputs["x"]))["y"]
    assert found.tobytes() == expected.tobytes()


def test_a_graph_that_compiles_too_long_is_refused_and_no_worker_lost(support: Any, objective: sg.Objective, data: Any) -> None:
    """The limit is named; the same worker goes on with the reference evaluator."""
    with support.running("--workers", "1", "--cache-dir", "", "--max-compile-seconds", "0") as server:
        workers, graph_id = server.workers(), server.client.register(objective.graph)
        for _ in range(2):
            code, details, _ = support.refused(lambda: server.client.gradient(graph_id, objective.params, data))
            assert (code, details["limit"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_compile_seconds")
        expected = objective.value_and_grad(objective.params, data, evaluator="reference")
        found = server.client.gradient(graph_id, objective.params, data, evaluator=wire.EVALUATOR_REFERENCE)
        support.assert_same_bits(found, expected)
        assert server.workers() == workers


def test_the_second_start_compiles_nothing(support: Any, objective: sg.Objective, data: Any, tmp_path: Path) -> None:
    """A server that finds the code in its cache directory needs no time to compile: it is allowed none."""
    cache = tmp_path / "cache"
    with support.running("--workers", "1", "--cache-dir", str(cache)) as server:
        first = server.client.gradient(server.client.register(objective.graph), objective.params, data)
    kept = {path.name: path.stat().st_ino for path in cache.iterdir()}
    assert kept
    with support.running("--workers", "1", "--cache-dir", str(cache), "--max-compile-seconds", "0") as server:
        again = server.client.gradient(server.client.register(objective.graph), objective.params, data)
    support.assert_same_bits(again, first)
    assert {path.name: path.stat().st_ino for path in cache.iterdir()} == kept


def test_requests_go_on_while_a_graph_compiles(support: Any, objective: sg.Objective, data: Any) -> None:
    """One worker compiles for seconds: the other answers. The compiling request can be cancelled, and a worker is there for the next."""
    large = large_objective()
    with support.running("--workers", "2", "--cache-dir", "") as server:
        graph_id, large_id = server.client.register(objective.graph), server.client.register(large.graph)
        slow = server.client.gradient_future(large_id, large.params, {"x": np.ones(1)})
        server.wait_for_work()
        expected = objective.value_and_grad(objective.params, data)
        support.assert_same_bits(server.client.gradient(graph_id, objective.params, data), expected)
        assert not slow.done()
        slow.cancel()
        support.assert_same_bits(server.client.gradient(graph_id, objective.params, data), expected)
        support.wait_until(lambda: len(server.workers()) == 2, "both workers")
        assert server.terminate() == 0


def test_a_graph_that_takes_too_much_memory_to_compile_is_refused_and_no_worker_lost(support: Any, objective: sg.Objective) -> None:
    """LLVM would end its process where memory runs out: it is not begun, and the error names the limit."""
    with support.running("--workers", "1", "--max-worker-bytes", str(160 << 20)) as server:
        workers = server.workers()
        large = large_objective()
        graph_id = server.client.register(large.graph)
        x = {"x": np.ones(3)}
        code, details, _ = support.refused(lambda: server.client.gradient(graph_id, large.params, x, evaluator=wire.EVALUATOR_COMPILED))
        assert (code, details["limit"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_worker_bytes")
        assert server.client.gradient(graph_id, large.params, x, evaluator=wire.EVALUATOR_REFERENCE).count == 3
        assert server.workers() == workers
