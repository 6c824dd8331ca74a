"""Writes the golden messages that do not exist yet, and never changes one that does.

    python tests/proto/write_golden.py

Each message is written as bytes (.binpb), which every later version must read, and as text (.txtpb), which says what they mean. Answers are what a
server gave when they were written.
"""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

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
CREATED = 1_700_000_000
PATIENCE = 60.0
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
        **dataset_parts(),
        **run_parts(),
        "SourceMap": graph_pb2.SourceMap(files=["train.py", "model.py"], file=[1, 2, 0], line=[12, 7, 0]),
    }


def dataset_parts() -> dict[str, Message]:
    """Those about datasets and streams, and of a status what differs from server to server."""
    uploaded, worker = (
        upload(),
        service_pb2.WorkerStatus(number=1, process_id=4321, state=service_pb2.WORKER_STATE_BUSY, finished_shards=17),
    )
    column = service_pb2.Column(name="x", dtype=graph_pb2.DTYPE_F64, shape=[2], sha256=bytes(range(32)))
    rows = service_pb2.Rows(indices=codec.encode_array(np.array([2, 0, 2])))
    error = service_pb2.StreamError(code=5, message="no graph", details=b"\x08\x05", request_id="golden-c1")
    return {
        "Column": column,
        "Dataset": service_pb2.Dataset(id="0" * 64, name="golden", sample_count=3, columns=[column], byte_count=48, created=CREATED),
        "Rows": rows,
        "RowRange": service_pb2.RowRange(start=1, stop=3),
        "UploadStart": uploaded["UploadDatasetRequest-start"].start,
        "UploadChunk": uploaded["UploadDatasetRequest-rest"].chunk,
        "UploadFinish": uploaded["UploadDatasetRequest-finish"].finish,
        "StreamError": error,
        "GradientStreamResponse-unanswered": service_pb2.GradientStreamResponse(error=error),
        "WorkerStatus": worker,
        "GetStatusResponse-unanswered": service_pb2.GetStatusResponse(
            request_id="golden-b9",
            version="0.1.0",
            uptime_seconds=1.5,
            draining=True,
            workers=[worker],
            active_requests=1,
            finished_requests=2,
            failed_requests=3,
            summed_samples=4,
            worker_restarts=5,
            graphs=6,
            datasets=7,
            dataset_bytes=8,
        ),
    }


def specification(graph: str) -> service_pb2.RunSpecification:
    """Of a run whose numbers are short binary fractions."""
    rate = service_pb2.Schedule(rate=0.25, warmup_steps=1, step=service_pb2.StepDecay(factor=0.5, every=1))
    return service_pb2.RunSpecification(
        graph_id=graph,
        reduction=service_pb2.REDUCTION_MEAN,
        evaluator=service_pb2.EVALUATOR_REFERENCE,
        precision=service_pb2.PRECISION_F64,
        optimizer=service_pb2.Optimizer(sgd=service_pb2.SGD(momentum=0.5, nesterov=True), learning_rate=rate, clip_value=2.0),
        members=1,
        min_members=1,
        lease_seconds=3600.0,
        step_timeout_seconds=1800.0,
        max_steps=3,
    )


