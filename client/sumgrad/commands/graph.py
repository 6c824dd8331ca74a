"""`sumgrad graph`: shows a graph that a server holds."""

from __future__ import annotations

import argparse

from .command import Command, add_address, connected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The server, and the graph's id."""
    add_address(parser)
    parser.add_argument("id", help="the graph's id: the SHA-256 of its bytes, in hexadecimal")


def run(options: argparse.Namespace) -> int:
    """Prints the leaves and outputs of a graph."""
    with connected(options) as service:
        graph = service.get_graph(options.id)
    print(f"{graph.node_count} nodes")
    for kind, leaves in (("input", graph.inputs), ("parameter", graph.parameters)):
        for leaf in leaves:
            print(f"{kind} {leaf.name} {leaf.dtype.name.lower()} {leaf.shape}")
    for name, node in graph.outputs.items():
        print(f"output {name} {graph.dtype(node).name.lower()} {graph.shape(node)}")
    return 0


COMMAND = Command("graph", "show a graph that a server holds", run, add_arguments)
