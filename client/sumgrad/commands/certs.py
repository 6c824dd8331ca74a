"""`sumgrad certs`: certificates for development."""

from __future__ import annotations

import argparse
import os

from sumgrad.launch import tools_command

from .command import Command


def run(options: argparse.Namespace) -> int:
    """Becomes the server package's tool: the client's package doesn't know certificates from the inside."""
    command = tools_command("certs", options.rest)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


COMMAND = Command("certs", "make certificates for development; --help shows the options", run, passes_on=True)