def run_parts() -> dict[str, Message]:
    """Those about runs."""
    part = service_pb2
    schedules = {
        "StepDecay": part.StepDecay(factor=0.5, every=10),
        "ExponentialDecay": part.ExponentialDecay(factor=0.875),
        "CosineDecay": part.CosineDecay(final=0.125, steps=100),
        "LinearDecay": part.LinearDecay(final=0.125, steps=100),
    }
    adam, adamw = (kind(beta1=0.875, beta2=0.9375, epsilon=2.0**-20, weight_decay=0.5) for kind in (part.Adam, part.AdamW))
    record = part.StepRecord(
        step=7, attempt=1, value=1.5, metrics=named({"positive": np.array(2.0)}), sample_count=5, members=[0, 2], member_samples=[3, 2],
        committed=CREATED + 0.5,
    )  # fmt: skip
    member = part.RunMember(number=2, name="c", state=part.MEMBER_STATE_DONE, steps=7, sample_count=14, silent_seconds=0.25)
    shapes = [graph_pb2.NamedArray(name="w", array=graph_pb2.Array(dtype=graph_pb2.DTYPE_F64, shape=[2]))]
    run = part.Run(
        id="0" * 24, name="golden", specification=specification("0" * 64), state=part.RUN_STATE_RUNNING, step=8, parameters=shapes,
        members=[member], sample_count=40, last=record, created=CREATED,
    )  # fmt: skip
    committed = part.Committed(record=record, gradient=np.array([0.5, -1.5]).tobytes())
    return {
        **schedules,
        "Schedule-exponential": part.Schedule(rate=0.5, exponential=schedules["ExponentialDecay"]),
        "Schedule-cosine": part.Schedule(rate=0.5, warmup_steps=3, cosine=schedules["CosineDecay"]),
        "Schedule-linear": part.Schedule(rate=0.5, linear=schedules["LinearDecay"]),
        "SGD": part.SGD(momentum=0.5, nesterov=True, weight_decay=0.125),
        "Adam": adam,
        "AdamW": adamw,
        "Optimizer-adam": part.Optimizer(adam=adam, learning_rate=part.Schedule(rate=0.5), clip_norm=1.0),
        "Optimizer-adamw": part.Optimizer(adamw=adamw, learning_rate=part.Schedule(rate=0.5), clip_value=2.0),
        "RunSpecification": specification("0" * 64),
        "Run": run,
        "RunMember": member,
        "StepRecord": record,
        "Attach": part.Attach(run="golden", number=2, session="0" * 24),
        **{kind.DESCRIPTOR.name: kind() for kind in (part.Heartbeat, part.Leave, part.Nothing)},
        "Minibatch": part.Minibatch(inputs=named(SAMPLES)),
        "ResidentRows": part.ResidentRows(dataset="golden", rows=part.Rows(range=part.RowRange(start=1, stop=3))),
        "OwnGradient": part.OwnGradient(value=0.5, gradient=np.array([0.5, -1.5]).tobytes(), sample_count=2),
        "Contribution": part.Contribution(step=7, attempt=1, nothing=part.Nothing(), parameters=np.array([0.25, 2.0]).tobytes()),
        "Turn": part.Turn(step=8, attempt=1, members=[0, 2], parameters=np.array([0.25, 2.0]).tobytes(), committed=committed),
        "Ended": part.Ended(state=part.RUN_STATE_STOPPED, step=8, parameters=np.array([0.25, 2.0]).tobytes(), committed=committed),
        "Committed": committed,
        "StepResponse-error-unanswered": part.StepResponse(error=part.StreamError(code=10, message="stale")),
    }


def upload() -> dict[str, service_pb2.UploadDatasetRequest]:
    """An upload that breaks off after its first chunk, and goes on after DescribeUpload."""
    part, chunk = service_pb2.UploadDatasetRequest, service_pb2.UploadChunk
    columns = [service_pb2.Column(name=name, dtype=graph_pb2.DTYPE_F64, shape=array.shape[1:]) for name, array in SAMPLES.items()]
    x, y = (array.tobytes() for array in SAMPLES.values())
    start = service_pb2.UploadStart(request_id="golden-b0", upload_id="golden-upload", name="golden", columns=columns, replace=True)
    finish = service_pb2.UploadFinish(sample_count=3, sha256=[hashlib.sha256(data).digest() for data in (x, y)])
    return {
        "UploadDatasetRequest-start": part(start=start),
        "UploadDatasetRequest-chunk": part(chunk=chunk(column=0, offset=0, data=x)),
        "UploadDatasetRequest-rest": part(chunk=chunk(column=1, offset=0, data=y[:8])),
        "UploadDatasetRequest-rest-2": part(chunk=chunk(column=1, offset=8, data=y[8:])),
        "UploadDatasetRequest-finish": part(finish=finish),
    }


def number(message: Any) -> str:
    """Where a request stands in the order in which all are sent."""
    if isinstance(message, service_pb2.StepRequest):
        return {"attach": "golden-d2", "heartbeat": "golden-d3"}.get(message.WhichOneof("request"), f"golden-d4{message.contribution.step}")
    if not isinstance(message, service_pb2.UploadDatasetRequest):
        return str(message.request_id)
    if message.HasField("chunk"):
        return f"golden-b{1 if message.chunk.column == 0 else 3}{message.chunk.offset}"
    return message.start.request_id or "golden-b4"


