"""`sumgrad health`: whether a server is up."""

from __future__ import annotations

import argparse

from .command import Command, add_address


def run(options: argparse.Namespace) -> int:
    """Prints the server's state; status 0 if it serves, 1 if it does not or can't be reached."""
    from sumgrad.connection import connect  # gRPC is loaded when it is needed

    with connect(options.address, timeout=options.timeout, insecure=options.insecure) as service:
        state = service.health()
    print(state)
    return 0 if state == "SERVING" else 1


COMMAND = Command("health", "ask a server whether it serves; the exit status says so", run, add_address)
