"""Which graphs are legal, as a table of rules.

A graph that comes from outside is plain columns (`GraphTable`) and may be hostile: every rule holds before the next is asked, and each names the
node that breaks it. Tests run the same rules after every pass over a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .errors import GraphError, LimitError
from .ops import BY_NUMBER
from .ops.leaves import constant, input_, parameter, scalar
from .shapes import size
from .types import Array, DType, Leaf, dtype_of


@dataclass(frozen=True)
class Limits:
    """Finite bounds on what a graph may ask for; each is named in the error that it gives."""

    max_nodes: int = 4_000_000
    max_elements: int = 1 << 26
    """Elements of one node, for one sample."""
    max_rank: int = 16
    max_name_bytes: int = 256
    max_operands: int = 16_000_000
    max_outputs: int = 100_000
    derived: bool = False
    """Whether ops are allowed that appear in derived graphs only, such as sums over samples."""


@dataclass(frozen=True, eq=False)
class GraphTable:
    """A graph as plain columns: the fields of the wire's Graph message."""

    opcodes: npt.NDArray[np.uint32]
    operand_counts: npt.NDArray[np.uint32]
    operands: npt.NDArray[np.uint32]
    attributes: Sequence[tuple[int, str, Sequence[int]]] = ()
    inputs: Sequence[Leaf] = ()
    parameters: Sequence[Leaf] = ()
    scalars: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    constants: Sequence[Array] = ()
    outputs: Sequence[tuple[str, int]] = ()


Rule = Callable[[GraphTable, Limits], None]


def _first(mask: npt.NDArray[np.bool_]) -> int:
    return int(np.argmax(mask))


def _within(limit: str, value: int, allowed: int, what: str) -> None:
    if value > allowed:
        raise LimitError(f"{what}: {value:,} is more than {limit} = {allowed:,}", limit=limit, value=value, allowed=allowed)


def sizes_within_limits(table: GraphTable, limits: Limits) -> None:
    """Counts are bounded before anything is done with the columns."""
    _within("max_nodes", len(table.opcodes), limits.max_nodes, "number of nodes")
    _within("max_operands", len(table.operands), limits.max_operands, "number of operands")
    _within("max_outputs", len(table.outputs), limits.max_outputs, "number of outputs")


def columns_fit(table: GraphTable, limits: Limits) -> None:
    """All columns speak of the same nodes."""
    nodes, counts = len(table.opcodes), len(table.operand_counts)
    if nodes == 0:
        raise GraphError("the graph has no nodes")
    if counts != nodes:
        raise GraphError(f"operand_counts has {counts} entries for {nodes} nodes", node=min(counts, nodes))
    total = int(table.operand_counts.sum(dtype=np.uint64))
    if total != len(table.operands):
        raise GraphError(f"operand_counts add up to {total}, but there are {len(table.operands)} operands", node=nodes - 1)


def opcodes_known(table: GraphTable, limits: Limits) -> None:
    """Every opcode is in the table of ops, and is one that may be sent."""
    known = [number for number, op in BY_NUMBER.items() if limits.derived or not op.over_samples]
    wrong = ~np.isin(table.opcodes, known)
    if wrong.any():
        node = _first(wrong)
        number = int(table.opcodes[node])
        derived = f" ({BY_NUMBER[number].name}): it appears in derived graphs only" if number in BY_NUMBER else ""
        raise GraphError(f"unknown opcode {number}{derived}", node=node)


def arities_fit(table: GraphTable, limits: Limits) -> None:
    """Every node has as many operands as its op takes."""
    for number in np.unique(table.opcodes).tolist():
        op = BY_NUMBER[number]
        mine = table.opcodes == number
        fits = table.operand_counts >= 1 if op.variadic else table.operand_counts == len(op.kinds)
        if (mine & ~fits).any():
            node = _first(mine & ~fits)
            wanted = "at least 1 operand" if op.variadic else f"{len(op.kinds)} operands"
            raise GraphError(f"{op.name} takes {wanted}, not {int(table.operand_counts[node])}", node=node, op=op.name)


def operands_come_first(table: GraphTable, limits: Limits) -> None:
    """Every operand is an earlier node."""
    user = np.repeat(np.arange(len(table.opcodes)), table.operand_counts)
    wrong = table.operands >= user
    if wrong.any():
        place = _first(wrong)
        node = int(user[place])
        raise GraphError(
            f"operand {int(table.operands[place])} is not an earlier node", node=node, op=BY_NUMBER[int(table.opcodes[node])].name
        )


