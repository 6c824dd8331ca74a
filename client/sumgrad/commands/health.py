"""`sumgrad health`: whether a server is up."""

from __future__ import annotations

import argparse

from .command import Command, add_address, connected


def run(options: argparse.Namespace) -> int:
    """Prints the server's state; status 0 if it serves, 1 if it does not or can't be reached."""
    with connected(options) as service:
        state = service.health()
    print(state)
    return 0 if state == "SERVING" else 1


COMMAND = Command("health", "ask a server whether it serves; the exit status says so", run, add_address)
