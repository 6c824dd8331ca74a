"""A member of a run that trains a network on two moons: what `train-a` and `train-b` of docker-compose.yml do, and the Job of deploy/kubernetes.

    python examples/train_compose.py host:50051 --member a --seed 1

Each member has 100 points of its own, by its seed; the network, which has 2-16-16-1 neurons, learns those of all. The server steps. Whoever is ended
and started again under the same name goes on with the run where it is; once it is over, that says again what came of it.
"""

from __future__ import annotations

import argparse
import hashlib
import sys

import numpy as np
import sumgrad as sg
from sumgrad.datasets import make_moons

NAME, RATE, BATCH = "moons", 0.01, 25


def points_of(seed: int) -> dict[str, np.ndarray]:
    """A member's own points, with labels -1 and 1."""
    points, labels = make_moons(100, noise=0.1, seed=seed)
    return {"x": points, "y": 2.0 * labels - 1.0}


def moons() -> sg.Objective:
    """Mean margin loss of a network on labels -1 and 1, a little L2, and the accuracy as a metric."""
    net = sg.nn.MLP(2, [16, 16, 1], activation="tanh", seed=1)
    score, label = net(sg.input("x", shape=(2,)))[0], sg.input("y")
    squares = sum((sg.sum(sg.square(value)) for value in net.parameters().values()), start=sg.Value(0.0))
    return sg.Objective(sg.nn.hinge(score, label), penalty=1e-4 * squares, metrics={"accuracy": score * label > 0.0}, reduction="mean")


def digest(params: dict[str, np.ndarray]) -> str:
    """SHA-256 of all parameters' bytes, in the order of their names."""
    return hashlib.sha256(b"".join(params[name].tobytes() for name in sorted(params))).hexdigest()


def train(service: sg.Service, member: str, seed: int, members: int, steps: int) -> str:
    """Takes part in the run until it is over, and says what it has come to."""
    objective, data = moons(), points_of(seed)
    run = service.run(NAME, objective, sg.optim.Adam(RATE), members=members, min_members=members, max_steps=steps)
    with run.join(member, data=data, own=True, batch_size=BATCH, seed=seed) as joined:
        for step in joined:
            if step.step % 100 == 0:
                print(f"step {step.step:<6d} loss {step.value:.4f} accuracy {float(step.metrics['accuracy']):.1%}", flush=True)
    params = run.params()
    result = service.value_and_grad(objective, params, data)
    return f"loss {result.value:.4f} accuracy {float(result.metrics['accuracy']):.1%} after {run.info().step} steps, parameters {digest(params)}"


def main(arguments: list[str]) -> int:
    """Trains, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("address")
    parser.add_argument("--member", default="a", help="its name in the run (default %(default)s)")
    parser.add_argument(
        "--members", type=int, default=2, help="how many there are; no step is made without one of them (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of its points (default %(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="after which the run is over (default %(default)s)")
    parser.add_argument(
        "--insecure", action="store_true", help="allow a connection without encryption, as to the server of compose.dev.yml"
    )
    options = parser.parse_args(arguments)
    # The authority of the server's certificate and the token come from the environment: SUMGRAD_TLS_CA, SUMGRAD_TOKEN_FILE.
    with sg.connect(options.address, timeout=60.0, insecure=options.insecure) as service:
        print(f"trained: {train(service, options.member, options.seed, options.members, options.steps)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
