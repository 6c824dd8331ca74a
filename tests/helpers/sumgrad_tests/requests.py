"""Good requests of every method, to start from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import sumgrad_engine as sg
from google.protobuf.message import Message
from sumgrad_engine.ir import Graph
from sumgrad_engine.trace import trace, trace_nodes
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire

from . import support

SAMPLES = 40
INNER: dict[str, type[Message]] = {"graph": graph_pb2.Graph}
"""Fields of bytes that hold a message."""


def logistic() -> sg.Objective:
    """An objective with everything that an objective may have."""
    x, y = sg.input("x", shape=(2,)), sg.input("y")
    w, b = sg.param("w", np.array([0.5, -1.0])), sg.param("b", 0.25)
    margin = y * (x @ w + b)
    return sg.Objective(sg.softplus(-margin), penalty=0.01 * sg.sum(w * w), metrics={"right": margin > 0.0})


def samples(count: int = SAMPLES, seed: int = 3) -> dict[str, Any]:
    """Data for it."""
    dice = np.random.default_rng(seed)
    return {"x": dice.normal(size=(count, 2)), "y": np.sign(dice.normal(size=count))}


@dataclass(frozen=True)
class Seed:
    """A good request, or the good requests of a stream, with the weight that its method gets."""

    method: str
    requests: tuple[Message, ...]
    weight: int = 1


def upload(name: str, data: dict[str, Any], piece: int = 256) -> tuple[wire.UploadDatasetRequest, ...]:
    """The messages of an upload in pieces of so many bytes."""
    columns = [wire.Column(name=column, dtype=support.array_message(array).dtype, shape=array.shape[1:]) for column, array in data.items()]
    start = wire.UploadStart(upload_id=f"upload of {name}", name=name, columns=columns, replace=True)
    chunks = [
        wire.UploadDatasetRequest(chunk=wire.UploadChunk(column=column, offset=offset, data=content[offset : offset + piece]))
        for column, content in enumerate(array.tobytes() for array in data.values())
        for offset in range(0, len(content), piece)
    ]
    sums = [hashlib.sha256(array.tobytes()).digest() for array in data.values()]
    finish = wire.UploadFinish(sample_count=len(next(iter(data.values()))), sha256=sums)
    return (wire.UploadDatasetRequest(start=start), *chunks, wire.UploadDatasetRequest(finish=finish))


def _graphs() -> list[Graph]:
    """Graphs of scalars, of arrays, with integers and booleans, constants and loops."""
    x, k = sg.input("x", shape=(2, 3)), sg.input("k", dtype=int)
    w = sg.param("w", np.ones((3, 2)))
    tall = sg.take(sg.Value(np.arange(12.0).reshape(4, 3)), k, axis=0)
    return [
        logistic().graph,
        trace({"loss": sg.sum(sg.softmax(sg.transpose(x) @ x)), "metric:m": sg.sum(sg.take(x, [1, 0], axis=0)[0:1])}),
        trace({"loss": sg.logsumexp(sg.tanh(x @ w)) + sg.sum(tall * tall) + sg.max(sg.one_hot(k, 4))}),
        trace({"loss": sg.sum(sg.where(x > 0.0, sg.log1p(abs(x)), sg.reshape(sg.concat([x, -x]), (4, 3))[1:3]))}),
    ]


def seeds(graph_id: str, dataset: str) -> list[Seed]:
    """Good requests of all methods, for a registered graph of `logistic` and a dataset of its samples."""
    a, b = sg.Value(2.0), sg.Value(-3.0)
    expression, _ = trace_nodes((a * b + sg.tanh(b)) ** 2)
    params, data = support.named(logistic().params), support.named(samples())
    rows = wire.Rows(indices=support.array_message(np.array([0, 3, 3, 39])))
    gradient = wire.GradientRequest(request_id="g", graph_id=graph_id, parameters=params, inputs=data, wrt=["w"])
    by_range = wire.Rows(range=wire.RowRange(start=2, stop=30))
    resident = wire.GradientRequest(graph_id=graph_id, parameters=params, dataset=dataset, rows=by_range)
    by_list = wire.GradientRequest(graph_id=graph_id, parameters=params, dataset=dataset, rows=rows, reduction=wire.REDUCTION_MEAN)
    debug = wire.GradientRequest(graph_id=graph_id, parameters=params, inputs=data, debug=True)
    evaluate = wire.EvaluateRequest(request_id="e", graph_id=graph_id, parameters=params, inputs=data)
    evaluate_rows = wire.EvaluateRequest(graph_id=graph_id, parameters=params, dataset=dataset, rows=rows)
    registrations = [
        Seed("RegisterGraph", (wire.RegisterGraphRequest(graph=support.graph_bytes(graph), sources=support.sources_message(graph)),), 3)
        for graph in _graphs()
    ]
    return [
        *registrations,
        Seed("GetGraph", (wire.GetGraphRequest(request_id="g", graph_id=graph_id),)),
        *(Seed("Gradient", (request,), 4) for request in (gradient, resident, by_list, debug)),
        Seed("Evaluate", (evaluate,), 2),
        Seed("Evaluate", (evaluate_rows,), 2),
        Seed("Backward", (wire.BackwardRequest(graph=support.graph_bytes(expression)),), 3),
        Seed("GradientStream", (gradient, resident, by_list, debug, gradient, resident, by_list, gradient), 2),
        Seed("UploadDataset", upload("fuzzed", samples(20)), 2),
        Seed("DescribeUpload", (wire.DescribeUploadRequest(request_id="d", upload_id="upload of fuzzed"),)),
        Seed("ListDatasets", (wire.ListDatasetsRequest(request_id="l"),)),
        Seed("DescribeDataset", (wire.DescribeDatasetRequest(dataset=dataset),)),
        Seed("DeleteDataset", (wire.DeleteDatasetRequest(dataset="fuzzed"),)),
        Seed("GetStatus", (wire.GetStatusRequest(request_id="s"),)),
        *_about_runs(graph_id, dataset),
    ]


TRAINED, STOPPED = "trained", "stopped"
"""A run that goes on, and one that is over."""


def create_run(graph_id: str, name: str) -> wire.CreateRunRequest:
    """Of a run with a graph of `logistic`, whose members are soon given up."""
    rate = wire.Schedule(rate=0.25, warmup_steps=2, cosine=wire.CosineDecay(final=0.125, steps=100))
    optimizer = wire.Optimizer(adam=wire.Adam(beta1=0.9, beta2=0.99, epsilon=1e-8), learning_rate=rate, clip_norm=10.0, clip_value=2.0)
    wanted = wire.RunSpecification(
        graph_id=graph_id, optimizer=optimizer, members=1, min_members=1, lease_seconds=1, step_timeout_seconds=1
    )
    return wire.CreateRunRequest(request_id="c", name=name, specification=wanted, parameters=support.named(logistic().params))


def _about_runs(graph_id: str, dataset: str) -> list[Seed]:
    part, rows = wire.Contribution, wire.Rows(range=wire.RowRange(start=2, stop=30))
    own = wire.OwnGradient(value=1.0, gradient=bytes(24), sample_count=3, metrics=support.named({"right": np.array(2.0)}))
    parts = (
        part(minibatch=wire.Minibatch(inputs=support.named(samples()))),
        part(rows=wire.ResidentRows(dataset=dataset, rows=rows)),
        part(gradient=own),
        part(nothing=wire.Nothing()),
    )
    step = wire.StepRequest
    steps = (
        step(attach=wire.Attach(run=TRAINED)),
        step(heartbeat=wire.Heartbeat()),
        *(step(contribution=each) for each in parts),
        step(leave=wire.Leave()),
    )
    return [
        Seed("CreateRun", (create_run(graph_id, "fuzzed"),)),
        Seed("JoinRun", (wire.JoinRunRequest(request_id="j", run=TRAINED, member="m"),)),
        Seed("GetRun", (wire.GetRunRequest(request_id="g", run=TRAINED, parameters=True, ledger_from=0),)),
        Seed("ListRuns", (wire.ListRunsRequest(request_id="l"),)),
        Seed("WatchRun", (wire.WatchRunRequest(request_id="w", run=STOPPED, from_step=0),)),
        Seed("StopRun", (wire.StopRunRequest(request_id="s", run="fuzzed", forget=True),)),
        Seed("Step", steps, 2),
    ]
