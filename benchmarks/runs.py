"""`python -m benchmarks.runs [--quick]`: a training run of four members in processes of their own, beside a barrier of four echo streams.

The barrier is what any such service has to do: messages as long as ours arrive from four processes, and when the last one is there all get an answer.
It has the same grpcio on both sides and neither parses nor computes, sums, steps or writes anything. Ours has the client library at one end, and a
journal that is on the disk before anybody gets an answer at the other. Both run in turns, in one run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import sumgrad as sg
from sumgrad.bench import processor
from sumgrad.launch import server_environment

from .echo import MEMBERS, OPTIONS
from .report import Report, figure
from .service import echo_server

ROWS = 32
"""Samples of one member in a step."""
SAMPLES = 4096
ECHO = "echo barrier"
KINDS = {
    "gradients that members send": "gradient",
    "rows of a resident dataset": "rows",
    "minibatches sent along": "minibatch",
}
ROUNDS = 3


def objective() -> sg.Objective:
    """The 337 parameters of a network with 2-16-16-1 neurons, and its squared error."""
    net = sg.nn.MLP(2, [16, 16, 1], activation="tanh", seed=0)
    return sg.Objective(sg.square(net(sg.input("x", shape=(2,)))[0] - sg.input("y")))


def samples() -> dict[str, Any]:
    """What all members train on."""
    generator = np.random.default_rng(0)
    return {"x": generator.normal(size=(SAMPLES, 2)), "y": generator.normal(size=SAMPLES)}


def echo_member(address: str, nbytes: int) -> Callable[[int], None]:
    """One stream to the barrier: steps are messages there and back."""
    channel = grpc.insecure_channel(address, OPTIONS)
    outbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    answers = channel.stream_stream("/Echo/Barrier")(iter(outbox.get, None))
    message = bytes(nbytes)

    def steps(count: int) -> None:
        for _ in range(count):
            outbox.put(message)
            next(answers)

    return steps


def our_member(address: str, kind: str, number: int) -> Callable[[int], None]:
    """One member of a run."""
    service = sg.connect(address)
    run = service.run(kind, objective(), sg.optim.SGD(1e-3), members=MEMBERS)
    member = run.join(f"member {number}").__enter__()
    one = contribution(service, member, kind, number)

    def steps(count: int) -> None:
        for _ in range(count):
            one()

    return steps


def contribution(service: sg.Service, member: Any, kind: str, number: int) -> Callable[[], object]:
    """What a member does in one step."""
    generator = np.random.default_rng(number)
    if kind == "gradient":
        slopes = {name: np.full(np.shape(value), 1e-3) for name, value in objective().params.items()}
        return lambda: member.step_gradient(slopes, value=1.0, count=ROWS)
    if kind == "rows":
        data = service.dataset("samples")
        return lambda: member.step(data, rows=generator.integers(0, SAMPLES, ROWS))
    arrays = samples()
    return lambda: member.step({name: values[:ROWS] for name, values in arrays.items()})


def member_process(arguments: Sequence[str]) -> None:
    """Says when it is ready; each line that comes is a number of steps to do."""
    address, kind, number = arguments
    steps = echo_member(address, 8 * 337) if kind == ECHO else our_member(address, kind, int(number))
    print("ready", flush=True)
    for line in sys.stdin:
        steps(int(line))
        print("done", flush=True)


class Team:
    """Four member processes."""

    def __init__(self, address: str, kind: str) -> None:
        self._processes = [
            subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "benchmarks.runs", "--member", address, kind, str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=server_environment(),
            )
            for number in range(MEMBERS)
        ]
        self._hear("ready")

    def seconds(self, steps: int) -> float:
        """How long so many steps take, all members together."""
        began = time.perf_counter()
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
        self._hear("done")
        return time.perf_counter() - began

    def _hear(self, expected: str) -> None:
        for process in self._processes:
            assert process.stdout is not None
            said = process.stdout.readline().strip()
            if said != expected:
                raise RuntimeError(f"a member said {said!r} instead of {expected!r}")

    def stop(self) -> None:
        """Ends them."""
        for process in self._processes:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def teams(echo: str, address: str) -> Iterator[dict[str, Team]]:
    """Members of the barrier, and of a run of each kind."""
    found: dict[str, Team] = {}
    try:
        found[ECHO] = Team(echo, ECHO)
        for name, kind in KINDS.items():
            found[name] = Team(address, kind)
        yield found
    finally:
        for team in found.values():
            team.stop()


def measured(found: dict[str, Team], steps: int) -> dict[str, list[float]]:
    """Steps a second, some times in turns."""
    rates: dict[str, list[float]] = {name: [] for name in found}
    for team in found.values():
        team.seconds(max(10, steps // 100))
    for _ in range(ROUNDS):
        for name, team in found.items():
            rates[name].append(steps / team.seconds(steps))
    return rates


def table(report: Report, rates: dict[str, list[float]], steps: int) -> None:
    """Steps a second, and ours beside the barrier's."""
    bare = statistics.median(rates[ECHO])
    rows = [
        [name, *(figure(rate) for rate in found), figure(statistics.median(found)), figure(statistics.median(found) / bare)]
        for name, found in rates.items()
    ]
    heads = ["four members", *(f"round {number}" for number in range(1, ROUNDS + 1)), "median", "of the barrier"]
    report.heading(f"Steps a second, {steps:,} steps a round")
    report.table(heads, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runs", description="A training run of four members beside an echo barrier.")
    parser.add_argument("--quick", action="store_true", help="few steps: a look, not a measurement")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into a page, between its marks")
    parser.add_argument("--member", nargs=3, metavar=("ADDRESS", "KIND", "NUMBER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.member:
        member_process(options.member)
        return 0
    steps = 200 if options.quick else 10_000
    report = Report()
    report.notes([f"{processor()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, grpcio {version('grpcio')}"])
    with tempfile.TemporaryDirectory() as folder, echo_server() as echo, sg.local(workers=2, state_dir=folder) as service:
        service.upload(samples(), name="samples")
        assert service.process is not None
        with teams(echo, service.process.address) as found:
            table(report, measured(found, steps), steps)
    if options.write:
        report.write(options.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
