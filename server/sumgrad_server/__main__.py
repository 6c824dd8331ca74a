"""The entry: `python -m sumgrad_server`, which `sumgrad serve` runs."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from .config import HINTS, NAMES, ConfigError, Configured, configured, flag, meanings
from .observe import logs
from .settings import Settings

EXIT_NOT_STARTED = 1


def parser() -> argparse.ArgumentParser:
    """The flags: one for each setting, as text that config.py reads, and a few for what is no setting."""
    made = argparse.ArgumentParser(
        prog="sumgrad serve",
        usage="%(prog)s [--config FILE] [--SETTING VALUE ...]   (--help lists the settings)",
        description="Starts a gradient service on this machine.",
        epilog="Settings come from these flags, from environment variables (SUMGRAD_MAX_QUEUE for --max-queue; SUMGRAD_SERVER_TLS_CERT, "
        "SUMGRAD_SERVER_TOKENS for what has TLS or tokens in its name), or from a TOML file (max_queue = 1024), in that order.",
    )
    made.add_argument("--config", metavar="FILE", help="TOML file of settings (default: $SUMGRAD_CONFIG)")
    made.add_argument("--print-config", action="store_true", help="print the settings in force as TOML, and where each comes from, and end")
    made.add_argument("--announce", action="store_true", help="print one line of JSON with address and pid when requests can come")
    made.add_argument("--exit-with-parent", action="store_true", help="drain and exit when stdin ends")
    made.add_argument("--ignore-environment", action="store_true", help="flags only: no environment variables and no file")
    _add_settings(made)
    return made


def _add_settings(made: argparse.ArgumentParser) -> None:
    limits = made.add_argument_group("limits and times", "errors about a limit name it like this, with underscores")
    defaults, says = Settings(), meanings()
    for name in NAMES:
        default = getattr(defaults, name)
        shown = "" if default is None else f"(default {str(default).lower() if isinstance(default, bool) else default})"
        group = limits if name.startswith("max_") or name.endswith("_seconds") else made
        said = " ".join(f"{says.get(name, '')} {shown}".replace("`", "").replace("%", "%%").split())
        group.add_argument(flag(name), default=argparse.SUPPRESS, help=said, **_form(name))


def _form(name: str) -> dict[str, Any]:
    hint = HINTS[name]
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    return {"metavar": {int: "N", float: "SECONDS"}.get(hint, name.rpartition("_")[2].upper())}


def configured_by(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Configured:
    """The settings of these arguments and this environment. Raises ConfigError with what is wrong and what to do."""
    flags = {name: value for name, value in vars(arguments).items() if name in NAMES}
    return configured(flags, {} if arguments.ignore_environment else environ, arguments.config)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a server; the exit code is 0 after a drain, 1 if it couldn't start and 2 for wrong settings."""
    flags = parser()
    arguments = flags.parse_args(argv)
    try:
        found = configured_by(arguments, os.environ)
    except ConfigError as error:
        flags.error(str(error))
    if arguments.print_config:
        print(found.toml(), end="")
        return 0
    return _serve(found.settings, announce=arguments.announce, exit_with_parent=arguments.exit_with_parent)


def _serve(settings: Settings, *, announce: bool, exit_with_parent: bool) -> int:
    logs.configure(settings.log_format, settings.log_level)
    # gRPC's core writes to stderr by itself, in its own form, whenever a stranger's handshake fails: not between lines of JSON, whatever the level.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        from .app import App, StartError, announcement, greeting  # after the settings are good: this brings gRPC
    except ModuleNotFoundError as error:
        print(f'sumgrad serve needs {error.name}: pip install "sumgrad[server]"', file=sys.stderr)
        return EXIT_NOT_STARTED
    say = announcement if announce else greeting

    async def serve() -> None:
        await App(settings).run(lambda address, metrics: print(say(address, metrics), flush=True), exit_with_parent)

    try:
        asyncio.run(serve())
    except StartError as error:
        print(f"sumgrad serve: {error}", file=sys.stderr)
        return EXIT_NOT_STARTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
