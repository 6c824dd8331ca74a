"""Part 5 of the demonstration: a worker is killed in the middle of a sum, and no bit of the result changes."""

from __future__ import annotations

import hashlib
import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

import sumgrad as sg
from sumgrad.connection import Service
from sumgrad.datasets import make_moons

from .networks import moons_objective
from .workers import busy_seconds, worker_pids

_TICK = 0.01  # seconds between two looks at the workers
_BUSY = 0.1  # seconds that a worker must have computed before it is killed


def kill_in_the_middle(service: Service, samples: int = 1_000_000) -> None:
    """Sums a gradient twice, the second time with a worker killed on the way. Raises SumgradError unless all bits are the same."""
    points, labels = make_moons(samples, noise=0.2, seed=7)
    # Large enough to be caught in the middle: a smaller network is done with a million samples in a few hundredths of a second.
    objective = moons_objective(sg.nn.MLP(2, [256, 256, 1], seed=2))
    data = {"x": points, "y": 2.0 * labels - 1.0}
    undisturbed = service.value_and_grad(objective, objective.params, data)
    print(f"    {undisturbed.count:,} samples, undisturbed       {_digest(undisturbed)}")
    with ThreadPoolExecutor(1) as thread:
        busy = {pid: busy_seconds(pid) for pid in _workers(service)}
        disturbed = _killed_on_the_way(thread.submit(service.value_and_grad, objective, objective.params, data), busy)
    print(f"    {disturbed.count:,} samples, worker killed     {_digest(disturbed)}")
    if _bits(undisturbed) != _bits(disturbed):
        raise sg.SumgradError("the bits of the two sums differ")
    print(f"    the same bits; the workers are now {', '.join(map(str, _workers(service)))}")


def _killed_on_the_way(pending: Future[sg.Result], busy: dict[int, float]) -> sg.Result:
    """The result of a running sum, after the kill -9 of the first worker that has computed for a while."""
    while True:
        try:
            pending.result(timeout=_TICK)
            raise sg.SumgradError("the sum was done before a worker could be killed: it needs more samples")
        except TimeoutError:
            victim = next((pid for pid, before in busy.items() if busy_seconds(pid) - before > _BUSY), None)
        if victim is not None:
            os.kill(victim, signal.SIGKILL)
            print(f"    kill -9 {victim}, which had computed for {_BUSY:g} s of this sum")
            return pending.result()


def _workers(service: Service) -> list[int]:
    assert service.process is not None, "the demo runs on a server of its own"
    return worker_pids(service.process.pid)


def _bits(result: sg.Result) -> list[bytes]:
    return [np.float64(result.value).tobytes(), *(result.grads[name].tobytes() for name in sorted(result.grads))]


def _digest(result: sg.Result) -> str:
    digest = hashlib.sha256(b"".join(_bits(result))).hexdigest()
    return f"value {float(result.value).hex()}  sha256 of all bits {digest[:16]}"
