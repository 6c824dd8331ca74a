"""What the client does, without a network: one implementation for the blocking and the asyncio service.

Each public method of `Protocol` is a generator of calls and pauses (see calls.py) and becomes a method of `Service` and `AsyncService`, which
take names, signatures and docstrings from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from grpc_health.v1 import health_pb2
from numpy.typing import ArrayLike, NDArray
from sumgrad_engine.errors import GraphError, InputError
from sumgrad_engine.ir import Graph
from sumgrad_engine.objective import Objective
from sumgrad_engine.ops.leaves import constant
from sumgrad_engine.options import Evaluator, Options, Precision
from sumgrad_engine.program import Result, check_arrays, check_parameters, gradient_layout, wanted_names
from sumgrad_engine.trace import named_expressions, trace, trace_nodes
from sumgrad_engine.types import Leaf
from sumgrad_engine.value import Literal, Value, topological
from sumgrad_proto.v1 import service_pb2 as wire

from . import calls, codec
from .calls import Deadline, Steps, stream, unary
from .codec import Array, EncodedGraph
from .conversation import source_of
from .dataset_protocol import DatasetProtocol, require_plain
from .errors import InternalError, ServiceError
from .resident import Dataset, RowChoice, check_columns, chosen_rows, taken_rows, write_rows
from .run_protocol import PRECISIONS, REDUCTIONS, WISHES, RunProtocol

Arrays = Mapping[str, ArrayLike]
"""Arrays by name: a dictionary, or what has `items()` like one, such as a DataFrame."""
Data: TypeAlias = Arrays | Dataset | str
"""Samples: arrays; or a dataset that is on the server, by its handle or its name."""

_EVALUATORS: dict[int, str] = {wire.EVALUATOR_REFERENCE: "reference", wire.EVALUATOR_COMPILED: "compiled"}


class Protocol(DatasetProtocol, RunProtocol):
    """All that can be asked of a server."""

    def value_and_grad(
        self,
        objective: Objective,
        params: Arrays,
        data: Data,
        *,
        rows: RowChoice | None = None,
        wrt: Iterable[str] | str | None = None,
        debug: bool = False,
        evaluator: Evaluator = "auto",
        precision: Precision = "f64",
        timeout: float | None = None,
    ) -> Steps[Result]:
        """Value, gradient and metrics of an objective over a minibatch, the same to the bit as `objective.value_and_grad` gives here.

        `data` holds an array of shape (n, *shape) for each input, `params` one for each parameter. Or `data` is a dataset that was uploaded, or its name:
        each input takes the column of its name. `rows` chooses samples of either: a slice, indices in any order and as often as they stand there, or a
        mask of booleans. `wrt` names the parameters to
        differentiate with respect to (None: all). `debug` makes the first NaN or infinity a NonFiniteError that names its node, source line
        and sample. `evaluator` is "compiled", "reference", or "auto" for what the server chooses; `precision` is "f64", or "f32" with sums over
        samples in f64. Raises InputError for arrays that do not fit, and ServiceError as errors.py has it.
        """
        deadline = self._deadline(timeout)
        graph, request = yield from self.gradient_request(
            objective, params, data, rows=rows, wrt=wrt, debug=debug, evaluator=evaluator, precision=precision, deadline=deadline
        )
        return read_result((yield from self._with_graph(graph, calls.GRADIENT, unary, request, deadline)))

    def gradient_request(
        self,
        objective: Objective,
        params: Arrays,
        data: Data,
        *,
        rows: RowChoice | None,
        wrt: Iterable[str] | str | None,
        debug: bool,
        evaluator: Evaluator,
        precision: Precision,
        deadline: Deadline,
    ) -> Steps[tuple[EncodedGraph, wire.GradientRequest]]:
        """What value_and_grad sends, and the graph that it names."""
        Options(evaluator, precision, debug)
        wanted = wanted_names(wrt)
        gradient_layout(objective.graph, wanted)
        graph = self.encoded(objective)
        request = wire.GradientRequest(
            request_id=self._new_request_id(),
            graph_id=graph.id,
            wrt=wanted,
            reduction=REDUCTIONS[objective.reduction],
            debug=debug,
            evaluator=WISHES[evaluator],
            precision=PRECISIONS[precision],
        )
        yield from self._add_arrays(request, graph.graph, params, data, rows, precision, deadline)
        return graph, request

    def registered_request(
        self,
        objective: Objective,
        params: Arrays,
        data: Data,
        *,
        rows: RowChoice | None,
        wrt: Iterable[str] | str | None,
        debug: bool,
        evaluator: Evaluator,
        precision: Precision,
    ) -> Steps[tuple[EncodedGraph, wire.GradientRequest, Deadline]]:
        """What a stream sends, with its graph registered before, and until when an answer is waited for."""
        deadline = self._deadline(None)
        graph, request = yield from self.gradient_request(
            objective, params, data, rows=rows, wrt=wrt, debug=debug, evaluator=evaluator, precision=precision, deadline=deadline
        )
        yield from self._register(graph, deadline)
        return graph, request, deadline

    def answered(self, graph: EncodedGraph, request: wire.GradientRequest) -> Steps[Result]:
        """The result of a request by a call of its own."""
        return read_result((yield from self._with_graph(graph, calls.GRADIENT, unary, request, self._deadline(None))))

    def evaluate(
        self,
        outputs: Mapping[str, Value],
        params: Arrays | None = None,
        data: Data | None = None,
        *,
        rows: RowChoice | None = None,
        debug: bool = False,
        evaluator: Evaluator = "auto",
        precision: Precision = "f64",
        timeout: float | None = None,
    ) -> Steps[dict[str, NDArray[Any]]]:
        """Expressions for each sample: for each output of shape `shape` an array of shape (n, *shape).

        `params` and `data` may hold more than these outputs need. An expression without inputs is evaluated for one sample, n = 1. `evaluator` and
        `precision`, as datasets and `rows`, are as for value_and_grad; in f32 floats come back as float32.
        """
        Options(evaluator, precision, debug)
        named = named_expressions(outputs)
        graph = self._traced.get(tuple(named.values()), lambda: EncodedGraph.of(trace(named)), *named, _constants(named.values()))
        request = wire.EvaluateRequest(
            request_id=self._new_request_id(),
            graph_id=graph.id,
            debug=debug,
            evaluator=WISHES[evaluator],
            precision=PRECISIONS[precision],
        )
        deadline = self._deadline(timeout)
        some = data if isinstance(data, Dataset | str) else _needed(data, graph.graph.inputs)
        yield from self._add_arrays(request, graph.graph, _needed(params, graph.graph.parameters), some, rows, precision, deadline)
        parts = yield from self._with_graph(graph, calls.EVALUATE, stream, request, deadline)
        return _joined(parts)

    def backward(self, value: Value, *, timeout: float | None = None) -> Steps[None]:
        """Adds d(value)/d(node) to `grad` of every node that `value` is computed from, and sets their `data`, as `value.backward()` does here.

        `value` is a scalar computed from Values with data. Gradients add up over calls until they are set to 0 again.
        """
        if not isinstance(value, Value):
            raise GraphError(f"backward takes a Value, not {value!r:.80}")
        graph, nodes = trace_nodes(value)
        request = wire.BackwardRequest(
            request_id=self._new_request_id(), graph=codec.encode_graph(graph), sources=codec.encode_sources(graph.sources)
        )
        try:
            reply = yield from self._send(calls.BACKWARD, unary, request, self._deadline(timeout))
        except ServiceError as error:
            raise error.located(source_of(graph, error)) from None
        _fill(nodes, codec.decode_flat(reply.data), codec.decode_flat(reply.gradients))

    def get_graph(self, graph_id: str, *, timeout: float | None = None) -> Steps[Graph]:
        """A graph that was registered under this id (the SHA-256 of its bytes). NotFoundError if the service does not know it."""
        request = wire.GetGraphRequest(request_id=self._new_request_id(), graph_id=graph_id)
        reply = yield from self._send(calls.GET_GRAPH, unary, request, self._deadline(timeout))
        if codec.graph_id(reply.graph) != graph_id:
            raise InternalError(f"the service answered with another graph than {graph_id}", request_id=request.request_id)
        return codec.decode_graph(reply.graph, reply.sources)

    def health(self, *, timeout: float | None = None) -> Steps[str]:
        """What the server says of itself: "SERVING" or, when it is going down, "NOT_SERVING". UnavailableError if nobody answers."""
        request = health_pb2.HealthCheckRequest()
        reply = yield from self._send(calls.HEALTH, unary, request, self._deadline(timeout))
        return health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)

    def _add_arrays(
        self,
        request: wire.GradientRequest | wire.EvaluateRequest,
        graph: Graph,
        params: Arrays,
        data: Data,
        rows: RowChoice | None,
        precision: Precision,
        deadline: Deadline,
    ) -> Steps[None]:
        """Writes parameters and samples into a request, if they fit the graph: what does not fit should not travel. In f32 neither do 64 bits an input."""
        parameters = _sendable(params, "parameters")
        if isinstance(data, Dataset | str):
            yield from self._add_dataset(request, graph, parameters, data, rows, deadline)
        else:
            require_plain(data)
            inputs = _sendable(data if rows is None else taken_rows(data, rows), "inputs")
            check_arrays(graph, parameters, inputs)
            codec.add_arrays(request.inputs, _narrowed(inputs) if precision == "f32" else inputs)
        codec.add_arrays(request.parameters, parameters)

    def _add_dataset(
        self,
        request: wire.GradientRequest | wire.EvaluateRequest,
        graph: Graph,
        parameters: Mapping[str, Array],
        data: Dataset | str,
        rows: RowChoice | None,
        deadline: Deadline,
    ) -> Steps[None]:
        if isinstance(data, str) and rows is not None:  # which rows are meant depends on how many there are
            data = yield from self._described(data, deadline)
        if isinstance(data, Dataset):
            check_columns(graph, data)
            if rows is not None:
                write_rows(request.rows, chosen_rows(rows, data.sample_count))
        if not graph.inputs:
            raise InputError("the expression has no inputs: it needs no dataset", field="data")
        check_parameters(graph, parameters)
        request.dataset = data.id if isinstance(data, Dataset) else data


def read_result(reply: wire.GradientResponse) -> Result:
    """The result that a message holds."""
    return Result(
        value=reply.value,
        grads=codec.decode_arrays(reply.gradients),
        metrics=codec.decode_arrays(reply.metrics),
        count=reply.sample_count,
        evaluator=_EVALUATORS.get(reply.evaluator, "unknown"),
    )


def _sendable(arrays: Arrays, kind: str) -> dict[str, Array]:
    return {str(name): codec.sendable(values, f"{kind}.{name}") for name, values in arrays.items()}


def _needed(arrays: Arrays | None, leaves: Iterable[Leaf]) -> Arrays:
    wanted = {leaf.name for leaf in leaves}
    return {} if arrays is None else {name: values for name, values in arrays.items() if name in wanted}


@np.errstate(over="ignore")  # what f32 can't hold is infinite
def _narrowed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in arrays.items()}


def _constants(expressions: Iterable[Value]) -> tuple[bytes, ...]:
    """The data of all Values that a graph takes for constants: they may be changed between two calls, and the graph with them."""
    return tuple(np.asarray(node.data).tobytes() for node in topological(list(expressions)) if node.op is constant)


def _fill(nodes: Sequence[Value], data: NDArray[np.float64], gradients: NDArray[np.float64]) -> None:
    """Hands every node its piece of both vectors."""
    ends = np.cumsum([node.size for node in nodes]).tolist()
    if not (len(data) == len(gradients) == ends[-1]):
        raise InternalError(f"the service answered with {len(data)} data and {len(gradients)} gradients for {ends[-1]} elements")
    for node, end in zip(nodes, ends, strict=True):
        piece = slice(end - node.size, end)
        if isinstance(node, Literal):  # a number that was written into the expression: nobody differentiates with respect to it
            continue
        node.data = data[piece].reshape(node.shape)
        gradient = gradients[piece].reshape(node.shape)
        node.grad = node.grad + (gradient.item() if node.shape == () else gradient)


def _joined(parts: Sequence[wire.EvaluateResponse]) -> dict[str, NDArray[Any]]:
    """The streamed parts of each output, one after the other."""
    arrays = [codec.decode_arrays(part.outputs) for part in parts]
    starts = np.cumsum([0, *(part.sample_count for part in parts)])
    if not parts or [part.first_sample for part in parts] != starts[:-1].tolist():
        raise InternalError("the service left out samples of the answer")
    return {name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}
