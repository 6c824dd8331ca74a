"""The demonstration: a server with worker processes on this machine, and five jobs for it (`make demo`, `sumgrad demo`)."""

from __future__ import annotations

from .show import run_demo

__all__ = ["run_demo"]
