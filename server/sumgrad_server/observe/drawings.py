"""Pictures of graphs for the page: one is drawn at a time, in a process of its own, and the last ones are kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import OrderedDict
from dataclasses import dataclass

from sumgrad_engine.display.svg import MOST_NODES

from ..graphs import StoredGraph
from ..hardening import worker_environment

log = logging.getLogger(__name__)

SECONDS = 10
"""Processor time that a picture may take."""
PATIENCE_SECONDS = 30.0
"""How long it may take to be ready, on a machine that has other work to do."""
KEPT = 32
KEPT_BYTES = 1 << 25
MOST_BYTES = 1 << 21
"""Of one picture: a browser has to bear it."""
MOST_WAITING = 8
OUT_OF_TIME = (-signal.SIGXCPU, -signal.SIGKILL)
"""Exit codes of a process that used more processor time than it may."""


@dataclass(frozen=True)
class Picture:
    """The SVG of a graph, or why there is none."""

    svg: str = ""
    why: str = ""


TOO_LARGE = Picture(why=f"Graphs of more than {MOST_NODES:,} nodes are not drawn: nobody could read the picture.")
TOO_LONG = Picture(why=f"This graph is not drawn: finding places for its nodes takes longer than {SECONDS} seconds of processor time.")
FAILED = Picture(why="This graph is not drawn: its picture would be too large.")
BUSY = Picture(why="This graph is not drawn now, because the machine has too much to do. Come back in a moment.")


class Drawings:
    """Draws graphs on demand."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Picture] = OrderedDict()
        self._nbytes = 0
        self._under_way: dict[str, asyncio.Task[Picture]] = {}
        self._turn = asyncio.Semaphore(1)

    async def of(self, graph: StoredGraph) -> Picture:
        """The picture of a graph. Who stops waiting stops nobody else's picture."""
        name = graph.id
        if graph.signature.node_count > MOST_NODES:
            return TOO_LARGE
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        task = self._under_way.get(name)
        if task is None:
            if len(self._under_way) >= MOST_WAITING:
                return BUSY
            task = self._under_way[name] = asyncio.create_task(self._draw(name, graph))
        return await asyncio.shield(task)

    async def _draw(self, name: str, graph: StoredGraph) -> Picture:
        try:
            async with self._turn:
                picture = await _drawn(graph.shared.ref.split(graph.shared.arena.bytes)[0])
            if picture is not BUSY:
                self._keep(name, picture)
            return picture
        finally:
            del self._under_way[name]

    def _keep(self, name: str, picture: Picture) -> None:
        self._kept[name] = picture
        self._nbytes += len(picture.svg)
        while len(self._kept) > KEPT or self._nbytes > KEPT_BYTES:
            self._nbytes -= len(self._kept.popitem(last=False)[1].svg)

    async def close(self) -> None:
        """Gives up what is being drawn."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _drawn(graph: bytes) -> Picture:
    try:
        process = await _start()
    except OSError as error:  # no memory, too many processes or open files
        log.warning("can't start a process to draw a graph: %s", error)
        return BUSY
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            svg = await _talk(process, graph)
            code = await process.wait() if svg is not None else 0
    except TimeoutError:
        return BUSY
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if code in OUT_OF_TIME:
        return TOO_LONG
    return FAILED if svg is None or code != 0 else Picture(svg.decode())


async def _start() -> asyncio.subprocess.Process:
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "sumgrad_server.observe.drawing", str(SECONDS)),
        env={**worker_environment(os.environ), "PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def _talk(process: asyncio.subprocess.Process, graph: bytes) -> bytes | None:
    """What the process answers to a graph; None if that is too much."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(ConnectionError):  # it ended before it had read all: its exit code says the rest
        process.stdin.write(graph)
        await process.stdin.drain()
    process.stdin.close()
    answer = bytearray()
    while part := await process.stdout.read(1 << 16):
        answer += part
        if len(answer) > MOST_BYTES:
            return None
    return bytes(answer)
