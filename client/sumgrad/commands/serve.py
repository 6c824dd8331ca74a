"""`sumgrad serve`: becomes the server."""

from __future__ import annotations

import argparse
import os
import sys

from sumgrad.launch import server_command, server_environment

from .command import Command


def run(options: argparse.Namespace) -> int:
    """Replaces this process by the server, so that signals reach it without a middleman: it may be PID 1 of a container."""
    command = server_command(options.rest)
    sys.stdout.flush()
    os.execve(command[0], command, server_environment())  # noqa: S606 - no shell is wanted


COMMAND = Command("serve", "start a server here; --help shows its options", run, passes_on=True)
