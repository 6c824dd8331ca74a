"""The training of examples/train_compose.py: what it prints, what must come of it, and how a member of it is killed."""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
from sumgrad.batches import rows_of
from sumgrad_engine.blocks import block_count
from sumgrad_engine.layout import Vector
from sumgrad_engine.optim import Adam
from sumgrad_engine.program import GradientProgram, reduced

from .engine import docker

KILL = """
import os
for number in os.listdir("/proc"):
    if number.isdecimal() and int(number) not in (1, os.getpid()) and b"train_compose" in open(f"/proc/{number}/cmdline", "rb").read():
        os.kill(int(number), 9)
"""


@functools.cache
def example(repository: Path) -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("train_compose", repository / "examples" / "train_compose.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def expected(repository: Path, steps: int, seeds: tuple[int, ...]) -> str:
    """The digest of the parameters after so many steps of members with these seeds, made in this process without a run.

    `seeds` are in the order of the members' numbers; with two, the order does not matter.
    """
    module = example(repository)
    objective = module.moons()
    program, optimizer, params = GradientProgram(objective.graph), Adam(module.RATE), objective.params
    points = {seed: module.points_of(seed) for seed in seeds}
    for step in range(steps):
        parts: list[Vector] = []
        count = 0
        for seed, data in points.items():
            rows = rows_of(step, 0, 1, samples=len(data["y"]), batch_size=module.BATCH, seed=seed)
            batch = {name: values[rows] for name, values in data.items()}
            parts.append(program.partial(params, batch, 0, block_count(len(rows)), len(rows)))
            count += len(rows)
        total = functools.reduce(np.add, parts)
        _, _, grads = program.layout.unpack(reduced(total, program.penalty(params), count, mean=True))
        params = optimizer.step(params, grads)
    found: str = module.digest(params)
    return found


def trained(said: str) -> tuple[int, str]:
    """After how many steps a member has ended, and with the digest of which parameters: the last time that it says so."""
    steps, digest = re.findall(r"trained: loss [\d.]+ accuracy [\d.]+% after (\d+) steps, parameters ([0-9a-f]{64})", said)[-1]
    return int(steps), digest


def kill_inside(container: str) -> None:
    """Kills the program of a member with signal 9, as the kernel does that has no memory left: the engine hears of an exit, and of no wish."""
    docker("exec", container, "python", "-c", KILL)
