"""`sumgrad status`: what a server is doing."""

from __future__ import annotations

import argparse
import dataclasses
import json

from .command import Command, add_address, connected
from .datasets import print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The server."""
    add_address(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(options: argparse.Namespace) -> int:
    """Prints workers, requests and totals."""
    with connected(options) as service:
        status = service.status()
    if options.json:
        print(json.dumps({**dataclasses.asdict(status), "uptime": status.uptime.total_seconds()}, indent=2))
        return 0
    print(f"sumgrad {status.version}, up for {str(status.uptime).partition('.')[0]}{', draining' if status.draining else ''}")
    print(f"{status.active_requests:,} requests at work, {status.finished_requests:,} finished, {status.failed_requests:,} failed")
    print(f"{status.summed_samples:,} samples summed, {status.worker_restarts:,} workers replaced")
    print(f"{status.graphs:,} graphs, {status.datasets:,} datasets of {status.dataset_bytes:,} bytes")
    workers = [[str(worker.number), str(worker.process_id), worker.state, f"{worker.finished_shards:,}"] for worker in status.workers]
    print_table(["worker", "process", "state", "shards"], workers)
    return 0


COMMAND = Command("status", "show what a server is doing", run, add_arguments)
