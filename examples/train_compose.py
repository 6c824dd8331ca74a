"""Trains a network on two moons through a server: what the service `train` of docker-compose.yml does.

    python examples/train_compose.py host:50051

The network has 2-16-16-1 neurons. The training ends when it tells all 100 points apart.
"""

from __future__ import annotations

import argparse
import sys

import sumgrad as sg
from sumgrad.datasets import make_moons

MAX_STEPS = 500


def objective_of(net: sg.nn.MLP) -> sg.Objective:
    """Mean margin loss of a network on labels -1 and 1, a little L2, and the accuracy as a metric."""
    score, label = net(sg.input("x", shape=(2,)))[0], sg.input("y")
    squares = sum((sg.sum(sg.square(value)) for value in net.parameters().values()), start=sg.Value(0.0))
    return sg.Objective(sg.nn.hinge(score, label), penalty=1e-4 * squares, metrics={"accuracy": score * label > 0.0}, reduction="mean")


def train(service: sg.Service) -> bool:
    """Steps until every point is on its side; whether that came to pass."""
    points, labels = make_moons(100, noise=0.1, seed=1337)
    data = {"x": points, "y": 2.0 * labels - 1.0}
    objective = objective_of(sg.nn.MLP(2, [16, 16, 1], activation="tanh", seed=1))
    optimizer, params = sg.optim.Adam(0.03), objective.params
    for step in range(MAX_STEPS + 1):
        result = service.value_and_grad(objective, params, data)
        accuracy = float(result.metrics["accuracy"])
        if step % 10 == 0:
            print(f"step {step:<4d} loss {result.value:.4f} accuracy {accuracy:.1%}", flush=True)
        if accuracy == 1.0:
            print(f"trained: loss {result.value:.4f} accuracy {accuracy:.1%} after {step} steps", flush=True)
            return True
        params = optimizer.step(params, result.grads)
    print(f"not trained: accuracy {accuracy:.1%} after {MAX_STEPS} steps", flush=True)
    return False


def main(arguments: list[str]) -> int:
    """0 if the network has learnt its points, 1 otherwise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument(
        "--insecure", action="store_true", help="allow a connection without encryption, as to the server of compose.dev.yml"
    )
    options = parser.parse_args(arguments)
    # The authority of the server's certificate and the token come from the environment: SUMGRAD_TLS_CA, SUMGRAD_TOKEN_FILE.
    with sg.connect(options.address, timeout=60.0, insecure=options.insecure) as service:
        return 0 if train(service) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
