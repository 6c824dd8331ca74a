"""The subcommands of `sumgrad`."""

from __future__ import annotations

from . import bench, certs, demo, graph, health, serve, tokens
from .command import Command

__all__ = ["COMMANDS", "Command"]

COMMANDS: tuple[Command, ...] = (serve.COMMAND, demo.COMMAND, bench.COMMAND, health.COMMAND, graph.COMMAND, certs.COMMAND, tokens.COMMAND)