def about_datasets(graph: str, score: str) -> dict[str, Message]:
    """Requests that follow each other: a dataset comes, is computed with, and goes. The graphs are those of the ids."""
    return {
        **upload(),
        "DescribeUploadRequest": service_pb2.DescribeUploadRequest(request_id="golden-b2", upload_id="golden-upload"),
        "ListDatasetsRequest": service_pb2.ListDatasetsRequest(request_id="golden-b5"),
        "DescribeDatasetRequest": service_pb2.DescribeDatasetRequest(request_id="golden-b6", dataset="golden"),
        "GradientRequest-rows": service_pb2.GradientRequest(
            request_id="golden-b7a",
            graph_id=graph,
            parameters=named(PARAMETERS),
            evaluator=service_pb2.EVALUATOR_REFERENCE,
            dataset="golden",
            rows=service_pb2.Rows(indices=codec.encode_array(np.array([2, 0, 2]))),
        ),
        "EvaluateRequest-rows": service_pb2.EvaluateRequest(
            request_id="golden-b7b",
            graph_id=score,
            parameters=named({"w": PARAMETERS["w"]}),
            evaluator=service_pb2.EVALUATOR_REFERENCE,
            dataset="golden",
            rows=service_pb2.Rows(range=service_pb2.RowRange(start=1, stop=3)),
        ),
        "GradientRequest-stream": service_pb2.GradientRequest(
            request_id="golden-b7c",
            graph_id=graph,
            parameters=named(PARAMETERS),
            inputs=named(SAMPLES),
            wrt=["b"],
            evaluator=service_pb2.EVALUATOR_REFERENCE,
        ),
        "GradientRequest-stream-unknown": service_pb2.GradientRequest(request_id="golden-b7d", graph_id="0" * 64),
        "DeleteDatasetRequest": service_pb2.DeleteDatasetRequest(request_id="golden-b8", dataset="golden"),
        "GetStatusRequest": service_pb2.GetStatusRequest(request_id="golden-b9"),
    }


def about_runs(graph: str) -> dict[str, Message]:
    """Requests that follow each other: a run is made, one member makes its three steps, and it is looked at and forgotten."""
    part, metrics = service_pb2, named({"positive": np.array(1.0)})
    wanted = specification(graph)
    own = part.OwnGradient(value=0.75, gradient=np.array([0.5, -1.5, 0.25]).tobytes(), sample_count=2, metrics=metrics)
    return {
        "CreateRunRequest": part.CreateRunRequest(
            request_id="golden-d0", name="golden", specification=wanted, parameters=named(PARAMETERS)
        ),
        "JoinRunRequest": part.JoinRunRequest(request_id="golden-d1", run="golden", member="a"),
        "StepRequest": part.StepRequest(attach=part.Attach(run="golden", number=0, session="0" * 24)),
        "StepRequest-heartbeat": part.StepRequest(heartbeat=part.Heartbeat()),
        "StepRequest-minibatch": part.StepRequest(contribution=part.Contribution(step=0, minibatch=part.Minibatch(inputs=named(SAMPLES)))),
        "StepRequest-gradient": part.StepRequest(contribution=part.Contribution(step=1, gradient=own)),
        "StepRequest-nothing": part.StepRequest(contribution=part.Contribution(step=2, nothing=part.Nothing())),
        "GetRunRequest": part.GetRunRequest(request_id="golden-d5", run="golden", parameters=True, ledger_from=1),
        "ListRunsRequest": part.ListRunsRequest(request_id="golden-d6"),
        "WatchRunRequest": part.WatchRunRequest(request_id="golden-d7", run="golden", from_step=1),
        "StopRunRequest": part.StopRunRequest(request_id="golden-d8", run="golden", forget=True),
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
        **about_datasets(name(graph), name(score)),
        **about_runs(name(graph)),
    }


def answers(address: str, asked: dict[str, Message]) -> Iterator[tuple[str, Message]]:
    """What a server answers to each request, in order; the messages of a stream are numbered, and what depends on time and process is settled."""
    session = ""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GradientServiceStub(channel)
        for (method, variant), messages in calls(asked):
            replies = replies_of(getattr(stub, method), [attached(message, session) for message in messages])
            if method == "JoinRun":
                session = replies[0].session
            kind = {"WatchRun": "RunProgress"}.get(method, f"{method}Response")
            for position, message in enumerate(replies):
                yield f"{kind}{variant}" + (f"-{position}" if position else ""), settled(message)