def leaves_are_given(table: GraphTable, limits: Limits) -> None:
    """Each leaf node has its entry, and there is no entry too many."""
    lists = ((input_, "inputs", table.inputs), (parameter, "parameters", table.parameters), (constant, "constants", table.constants))
    for op, name, entries in (*lists, (scalar, "scalars", table.scalars)):
        nodes = np.flatnonzero(table.opcodes == op.number)
        if len(nodes) != len(entries):
            node = int(nodes[len(entries)]) if len(nodes) > len(entries) else None
            raise GraphError(f"{len(nodes)} {op.name} nodes, but {len(entries)} entries in {name}", node=node, op=op.name)


def names_are_good(table: GraphTable, limits: Limits) -> None:
    """Names of leaves and outputs are unique, not empty and not too long."""
    for what, names in (
        ("leaf", [leaf.name for leaf in (*table.inputs, *table.parameters)]),
        ("output", [name for name, _ in table.outputs]),
    ):
        seen: set[str] = set()
        for name in names:
            if not name:
                raise GraphError(f"an {what} has no name" if what == "output" else "a leaf has no name")
            _within("max_name_bytes", len(name.encode()), limits.max_name_bytes, f"length of the {what} name {name[:40]!r}... in bytes")
            if name in seen:
                raise GraphError(f"the {what} name {name!r} is used twice")
            seen.add(name)


def leaf_types_are_good(table: GraphTable, limits: Limits) -> None:
    """Shapes of leaves are bounded; parameters are floats."""
    for leaf in (*table.inputs, *table.parameters):
        what = f"leaf {leaf.name!r}"
        _within("max_rank", len(leaf.shape), limits.max_rank, f"number of axes of {what}")
        _within("max_elements", size(tuple(max(extent, 1) for extent in leaf.shape)), limits.max_elements, f"elements of {what}")
        if min((*leaf.shape, 0)) < 0 or not isinstance(leaf.dtype, DType):
            raise GraphError(f"{what} has shape {leaf.shape} and dtype {leaf.dtype!r}")
    for leaf in table.parameters:
        if leaf.dtype != DType.FLOAT:
            raise GraphError(f"parameter {leaf.name!r} must be of floats, not {leaf.dtype.name}")
    for position, value in enumerate(table.constants):
        _within("max_rank", value.ndim, limits.max_rank, f"number of axes of constant {position}")
        if dtype_of(value) is None:
            raise GraphError(f"constant {position} has elements of type {value.dtype}")


def attributes_fit(table: GraphTable, limits: Limits) -> None:
    """Every node has exactly the attributes of its op, once each; single numbers are single."""
    nodes, seen = len(table.opcodes), set[tuple[int, str]]()
    for node, name, values in table.attributes:
        if not 0 <= node < nodes:
            raise GraphError(f"attribute {name!r} belongs to node {node}, but there are {nodes} nodes", node=node)
        op = BY_NUMBER[int(table.opcodes[node])]
        if name not in op.attributes or (node, name) in seen:
            raise GraphError(f"{op.name} takes each of the attributes {op.attributes} once, not {name!r}", node=node, op=op.name)
        if len(values) != 1 and name in ("axis", "extent", "order"):
            raise GraphError(f"attribute {name!r} is a single number, not {list(values)[:8]}", node=node, op=op.name)
        _within("max_rank", len(values), limits.max_rank, f"length of attribute {name!r} of node {node}")
        seen.add((node, name))
    needed = sum(int((table.opcodes == number).sum()) * len(BY_NUMBER[number].attributes) for number in np.unique(table.opcodes).tolist())
    if needed != len(seen):
        _name_missing_attribute(table, seen)


def _name_missing_attribute(table: GraphTable, seen: set[tuple[int, str]]) -> None:
    for node, number in enumerate(table.opcodes.tolist()):
        for name in BY_NUMBER[number].attributes:
            if (node, name) not in seen:
                raise GraphError(f"{BY_NUMBER[number].name} needs the attribute {name!r}", node=node, op=BY_NUMBER[number].name)


def outputs_exist(table: GraphTable, limits: Limits) -> None:
    """There is an output, and each is a node."""
    if not table.outputs:
        raise GraphError("the graph has no outputs")
    for name, node in table.outputs:
        if not 0 <= node < len(table.opcodes):
            raise GraphError(f"output {name!r} is node {node}, but there are {len(table.opcodes)} nodes", node=node)


RULES: tuple[Rule, ...] = (
    sizes_within_limits,
    columns_fit,
    opcodes_known,
    arities_fit,
    operands_come_first,
    leaves_are_given,
    names_are_good,
    leaf_types_are_good,
    attributes_fit,
    outputs_exist,
)
"""In the order in which they are checked: later rules rely on earlier ones."""


def check_columns(table: GraphTable, limits: Limits) -> None:
    """All rules; raises GraphError or LimitError."""
    for rule in RULES:
        rule(table, limits)
