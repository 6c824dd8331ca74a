"""The entry: `python -m sumgrad_server`, which `sumgrad serve` runs."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import ipaddress
import math
import sys
from collections.abc import Sequence
from typing import get_args

from sumgrad_engine.options import Evaluator

from .observe import logs
from .settings import LogFormat, LogLevel, Settings

TIMES = [field.name for field in dataclasses.fields(Settings) if field.name.endswith("_seconds")]
LIMITS = [field.name for field in dataclasses.fields(Settings) if field.name.startswith("max_") and field.name not in TIMES]
EXIT_NOT_STARTED = 1


def is_loopback(address: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parser() -> argparse.ArgumentParser:
    """The flags."""
    defaults = Settings()
    made = argparse.ArgumentParser(prog="sumgrad serve", description="Starts a gradient service on this machine.")
    made.add_argument("--address", default=defaults.address, help="host:port to listen on; port 0 picks a free one (default %(default)s)")
    made.add_argument("--workers", type=int, default=defaults.workers, help="worker processes (default: one a core, here %(default)s)")
    made.add_argument(
        "--insecure", action="store_true", help="listen on an address that other machines reach, without encryption or tokens"
    )
    made.add_argument(
        "--grace", type=float, default=defaults.grace, help="seconds for running requests after SIGTERM (default %(default)s)"
    )
    made.add_argument("--announce", action="store_true", help="print one line of JSON with address and pid when requests can come")
    made.add_argument("--exit-with-parent", action="store_true", help="drain and exit when stdin ends")
    made.add_argument(
        "--evaluator",
        choices=get_args(Evaluator),
        default=defaults.evaluator,
        help="what evaluates where a request does not say; reference: nothing is compiled (default %(default)s)",
    )
    made.add_argument(
        "--cache-dir",
        metavar="DIR",
        help="where compiled code is kept; empty: in memory only (default: $SUMGRAD_CACHE, or the user's cache directory)",
    )
    made.add_argument(
        "--metrics-address", metavar="HOST:PORT", help="serve metrics and the page for people over HTTP there; port 0 picks a free one"
    )
    made.add_argument(
        "--log-format", choices=get_args(LogFormat), default=defaults.log_format, help="how to log on stderr (default %(default)s)"
    )
    made.add_argument(
        "--log-level", choices=get_args(LogLevel), default=defaults.log_level, help="the least that is logged (default %(default)s)"
    )
    limits = made.add_argument_group("limits", "errors about a limit name it like this; settings.py says more")
    for name in LIMITS + TIMES:
        limits.add_argument(flag(name), type=int if name in LIMITS else float, default=getattr(defaults, name), help="default %(default)s")
    return made


def flag(name: str) -> str:
    """The flag of a setting."""
    return f"--{name.replace('_', '-')}"


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The settings in these arguments. Raises ValueError with what is wrong and what to do."""
    names = {field.name for field in dataclasses.fields(Settings)}
    settings = Settings(**{name: value for name, value in vars(arguments).items() if name in names})
    check_address(settings.address)
    if not settings.insecure and not is_loopback(settings.address):
        raise ValueError(
            f"--address {settings.address} can be reached from other machines, and there is no encryption: "
            "listen on 127.0.0.1, or add --insecure if the network is yours alone"
        )
    if settings.workers < 1:
        raise ValueError(f"--workers must be at least 1, not {settings.workers}")
    for name in LIMITS:
        if getattr(settings, name) < 1:
            raise ValueError(f"{flag(name)} must be at least 1, not {getattr(settings, name)}")
    for name in ("grace", *TIMES):
        if not 0.0 <= getattr(settings, name) < math.inf:
            raise ValueError(f"{flag(name)} must be a number of seconds, not {getattr(settings, name)}")
    return settings


def check_address(address: str) -> None:
    """Raises ValueError unless this is "host:port" or "unix:path": gRPC would take a port modulo 65536."""
    host, _, port = address.rpartition(":")
    if not address.startswith("unix:") and not (host and port.isdecimal() and int(port) < 65536):
        raise ValueError(f"--address {address} is none: give host:port, with a port from 0 (any that is free) to 65535")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a server; the exit code is 0 after a drain, 1 if it couldn't start and 2 for wrong flags."""
    flags = parser()
    arguments = flags.parse_args(argv)
    try:
        settings = settings_of(arguments)
    except ValueError as error:
        flags.error(str(error))
    logs.configure(settings.log_format, settings.log_level)
    try:
        from .app import App, StartError, announcement, greeting  # after the flags are good: this brings gRPC
    except ModuleNotFoundError as error:
        print(f'sumgrad serve needs {error.name}: pip install "sumgrad[server]"', file=sys.stderr)
        return EXIT_NOT_STARTED

    async def serve() -> None:
        announce = announcement if arguments.announce else greeting
        await App(settings).run(lambda address, metrics: print(announce(address, metrics), flush=True), arguments.exit_with_parent)

    try:
        asyncio.run(serve())
    except StartError as error:
        print(f"sumgrad serve: {error}", file=sys.stderr)
        return EXIT_NOT_STARTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
