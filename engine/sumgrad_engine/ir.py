"""The graph: immutable, in topological order, as a structure of arrays; and the builder that makes one.

Every operand is an earlier node, so each pass over a graph is a loop over indices and nothing recurses, however deep the expression is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import GraphError, ShapeError
from .operators import Operators
from .ops import BY_NUMBER, Op
from .ops.arithmetic import cast_float
from .ops.leaves import constant, input_, parameter, scalar
from .ops.record import type_of
from .sources import Place, Sources, describe, gather
from .types import NO_ATTRIBUTES, Array, Attributes, DType, Leaf, Shape, Type

Key = tuple[Any, ...]
Row = tuple[int, Op, tuple[int, ...], Attributes]
"""A node: its index, op, operands and attributes."""


@dataclass(frozen=True, eq=False)
class Graph:
    """An expression graph. Node i computes ops[i] of operands[starts[i]:starts[i + 1]], all of them less than i."""

    opcodes: npt.NDArray[np.uint16]
    starts: npt.NDArray[np.int64]
    operands: npt.NDArray[np.int32]
    attributes: Mapping[int, Attributes]
    """Static attributes of the nodes that have any."""
    constants: Mapping[int, Array]
    """Values of scalar and constant nodes."""
    leaves: Mapping[int, Leaf]
    """Input and parameter nodes."""
    types: Sequence[Type]
    per_sample: npt.NDArray[np.bool_]
    """Whether a node's value differs from sample to sample."""
    outputs: Mapping[str, int]
    sources: Sources | None = None

    @property
    def node_count(self) -> int:
        """Number of nodes."""
        return len(self.opcodes)

    @cached_property
    def inputs(self) -> tuple[Leaf, ...]:
        """Inputs in the order of their nodes."""
        return self._leaves_of(input_)

    @cached_property
    def parameters(self) -> tuple[Leaf, ...]:
        """Parameters in the order of their nodes."""
        return self._leaves_of(parameter)

    @cached_property
    def parameter_shapes(self) -> dict[str, Shape]:
        """Shapes of parameters by name."""
        return {leaf.name: leaf.shape for leaf in self.parameters}

    @cached_property
    def parameter_arrays(self) -> list[str]:
        """Names of the parameters that are no scalars."""
        return [name for name, shape in self.parameter_shapes.items() if shape]

    def _leaves_of(self, op: Op) -> tuple[Leaf, ...]:
        chosen = self.opcodes[list(self.leaves)] == op.number if self.leaves else np.zeros(0, np.bool_)
        return tuple(compress(self.leaves.values(), chosen.tolist()))

    @cached_property
    def digest(self) -> str:
        """A name of the graph: equal for graphs with the same nodes and outputs, whatever their sources."""
        found = hashlib.sha256()
        for column in (self.opcodes, self.starts, self.operands):
            found.update(column.tobytes())
        leaves = [(node, *leaf) for node, leaf in self.leaves.items()]
        attributes = [(node, sorted(of.items())) for node, of in self.attributes.items()]
        found.update(repr((leaves, attributes, list(self.outputs.items()))).encode())
        for node, value in self.constants.items():
            found.update(repr((node, value.shape, value.dtype.str)).encode() + value.tobytes())
        return found.hexdigest()

    def op(self, node: int) -> Op:
        """What a node computes."""
        return BY_NUMBER[int(self.opcodes[node])]

    def arguments(self, node: int) -> tuple[int, ...]:
        """The operands of a node."""
        return tuple(self.operands[self.starts[node] : self.starts[node + 1]].tolist())

    def shape(self, node: int) -> Shape:
        """Per-sample shape of a node."""
        return self.types[node].shape

    def dtype(self, node: int) -> DType:
        """Kind of element of a node."""
        return self.types[node].dtype

    def node_of(self, name: str) -> int:
        """The node of the input or parameter of a name."""
        return self._nodes_by_name[name]

    @cached_property
    def _nodes_by_name(self) -> dict[str, int]:
        return {leaf.name: node for node, leaf in self.leaves.items()}

    def rows(self) -> Iterable[Row]:
        """Every node, in order."""
        starts, operands = self.starts.tolist(), self.operands.tolist()
        for node, number in enumerate(self.opcodes.tolist()):
            yield node, BY_NUMBER[number], tuple(operands[starts[node] : starts[node + 1]]), self.attributes.get(node, NO_ATTRIBUTES)

    def describe(self, node: int) -> str | None:
        """The user's source line of a node, as "train.py:12", or None where unknown."""
        return self.sources.describe(node) if self.sources else None


