"""Loop rerolling: dense layers that were written out in scalars, as micrograd writes them, become matrix products again.

`roll` runs before differentiation. It finds sums of products, w0 * x0 + w1 * x1 + ... + b, of which several share the same x's (`sums`), makes
each such group one product of a vector with a matrix, and does what follows element by element, an activation say, on the whole vector
(`layers`); then it writes the new graph (`emit`). Terms are added in another order than before, so results may differ in the last digits.
"""

from __future__ import annotations

from ..collector import paused_collector
from ..ir import Graph
from .emit import Emitter
from .layers import WORTHWHILE, Layers, Worth
from .sums import sums_of_products

__all__ = ["WORTHWHILE", "Worth", "roll"]


@paused_collector()
def roll(graph: Graph, worth: Worth = WORTHWHILE) -> Graph:
    """An equivalent graph with a matrix product for each group of sums of products over the same factors, if that pays.

    The graph itself if nothing is found. All inputs, parameters and outputs stay. Time grows linearly with the graph.
    """
    sums = sums_of_products(graph, worth.inputs)
    if len(sums.roots) < worth.outputs:
        return graph
    layers = Layers(graph, sums, worth)
    layers.find()
    return Emitter(graph, layers).graph() if layers.layers else graph
