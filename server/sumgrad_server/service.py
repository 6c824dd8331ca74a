"""The gRPC methods: from the request's fields to the executor, and back. No logic lives here."""

from __future__ import annotations

from collections.abc import Mapping

from sumgrad_engine.errors import InputError
from sumgrad_engine.options import Evaluator, Options, Precision
from sumgrad_engine.types import Array
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire

from . import codec, rpc
from .answers import GradientAnswers
from .executor import Executor
from .faults import DamagedError, UnknownGraphError
from .graphs import Graphs, StoredGraph, graph_id
from .jobs import SharedGraph
from .planning import Asker, EvaluateCall, GradientCall
from .recent import Recent
from .resident import Datasets, Rows
from .rpc import Call, Host, RpcHandler
from .settings import Settings
from .threads import unblocking

NAME: str = wire.DESCRIPTOR.services_by_name["GradientService"].full_name
KEPT_WISHES = 16
CHUNK_BYTES = 1 << 20
"""Outputs of Evaluate are sent in messages of about this size."""

_EVALUATORS: dict[int, Evaluator] = {wire.EVALUATOR_REFERENCE: "reference", wire.EVALUATOR_COMPILED: "compiled"}
_RAN = {"reference": wire.EVALUATOR_REFERENCE, "compiled": wire.EVALUATOR_COMPILED}
_PRECISIONS: dict[int, Precision] = {wire.PRECISION_UNSPECIFIED: "f64", wire.PRECISION_F64: "f64", wire.PRECISION_F32: "f32"}
_REDUCTIONS = {wire.REDUCTION_UNSPECIFIED: False, wire.REDUCTION_SUM: False, wire.REDUCTION_MEAN: True}