class Node(Operators):
    """A node of a graph under construction: what derivative rules work on."""

    __slots__ = ("builder", "id")

    def __init__(self, builder: Builder, node: int) -> None:
        self.builder = builder
        self.id = node

    @property
    def shape(self) -> Shape:
        """Per-sample shape."""
        return self.builder.types[self.id].shape

    @property
    def dtype(self) -> DType:
        """Kind of element."""
        return self.builder.types[self.id].dtype

    def build(self, op: Op, operands: Sequence[Any], attributes: Attributes) -> Node:
        """The node op(*operands) in the same builder; numbers and arrays become constants."""
        builder = self.builder
        ids = [operand.id if isinstance(operand, Node) else builder.constant(operand) for operand in operands]
        return Node(builder, builder.add(op, ids, attributes))


class Builder:
    """Makes a graph node by node. Equal nodes are made once (hash-consing), unless `share` is False.

    The lists are the columns of the graph to be; `place` is the source line that new nodes get.
    """

    def __init__(self, share: bool = True) -> None:
        self.share = share
        self.ops: list[Op] = []
        self.operands: list[tuple[int, ...]] = []
        self.attributes: dict[int, Attributes] = {}
        self.constants: dict[int, Array] = {}
        self.leaves: dict[int, Leaf] = {}
        self.types: list[Type] = []
        self.letters: list[str] = []
        self.per_sample: list[bool] = []
        self.places: list[Place | None] = []
        self.place: Place | None = None
        self._ids: dict[Key, int] = {}

    def add(self, op: Op, operands: Sequence[int], attributes: Attributes = NO_ATTRIBUTES) -> int:
        """The node op(*operands). Integers and booleans become floats where the op needs floats. Raises GraphError."""
        try:
            return self._add(op, self._fit(op, operands), attributes)
        except GraphError as error:
            raise error.located(op=op.name, source=describe(self.place)) from None

    def _add(self, op: Op, operands: tuple[int, ...], attributes: Attributes) -> int:
        ordered = operands[::-1] if op.commutative and operands[0] > operands[1] else operands
        key: Key = (op.number, ordered, tuple(sorted(attributes.items()))) if attributes else (op.number, ordered)
        known = self._ids.get(key) if self.share else None
        if known is not None:
            return known
        infer_type = op.infer([self.types[k] for k in operands], attributes)
        per_sample = not op.over_samples and any(self.per_sample[k] for k in operands)
        return self._append(key, op, operands, attributes, infer_type, per_sample)

    def _append(self, key: Key, op: Op, operands: tuple[int, ...], attributes: Attributes, of: Type, per_sample: bool) -> int:
        node = len(self.ops)
        self.ops.append(op)
        self.operands.append(operands)
        self.types.append(of)
        self.letters.append(of.dtype.letter)
        self.per_sample.append(per_sample)
        self.places.append(self.place)
        if attributes:
            self.attributes[node] = dict(attributes)
        if self.share:
            self._ids[key] = node
        return node

    def _fit(self, op: Op, operands: Sequence[int]) -> tuple[int, ...]:
        """The operands as the kinds of element that the op needs."""
        if not op.accepts(len(operands)):
            raise GraphError(f"{op.name} takes {len(op.kinds)} operands, not {len(operands)}")
        letters = op.letters(len(operands))
        for wanted, operand in zip(letters, operands, strict=True):
            if wanted not in (self.letters[operand], "*"):
                return tuple(self._cast(op, w, k) for w, k in zip(letters, operands, strict=True))
        return tuple(operands)

    def _cast(self, op: Op, wanted: str, operand: int) -> int:
        given = self.letters[operand]
        if wanted in ("*", given):
            return operand
        if wanted == "f":
            return self._add(cast_float, (operand,), NO_ATTRIBUTES)
        raise ShapeError(f"{op.name} needs {_KIND_NAMES[wanted]}, not {_KIND_NAMES[given]}")

    def constant(self, value: Any) -> int:
        """A constant, keyed by its bits: 0.0 is not -0.0, and a NaN equals itself."""
        of = type_of(value)
        array = np.array(value, of.dtype.numpy, order="C")
        if isinstance(value, int) and not isinstance(value, bool):
            of, array = Type((), DType.FLOAT), np.array(value, np.float64)
        array.flags.writeable = False
        op = scalar if of == Type((), DType.FLOAT) else constant
        key = (op.number, of, array.tobytes())
        known = self._ids.get(key) if self.share else None
        if known is None:
            known = self._append(key, op, (), NO_ATTRIBUTES, of, False)
            self.constants[known] = array
        return known

    def input(self, leaf: Leaf) -> int:
        """An input: one value a sample."""
        return self._leaf(input_, leaf)

    def parameter(self, leaf: Leaf) -> int:
        """A parameter: one value for all samples."""
        return self._leaf(parameter, leaf)

    def _leaf(self, op: Op, leaf: Leaf) -> int:
        key = (op.number, leaf)
        node = self._ids.get(key)
        if node is None:
            node = self._append(key, op, (), NO_ATTRIBUTES, Type(leaf.shape, leaf.dtype), op is input_)
            self.leaves[node] = leaf
            self._ids[key] = node
        return node

    def variable(self, of: Type) -> int:
        """A leaf like no other, whose value is not known here: nothing is folded into it or shared with it."""
        return self._append((parameter.number, len(self.ops)), parameter, (), NO_ATTRIBUTES, of, False)

    def node(self, node: int) -> Node:
        """A handle on which rules and operators build."""
        return Node(self, node)

    def copy_leaf(self, graph: Graph, node: int) -> int:
        """A leaf of a graph, made here."""
        if node in graph.constants:
            return self.constant(graph.constants[node])
        return self._leaf(graph.op(node), graph.leaves[node])

    def graph(self, outputs: Mapping[str, int]) -> Graph:
        """The finished graph, without the nodes that no output needs; leaves that are inputs or parameters stay."""
        keep = self._reachable(outputs.values())
        order = np.flatnonzero(keep)
        renumbered = np.cumsum(keep) - 1
        ids = order.tolist()
        counts = [len(self.operands[k]) for k in ids]
        flat = [operand for k in ids for operand in self.operands[k]]
        return Graph(
            opcodes=np.array([self.ops[k].number for k in ids], np.uint16),
            starts=np.concatenate(([0], np.cumsum(counts, dtype=np.int64))),
            operands=renumbered[np.array(flat, np.int64)].astype(np.int32) if flat else np.zeros(0, np.int32),
            attributes={int(renumbered[k]): a for k, a in self.attributes.items() if keep[k]},
            constants={int(renumbered[k]): value for k, value in self.constants.items() if keep[k]},
            leaves={int(renumbered[k]): leaf for k, leaf in self.leaves.items() if keep[k]},
            types=[self.types[k] for k in ids],
            per_sample=np.array([self.per_sample[k] for k in ids], np.bool_),
            outputs={name: int(renumbered[k]) for name, k in outputs.items()},
            sources=gather([self.places[k] for k in ids]),
        )

    def _reachable(self, roots: Iterable[int]) -> npt.NDArray[np.bool_]:
        keep = np.zeros(len(self.ops), np.bool_)
        keep[list(roots)] = True
        keep[list(self.leaves)] = True
        for node in range(len(self.ops) - 1, -1, -1):
            if keep[node]:
                for operand in self.operands[node]:
                    keep[operand] = True
        return keep


_KIND_NAMES = {"f": "a float", "i": "an integer", "b": "a boolean", "*": "anything"}


def replay(graph: Graph, builder: Builder) -> list[int]:
    """Makes every node of a graph in a builder; the id there of each node here."""
    ids: list[int] = []
    for node, op, operands, attributes in graph.rows():
        builder.place = graph.sources.place(node) if graph.sources else None
        ids.append(builder.add(op, [ids[k] for k in operands], attributes) if op.kinds else builder.copy_leaf(graph, node))
    builder.place = None
    return ids
