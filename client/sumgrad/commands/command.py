"""What a subcommand is."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A subcommand: `add_arguments` fills its parser, `run` does it and gives the exit status.

    One that `passes_on` gets the arguments that its parser does not know as `rest`.
    """

    name: str
    help: str
    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    passes_on: bool = False


def add_address(parser: argparse.ArgumentParser) -> None:
    """The arguments of a command that calls a server."""
    parser.add_argument("address", help='the server, as "host:port"')
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds to wait for an answer (default: %(default)s)")
    parser.add_argument("--insecure", action="store_true", help="allow an unencrypted connection to another machine")