def attached(request: Any, session: str) -> Message:
    """A golden request; one that attaches has the session that this server has given."""
    if not isinstance(request, service_pb2.StepRequest) or not request.HasField("attach"):
        return request
    return service_pb2.StepRequest(attach=service_pb2.Attach(run=request.attach.run, number=request.attach.number, session=session))


def calls(asked: dict[str, Message]) -> Iterator[tuple[tuple[str, str], list[Message]]]:
    """Method, variant ("-VARIANT" or "") and messages of each call: parts of an upload go together, behind its start whenever it goes on."""
    in_order = sorted(asked.items(), key=lambda item: number(item[1]))
    for method, group in groupby(in_order, lambda item: streamed(item[0])):
        named_messages = list(group)
        messages = [message for _, message in named_messages]
        if method == "UploadDataset":
            start = asked["UploadDatasetRequest-start"]
            yield (method, ""), [start, *(part for part in messages if part is not start)]
        elif method:
            yield (method, ""), messages
        else:
            for name, message in named_messages:
                kind, dash, variant = name.partition("-")
                yield (kind.removesuffix("Request"), dash + variant), [message]


def streamed(name: str) -> str:
    """The method that takes this request as one of many, if there is one."""
    if name.startswith("GradientRequest-stream"):
        return "GradientStream"
    if name.startswith("StepRequest"):
        return "Step"
    return "UploadDataset" if name.startswith("UploadDatasetRequest") else ""


def replies_of(method: Any, messages: list[Message]) -> list[Message]:
    """What is answered to a call; nothing to an upload that breaks off."""
    if isinstance(method, grpc.StreamUnaryMultiCallable):
        try:
            return [method(iter(messages))]
        except grpc.RpcError as error:
            if "ended without UploadFinish" not in error.details():
                raise
            return []
    if isinstance(method, grpc.StreamStreamMultiCallable):
        return stepped(method, messages) if isinstance(messages[0], service_pb2.StepRequest) else list(method(iter(messages)))
    reply = method(messages[0])
    return list(reply) if isinstance(method, grpc.UnaryStreamMultiCallable) else [reply]


def stepped(method: Any, messages: list[Message]) -> list[Message]:
    """What a member is told whose contributions are sent when it is their turn."""
    turns: queue.SimpleQueue[Message] = queue.SimpleQueue()

    def sent() -> Iterator[Any]:
        for message in messages:
            if isinstance(message, service_pb2.StepRequest) and message.HasField("contribution"):
                turns.get(timeout=PATIENCE)
            yield message

    replies: list[Message] = []
    for reply in method(sent(), timeout=PATIENCE):
        replies.append(reply)
        if reply.HasField("turn"):
            turns.put(reply)
    return replies


FIXED: dict[tuple[str, str], Any] = {
    ("Run", "id"): "0" * 24,
    ("Run", "created"): CREATED,
    ("RunMember", "silent_seconds"): 0.25,
    ("StepRecord", "committed"): CREATED,
    ("JoinRunResponse", "session"): "0" * 24,
}
"""What stands in place of ids, sessions and times of runs."""


def settle_run(message: Any) -> None:
    """Puts them there, wherever in a message."""
    for field, value in message.ListFields():
        if (message.DESCRIPTOR.name, field.name) in FIXED:
            setattr(message, field.name, FIXED[message.DESCRIPTOR.name, field.name])
        elif field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                settle_run(part)


def settled(message: Any) -> Message:
    """An answer with a fixed time in place of that at which datasets were stored; of a status, that there was one; of an error, which it was."""
    settle_run(message)
    if isinstance(message, service_pb2.GradientStreamResponse) and message.HasField("error"):
        message.error.message, message.error.details = "", b""
    if isinstance(message, service_pb2.GetStatusResponse):
        return service_pb2.GetStatusResponse(request_id=message.request_id)
    datasets = list(getattr(message, "datasets", [])) + ([message.dataset] if hasattr(message, "dataset") else [])
    for dataset in datasets:
        assert dataset.created > 0
        dataset.created = CREATED
    return message


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
