"""Sums of products of scalars in a graph: trees of `add` with products as their leaves, whatever the trees' form."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..ir import Graph
from ..ops.arithmetic import add, multiply
from ..types import DType, Type

Indices: TypeAlias = npt.NDArray[np.int64]
Marks: TypeAlias = npt.NDArray[np.bool_]

_SCALAR = Type((), DType.FLOAT)


class Sums(NamedTuple):
    """Sums of enough products. Sum k has the products firsts[k]:firsts[k + 1] and the other terms other_firsts[k]:other_firsts[k + 1]."""

    roots: Indices
    """The node of each sum, in ascending order."""
    firsts: Indices
    shared: Indices
    """Of each product the factor that more sums use: the x of w * x."""
    own: Indices
    """Of each product the other factor."""
    other_firsts: Indices
    others: Indices
    """Terms that are no products, in the order in which they are added."""
    inner: Marks
    """Marks nodes inside the sums, which nothing else uses: products, and sums of some of the terms."""


def sums_of_products(graph: Graph, least: int) -> Sums:
    """The largest sums of scalars that have at least so many products."""
    nodes = graph.node_count
    adds, products = graph.opcodes == add.number, graph.opcodes == multiply.number
    if np.count_nonzero(products) < least or np.count_nonzero(adds) < least - 1:
        return _none(nodes)
    scalars = np.fromiter((of is _SCALAR or of == _SCALAR for of in graph.types), np.bool_, nodes)
    adds, products = adds & scalars, products & scalars
    user, counts = _users(graph)
    in_sum = (counts == 1) & adds[user]
    inner_adds, terms = adds & in_sum, products & in_sum
    root = _roots(np.where(inner_adds, user, np.arange(nodes)))
    per_root = np.bincount(root[user[terms]], minlength=nodes)
    chosen = adds & ~inner_adds & (per_root >= least)
    return _sums(graph, chosen, root, adds, terms, inner_adds)


def _none(nodes: int) -> Sums:
    empty, zero = np.zeros(0, np.int64), np.zeros(1, np.int64)
    return Sums(empty, zero, empty, empty, zero, empty, np.zeros(nodes, np.bool_))


def _users(graph: Graph) -> tuple[Indices, Indices]:
    """Of each node one user (itself, if it has none), and how many uses it has; being an output counts as one."""
    nodes = graph.node_count
    user = np.arange(nodes)
    user[graph.operands] = np.repeat(np.arange(nodes), np.diff(graph.starts))
    counts = np.bincount(graph.operands, minlength=nodes)
    np.add.at(counts, list(graph.outputs.values()), 1)
    return user, counts


def _roots(above: Indices) -> Indices:
    """Where each node leads to, following `above` to its end: pointers are doubled, so a chain takes the logarithm of its length."""
    while not np.array_equal(above, further := above[above]):
        above = further
    return above


def _sums(graph: Graph, chosen: Marks, root: Indices, adds: Marks, products: Marks, inner_adds: Marks) -> Sums:
    nodes = np.arange(graph.node_count)
    users = np.repeat(nodes, np.diff(graph.starts))
    edges = adds[users] & chosen[root[users]] & ~inner_adds[graph.operands]
    term, of = graph.operands[edges].astype(np.int64), root[users[edges]]
    order = np.argsort(of, kind="stable")
    term, of = term[order], of[order]
    roots, is_product = np.flatnonzero(chosen), products[term]
    shared, own = _factors(graph, term[is_product])
    inner = np.zeros(len(nodes), np.bool_)
    inner[term[is_product]] = True
    inner |= inner_adds & chosen[root]
    others = ~is_product
    return Sums(roots, _firsts(of[is_product], roots), shared, own, _firsts(of[others], roots), term[others], inner)


def _firsts(of: Indices, roots: Indices) -> Indices:
    """Where the terms of each root begin, and behind the last one where they end."""
    return np.append(np.searchsorted(of, roots), len(of)).astype(np.int64)


def _factors(graph: Graph, products: Indices) -> tuple[Indices, Indices]:
    """The factors of products: first the one that more of these products have, or that differs from sample to sample, then the other."""
    at = graph.starts[products]
    left, right = graph.operands[at].astype(np.int64), graph.operands[at + 1].astype(np.int64)
    uses = np.bincount(np.concatenate((left, right)), minlength=graph.node_count)
    rank = 2 * uses + graph.per_sample
    swap = rank[left] > rank[right]
    return np.where(swap, left, right), np.where(swap, right, left)
