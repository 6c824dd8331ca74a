"""Where the nodes of a drawing go: layers along one axis (`main`), places in a layer along the other (`cross`).

The package fast_sugiyama finds the layers and the order inside them. It gives edges that jump over layers a place in each, so that lines never run
through boxes. Sizes are ours: a layer is as thick as its thickest node.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Edge = tuple[int, int]
Point = tuple[float, float]
"""(main, cross)"""

_NARROWEST, _WIDEST = 40.0, 150.0
_STEEPNESS = 0.12


@dataclass(frozen=True)
class Layout:
    """`ends[k]` is where node k's outgoing lines start, at the end of its layer; `routes` has the corners of each edge's line, by edge."""

    ends: list[Point]
    routes: dict[Edge, list[Point]]
    main: float
    cross: float


@dataclass(frozen=True)
class _Places:
    """Layer (0 for the leaves furthest down) and cross coordinate of nodes and of the places that passing edges take."""

    layer: dict[int, int]
    cross: dict[int, float]
    chains: dict[Edge, list[int]]


def arrange(thickness: Sequence[float], widths: Sequence[float], edges: Sequence[Edge], gap: float) -> Layout:
    """The layout of nodes of some thickness (along main) and width (along cross), with at least `gap` between neighbours."""
    places = _places(len(thickness), edges, max(widths) + gap)
    starts, ends = _layers(thickness, places)
    margin = max(widths) / 2
    spots = [(ends[places.layer[node]], places.cross[node] + margin) for node in range(len(thickness))]
    routes = {edge: _route(chain, places, starts, ends, thickness, margin) for edge, chain in places.chains.items()}
    return Layout(spots, routes, ends[-1], max(places.cross.values()) + 2 * margin)


def _places(count: int, edges: Sequence[Edge], spacing: float) -> _Places:
    if not edges:
        return _Places({0: 0}, {0: 0.0}, {})
    from fast_sugiyama import from_edges

    # One component: everything hangs together through the root.
    positions, _, _, segments = from_edges(edges, vertex_spacing=spacing, dummy_vertices=True, dummy_size=0.5)[0]
    heights = sorted({round(y / spacing) for _, (_, y) in positions}, reverse=True)
    rank = {height: layer for layer, height in enumerate(heights)}
    left = min(x for _, (x, _) in positions)
    return _Places(
        {int(node): rank[round(y / spacing)] for node, (_, y) in positions},
        {int(node): float(x - left) for node, (x, _) in positions},
        _chains(count, edges, [(int(a), int(b)) for a, b in segments or ()]),
    )


def _chains(count: int, edges: Sequence[Edge], segments: Sequence[Edge]) -> dict[Edge, list[int]]:
    """For each edge the places that it passes, both ends included. Numbers from `count` on are such places, each on one edge only."""
    following: dict[int, list[int]] = defaultdict(list)
    for start, end in segments:
        following[start].append(end)
    chains: dict[Edge, list[int]] = {}
    for node in range(count):
        for step in following[node]:
            chain = [node, step]
            while chain[-1] >= count:
                chain.append(following[chain[-1]][0])
            chains[node, chain[-1]] = chain
    return {edge: chains[edge] for edge in edges}


def _layers(thickness: Sequence[float], places: _Places) -> tuple[list[float], list[float]]:
    """Where each layer starts and ends. The steeper the lines between two layers, the wider the gap."""
    count = max(places.layer.values()) + 1
    thick, steep = [0.0] * count, [0.0] * count
    for node, size in enumerate(thickness):
        thick[places.layer[node]] = max(thick[places.layer[node]], size)
    for a, b in (step for chain in places.chains.values() for step in pairwise(chain)):
        steep[places.layer[b]] = max(steep[places.layer[b]], abs(places.cross[a] - places.cross[b]))
    starts, ends = [0.0], [thick[0]]
    for layer in range(1, count):
        starts.append(ends[-1] + min(_WIDEST, _NARROWEST + _STEEPNESS * steep[layer]))
        ends.append(starts[-1] + thick[layer])
    return starts, ends


def _route(
    chain: Sequence[int], places: _Places, starts: Sequence[float], ends: Sequence[float], thickness: Sequence[float], margin: float
) -> list[Point]:
    """From the end of the first node's layer, straight through the layers that are passed, to the start of the last node."""
    corners = [(ends[places.layer[chain[0]]], places.cross[chain[0]] + margin)]
    for place in chain[1:]:
        layer, across = places.layer[place], places.cross[place] + margin
        corners += [(starts[layer], across), (ends[layer], across)]
    corners[-1] = (ends[places.layer[chain[-1]]] - thickness[chain[-1]], corners[-1][1])
    return corners
