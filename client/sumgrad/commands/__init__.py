"""The subcommands of `sumgrad`."""

from __future__ import annotations

from . import bench, certs, datasets, demo, graph, health, runs, serve, status, tokens
from .command import Command

__all__ = ["COMMANDS", "Command"]

COMMANDS: tuple[Command, ...] = tuple(
    module.COMMAND for module in (serve, demo, bench, health, status, datasets, runs, graph, certs, tokens)
)
