"""Writes the golden messages that do not exist yet, and never changes one that does.

    python tests/proto/write_golden.py

Each message is written as bytes (.binpb), which every later version must read, and as text (.txtpb), which says what they mean. Answers are what a
server gave when they were written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import sumgrad as sg
from google.protobuf import text_format
from google.protobuf.message import Message
from sumgrad import codec
from sumgrad_engine.ir import Graph
from sumgrad_engine.ops import arithmetic, indexing, movement, transcendental
from sumgrad_engine.trace import trace, trace_nodes
from sumgrad_proto.v1 import graph_pb2, service_pb2, service_pb2_grpc

GOLDEN = Path(__file__).parent / "golden"
SAMPLES = {"x": np.array([[0.5, -1.5], [2.0, 0.25], [-0.75, 1.0]]), "y": np.array([1.0, -2.0, 0.5])}
PARAMETERS = {"w": np.array([0.5, -0.25]), "b": np.array(0.125)}


def objective() -> sg.Objective:
    """Least squares: nothing but exact arithmetic on short binary fractions, so its bits are the same everywhere."""
    x, y = sg.input("x", shape=(2,)), sg.input("y")
    w, b = sg.param("w", PARAMETERS["w"]), sg.param("b", PARAMETERS["b"])
    residual = x @ w + b - y
    return sg.Objective(residual * residual, penalty=0.25 * sg.sum(w * w), metrics={"positive": residual > 0.0})


def every_op() -> Graph:
    """A graph with a node of every opcode that may be sent."""
    x, k, p = sg.input("x", shape=(2, 3)), sg.input("k", shape=(2,), dtype=int), sg.param("p", np.full((2, 3), 0.5))
    t = sg.sigmoid(x * p)
    outputs = {}
    for module in (arithmetic, transcendental):
        for op in module.OPS:
            operands = {"f": t, "b": x < p, "*": k}
            attributes = {"order": (2,)} if op.name == "polygamma" else {}
            outputs[op.name] = op(*[operands[letter] for letter in op.kinds], **attributes)
    outputs["acosh"] = sg.acosh(1.0 + t)
    for op, attributes in {
        movement.reshape: {"shape": (3, 2)},
        movement.transpose: {"axes": (1, 0)},
        movement.broadcast_to: {"shape": (2, 2, 3)},
        movement.slice_: {"start": (0, 0), "stop": (2, 3), "step": (1, 2)},
        movement.pad: {"start": (1, 0), "step": (2, 1), "shape": (4, 3)},
        movement.flip: {"axes": (1,)},
    }.items():
        outputs[op.name] = op(x, **attributes)
    outputs |= {
        "sum": sg.sum(x, 1),
        "max": sg.max(x, 0),
        "logsumexp": sg.logsumexp(x),
        "matmul": sg.matmul(x, p.T),
        "concat": sg.concat([x, p]),
    }
    outputs |= {"take": sg.take(x, k, 1), "one_hot": sg.one_hot(k, 3), "constant": x + np.arange(3.0)}
    outputs["scatter_add"] = indexing.scatter_add(x, k, axis=(0,), extent=(3,))
    return trace(outputs)


def every_op_arrays() -> dict[str, dict[str, np.ndarray]]:
    """Arrays for that graph: two samples."""
    x = np.linspace(-1.5, 2.0, 12).reshape(2, 2, 3)
    return {"inputs": {"x": x, "k": np.array([[0, 2], [1, 1]])}, "parameters": {"p": np.linspace(0.25, 1.5, 6).reshape(2, 3)}}


def expression() -> tuple[bytes, graph_pb2.Graph]:
    """A graph of plain Values, for Backward."""
    a, b = sg.Value(-4.0), sg.Value(2.0)
    c = a * b + b * b
    graph, _ = trace_nodes((c + a) * c)
    data = codec.encode_graph(graph)
    return data, graph_pb2.Graph.FromString(data)


def named(arrays: dict[str, np.ndarray]) -> list[graph_pb2.NamedArray]:
    """Arrays by name, as messages have them."""
    return [graph_pb2.NamedArray(name=name, array=codec.encode_array(array)) for name, array in arrays.items()]


def parts() -> dict[str, Message]:
    """Messages that are parts of others."""
    message = graph_pb2.Graph.FromString(codec.encode_graph(every_op()))
    array = codec.encode_array(np.array([[1.0, -0.0, np.inf], [np.nan, 5e-324, 1e308]]))
    return {
        "Graph": message,
        "Attribute": message.attributes[0],
        "Leaf": message.inputs[0],
        "Output": message.outputs[0],
        "Array": array,
        "Array-f32": codec.encode_array(np.array([0.5, -2.0], np.float32)),
        "Array-i64": codec.encode_array(np.array([-1, 2**40])),
        "Array-i32": codec.encode_array(np.array([-1, 2**20], np.int32)),
        "Array-bool": codec.encode_array(np.array([True, False])),
        "NamedArray": graph_pb2.NamedArray(name="w", array=array),
        "SourceMap": graph_pb2.SourceMap(files=["train.py", "model.py"], file=[1, 2, 0], line=[12, 7, 0]),
    }


def requests() -> dict[str, Message]:
    """One request of each kind, one with every op, and those that ask for compiled code in f32."""
    graph, ops = codec.encode_graph(objective().graph), codec.encode_graph(every_op())
    scores = {"score": sg.input("x", shape=(2,)) @ sg.param("w", PARAMETERS["w"])}
    score, plain, arrays = codec.encode_graph(trace(scores)), expression()[0], every_op_arrays()

    def name(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    sources = graph_pb2.SourceMap(files=["train.py"], file=[1] * objective().graph.node_count, line=[3] * objective().graph.node_count)
    inputs, parameters = named(SAMPLES), named(PARAMETERS)
    narrow = named({leaf: array.astype(np.float32) for leaf, array in SAMPLES.items()})
    register = service_pb2.RegisterGraphRequest
    return {
        "RegisterGraphRequest": register(request_id="golden-1", graph=graph, sources=sources),
        "RegisterGraphRequest-score": register(request_id="golden-2", graph=score),
        "RegisterGraphRequest-every-op": register(request_id="golden-3", graph=ops),
        "GetGraphRequest": service_pb2.GetGraphRequest(request_id="golden-4", graph_id=name(graph)),
        "GradientRequest": service_pb2.GradientRequest(
            request_id="golden-5",
            graph_id=name(graph),
            parameters=parameters,
            inputs=inputs,
            wrt=["w"],
            reduction=service_pb2.REDUCTION_MEAN,
            evaluator=service_pb2.EVALUATOR_REFERENCE,
            debug=True,
        ),
        "EvaluateRequest": service_pb2.EvaluateRequest(
            request_id="golden-6",
            graph_id=name(score),
            parameters=named({"w": PARAMETERS["w"]}),
            inputs=named({"x": SAMPLES["x"]}),
        ),
        "EvaluateRequest-every-op": service_pb2.EvaluateRequest(
            request_id="golden-7",
            graph_id=name(ops),
            parameters=named(arrays["parameters"]),
            inputs=named(arrays["inputs"]),
        ),
        "BackwardRequest": service_pb2.BackwardRequest(request_id="golden-8", graph=plain),
        "GradientRequest-compiled": service_pb2.GradientRequest(
            request_id="golden-9a",
            graph_id=name(graph),
            parameters=parameters,
            inputs=narrow,
            evaluator=service_pb2.EVALUATOR_COMPILED,
            precision=service_pb2.PRECISION_F32,
        ),
        "EvaluateRequest-compiled": service_pb2.EvaluateRequest(
            request_id="golden-9b",
            graph_id=name(score),
            parameters=named({"w": PARAMETERS["w"]}),
            inputs=narrow[:1],
            evaluator=service_pb2.EVALUATOR_COMPILED,
            precision=service_pb2.PRECISION_F32,
        ),
    }


def answers(address: str, asked: dict[str, Message]) -> Iterator[tuple[str, Message]]:
    """What a server answers to each request, in order; the messages of a stream are numbered."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GradientServiceStub(channel)
        for name, request in asked.items():
            kind, _, variant = name.partition("-")
            method = kind.removesuffix("Request")
            reply = getattr(stub, method)(request)
            replies = list(reply) if method == "Evaluate" else [reply]
            suffix = f"-{variant}" if variant else ""
            for number, message in enumerate(replies):
                yield f"{method}Response{suffix}" + (f"-{number}" if number else ""), message


def write(name: str, message: Message) -> None:
    """Writes one message, unless it is there."""
    path = GOLDEN / f"{name}.binpb"
    if not path.exists():
        path.write_bytes(message.SerializeToString(deterministic=True))
        path.with_suffix(".txtpb").write_text(text_format.MessageToString(message))


def main() -> None:
    """Writes what is missing."""
    GOLDEN.mkdir(exist_ok=True)
    asked = requests()
    with sg.local(workers=1) as service:
        for name, message in {**parts(), **asked, **dict(answers(service.process.address, asked))}.items():
            write(name, message)


if __name__ == "__main__":
    main()
