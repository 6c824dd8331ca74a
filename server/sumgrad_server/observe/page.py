"""The page for people: what it shows, made ready for its templates. Templates escape everything; names come from clients."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..graphs import HeldGraph, StoredGraph
from ..settings import PROCESSES
from .calls import CallCounts
from .charts import chart
from .drawing import shown
from .drawings import Picture
from .recent import Ended, Level, Rate, RecentCalls
from .training import chosen, run_row
from .view import View, together

MOST_ROWS = 100
"""Of each table; what is beyond is counted."""
MOST_CALLS = 12
MOST_FAILED = 8
MOST_NAMES = 6

STATIC: Mapping[str, str] = {"style.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
"""Files of the page and their types. Nothing else is served from the disk."""


class Throughput:
    """Samples and requests a second, and the queue, over the last minutes; looked at once a second."""

    def __init__(self, view: View, calls: CallCounts) -> None:
        self._view, self._calls = view, calls
        self.samples, self.requests, self.queue = Rate(), Rate(), Level()

    def look(self, now: float) -> None:
        """Takes note of the totals."""
        census = self._view.census()
        self.samples.look(now, census.totals.samples)
        self.queue.look(census.active_jobs)
        self.requests.look(now, self._calls.ended)


@dataclass
class Page:
    """Renders the page and its parts."""

    view: View
    calls: CallCounts
    recent: RecentCalls
    throughput: Throughput

    def __post_init__(self) -> None:
        """Reads the templates."""
        self._templates = _environment()
        self._live = (0.0, "")

    def whole(self) -> str:
        """The page."""
        settings = dataclasses.asdict(self.view.settings)
        return self._render("page.html", live=Markup(self.live()), settings=settings)  # noqa: S704 - rendered by a template

    def live(self) -> str:
        """The part that changes; made at most twice a second, however many people look."""
        now = time.monotonic()
        if now - self._live[0] > 0.5 or not self._live[1]:
            self._live = (now, self._render("live.html", **self._now()))
        return self._live[1]

    def graph(self, graph: StoredGraph, picture: Picture) -> str:
        """The page of one graph."""
        # The picture is drawn by our own process, which escapes what it writes.
        return self._render("graph.html", row=_graph_row(graph), svg=Markup(picture.svg), why=picture.why)  # noqa: S704

    def error(self, status: int, reason: str, said: str) -> str:
        """A page that says what is wrong."""
        return self._render("error.html", status=status, reason=reason, said=said)

    def _render(self, template: str, **values: Any) -> str:
        return self._templates.get_template(template).render(version=self.view.version, **values)

    def _now(self) -> dict[str, Any]:
        census, graphs, datasets = self.view.census(), self.view.stores.graphs(), self.view.stores.datasets()
        runs = self.view.stores.runs.listed()
        return {
            "serving": self.view.serving(),
            "draining": self.view.draining,
            "uptime": self.view.uptime,
            "workers": sorted(census.workers, key=lambda worker: worker.number),
            "cluster": "" if self.view.settings.executor == PROCESSES else self.view.settings.executor,
            "expected_workers": self.view.settings.workers,
            "worker_bytes": self.view.settings.max_worker_bytes,
            "census": census,
            "max_queue": self.view.settings.max_queue,
            "in_flight": sum(self.calls.in_flight.values()),
            "charts": self._charts(),
            "runs": [run_row(run, time.monotonic()) for run in chosen(runs)],
            "run_count": len(runs),
            "calls": [_call_row(ended) for ended in self.recent.newest(MOST_CALLS)],
            "failed": [_call_row(ended) for ended in self.recent.failed(MOST_FAILED)],
            "graphs": [_held_row(held) for held in graphs[:MOST_ROWS]],
            "graph_count": len(graphs),
            "datasets": datasets[:MOST_ROWS],
            "dataset_count": len(datasets),
            "dataset_bytes": together(datasets),
        }

    def _charts(self) -> list[dict[str, Any]]:
        seen = self.throughput
        pairs = (("samples a second", seen.samples), ("requests a second", seen.requests), ("jobs waiting or running", seen.queue))
        return [{"name": name, "current": line.current, "drawn": chart(line.history), "seconds": len(line.history)} for name, line in pairs]


def _call_row(ended: Ended) -> dict[str, Any]:
    call = ended.call
    return {
        "at": datetime.fromtimestamp(ended.at, UTC),
        "method": call.method,
        "status": call.status,
        "milliseconds": call.seconds * 1e3,
        "caller": unquote(call.caller).removeprefix("ipv4:").removeprefix("ipv6:") or "\N{EN DASH}",
        "request_id": call.request_id,
        "message": call.message,
    }


def _held_row(held: HeldGraph) -> dict[str, Any]:
    return _graph_row(held.graph) if held.graph is not None else {"id": held.id, "nbytes": held.nbytes}


def _graph_row(graph: StoredGraph) -> dict[str, Any]:
    signature = graph.signature
    return {
        "id": graph.id,
        "nodes": signature.node_count,
        "inputs": _leaves(signature.leaves.inputs),
        "parameters": _leaves(signature.leaves.parameters),
        "outputs": _few([shown(name) for name, _ in signature.outputs]),
    }


def _leaves(leaves: Sequence[Any]) -> str:
    names = [shown(leaf.name) + (f" {leaf.shape}" if leaf.shape else "") for leaf in leaves[:MOST_NAMES]]
    return _few(names, len(leaves))


def _few(names: Sequence[str], count: int | None = None) -> str:
    more = (len(names) if count is None else count) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "") or "\N{EN DASH}"


def _environment() -> Environment:
    made = Environment(loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {
        "bytes": in_bytes,
        "amount": amount,
        "figure": figure,
        "duration": duration,
        "brief": brief,
        "milliseconds": milliseconds,
    }
    return made


def static(name: str) -> bytes:
    """The bytes of one of the STATIC files."""
    return (files(__package__) / "static" / name).read_bytes()


def in_bytes(nbytes: float) -> str:
    """A size for people: 1.5 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024.0:
            return f"{nbytes:.0f} {unit}" if unit == "B" or nbytes >= 100.0 else f"{nbytes:.1f} {unit}"
        nbytes /= 1024.0
    return f"{nbytes:,.1f} TiB"


def amount(value: float) -> str:
    """A number for people, in three or four digits: 950, 12.3 k, 4.56 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if value >= size:
            return f"{value / (1e3 if unit == ' k' else size):.3g}{unit}"
    return f"{value:,.0f}" if value >= 100.0 or value == int(value) else f"{value:.1f}"


def figure(value: float) -> str:
    """A number of any size for people, in four digits: 0.6931, -1.5e-09, nan."""
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float) -> str:
    """A time for people: 3 d 4 h, 5 min 6 s."""
    left = int(seconds)
    found: list[str] = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size or (unit == "s" and not found):
            found.append(f"{left // size}\N{NO-BREAK SPACE}{unit}")
            left %= size
    return " ".join(found[:2])


def brief(seconds: float) -> str:
    """A time for people that may be short: 0.3 s."""
    return f"{seconds:.1f}\N{NO-BREAK SPACE}s" if seconds < 60.0 else duration(seconds)


def milliseconds(value: float) -> str:
    """Milliseconds in three digits."""
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.1f}" if value >= 10.0 else f"{value:.2f}"
