"""What a subcommand is."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sumgrad.connection import Service


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
    parser.add_argument("--tls-ca", metavar="FILE", help="PEM file of the authorities to trust (default: $SUMGRAD_TLS_CA)")
    parser.add_argument("--tls-cert", metavar="FILE", help="PEM file of this end's certificate (default: $SUMGRAD_TLS_CERT)")
    parser.add_argument("--tls-key", metavar="FILE", help="PEM file of its key (default: $SUMGRAD_TLS_KEY)")
    parser.add_argument("--token-file", metavar="FILE", help="file with the token (default: $SUMGRAD_TOKEN, or $SUMGRAD_TOKEN_FILE)")


def connected(options: argparse.Namespace) -> Service:
    """The connection that these arguments ask for."""
    from sumgrad.connection import connect  # gRPC is loaded when it is needed
    from sumgrad.credentials import TLS

    files = (options.tls_ca, options.tls_cert, options.tls_key)
    tls = TLS(*files) if any(files) else None
    token = Path(options.token_file).read_text().strip() if options.token_file else None
    return connect(options.address, timeout=options.timeout, insecure=options.insecure, tls=tls, token=token)
