"""`sumgrad tokens`: the tokens that a server knows."""

from __future__ import annotations

import argparse
import os

from sumgrad.launch import tools_command

from .command import Command


def run(options: argparse.Namespace) -> int:
    """Becomes the server package's tool: the file of tokens is the server's."""
    command = tools_command("tokens", options.rest)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


COMMAND = Command("tokens", "create, list and revoke a server's tokens; --help shows the options", run, passes_on=True)
