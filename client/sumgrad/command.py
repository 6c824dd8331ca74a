"""The command `sumgrad`: one subcommand a module in `commands/`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sumgrad_engine.errors import SumgradError

from .commands import COMMANDS

INTERRUPTED = 130
"""What shells say of a program that Ctrl-C has ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand; its result is the exit status. Errors of ours are one message on stderr and status 1."""
    parser = argparse.ArgumentParser(prog="sumgrad", description="A gradient service: sums of gradients over data, computed elsewhere.")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        # A command that passes its flags on has its own --help there.
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help, add_help=not command.passes_on)
        command.add_arguments(subparser)
        subparser.set_defaults(command=command)
    options, rest = parser.parse_known_args(arguments)
    if rest and not options.command.passes_on:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        return int(options.command.run(options))
    except KeyboardInterrupt:  # that is how what goes on and on is ended
        return INTERRUPTED
    except (SumgradError, ValueError, OSError) as error:
        print(f"sumgrad {options.command.name}: {error}", file=sys.stderr)
        return 1
