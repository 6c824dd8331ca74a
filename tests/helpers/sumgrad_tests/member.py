"""A process that is a member of a run of `training`: it says which number it has, then what step the run has ended with.

    python -m sumgrad_tests.member ADDRESS RUN NAME [SECONDS]

Certificates and token come from the environment. Between two steps it is busy with something else for so many seconds.
"""

from __future__ import annotations

import sys
import time

import sumgrad

from . import training


def main(address: str, run: str, name: str, seconds: str = "0") -> None:
    """Takes part until the run has ended."""
    with (
        sumgrad.connect(address, retry=sumgrad.Retry(attempts=1000, longest=0.5)) as service,
        training.join(service.get_run(run), name) as member,
    ):
        print(member.number, flush=True)
        for _ in member:
            time.sleep(float(seconds))
        print(member.next_step, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
