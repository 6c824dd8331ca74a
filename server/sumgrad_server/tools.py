"""The commands `sumgrad certs` and `sumgrad tokens`: `python -m sumgrad_server.tools certs|tokens ...`."""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from . import tokens
from .auth import DEFAULT_NAMESPACE, Scope
from .config import variable

DAY = 86_400.0
DAYS = 365


def parser() -> argparse.ArgumentParser:
    """The flags of both."""
    made = argparse.ArgumentParser(prog="sumgrad")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    _add_certs(commands.add_parser("certs", help="make certificates for development"))
    _add_tokens(commands.add_parser("tokens", help="create, list and revoke the tokens of a server"))
    return made


def _add_certs(made: argparse.ArgumentParser) -> None:
    made.description = (
        "Makes an authority, a server's certificate, clients' and cluster nodes', for development. What is there is not overwritten."
    )
    made.add_argument("folder", metavar="DIR", type=Path, help="where they go; an authority that is there issues the new ones")
    made.add_argument("--host", action="append", default=[], help="name or address by which clients reach the server, beside localhost")
    made.add_argument("--client", action="append", default=[], metavar="NAME", help="make a certificate for this client (mutual TLS)")
    made.add_argument("--node", action="append", default=[], metavar="NAME", help="make a certificate for this node of a Dask cluster")
    made.add_argument("--days", type=_positive, default=DAYS, metavar="N", help="how long they are good (default %(default)s)")
    made.set_defaults(run=certs)


def _add_tokens(made: argparse.ArgumentParser) -> None:
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    creating = commands.add_parser("create", help="make a token, and print it: this once, for the file has its hash only")
    creating.add_argument("name", metavar="NAME", help="whose it is")
    creating.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="whose datasets it works with (default %(default)s)")
    creating.add_argument("--scopes", default="read,compute", help=f"some of {','.join(get_args(Scope))} (default %(default)s)")
    creating.add_argument("--expires", type=_positive, metavar="DAYS", help="after how many days it is refused (default: never)")
    creating.add_argument("--max-queue", type=_positive, metavar="N", help="requests that wait or run, instead of the server's setting")
    creating.add_argument(
        "--max-dataset-bytes", type=_positive, metavar="N", help="bytes of its namespace, instead of the server's setting"
    )
    creating.set_defaults(run=create)
    commands.add_parser("list", help="show the tokens, as far as the file knows them").set_defaults(run=show)
    revoking = commands.add_parser("revoke", help="refuse a token from now on")
    revoking.add_argument("name", metavar="NAME")
    revoking.set_defaults(run=revoke)
    default = os.environ.get(variable("tokens"))
    for command in commands.choices.values():
        command.add_argument("--file", required=default is None, default=default, help=f"the file (default: ${variable('tokens')})")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def certs(options: argparse.Namespace) -> None:
    """Makes certificates, and says what to do with them."""
    from .certs import make  # cryptography is loaded when it is needed

    made = make(options.folder, options.host, options.client, options.days, options.node)
    print(*(f"made {path}" for path in made), sep="\n")
    if options.node:
        print("", "Whoever has the key of a node, or ca.key, can run what they like on the whole cluster.", sep="\n")
    else:
        print("", *_next_steps(options.folder, options.client), sep="\n")


def _next_steps(folder: Path, clients: Sequence[str]) -> list[str]:
    shown = {name: shlex.quote(str(folder / name)) for name in ("ca.pem", "server.pem", "server.key", "tokens.json")}
    flags = f"--tls-cert {shown['server.pem']} --tls-key {shown['server.key']} --tokens {shown['tokens.json']}"
    steps = [
        "Next, on the server:",
        f"  sumgrad tokens create NAME --file {shown['tokens.json']}",
        f"  sumgrad serve --address 0.0.0.0:50051 {flags}" + (f" --tls-client-ca {shown['ca.pem']}" if clients else ""),
        "and where clients run, with copies of the files:",
        f"  export SUMGRAD_TLS_CA={shown['ca.pem']} SUMGRAD_TOKEN=...",
    ]
    for name in clients:
        cert, key = (shlex.quote(str(folder / f"client-{name}.{ending}")) for ending in ("pem", "key"))
        steps.append(f"  export SUMGRAD_TLS_CERT={cert} SUMGRAD_TLS_KEY={key}  # {name}")
    return [
        *steps,
        f"Whoever has {shlex.quote(str(folder / 'ca.key'))} can pass for the server and for every client: it belongs on neither.",
    ]


def create(options: argparse.Namespace) -> None:
    """Makes a token."""
    scopes = cast("list[Scope]", [scope.strip() for scope in options.scopes.split(",")])
    seconds = None if options.expires is None else DAY * options.expires
    limits = {"max_queue": options.max_queue, "max_dataset_bytes": options.max_dataset_bytes}
    token, entry = tokens.create(options.name, options.namespace, scopes, seconds=seconds, **limits)
    tokens.TokenFile(options.file).add(entry)
    print(token)
    print(f"This is the token of {entry.name}, shown this once: {options.file} keeps its hash only.", file=sys.stderr)


def show(options: argparse.Namespace) -> None:
    """Lists the tokens."""
    now = datetime.datetime.now(datetime.UTC).timestamp()
    rows = [("NAME", "NAMESPACE", "SCOPES", "CREATED", "EXPIRES", "LIMITS")]
    for entry in tokens.TokenFile(options.file).read():
        ends = "never" if entry.expires is None else _day(entry.expires) + (" (expired)" if entry.has_expired(now) else "")
        limits = {"max_queue": entry.max_queue, "max_dataset_bytes": entry.max_dataset_bytes}
        said = " ".join(f"{name}={limit}" for name, limit in limits.items() if limit is not None)
        rows.append((entry.name, entry.namespace, ",".join(entry.scopes), _day(entry.created), ends, said or "-"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _day(moment: float) -> str:
    return f"{datetime.datetime.fromtimestamp(moment, datetime.UTC):%Y-%m-%d}"


def revoke(options: argparse.Namespace) -> None:
    """Removes a token from the file; a server that uses it reads it again by itself."""
    tokens.TokenFile(options.file).remove(options.name)
    print(f"revoked {options.name}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one of the commands; its exit status is 0, 1 for an error or 2 for wrong flags."""
    options = parser().parse_args(argv)
    try:
        options.run(options)
    except ModuleNotFoundError as error:
        print(f'sumgrad: this needs {error.name}: pip install "sumgrad[server]"', file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"sumgrad: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
