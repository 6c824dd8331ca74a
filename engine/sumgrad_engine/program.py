"""What the summing of an objective over samples runs: the same code in this process and in a server's workers.

A partial result is one flat float64 vector: the value, then each metric, then each gradient, in row-major order. So sums over blocks are sums of
vectors, wherever they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .adjoint import Tape
from .blocks import BLOCK, TreeSum, block_range
from .collector import paused_collector
from .errors import Cancelled, GraphError, InputError, NumericalError
from .grad import differentiate
from .interpret import Plan, conform
from .ir import Graph, replay
from .ops.arithmetic import cast_float
from .ops.contraction import sum_samples
from .shapes import size
from .simplify import Simplifier
from .types import Array, DType, Leaf, Shape

Vector = npt.NDArray[np.float64]
Stop = Callable[[], bool]
METRIC = "metric:"


def never() -> bool:
    """The answer of an evaluation that nobody stops."""
    return False


@dataclass(frozen=True)
class Result:
    """Value, gradients and metrics of an objective."""

    value: float
    """The reduced loss plus the penalty."""
    grads: dict[str, Array]
    """For each parameter the derivative of `value`, float64, of the parameter's shape."""
    metrics: dict[str, Array]
    """For each metric its sum (or mean) over the samples, float64."""
    count: int
    """Number of samples."""
    evaluator: str = "reference"
    """What computed it. Results are the same to the bit within one evaluator."""


@dataclass(frozen=True)
class Layout:
    """Where things lie in a partial result."""

    metrics: tuple[tuple[str, Shape], ...]
    grads: tuple[tuple[str, Shape], ...]

    @property
    def width(self) -> int:
        """Length of a partial result."""
        return 1 + sum(size(shape) for _, shape in (*self.metrics, *self.grads))

    def pack(self, parts: Sequence[Array]) -> Vector:
        """One vector of value, metrics and gradients."""
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64, copy=False)

    def unpack(self, vector: Vector) -> tuple[float, dict[str, Array], dict[str, Array]]:
        """Value, metrics and gradients of a vector."""
        found: list[Array] = []
        offset = 1
        for _, shape in (*self.metrics, *self.grads):
            found.append(vector[offset : offset + size(shape)].reshape(shape).copy())
            offset += size(shape)
        names = [name for name, _ in self.metrics], [name for name, _ in self.grads]
        metrics = dict(zip(names[0], found[: len(names[0])], strict=True))
        return float(vector[0]), metrics, dict(zip(names[1], found[len(names[0]) :], strict=True))


def wanted_names(wrt: Iterable[str] | str | None) -> tuple[str, ...]:
    """The names of parameters to differentiate with respect to; none, like None, means all. A string is one name."""
    return () if wrt is None else (wrt,) if isinstance(wrt, str) else tuple(map(str, wrt))


def gradient_layout(graph: Graph, wrt: Iterable[str] | str | None = None) -> Layout:
    """The layout of an objective's partial results, known without differentiating. Raises GraphError, InputError."""
    check_objective(graph)
    shapes = {leaf.name: leaf.shape for leaf in graph.parameters}
    wanted = wanted_names(wrt)
    for name in wanted:
        if name not in shapes:
            raise InputError(f"there is no parameter {name!r}; the graph has {sorted(shapes)}", field=f"wrt.{name}")
    names = [name for name in shapes if not wanted or name in wanted]
    metrics = tuple((name[len(METRIC) :], graph.shape(node)) for name, node in graph.outputs.items() if name.startswith(METRIC))
    return Layout(metrics, tuple((name, shapes[name]) for name in names))


def check_objective(graph: Graph) -> None:
    """Raises GraphError unless the outputs are those of an objective: a scalar "loss", maybe "penalty", and "metric:NAME"."""
    for name, node in graph.outputs.items():
        if name not in ("loss", "penalty") and not name.startswith(METRIC):
            raise GraphError(f"an objective has outputs loss, penalty and metric:NAME, not {name!r}", node=node)
        if name in ("loss", "penalty") and graph.types[node] != ((), DType.FLOAT):
            raise GraphError(
                f"the {name} must be a float of shape (), not {graph.dtype(node).name} of shape {graph.shape(node)}: sum or average it first",
                node=node,
                op=graph.op(node).name,
                source=graph.describe(node),
            )
    if "loss" not in graph.outputs:
        raise GraphError('an objective needs an output "loss"')
    penalty = graph.outputs.get("penalty")
    if penalty is not None and graph.per_sample[penalty]:
        raise GraphError("the penalty depends on an input: it may depend on parameters only", node=penalty, source=graph.describe(penalty))


