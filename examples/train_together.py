"""Three processes train one model together; one of them is killed on the way, and the run goes on without it.

    python examples/train_together.py                     a server and three members on this machine
    python examples/train_together.py ADDRESS NAME        one more member, of a server that is there

On several machines, `sumgrad serve` runs on one, and the second line on each of the others; nothing else is different (docs/client.md, docs/deploy.md).
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import sumgrad as sg

SAMPLES, BATCH, STEPS = 6_000, 300, 2_000
TRUE = np.array([1.5, -2.0, 0.5])


def model() -> sg.Objective:
    """Logistic regression with three features, and how often it is right."""
    margin = sg.input("y") * (sg.input("x", shape=(3,)) @ sg.param("w", np.zeros(3)))
    return sg.Objective(sg.softplus(-margin), metrics={"right": margin > 0.0}, reduction="mean")


def data() -> dict[str, Any]:
    """The same samples for every member. Labels are -1 and 1, and follow the features in most cases."""
    dice = np.random.default_rng(0)
    x = dice.normal(size=(SAMPLES, 3))
    return {"x": x, "y": np.where(dice.logistic(size=SAMPLES) < x @ TRUE, 1.0, -1.0)}


def found(service: sg.Service) -> sg.Run:
    """The run: whoever is first makes it, the others find it."""
    rate = sg.optim.Schedule(0.5, warmup_steps=20, decay=sg.optim.CosineDecay(0.01, STEPS))
    return service.run("together", model(), sg.optim.SGD(rate, momentum=0.9), members=3, lease=2.0, max_steps=STEPS)


def take_part(address: str, name: str) -> None:
    """One member: its third of each batch, in each step, until the run has ended."""
    with sg.connect(address) as service, found(service).join(name, data=data(), batch_size=BATCH, seed=1) as member:
        member.train(progress=sys.stderr.isatty())


def start(address: str, name: str) -> subprocess.Popen[bytes]:
    """One member as a process."""
    return subprocess.Popen([sys.executable, __file__, address, name])  # noqa: S603 - this program


def main() -> None:
    """A server, three members, and what they come to."""
    with sg.local(workers=1) as service:
        assert service.process is not None
        members = {name: start(service.process.address, name) for name in ("ada", "bea", "cleo")}
        run = found(service)
        for progress in run.watch():
            if progress.info.step > STEPS // 10 and "cleo" in members:
                members["cleo"].kill()
                members.pop("cleo").wait()
        assert not any(member.wait() for member in members.values())
        report(run)
        run.export("together.npz")


def report(run: sg.Run) -> None:
    """What the ledger says, and how well the model does."""
    ledger = run.ledger()
    for members in sorted({tuple(record.samples) for record in ledger}, key=len, reverse=True):
        samples = sum(record.sample_count for record in ledger if tuple(record.samples) == members)
        print(f"{len(members)} members took {samples:,} samples")
    result = sg.here.value_and_grad(model(), run.params(), data())
    print(f"step {len(ledger):,}: w = {np.round(run.params()['w'], 1)}, {result.metrics['right']:.1%} of the samples on the right side")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        take_part(*sys.argv[1:])
    else:
        main()