class Service:
    """The methods of GradientService."""

    def __init__(self, settings: Settings, executor: Executor, graphs: Graphs, datasets: Datasets) -> None:
        self._settings = settings
        self._executor = executor
        self._graphs = graphs
        self._datasets = datasets
        self._answers = GradientAnswers()
        self._wishes: Recent[tuple[int, int, bool], Options] = Recent(KEPT_WISHES)

    def handlers(self, host: Host) -> dict[str, RpcHandler]:
        """The methods by name, as gRPC calls them."""
        return {
            "RegisterGraph": rpc.unary(host, "compute", "RegisterGraph", wire.RegisterGraphRequest, self.register_graph),
            "GetGraph": rpc.unary(host, "read", "GetGraph", wire.GetGraphRequest, self.get_graph),
            "Gradient": rpc.unary(host, "compute", "Gradient", wire.GradientRequest, self.gradient),
            "Evaluate": rpc.streaming(host, "compute", "Evaluate", wire.EvaluateRequest, self.evaluate),
            "Backward": rpc.unary(host, "compute", "Backward", wire.BackwardRequest, self.backward),
        }

    async def register_graph(self, call: Call, request: wire.RegisterGraphRequest) -> wire.RegisterGraphResponse:
        """Stores a graph that passes every check."""
        name = await unblocking(len(request.graph), graph_id, request.graph)
        known = await self._known(call, name)
        graph = known or await self._checked(call, name, request)
        return wire.RegisterGraphResponse(
            request_id=request.request_id,
            graph_id=name,
            already_known=known is not None,
            node_count=graph.signature.node_count,
        )

    async def _checked(self, call: Call, name: str, request: wire.RegisterGraphRequest) -> StoredGraph:
        shared = await self._shared(name, request.graph, request.sources)
        graph = StoredGraph(shared, await self._executor.describe(shared, asker(call)))
        await self._graphs.put(graph)
        return graph

    async def _known(self, call: Call, name: str) -> StoredGraph | None:
        try:
            return await self.graph(call, name)
        except (UnknownGraphError, DamagedError):
            return None

    async def graph(self, call: Call, name: str) -> StoredGraph:
        """A graph that was registered. Never suspends for one in memory. Raises UnknownGraphError, DamagedError."""
        return self._graphs.find(name) or await self._graphs.get(name, lambda shared: self._executor.describe(shared, asker(call)))

    async def _shared(self, name: str, graph: bytes, sources: graph_pb2.SourceMap) -> SharedGraph:
        return await unblocking(len(graph), SharedGraph.of, name, graph, sources.SerializeToString())

    async def get_graph(self, call: Call, request: wire.GetGraphRequest) -> wire.GetGraphResponse:
        """Returns a graph as it was registered."""
        shared = (await self.graph(call, request.graph_id)).shared
        graph, sources = await unblocking(shared.arena.nbytes, shared.ref.split, shared.arena.bytes)
        return wire.GetGraphResponse(request_id=request.request_id, graph=graph, sources=codec.parse(graph_pb2.SourceMap, sources))

    async def gradient(self, call: Call, request: wire.GradientRequest) -> wire.GradientResponse:
        """Sums over a minibatch, or over rows of a dataset."""
        graph = await self.graph(call, request.graph_id)
        found = await self._executor.gradient(graph, await self._gradient_call(call, request))
        call.samples += found.count
        response = self._answers.get(found.layout).response(found.vector)
        response.request_id = request.request_id
        response.sample_count = found.count
        response.evaluator = _RAN[found.evaluator]
        return response

    async def _gradient_call(self, call: Call, request: wire.GradientRequest) -> GradientCall:
        mean = _REDUCTIONS.get(request.reduction)
        if mean is None:
            raise InputError(f"reduction {request.reduction} is unknown", field="reduction")
        parameters, inputs = await self._arrays(request)
        rows = await self._rows(call, request)
        return GradientCall(parameters, inputs, rows, tuple(request.wrt) or None, mean, self._options(request), asker(call))

    async def _rows(self, call: Call, request: wire.GradientRequest | wire.EvaluateRequest) -> Rows | None:
        """The samples of a dataset that a request names, if it names one. Raises InputError, UnknownDatasetError, DamagedError."""
        if not request.dataset:
            if request.HasField("rows"):
                raise InputError("rows are given, but no dataset to take them from", field="rows")
            return None
        if request.inputs:
            raise InputError("a request has inputs or a dataset, not both", field="inputs")
        dataset = await self._datasets.open(call.principal.namespace, request.dataset)
        return await unblocking(len(request.rows.indices.data), codec.decode_rows, request.rows, dataset)

    def _options(self, request: wire.GradientRequest | wire.EvaluateRequest) -> Options:
        """What the request wishes, if this server allows it. Raises InputError."""
        wish = (request.evaluator, request.precision, request.debug)
        found = self._wishes.find(wish)
        if found is None:
            found = self.granted(*wish)
            self._wishes.put(wish, found)
        return found

    def granted(self, evaluator: int, precision: int, debug: bool) -> Options:
        """What the wire's wishes mean, if this server allows them. Raises InputError."""
        if evaluator not in wire.Evaluator.values():
            raise InputError(f"evaluator {evaluator} is not one that this server has", field="evaluator")
        if precision not in _PRECISIONS:
            raise InputError(f"precision {precision} is unknown", field="precision")
        chosen = _EVALUATORS.get(evaluator, self._settings.evaluator)
        if self._settings.evaluator == "reference" and (chosen == "compiled" or _PRECISIONS[precision] == "f32"):
            raise InputError(
                "this server evaluates nothing by compiled code, which f32 needs too (its --evaluator is reference)", field="evaluator"
            )
        return Options(chosen, _PRECISIONS[precision], debug)

    async def _arrays(self, request: wire.GradientRequest | wire.EvaluateRequest) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        def decode() -> tuple[Mapping[str, Array], Mapping[str, Array]]:
            parameters = codec.decode_arrays(request.parameters, "parameters", self._settings)
            return parameters, codec.decode_arrays(request.inputs, "inputs", self._settings)

        return await unblocking(request.ByteSize(), decode)

    async def evaluate(self, call: Call, request: wire.EvaluateRequest) -> None:
        """Streams outputs for each sample."""
        graph = await self.graph(call, request.graph_id)
        options = self._options(request)
        parameters, inputs = await self._arrays(request)
        rows = await self._rows(call, request)
        async with self._executor.evaluate(graph, EvaluateCall(parameters, inputs, rows, options, asker(call))) as (columns, evaluator):
            await _stream(call, columns, _RAN[evaluator])

    async def backward(self, call: Call, request: wire.BackwardRequest) -> wire.BackwardResponse:
        """Data and gradient of every node of an expression."""
        name = await unblocking(len(request.graph), graph_id, request.graph)
        shared = await self._shared(name, request.graph, request.sources)
        data, gradients = await self._executor.backward(shared, asker(call))
        return wire.BackwardResponse(request_id=request.request_id, data=data, gradients=gradients)


def asker(call: Call) -> Asker:
    """For whom the executor works."""
    return Asker(call.client, call.principal.max_queue)


async def _stream(call: Call, columns: Mapping[str, Array], evaluator: wire.Evaluator) -> None:
    samples = len(next(iter(columns.values())))
    call.samples += samples
    sample_bytes = sum(column.nbytes for column in columns.values()) // samples
    step = max(1, CHUNK_BYTES // max(1, sample_bytes))
    for start in range(0, samples, step):
        part = {name: column[start : start + step] for name, column in columns.items()}
        response = wire.EvaluateResponse(
            request_id=call.request_id,
            first_sample=start,
            sample_count=min(step, samples - start),
            outputs=codec.encode_arrays(part),
            evaluator=evaluator,
        )
        await call.send(response)