class GradientProgram:
    """Value and gradient of an objective's graph, block by block."""

    def __init__(self, graph: Graph, wrt: Iterable[str] | str | None = None, debug: bool = False) -> None:
        self.graph, self.debug = graph, debug
        self.layout = gradient_layout(graph, wrt)
        self.has_penalty = "penalty" in graph.outputs
        self._loss, self._loss_nodes = _derived(graph, self.layout, "loss")
        if self.has_penalty:
            self._penalty, self._penalty_nodes = _derived(graph, self.layout, "penalty")

    def partial(
        self,
        params: Mapping[str, Array],
        inputs: Mapping[str, Array],
        first_block: int,
        block_count: int,
        samples: int,
        should_stop: Stop = never,
    ) -> Vector:
        """The tree sum of some blocks. `inputs` are the whole arrays, of `samples` rows. Raises Cancelled, NumericalError, InputError."""
        total = TreeSum()
        shared = self._loss.shared(params, self.debug)
        for block in range(first_block, first_block + block_count):
            if should_stop():
                raise Cancelled("the evaluation was stopped")
            start, stop = block_range(block, samples)
            rows = {name: array[start:stop] for name, array in inputs.items()}
            found = self._loss.block(shared, rows, start, self.debug)
            total.push(self.layout.pack([found[node] for node in self._loss_nodes]))
        vector = total.total()
        if self.debug and not np.isfinite(vector).all():
            raise NumericalError("the first infinity arose in the sum over blocks of samples: every block is finite", op="sum_samples")
        return vector

    def check_memory(self, samples: int, limit: str, allowed: int) -> None:
        """Raises LimitError that names a node if a block certainly takes more bytes than allowed; `limit` is the name of the limit."""
        self._loss.check_memory(min(samples, BLOCK), limit, allowed)

    def penalty(self, params: Mapping[str, Array]) -> Vector:
        """Value and gradient of the penalty, laid out as a partial result. Raises NumericalError."""
        shared = self._penalty.shared(params, self.debug)
        found = self._penalty.block(shared, {}, 0, self.debug)
        return self.layout.pack([found[node] for node in self._penalty_nodes])

    def finish(self, total: Vector, penalty: Vector | None, samples: int, mean: bool) -> Result:
        """The result: the sum over samples, averaged if `mean`, plus the penalty once."""
        return finish(self.layout, total, penalty, samples, mean)


@np.errstate(all="ignore")
def finish(layout: Layout, total: Vector, penalty: Vector | None, samples: int, mean: bool) -> Result:
    """The result of a sum over samples, averaged if `mean`, plus the penalty once."""
    vector = total / samples if mean else total
    if penalty is not None:
        vector = vector + penalty
    value, metrics, grads = layout.unpack(vector)
    return Result(value, grads, metrics, samples)


@paused_collector()
def _derived(graph: Graph, layout: Layout, output: str) -> tuple[Plan, list[int]]:
    """The plan for value, metrics and gradients of the loss or the penalty, and their nodes in the order of the layout."""
    builder = Simplifier()
    ids = replay(graph, builder)
    loss = output == "loss"
    builder.place = graph.sources.place(graph.outputs[output]) if graph.sources else None
    target = builder.add(sum_samples, [ids[graph.outputs[output]]]) if loss else ids[graph.outputs[output]]
    wrt = [ids[graph.node_of(name)] for name, _ in layout.grads]
    zeros = [builder.constant(np.zeros(shape)) for _, shape in layout.metrics] if not loss else []
    metrics = zeros or [builder.add(sum_samples, [_as_float(builder, ids[graph.outputs[METRIC + name]])]) for name, _ in layout.metrics]
    nodes = [target, *metrics, *differentiate(builder, target, wrt, over_samples=loss)]
    derived = builder.graph({str(position): node for position, node in enumerate(nodes)})
    wanted = [derived.outputs[str(position)] for position in range(len(nodes))]
    return Plan(derived, wanted), wanted


def _as_float(builder: Simplifier, node: int) -> int:
    return node if builder.types[node].dtype is DType.FLOAT else builder.add(cast_float, [node])


class EvaluateProgram:
    """The outputs of a graph for each sample."""

    @paused_collector()
    def __init__(self, graph: Graph, debug: bool = False) -> None:
        self.graph, self.debug = graph, debug
        builder = Simplifier()
        ids = replay(graph, builder)
        simple = builder.graph({name: ids[node] for name, node in graph.outputs.items()})
        self._nodes = simple.outputs
        self._plan = Plan(simple, simple.outputs.values())
        self.outputs = {name: (graph.shape(node), graph.dtype(node).numpy) for name, node in graph.outputs.items()}

    def check_memory(self, samples: int, limit: str, allowed: int) -> None:
        """As GradientProgram's."""
        self._plan.check_memory(min(samples, BLOCK), limit, allowed)

    def run(
        self, params: Mapping[str, Array], inputs: Mapping[str, Array], start: int, stop: int, should_stop: Stop = never
    ) -> dict[str, Array]:
        """The outputs of samples start..stop-1, each of shape (stop - start, *output shape). `start` is a multiple of BLOCK."""
        shared = self._plan.shared(params, self.debug)
        parts: list[dict[str, Array]] = []
        for first in range(start, stop, BLOCK):
            if should_stop():
                raise Cancelled("the evaluation was stopped")
            last = min(first + BLOCK, stop)
            rows = {name: array[first:last] for name, array in inputs.items()}
            parts.append(self._block(shared, rows, first, last))
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def _block(self, shared: dict[int, Array], rows: Mapping[str, Array], first: int, last: int) -> dict[str, Array]:
        found = self._plan.block(shared, rows, first, self.debug)
        return {
            name: np.asarray(np.broadcast_to(found[self._nodes[name]], (last - first, *shape)), dtype)
            for name, (shape, dtype) in self.outputs.items()
        }


