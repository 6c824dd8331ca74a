"""`sumgrad runs`: the training runs of a server; watching, stopping and exporting them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .command import Command, add_address, connected
from .datasets import print_table

if TYPE_CHECKING:
    from sumgrad.run import Run
    from sumgrad.runs import MemberInfo, RunInfo, StepRecord


AWAY_SECONDS = 60.0
"""How long one watches a server that does not answer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The server, and what to do there."""
    add_address(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", description="without one, all runs are listed")
    listing = actions.add_parser("list", help="list all runs")
    texts = {
        "show": "show how a run stands, and its members",
        "watch": "follow a run until it has ended",
        "stop": "end a run; what it has come to remains",
        "export": "write the parameters of a run to a file",
    }
    made = {name: actions.add_parser(name, help=text) for name, text in texts.items()}
    for action in made.values():
        action.add_argument("run", help="its name or id")
    for action in (*made.values(), listing):
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, for programs")
    made["stop"].add_argument("--forget", action="store_true", help="also delete what it has come to")
    made["export"].add_argument("file", metavar="FILE", help="a file that ends in .npz or .safetensors")


def run(options: argparse.Namespace) -> int:
    """Does it and prints what is there."""
    with connected(options) as service:
        if options.action in (None, "list"):
            _list(service.runs(), options)
        else:
            ACTIONS[options.action](service.get_run(options.run), options)
    return 0


def _list(runs: Sequence[RunInfo], options: argparse.Namespace) -> None:
    if options.json:
        _print_json([_plain(info) for info in runs], indent=2)
        return
    head = ["name", "state", "step", "of", "members", "samples", "value", "made (UTC)"]
    print_table(head, [_row(info) for info in runs])


def _row(info: RunInfo) -> list[str]:
    value = "" if info.last is None else f"{info.last.value:.6g}"
    most = "" if info.max_steps is None else f"{info.max_steps:,}"
    present = f"{len(_seated(info)):,}"
    return [info.name, info.state, f"{info.step:,}", most, present, f"{info.sample_count:,}", value, f"{info.created:%Y-%m-%d %H:%M}"]


def _seated(info: RunInfo) -> list[MemberInfo]:
    return [member for member in info.members if member.state != "left"]


def _show(run: Run, options: argparse.Namespace) -> None:
    info = run.info()
    if options.json:
        _print_json(_plain(info), indent=2)
        return
    most = "" if info.max_steps is None else f" of {info.max_steps:,}"
    count = sum(math.prod(shape) for shape in info.shapes.values())
    print(f"{info.name}: {info.state}, step {info.step:,}{most}, {info.sample_count:,} samples, made {info.created:%Y-%m-%d %H:%M} UTC")
    print(f"id {info.id}")
    print(f"{count:,} parameters in {len(info.shapes):,} arrays, updated by {'the server' if info.updates else 'the members'}")
    if info.last is not None:
        print(f"last step: {', '.join(f'{name} {value:.6g}' for name, value in _figures(info.last))}")
    head = ["member", "number", "state", "steps", "samples", "silent (s)"]
    print_table(head, [_member_row(member) for member in info.members])


def _member_row(member: MemberInfo) -> list[str]:
    return [member.name, str(member.number), member.state, f"{member.steps:,}", f"{member.sample_count:,}", f"{member.silent:.1f}"]


def _figures(record: StepRecord) -> Iterator[tuple[str, float]]:
    """The value and the scalar metrics of a step, by name."""
    yield "value", record.value
    for name, values in record.metrics.items():
        if np.ndim(values) == 0:
            yield name, float(values)


def _watch(run: Run, options: argparse.Namespace) -> None:
    if options.json:
        step = run.info().step
        for progress in run.watch(step, timeout=AWAY_SECONDS):
            for record in progress.steps:
                _print_json(_plain_record(record))
        return
    _watch_bar(run)


def _watch_bar(run: Run) -> None:
    from tqdm import tqdm

    info = run.info()
    with tqdm(total=info.max_steps, initial=info.step, unit="step", desc=info.name) as bar:
        for progress in run.watch(info.step, timeout=AWAY_SECONDS):
            info = progress.info
            figures = {} if info.last is None else {name: f"{value:.4g}" for name, value in _figures(info.last)}
            bar.set_postfix({"state": info.state, "members": len(_seated(info)), **figures}, refresh=not progress.steps)
            bar.update(info.step - bar.n)
    print(f"{info.name}: {info.state} after {info.step:,} steps")


def _stop(run: Run, options: argparse.Namespace) -> None:
    info = run.stop(forget=options.forget)
    if options.json:
        _print_json(_plain(info), indent=2)
    else:
        print(f"{info.name}: {info.state} after {info.step:,} steps{', and forgotten' if options.forget else ''}")


def _export(run: Run, options: argparse.Namespace) -> None:
    run.export(options.file)


ACTIONS = {"show": _show, "watch": _watch, "stop": _stop, "export": _export}


def _print_json(value: object, indent: int | None = None) -> None:
    """What is no number, or infinite, is null: JSON has no other word for it."""
    print(json.dumps(_finite(value), indent=indent, allow_nan=False), flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(info: RunInfo) -> dict[str, Any]:
    last = None if info.last is None else _plain_record(info.last)
    members = [dataclasses.asdict(member) for member in info.members]
    shapes: Mapping[str, Sequence[int]] = {name: list(shape) for name, shape in info.shapes.items()}
    fields = {field.name: getattr(info, field.name) for field in dataclasses.fields(info)}
    return {**fields, "members": members, "last": last, "shapes": shapes, "created": info.created.isoformat()}


def _plain_record(record: StepRecord) -> dict[str, Any]:
    fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    metrics = {name: np.asarray(values).tolist() for name, values in record.metrics.items()}
    return {**fields, "metrics": metrics, "samples": dict(record.samples), "committed": record.committed.isoformat()}


COMMAND = Command("runs", "list, show, watch, stop and export the training runs of a server", run, add_arguments)
