"""Loop rerolling: dense layers that were written out in scalars, as micrograd writes them, become matrix products again.

`roll` runs before differentiation. It finds sums of products, w0 * x0 + w1 * x1 + ... + b, of which several share the same x's (`sums`), makes
each such group one product of a vector with a matrix, and does what follows element by element, an activation say, on the whole vector
(`layers`); then it writes the new graph (`emit`). Terms are added in another order than before, so results may differ in the last digits.
"""

from __future__ import annotations

from typing import NamedTuple

from ..collector import paused_collector
from ..ir import Graph
from .emit import Emitter
from .layers import WORTHWHILE, Layers, Worth
from .sums import sums_of_products

__all__ = ["WORTHWHILE", "Packed", "Worth", "roll", "roll_packed"]


class Packed(NamedTuple):
    """A rolled graph in which the scalar parameters of layers are elements of vectors."""

    graph: Graph
    vectors: dict[str, tuple[str, ...]]
    """For each vector, a parameter whose name no other leaf has, the names of the scalar parameters that are its elements, in order."""


@paused_collector()
def roll(graph: Graph, worth: Worth = WORTHWHILE) -> Graph:
    """An equivalent graph with a matrix product for each group of sums of products over the same factors, if that pays.

    The graph itself if nothing is found. All inputs, parameters and outputs stay. Time grows linearly with the graph.
    """
    layers = _layers(graph, worth)
    return Emitter(graph, layers).graph() if layers else graph


@paused_collector()
def roll_packed(graph: Graph, worth: Worth = WORTHWHILE) -> Packed | None:
    """As `roll`, with the scalar parameters of each layer as a vector of weights and one of biases; None if nothing is found.

    So a network of scalars becomes the array form, a graph of a few dozen nodes. Other parameters stay.
    """
    layers = _layers(graph, worth)
    if layers is None:
        return None
    vectors = {vector.name: tuple(graph.leaves[node].name for node in vector.outputs) for vector in layers.pack()}
    return Packed(Emitter(graph, layers).graph(), vectors)


def _layers(graph: Graph, worth: Worth) -> Layers | None:
    sums = sums_of_products(graph, worth.inputs)
    if len(sums.roots) < worth.outputs:
        return None
    layers = Layers(graph, sums, worth)
    layers.find()
    return layers if layers.found else None