def backward_all(graph: Graph) -> tuple[Vector, Vector]:
    """Value of every node of a graph without leaves, and the derivative of its one scalar output with respect to each.

    Both are flat: the elements of node 0 in row-major order, then those of node 1, and so on. Raises GraphError.
    """
    if graph.leaves:
        name = next(iter(graph.leaves.values())).name
        raise GraphError(f"backward needs the data of every leaf, but {name!r} is an input or a parameter")
    if len(graph.outputs) != 1:
        raise GraphError(f"backward needs exactly one output, not {len(graph.outputs)}")
    (target,) = graph.outputs.values()
    if graph.types[target] != ((), DType.FLOAT):
        raise GraphError(f"only a float of shape () has a gradient, not {graph.types[target]}", node=target, source=graph.describe(target))
    rows = list(graph.rows())
    tape = Tape([op for _, op, _, _ in rows], [operands for _, _, operands, _ in rows], [attributes for *_, attributes in rows])
    data = tape.forward(graph.constants)
    return _flat(graph, data), _flat(graph, tape.backward(data, target))


def _flat(graph: Graph, arrays: Sequence[Array | None]) -> Vector:
    parts = [
        np.zeros(size(of.shape)) if a is None else np.ravel(np.asarray(a, np.float64)) for a, of in zip(arrays, graph.types, strict=True)
    ]
    return np.concatenate(parts)


def check_arrays(graph: Graph, params: Mapping[str, Array], inputs: Mapping[str, Array]) -> int:
    """Checks that arrays are those that a graph needs, and gives the number of samples: 1 if the graph has no inputs.

    Raises InputError that names the field: missing, unexpected, of a wrong shape or kind, or without samples.
    """
    _check_names("parameters", graph.parameters, params)
    _check_names("inputs", graph.inputs, inputs)
    for leaf in graph.parameters:
        _check_shape(f"parameters.{leaf.name}", leaf, params[leaf.name], params[leaf.name].shape)
    counts = {}
    for leaf in graph.inputs:
        array, field = inputs[leaf.name], f"inputs.{leaf.name}"
        if array.ndim == 0:
            raise InputError(f"{field} needs a leading sample axis: shape (n, *{leaf.shape}), not a scalar", field=field)
        _check_shape(field, leaf, array, array.shape[1:])
        counts[leaf.name] = len(array)
    return _sample_count(counts)


def _sample_count(counts: Mapping[str, int]) -> int:
    first = next(iter(counts.values()), 1)
    for name, count in counts.items():
        if count != first or count == 0:
            said = f"has {count} samples" + (f", but {next(iter(counts))!r} has {first}" if count else "; at least one is needed")
            raise InputError(f"inputs.{name} {said}", field=f"inputs.{name}")
    return first


def _check_names(what: str, leaves: Sequence[Leaf], arrays: Mapping[str, Array]) -> None:
    names = {leaf.name for leaf in leaves}
    for name in names - arrays.keys():
        raise InputError(f"{what}.{name} is missing", field=f"{what}.{name}")
    for name in arrays.keys() - names:
        raise InputError(f"{what}.{name} is not in the graph, which has {sorted(names)}", field=f"{what}.{name}")


def _check_shape(field: str, leaf: Leaf, array: Array, shape: Shape) -> None:
    if shape != leaf.shape:
        lead = "(" + ", ".join(map(str, ("n", *leaf.shape))) + ")"
        wanted = f"{lead}: one row a sample" if field.startswith("inputs.") else str(leaf.shape)
        raise InputError(f"{field} has shape {array.shape}, but the graph needs {wanted}", field=field)
    conform(leaf._replace(name=field), array[:0] if array.ndim else array)


__all__ = [
    "BLOCK",
    "EvaluateProgram",
    "GradientProgram",
    "Layout",
    "Result",
    "backward_all",
    "check_arrays",
    "conform",
    "finish",
    "gradient_layout",
    "wanted_names",
]
