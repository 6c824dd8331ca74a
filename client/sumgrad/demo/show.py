"""The demonstration's course: one server, five parts, and what each of them shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sumgrad.connection import Service, local

from .certified import fit_misra1a
from .killing import kill_in_the_middle
from .networks import fit_double, train_four_samples, train_moons


def run_demo(workers: int = 2, picture: Path = Path("demo-moons.png")) -> None:
    """Starts a server with so many workers on a free loopback port and has it do five jobs; writes one picture."""
    began = time.perf_counter()
    with local(workers=workers) as service:
        assert service.process is not None
        print(f"A server with {workers} workers listens on {service.process.address} (process {service.process.pid}).")
        for number, (title, part) in enumerate(_parts(picture), 1):
            print(f"\n({number}) {title}")
            part(service)
    print(f"\nThe server has stopped. All of it took {time.perf_counter() - began:.1f} s.")


def _parts(picture: Path) -> list[tuple[str, Callable[[Service], object]]]:
    return [
        ("double(x) = w x from one example, x = 2, y = 4: the service differentiates, w goes down the gradient", fit_double),
        ("go-micrograd's 3-4-4-1 tanh network, 41 parameters, four samples", train_four_samples),
        ("a 2-16-16-1 network, 337 parameters, 100 points of two moons", lambda service: train_moons(service, picture)),
        ("NIST's Misra1a, y = b1 (1 - exp(-b2 x)), by SciPy with residuals and Jacobian from the service", fit_misra1a),
        ("a worker is killed in the middle of a sum", kill_in_the_middle),
    ]
