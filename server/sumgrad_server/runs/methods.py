"""The gRPC methods about runs, beside Step: from the request's fields to the runs, and back. No logic lives here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from sumgrad_engine.errors import GraphError, InputError
from sumgrad_engine.layout import Layout
from sumgrad_engine.types import Array
from sumgrad_proto.v1 import service_pb2 as wire

from .. import codec, rpc
from ..dataset_codec import require_name
from ..rpc import Call, Host, RpcHandler
from ..settings import Settings
from ..threads import unblocking
from . import messages
from .book import Line
from .contributions import FindGraph, Grant
from .run import Run
from .runs import Runs

WATCH_SECONDS = 0.1
"""Between two messages to one who watches."""
WATCH_STEPS = 1000
"""Steps in one message to one who watches."""
MAX_NAME_BYTES, MAX_MEMBER_BYTES = 256, 128
SESSION_LENGTHS = 16, 64


class RunMethods:
    """Callers see the runs of their own namespace."""

    def __init__(self, settings: Settings, runs: Runs, find_graph: FindGraph, grant: Grant) -> None:
        self._settings, self._runs, self._find_graph, self._grant = settings, runs, find_graph, grant

    def handlers(self, host: Host) -> dict[str, RpcHandler]:
        """The methods by name, as gRPC calls them."""
        return {
            "CreateRun": rpc.unary(host, "compute", "CreateRun", wire.CreateRunRequest, self.create_run),
            "JoinRun": rpc.unary(host, "compute", "JoinRun", wire.JoinRunRequest, self.join_run),
            "GetRun": rpc.unary(host, "read", "GetRun", wire.GetRunRequest, self.get_run),
            "ListRuns": rpc.unary(host, "read", "ListRuns", wire.ListRunsRequest, self.list_runs),
            "WatchRun": rpc.streaming(host, "read", "WatchRun", wire.WatchRunRequest, self.watch_run),
            "StopRun": rpc.unary(host, "compute", "StopRun", wire.StopRunRequest, self.stop_run),
        }

    async def create_run(self, call: Call, request: wire.CreateRunRequest) -> wire.CreateRunResponse:
        """Makes a run, or finds the one that was made alike."""
        if request.name:
            require_name(request.name, "name", MAX_NAME_BYTES)
        parameters = codec.decode_arrays(request.parameters, "parameters", self._settings)
        wanted = request.specification
        self._grant(wanted.evaluator, wanted.precision, False)
        if wanted.reduction not in wire.Reduction.values():
            raise InputError(f"reduction {wanted.reduction} is unknown", field="specification.reduction")
        layout = await self._layout(call, wanted.graph_id, parameters)
        run, known = await self._runs.create(call.principal.namespace, request.name, wanted, layout, parameters)
        return wire.CreateRunResponse(request_id=request.request_id, run=await _described(run), already_known=known)

    async def _layout(self, call: Call, graph_id: str, parameters: dict[str, Array]) -> Layout:
        if not graph_id:
            return Layout((), tuple((name, array.shape) for name, array in parameters.items()))
        layout = (await self._find_graph(call, graph_id)).signature.objective
        if isinstance(layout, GraphError):
            raise layout
        return layout

    async def join_run(self, call: Call, request: wire.JoinRunRequest) -> wire.JoinRunResponse:
        """Takes a seat."""
        run = self._runs.find(call.principal.namespace, request.run)
        require_name(request.member, "member", MAX_MEMBER_BYTES)
        number, session = await run.join(request.member, self._settings, _checked_session(request.session))
        return wire.JoinRunResponse(request_id=request.request_id, run=await _described(run), number=number, session=session)

    async def get_run(self, call: Call, request: wire.GetRunRequest) -> bytes:
        """How a run stands; its parameters and its ledger on request."""
        run = self._runs.find(call.principal.namespace, request.run)
        async with run.writing:
            lines = run.book.since(request.ledger_from) if request.HasField("ledger_from") else []
            parameters = messages.parameters(run.book) if request.parameters else ()
            response = wire.GetRunResponse(request_id=request.request_id, run=_description(run), parameters=parameters)
        return await _with_lines(run, response, "ledger", lines)

    async def list_runs(self, call: Call, request: wire.ListRunsRequest) -> wire.ListRunsResponse:
        """All of them, by name."""
        found = [await _described(run) for run in self._runs.listed(call.principal.namespace)]
        return wire.ListRunsResponse(request_id=request.request_id, runs=found)

    async def watch_run(self, call: Call, request: wire.WatchRunRequest) -> None:
        """Sends what is new until the run has ended, or the server drains."""
        run = self._runs.find(call.principal.namespace, request.run)
        news, step = asyncio.Event(), request.from_step
        run.news.add(news)
        try:
            while True:
                news.clear()
                async with run.writing:
                    described, lines = _description(run), run.book.since(step)
                progress = wire.RunProgress(request_id=request.request_id, run=described)
                for part in _parts(lines):
                    await call.send(await _with_lines(run, progress, "steps", part))
                if described.state in (wire.RUN_STATE_FINISHED, wire.RUN_STATE_STOPPED):
                    return
                step = max(step, described.step)
                await asyncio.sleep(WATCH_SECONDS)
                await news.wait()
                run.require_open()
        finally:
            run.news.discard(news)

    async def stop_run(self, call: Call, request: wire.StopRunRequest) -> wire.StopRunResponse:
        """Ends a run, and forgets it on request."""
        run = self._runs.find(call.principal.namespace, request.run)
        if not (run.broken and request.forget):
            await run.stop()
        described = await _described(run)
        if request.forget:
            await self._runs.forget(run)
        return wire.StopRunResponse(request_id=request.request_id, run=described)


def _checked_session(session: str) -> str:
    """A session that a caller has made; it may have left that to the server. Raises InputError."""
    least, most = SESSION_LENGTHS
    if session and not (least <= len(session) <= most and session.isascii() and session.isprintable()):
        raise InputError(
            f"a session has {least} to {most} printable ASCII characters; this one has {len(session)} characters", field="session"
        )
    return session


def _description(run: Run) -> wire.Run:
    return messages.describe(run.book, run.machine, time.monotonic())


async def _described(run: Run) -> wire.Run:
    """A run as it is on the disk."""
    async with run.writing:
        return _description(run)


async def _with_lines(run: Run, message: wire.GetRunResponse | wire.RunProgress, field: str, lines: Sequence[Line]) -> bytes:
    """A message with lines of the run's ledger, which don't change any more: the run goes on meanwhile."""
    return await unblocking(len(lines) * run.book.line_bytes, messages.with_lines, message, field, lines, run.book.made.layout)


def _parts(lines: Sequence[Line]) -> list[Sequence[Line]]:
    """The lines, some for each message, of which there is one at least."""
    return [lines[start : start + WATCH_STEPS] for start in range(0, max(1, len(lines)), WATCH_STEPS)]
