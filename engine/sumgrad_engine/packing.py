"""What compiled code computes instead of a graph of scalars: the rolled graph, and the way from its results back to those that were asked for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .ir import Graph
from .layout import Layout
from .roll import roll_packed
from .shapes import size
from .types import Array


class Packing:
    """A graph in which dense layers that were written out in scalars are matrix products of packed parameters; the graph itself if it has none."""

    def __init__(self, graph: Graph, layout: Layout) -> None:
        packed = roll_packed(graph)
        self.graph = packed.graph if packed else graph
        self._vectors = dict(packed.vectors) if packed else {}
        self._wanted = layout
        vector_of = {name: vector for vector, names in self._vectors.items() for name in names}
        names = dict.fromkeys(vector_of.get(name, name) for name, _ in layout.grads)
        self.layout = (
            Layout(layout.metrics, tuple((name, self.graph.shape(self.graph.node_of(name))) for name in names)) if packed else layout
        )
        self._order = self._places() if packed else None

    def _places(self) -> npt.NDArray[np.int64]:
        """Where each element of the wanted layout lies in this one."""
        head = self.layout.width - sum(size(shape) for _, shape in self.layout.grads)
        places: dict[str, int] = {}
        start = head
        for name, shape in self.layout.grads:
            for k, element in enumerate(self._vectors.get(name, (name,))):
                places[element] = start + k
            start += size(shape)
        found = [np.arange(head)]
        found += [np.arange(places[name], places[name] + size(shape)) for name, shape in self._wanted.grads]
        return np.concatenate(found)

    def parameters(self, params: Mapping[str, Array]) -> Mapping[str, Array]:
        """The parameters of the packed graph."""
        if not self._vectors:
            return params
        # `item` and `map` are C: a scalar takes 40 ns, where np.array of a list of scalar arrays takes several times as long.
        vectors = {
            vector: np.fromiter(map(np.ndarray.item, map(params.__getitem__, names)), np.float64, len(names))
            for vector, names in self._vectors.items()
        }
        return {**params, **vectors}

    def unpacked(self, vector: Array) -> Array:
        """A result in the layout that was asked for."""
        return vector if self._order is None else vector[self._order]
